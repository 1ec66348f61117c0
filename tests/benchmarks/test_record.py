"""Results on disk: a stopped run continues, a failed row fails alone, and nothing of the machine leaks."""

import json
from functools import partial
from pathlib import Path

import pytest

from benchmarks.record import Benchmark, Check, Column, Record

BENCHMARK = Benchmark("tried", "A claim", (Column("model", "name"), Column("seconds", "seconds", ".1f")))


def failing() -> dict:
    raise ValueError("/home/someone/models/a.onnx: broken\nsecond line")


def test_a_stopped_run_continues(tmp_path: Path) -> None:
    Record(BENCHMARK, {"keep": 0.5}, tmp_path).add("a", lambda: {"seconds": 1.0})
    again = Record(BENCHMARK, {"keep": 0.5}, tmp_path).resume()
    assert again.add("a", failing) == {"name": "a", "seconds": 1.0}
    assert again.column("seconds") == [1.0]


def test_other_options_start_anew(tmp_path: Path) -> None:
    Record(BENCHMARK, {"seeds": (0, 1)}, tmp_path).add("a", lambda: {"seconds": 1.0})
    assert Record(BENCHMARK, {"seeds": (0, 1)}, tmp_path).resume().rows
    assert not Record(BENCHMARK, {"seeds": (0,)}, tmp_path).resume().rows


def test_another_package_starts_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Record(BENCHMARK, {}, tmp_path).add("a", lambda: {"seconds": 1.0})
    monkeypatch.setattr("benchmarks.record.package_digest", lambda: "other")
    assert not Record(BENCHMARK, {}, tmp_path).resume().rows


def test_a_failed_row_is_measured_again(tmp_path: Path) -> None:
    record = Record(BENCHMARK, {}, tmp_path)
    assert record.add("a", failing) == {"name": "a", "failure": "ValueError: a.onnx: broken"}
    assert not record.flags("exact")[0]
    assert Record(BENCHMARK, {}, tmp_path).resume().add("a", lambda: {"seconds": 2.0})["seconds"] == 2.0


def test_rows_from_several_processes_stand_in_order(tmp_path: Path) -> None:
    record = Record(BENCHMARK, {}, tmp_path)
    record.add("b", lambda: {"seconds": 1.0})
    record.add_all({"a": partial(dict, seconds=0.5), "b": failing, "c": failing}, jobs=2)
    assert list(record.rows) == ["a", "b", "c"]
    assert record.column("seconds") == [0.5, 1.0]
    assert record.rows["c"]["failure"] == "ValueError: a.onnx: broken"


def test_a_run_of_some_rows_keeps_the_others(tmp_path: Path) -> None:
    Record(BENCHMARK, {}, tmp_path).add_all({"a": partial(dict, seconds=1.0)}, jobs=1)
    record = Record(BENCHMARK, {}, tmp_path).resume()
    record.add_all({"b": partial(dict, seconds=2.0)}, jobs=1)
    assert list(record.rows) == ["a", "b"] and record.column("seconds") == [1.0, 2.0]


@pytest.mark.parametrize("passed", [True, False])
def test_the_exit_code_is_that_of_the_checks(passed: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = Record(BENCHMARK, {}, tmp_path)
    record.add("a[b]", lambda: {"seconds": 1.0})
    assert record.finish([Check("time", "≤ 2", "1.0", passed)]) == (0 if passed else 1)
    written = json.loads((tmp_path / "tried.json").read_text())
    assert written["checks"] == [{"figure": "time", "required": "≤ 2", "measured": "1.0", "passed": passed}]
    assert {"environment", "date", "package", "options", "claim"} <= written.keys()
    assert "a[b]" in capsys.readouterr().out
