"""Drawings: values lie where scales say, ticks are round, and names are names."""

import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxprune.latency import Attribution, Part
from onnxprune.report.drawing import Scale, legend, padded, series, shortened
from onnxprune.report.layers import layers
from onnxprune.report.plots import timing_plots
from tests.report.samples import NASTY, bench, profiled, timed
from tests.timings import comparison, timing

FLOATS = st.floats(1e-6, 1e9)


@given(FLOATS, st.floats(1.001, 1e6), st.booleans())
def test_ticks_are_within_and_not_too_many(low, factor, log):
    scale = Scale(low, low * factor, 0, 100, log)
    ticks = scale.ticks()
    assert all(low * (1 - 1e-6) <= tick <= low * factor * (1 + 1e-6) for tick in ticks)
    assert len(ticks) <= 13 and ticks == sorted(set(ticks))
    assert log or len(ticks) >= 2


def test_scales_go_from_end_to_end():
    assert [Scale(2, 4, 10, 30)(v) for v in (2, 3, 4)] == [10, 20, 30]
    assert [round(Scale(1, 100, 0, 200, log=True)(v), 9) for v in (1, 10, 100)] == [0, 100, 200]
    assert Scale(5, 5, 10, 30)(5) == 10
    assert Scale(0, 10, 0, 1).ticks() == [0, 2, 4, 6, 8, 10] and Scale(0.5, 20, 0, 1, log=True).ticks()[0] == 0.5


def test_room_around_values():
    low, high = padded([1.0, 3.0], 0.1)
    assert (low, high) == pytest.approx((0.8, 3.2))
    assert padded([2.0, 2.0])[0] < 2 < padded([2.0, 2.0])[1] and padded([0.0])[0] < 0


def test_long_names_keep_their_ends():
    assert shortened("a" * 30 + "b" * 30, 21) == "a" * 10 + "…" + "b" * 10
    assert shortened("short", 21) == "short"


def test_colours_begin_again_but_for_the_first():
    assert [series(k) for k in range(8)] == ["s0", "s1", "s2", "s3", "s4", "s5", "s1", "s2"]


def test_legends_take_as_many_rows_as_they_need():
    _, one = legend(["a", "b"], ["s0", "s1"], 0, 10, 500)
    _, two = legend(["a" * 30, "b" * 30], ["s0", "s1"], 0, 10, 300)
    assert two - one == 18


def read(plot):
    """A drawing's elements by tag; it has to be well-formed, and all its numbers numbers."""
    root = ElementTree.fromstring(plot.drawing)
    found: dict[str, list] = {}
    for each in root.iter():
        found.setdefault(each.tag, []).append(each)
        for name, value in each.attrib.items():
            if name in ("x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r", "width", "height"):
                assert math.isfinite(float(value)), (each.tag, name, value)
            assert "nan" not in value or name == "aria-label"
    return found


@pytest.mark.parametrize(
    "medians", [(0.004, 0.002), (0.004, 0.0041, 0.0039), (0.1, 0.001), tuple(0.001 * k for k in range(1, 12))]
)
def test_every_model_is_in_every_plot(medians):
    found = timed(*medians)
    for plot in timing_plots(found):
        words = [each.text for each in read(plot)["text"]]
        for t in found.models[1 if plot.title.startswith("Ratios") else 0 :]:
            assert t.name in words, plot.title
        assert any("(A/A)" in word for word in words)


def test_medians_are_marked_where_they_are():
    spread, *_ = timing_plots(timed(0.004, 0.002))
    parts = read(spread)
    marks = [float(each.get("x1")) for each in parts["line"] if each.get("class") == "median"]
    ticks = {
        float(t.text): float(t.get("x"))
        for t in parts["text"]
        if t.get("text-anchor") == "middle" and t.text[0].isdigit()
    }
    (a, at_a), (b, at_b) = sorted(ticks.items())[:2]
    times = timed(0.004, 0.002)
    expected = [1e3 * np.median(t) for t in (times.models[0].times, times.again, times.models[1].times)]
    assert marks == pytest.approx([at_a + (v - a) / (b - a) * (at_b - at_a) for v in expected], abs=0.5)


def test_the_runs_beyond_the_axis_are_counted():
    spread, *_ = timing_plots(timed(0.004, 0.002))
    words = " ".join(each.text or "" for each in read(spread)["text"])
    counts = [int(count) for count in re.findall(r"(\d+) of 400 beyond the axis", words)]
    assert counts and all(0 < count <= 4 for count in counts), "one in a hundred at most"


def test_few_rounds_and_equal_times_can_be_drawn():
    for times in ((0.001, 0.002), (0.001, 0.001), (0.001,)):
        first = timing("a", 0.001, 1.0, 0.001, 0.001)
        pair = [type(first)(**{**first.__dict__, "times": times, "name": n}) for n in ("a", "b")]
        found = type(comparison(first))(**{**comparison(*pair).__dict__, "again": times, "rounds": len(times)})
        for plot in timing_plots(found):
            read(plot)


def test_without_times_there_is_nothing_to_draw():
    assert list(timing_plots(comparison(timing("a", 1.0, 1.0, 1.0, 1.0)))) == []


def test_bars_of_layers_are_as_long_as_their_times():
    plot = layers({"a": profiled(1e-3, 4e-3), "b": profiled(5e-4, 1e-3)})
    bars = [float(each.get("width")) for each in read(plot)["rect"] if each.get("class").startswith("s")][2:]
    assert [bar / bars[0] for bar in bars] == pytest.approx([1, 0.25, 0.25, 0.125], abs=1e-3)
    assert "/layer1/Conv" in [each.text for each in read(plot)["text"]]


def test_layers_that_take_next_to_nothing_are_left_to_the_table():
    plot = layers({"a": profiled(1.0, 1.0, 0.001), "b": profiled(1.0, 1.0, 0.001)})
    assert plot.note.startswith("The 2 longest, 100% of the time of a")
    plot = layers({"a": profiled(*[1.0] * 50), "b": Attribution((Part((), "Cast", 1.0, {}),))})
    assert plot.note.startswith("The 30 longest, 60%")


def test_names_are_text():
    report = bench(("dense.onnx", NASTY, "same.onnx"))
    for plot in (*timing_plots(report.timing), layers(report.layers)):
        assert "<script" not in plot.drawing and "<img" not in plot.drawing
        assert read(plot)
