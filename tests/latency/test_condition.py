"""Conditions that fail a script: as they are written, and of whom they hold."""

from dataclasses import replace

import pytest

from onnxprune.errors import UsageError
from onnxprune.latency import parse_condition
from tests.timings import comparison, exact, timing

FIRST = timing("a.onnx", 0.010, 1.0, 0.020, 0.030)
SECOND = timing("b.onnx", 0.008, 0.9, 0.012, 0.060)
FOUND = comparison(FIRST, SECOND)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("p50 > 0.95x", []),
        ("p50>0.85x", ["b.onnx"]),
        ("p50 <= 0.9x", ["b.onnx"]),
        ("p99 > 0.5x", ["b.onnx"]),
        ("p99 > 0.7x", []),
        ("p50 > 9ms", ["a.onnx"]),
        ("p99 < 30ms", ["a.onnx", "b.onnx"]),
        ("max >= 60 ms", ["b.onnx"]),
        ("max > 1x", ["b.onnx"]),
    ],
)
def test_of_whom_it_holds(text, names):
    assert [met.partition(":")[0] for met in parse_condition(text).met_by(FOUND)] == names


def test_it_says_what_it_found():
    (met,) = parse_condition("p50 > 0.85x").met_by(FOUND)
    assert met == "b.onnx: p50 is 0.9x, and p50 > 0.85x was to fail"


def test_the_ratio_is_the_one_within_rounds():
    faster = replace(FOUND, models=(FIRST, replace(SECOND, ratio=exact(0.5))))
    assert not list(parse_condition("p50 > 0.6x").met_by(faster))


@pytest.mark.parametrize("text", ["", "p50", "p51 > 1x", "p50 > x", "p50 > 1", "p50 == 1x", "p50 > 1.2.3x", "p50 > 1s"])
def test_what_is_no_condition(text):
    with pytest.raises(UsageError, match="--fail-if"):
        parse_condition(text)
