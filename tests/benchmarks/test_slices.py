"""State that travels in pieces, the end of a slice, and how much is left."""

import signal
import time
from pathlib import Path

import pytest

from benchmarks import slices
from benchmarks.slices import Clock, OutOfTime, pack, progress, telling, unpack


def filled(folder: Path, **sizes: int) -> Path:
    """Files of different bytes, in a folder of a folder."""
    (folder / "stage").mkdir(parents=True)
    for name, size in sizes.items():
        (folder / "stage" / name).write_bytes(bytes((k + size) % 251 for k in range(size)))
    return folder


def test_state_travels_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "PIECE", 20_000)
    work = filled(tmp_path / "work", a=10_000, b=30_000, c=5)
    assert pack(work, lambda f: f.name != "c", tmp_path / "out") == []
    pieces = sorted((tmp_path / "out").iterdir())
    assert len(pieces) == 3 and all(f.stat().st_size <= 20_000 for f in pieces)
    unpack(tmp_path / "out", tmp_path / "new")
    found = {f.name: f.read_bytes() for f in (tmp_path / "new" / "stage").iterdir()}
    assert found == {name: (work / "stage" / name).read_bytes() for name in ("a", "b")}


def test_what_is_too_large_stays_and_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "PIECE", 20_000)
    work = filled(tmp_path / "work", big=68_000, small=100)
    assert pack(work, lambda f: True, tmp_path / "out") == ["stage/big"]
    assert sum(f.stat().st_size for f in (tmp_path / "out").iterdir()) <= 80_000
    unpack(tmp_path / "out", tmp_path / "new")
    assert [f.name for f in (tmp_path / "new" / "stage").iterdir()] == ["small"]


def test_a_smaller_state_leaves_no_old_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "PIECE", 20_000)
    pack(filled(tmp_path / "one", a=50_000), lambda f: True, tmp_path / "out")
    pack(filled(tmp_path / "two", b=10), lambda f: True, tmp_path / "out")
    unpack(tmp_path / "out", tmp_path / "new")
    assert [f.name for f in (tmp_path / "new" / "stage").iterdir()] == ["b"]


def test_newer_files_stay(tmp_path: Path) -> None:
    work = filled(tmp_path / "work", a=10)
    pack(work, lambda f: True, tmp_path / "out")
    (work / "stage" / "a").write_text("newer")
    unpack(tmp_path / "out", work)
    assert (work / "stage" / "a").read_text() == "newer"


def test_a_folder_without_state_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"no state\.\* in there; fix: give the folder that an earlier slice wrote"):
        unpack(tmp_path, tmp_path / "work")


def test_the_clock_runs_out() -> None:
    assert Clock(None).left() is None
    assert 99 < (Clock(100).left() or 0) <= 100
    with pytest.raises(OutOfTime):
        Clock(0).left()


def test_work_that_does_not_look_at_the_clock_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "SPARE", 0.05)
    handler = signal.getsignal(signal.SIGALRM)
    with pytest.raises(OutOfTime), Clock(0).alarm():
        time.sleep(5)
    assert signal.getsignal(signal.SIGALRM) is handler
    with Clock(None).alarm(), Clock(100).alarm():
        pass
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def logged(folder: Path, *seconds: float) -> Path:
    folder.mkdir()
    rows = [f"{k + 1},{value}" for k, value in enumerate(seconds)]
    (folder / "log.csv").write_text("\n".join(["epoch,seconds", *rows]) + "\n")
    return folder


def test_time_left_is_that_of_all_epochs(tmp_path: Path) -> None:
    one, two, three = logged(tmp_path / "one", 30, 60), logged(tmp_path / "two", 90, 210), tmp_path / "three"
    assert progress({three: 5}) == "0 of 5 epochs"
    assert progress({one: 2, two: 5, three: 3}) == "4 of 10 epochs, 120.0 s each, about 12 min left"


def test_it_is_told_while_work_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with telling({logged(tmp_path / "one", 60): 2}, "row", every=0.01):
        time.sleep(0.1)
    assert capsys.readouterr().out.startswith("row: 1 of 2 epochs, 60.0 s each, about 1 min left\n")
