"""The log: one row an epoch, none twice."""

import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from onnxprune.errors import UsageError
from onnxprune.torch import logs
from onnxprune.torch.logs import Log


def log(folder: Path, done: int, *epochs: int, **figures: float) -> None:
    with Log(folder, done) as written:
        for epoch in epochs:
            written.add({"epoch": epoch, "step": 10 * epoch, "train_loss": 1 / epoch} | figures)


def shown(folder: Path, tag: str) -> list[int]:
    """Epochs that TensorBoard shows of a figure."""
    events = EventAccumulator(str(folder))
    events.Reload()
    return [event.step for event in events.Scalars(tag)]


def test_a_row_an_epoch(tmp_path: Path) -> None:
    log(tmp_path, 0, 1, 2, validation=0.5)
    assert (tmp_path / "log.csv").read_text() == ("epoch,step,train_loss,validation\n1,10,1.0,0.5\n2,20,0.5,0.5\n")
    assert shown(tmp_path, "validation") == [1, 2]


def test_rows_after_the_checkpoint_are_forgotten(tmp_path: Path) -> None:
    log(tmp_path, 0, 1, 2, 3)
    log(tmp_path, 1, 2, 3, 4)
    assert [row["epoch"] for row in logs.read(tmp_path / "log.csv")] == ["1", "2", "3", "4"]
    assert shown(tmp_path, "train_loss") == [1, 2, 3, 4]


def test_a_new_start_forgets_all(tmp_path: Path) -> None:
    log(tmp_path, 0, 1, 2, scales=0.1)
    log(tmp_path, 0, 1)
    assert (tmp_path / "log.csv").read_text() == "epoch,step,train_loss\n1,10,1.0\n"
    assert shown(tmp_path, "train_loss") == [1]


def test_a_figure_that_comes_later_is_empty_before(tmp_path: Path) -> None:
    log(tmp_path, 0, 1)
    log(tmp_path, 1, 2, kept=0.25)
    assert (tmp_path / "log.csv").read_text() == "epoch,step,train_loss,kept\n1,10,1.0,\n2,20,0.5,0.25\n"


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "epoch,step\nx,2\n"])
def test_another_file_of_that_name_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "log.csv").write_text(text)
    with pytest.raises(UsageError, match=r"log\.csv: not the log of a training: a row has no epoch"):
        Log(tmp_path, 0)


def test_a_missing_tensorboard_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    logs._say_missing.cache_clear()
    log(tmp_path, 0, 1)
    log(tmp_path, 1, 2)
    assert capsys.readouterr().err == "note: tensorboard is not installed; the training is logged in log.csv alone\n"
    assert [file.name for file in tmp_path.iterdir()] == ["log.csv"]
