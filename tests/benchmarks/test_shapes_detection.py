"""One seed of the detection benchmark on a handful of images, and what its checks find."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import shapes_detection
from benchmarks.record import Record
from benchmarks.shapes_detection import BENCHMARK, bed, checks, measure
from models.detection import task


def test_a_seed_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    splits = {"train": range(80), "validation": range(100, 104), "test": range(200, 210)}
    monkeypatch.setattr(task, "SPLITS", splits)
    monkeypatch.setattr(task, "SIDE", 64)
    monkeypatch.setattr(task, "STAGES", ((64, 1),) * 5)
    monkeypatch.setattr(shapes_detection, "FOLDER", tmp_path)
    whole = bed(1, 0)
    row = measure(replace(whole, recipe=replace(whole.recipe, batch=4)))
    assert row["exact"] and row["error"] < 1e-4 and 0 < row["macs"] <= 60 and 0 < row["params"] < 100
    assert row["onnx"] == pytest.approx(row["pruned"], abs=1e-3) and row["seconds"] > 0
    assert bed(2, 0).worked() is None
    assert {folder.name for folder in (tmp_path / "1-0").iterdir()} == {"pruned", "offset", "overlap"}


GOOD = {"seed": 0, "pruned": 0.6, "onnx": 0.601, "exact": True, "macs": 59.9, "seconds": 200.0}


@pytest.mark.parametrize(
    ("changed", "failed"),
    [
        ({}, []),
        ({"exact": False}, [0]),
        ({"macs": 60.1}, [1]),
        ({"onnx": 0.59}, [2]),
        ({"pruned": 0.39, "onnx": 0.39}, [3]),
        ({"seconds": 601.0}, [4]),
        ({"seconds": None}, [4]),
    ],
)
def test_checks_can_fail(changed: dict, failed: list[int], tmp_path: Path) -> None:
    results = Record(BENCHMARK, {}, tmp_path, {"seed 0": GOOD, "seed 1": GOOD | changed})
    assert [k for k, check in enumerate(checks(results, 2)) if not check.passed] == failed


def test_nothing_measured_fails(tmp_path: Path) -> None:
    failed = {"seed 0": {"name": "seed 0", "failure": "ValueError: no"}}
    assert not any(check.passed for check in checks(Record(BENCHMARK, {}, tmp_path, failed), 1))
