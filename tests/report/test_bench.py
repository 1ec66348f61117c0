"""The report of models that were timed: what is first, what is left of groups, and the time that they take."""

from dataclasses import replace

import pytest

from onnxprune.latency import Interval
from onnxprune.report import Bench, sheet
from onnxprune.report.bench import terminal_tables, verdict
from onnxprune.report.cards import floor_card, resolved, timing_card
from onnxprune.report.cells import Bar
from tests.report.samples import bench, timed
from tests.timings import comparison, timing


def table(report, title):
    (found,) = [part for part in sheet(report).tables if part.title == title]
    return found


@pytest.mark.parametrize(
    ("ratio", "floor", "found"),
    [
        ((0.90, 0.92), (0.99, 1.01), -1),
        ((0.98, 1.00), (0.99, 1.01), 0),
        ((0.995, 0.998), (0.99, 1.02), 0),
        ((1.05, 1.06), (0.99, 1.01), 1),
        ((1.002, 1.003), (0.98, 0.99), 1),
        ((1.005, 1.03), (0.99, 1.01), 0),
    ],
)
def test_a_difference_that_is_no_larger_than_the_floor_is_none(ratio, floor, found):
    first, second = timing("a", 1.0, 1.0, 1.0, 1.0), timing("b", 1.0, 1.0, 1.0, 1.0)
    second = replace(second, ratio=Interval(sum(ratio) / 2, *ratio))
    compared = replace(comparison(first, second), floor=Interval(sum(floor) / 2, *floor))
    assert resolved(second, compared) == found
    assert timing_card(second, compared).kind == {-1: "good", 0: "", 1: "bad"}[found]


def test_what_is_seen_first():
    report = bench()
    words = verdict(report)
    assert "small.onnx is 2.0" in words and "times as fast as dense.onnx" in words
    assert "same.onnx is as fast as dense.onnx, as far as can be told" in words
    assert words.endswith("Failed: small.onnx: p50 is 0.5x, and p50 > 0.4x was to fail.")
    assert "differences below" in floor_card(report.timing).text
    assert [card.kind for card in sheet(report).cards] == ["good", "", ""]
    titles = [part.title for part in sheet(report).parts]
    assert titles[:3] == ["Timing", "Models to choose from", "Accuracy and time"]
    assert titles[-2:] == ["Facts of the measurement", "Provider of every node"]


def test_many_models_are_not_named_one_by_one():
    report = Bench(timed(0.004, 0.002, 0.001, 0.003, 0.009))
    assert sheet(report).title == "4 models against m0.onnx"
    assert len(sheet(report).cards) == 5
    many = sheet(Bench(timed(*(0.001 * k for k in (5, 9, 8, 7, 6, 4, 3, 2, 1)))))
    assert len(many.cards) == 7 and "m8.onnx" in many.cards[0].text, "the fastest, and what they are compared with"
    assert verdict(report).startswith("3 of 4 models are faster than m0.onnx; m2.onnx is ")


def test_a_terminal_shows_tables_without_the_nodes():
    titles = [part.title for part in terminal_tables(bench())]
    assert titles[0] == "Timing" and titles[-1] == "Facts of the measurement"
    assert "Time by channel group (us)" in titles and "Provider of every node" not in titles


def test_time_by_group_sums_to_the_whole():
    rows = table(bench(), "Time by channel group (us)").rows
    assert [row[0] for row in rows] == ["w1", "w0", "w2", "what passes no group"]
    assert [sum(float(row[k]) for row in rows) for k in (1, 2)] == [3500.0, 1750.0]


def test_widths_are_drawn():
    rows = table(bench(), "Widths").rows
    assert rows[1] == ("w1", "64", "33", Bar(33, 64, 64), "-", "-")
