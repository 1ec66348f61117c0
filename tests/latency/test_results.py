"""Comparisons as JSON and back: nothing is lost, and what is no comparison is refused with the reason."""

import json
import math
from dataclasses import replace

import pytest

from onnxprune.errors import UsageError
from onnxprune.latency import Input, Interval, read_comparison
from onnxprune.latency.runtimes.base import Apart
from onnxprune.report.files import document
from tests.timings import comparison, timing

FIRST = replace(
    timing("a.onnx", 0.010, 1.0, 0.020, 0.030),
    percentiles={"p90": Interval(1.0, -math.inf, math.inf)},
    sha256={"a.onnx": "ab"},
    times=(0.01, 0.011),
    apart=Apart(0.001, 0.008, 0.002),
)
FOUND = replace(
    comparison(FIRST, timing("b.onnx", 0.008, 0.9, 0.012, 0.060)),
    inputs=(Input("x", (1, 3), "float32"),),
    again=(0.01, 0.012),
)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "times.json"
    path.write_text(document(FOUND.to_json()))
    return path


def test_what_is_read_is_what_was_written(file):
    assert read_comparison(file) == FOUND


def test_fields_that_are_not_known_are_ignored(file):
    content = json.loads(file.read_text()) | {"later": 1}
    content["models"][0]["later"] = 1
    file.write_text(json.dumps(content))
    assert read_comparison(file) == FOUND


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"format": "onnxprune-report"}, "it is onnxprune-report 1, expected onnxprune-bench 1"),
        ({"version": 2}, "it is onnxprune-bench 2, expected onnxprune-bench 1"),
        ({"models": [{"name": "a"}]}, "'apart' is missing"),
        ({"floor": 1}, "not subscriptable"),
        ({"models": None}, "not iterable"),
    ],
)
def test_what_is_no_comparison_is_refused(file, change, why):
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(UsageError, match=rf"times\.json: no comparison: .*{why}"):
        read_comparison(file)


@pytest.mark.parametrize("text", ["", "[]", "nothing", "{}"])
def test_other_files_are_refused(file, text):
    file.write_text(text)
    with pytest.raises(UsageError, match=r"times\.json: no comparison"):
        read_comparison(file)


def test_a_file_that_is_missing(tmp_path):
    with pytest.raises(UsageError, match=r"no\.json: no comparison: No such file or directory"):
        read_comparison(tmp_path / "no.json")
