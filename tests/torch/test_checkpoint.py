"""The checkpoint: what it refuses, and that nothing less than a whole file is ever there."""

import random
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from onnxprune.errors import OutputError, TrainingError, UsageError
from onnxprune.torch import checkpoint
from onnxprune.torch.hooks import Hook
from onnxprune.torch.loop import BEST, LAST, train
from onnxprune.torch.recipe import Recipe
from onnxprune.torch.run import Run
from tests.torch.training import Classify, Smaller, Sparse, fresh, recipe

TASK = Classify()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training of one epoch with a hook."""
    folder = tmp_path_factory.mktemp("saved")
    network = fresh(TASK)
    train(TASK, network, recipe(epochs=1), [Sparse(network)], folder=folder)
    return folder


def restore(path: Path, changed: Recipe | None = None, network: nn.Module | None = None) -> Run:
    network = network or fresh(TASK)
    hooks = [Sparse(network)]
    run = Run(TASK, network, changed or recipe(epochs=1), hooks[0].parameter_groups())
    checkpoint.restore(path, run, hooks)
    return run


def changed(saved: Path, to: Path, **changes: Any) -> Path:
    """A copy of the checkpoint with other entries."""
    checkpoint.write(to, checkpoint.read(saved / LAST) | changes)
    return to


def test_another_network_is_refused_by_its_first_tensor(saved: Path) -> None:
    network = fresh(TASK)
    network[1] = nn.BatchNorm1d(9)
    with pytest.raises(UsageError, match=r"network tensor 2 is 1\.weight \[8\], expected 1\.weight \[9\]"):
        restore(saved / LAST, network=network)


def test_a_larger_network_is_refused(saved: Path) -> None:
    network = fresh(TASK).append(nn.Linear(3, 3))
    with pytest.raises(UsageError, match=r"network tensor 9 is not there, expected 5\.weight \[3, 3\]"):
        restore(saved / LAST, network=network)


def test_another_recipe_is_refused_by_its_first_field(saved: Path) -> None:
    with pytest.raises(UsageError, match=r"recipe's lr is 0\.1, expected 0\.2"):
        restore(saved / LAST, recipe(epochs=1, lr=0.2, seed=7))


def test_other_hooks_are_refused(saved: Path) -> None:
    network = fresh(TASK)
    with pytest.raises(UsageError, match=r"list of hooks is \['Sparse'\], expected \['Hook'\]"):
        checkpoint.restore(saved / LAST, Run(TASK, network, recipe(epochs=1)), [Hook()])


def test_another_number_of_processes_is_refused(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="number of processes is 2, expected 1"):
        restore(changed(saved, tmp_path / "two.pt", processes=2))


def test_another_version_is_refused(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="checkpoint version 99, expected 1"):
        restore(changed(saved, tmp_path / "new.pt", version=99))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.pt: no such file"):
        checkpoint.read(tmp_path / "none.pt")


def test_a_file_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    class Code:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "ran",)

    torch.save({"format": checkpoint.FORMAT, "version": checkpoint.VERSION, "masks": Code()}, tmp_path / "code.pt")
    with pytest.raises(TrainingError, match="refused: it holds more than tensors and plain data"):
        restore(tmp_path / "code.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.999], ids="{:.1%}".format)
def test_a_truncated_file_is_refused(saved: Path, tmp_path: Path, kept: float) -> None:
    data = (saved / LAST).read_bytes()
    (tmp_path / "cut.pt").write_bytes(data[: int(kept * len(data))])
    with pytest.raises(TrainingError, match=r"cut\.pt: damaged, or no checkpoint: "):
        restore(tmp_path / "cut.pt")


def test_one_wrong_bit_in_a_tensor_is_noticed(saved: Path, tmp_path: Path) -> None:
    weight = checkpoint.read(saved / LAST)["model"]["0.weight"].numpy().tobytes()
    data = bytearray((saved / LAST).read_bytes())
    data[data.index(weight) + 5] ^= 4
    (tmp_path / "bad.pt").write_bytes(data)
    with pytest.raises(TrainingError, match="wrong checksum of archive/data/"):
        restore(tmp_path / "bad.pt")


@pytest.mark.parametrize("content", [{"model": {}}, [1, 2]], ids=["no format", "no dict"])
def test_another_kind_of_file_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(TrainingError, match="expected the format 'onnxprune-checkpoint'"):
        checkpoint.read(tmp_path / "weights.pt")


def test_weights_of_others_are_read_on_request(tmp_path: Path) -> None:
    for number, zipped in enumerate((True, False)):
        path = tmp_path / f"{number}.pth"
        torch.save({"weight": torch.ones(2)}, path, _use_new_zipfile_serialization=zipped)
        assert torch.equal(checkpoint.read(path, own=False)["weight"], torch.ones(2))
    torch.save([1], tmp_path / "list.pth")
    with pytest.raises(TrainingError, match="expected a dict"):
        checkpoint.read(tmp_path / "list.pth", own=False)


def test_missing_entries_are_damage(saved: Path, tmp_path: Path) -> None:
    content = checkpoint.read(saved / LAST)
    del content["position"]
    checkpoint.write(tmp_path / "less.pt", content)
    with pytest.raises(TrainingError, match="damaged, or no checkpoint: KeyError: 'position'"):
        restore(tmp_path / "less.pt")


def test_tensors_that_do_not_fit_are_damage(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="damaged, or no checkpoint: RuntimeError: Error"):
        restore(changed(saved, tmp_path / "other.pt", model={}))


class Odd(Hook):
    """Keeps what cannot be read back."""

    def state_dict(self) -> dict[str, Any]:
        return {"means": [1.0, np.float64(2.0)]}


def test_state_that_could_not_be_read_back_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"hook state Odd\['means'\]\[1\] is a numpy\.float64"):
        train(TASK, fresh(TASK), recipe(epochs=1), [Odd()], folder=tmp_path)


def test_hooks_keep_the_groups_that_the_optimizer_has(saved: Path) -> None:
    network = fresh(TASK)
    hook = Sparse(network)
    run = Run(TASK, network, recipe(epochs=1), hook.parameter_groups())
    checkpoint.restore(saved / LAST, run, [hook])
    assert run.optimizer.param_groups[-1] is hook.group
    assert hook.group["initial_lr"] == 0.5 and hook.group["lr"] < 0.5


def test_all_random_numbers_go_on(saved: Path) -> None:
    def draw() -> tuple[float, ...]:
        return random.gauss(0, 1), float(np.random.randn()), float(torch.rand(()))

    restore(saved / LAST)
    first = draw()
    assert draw() != first
    restore(saved / LAST)
    assert draw() == first


@contextmanager
def small_disk(size: int) -> Iterator[None]:
    """Files cannot grow beyond `size` bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "full.pt"
    head = {"format": checkpoint.FORMAT, "version": checkpoint.VERSION}
    checkpoint.write(path, head | {"x": torch.zeros(10)})
    with small_disk(50_000), pytest.raises(OutputError, match=r"full\.pt: cannot be written: File too large"):
        checkpoint.write(path, head | {"x": torch.ones(100_000)})
    assert torch.equal(checkpoint.read(path)["x"], torch.zeros(10))
    assert [file.name for file in tmp_path.iterdir()] == ["full.pt"]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file/folder: cannot be written: Not a directory"):
        train(TASK, fresh(TASK), recipe(), folder=tmp_path / "file" / "folder")


def test_best_weights_are_those_of_the_best_epoch(saved: Path) -> None:
    run = restore(saved / LAST)
    for p in run.evaluated.parameters():
        nn.init.zeros_(p)
    best = checkpoint.restore_best(saved / BEST, run)
    assert best == run.best == run.evaluate("validation") > 0.34


def test_best_weights_of_a_larger_network_are_refused(saved: Path) -> None:
    run = restore(saved / LAST)
    run.epoch = 2
    Smaller().after_epoch(run)
    with pytest.raises(UsageError, match="weights are of the network before it was made smaller"):
        checkpoint.restore_best(saved / BEST, run)
