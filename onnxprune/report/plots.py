"""Plots of times: how they are spread, their tails, and whether ratios drift."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from onnxprune.latency import Comparison
from onnxprune.report.drawing import (
    WIDTH,
    Scale,
    across,
    drawing,
    legend,
    line,
    padded,
    path,
    series,
    shortened,
    text,
    upright,
)
from onnxprune.report.markup import Markup
from onnxprune.report.sheet import Plot

LEFT, RIGHT = 56.0, WIDTH - 14.0
BINS, SEEN = 120, 0.99
"""Of a distribution, and the share of the slowest model's runs that its axis reaches."""
WIDE = 5.0
"""Times so many times as long as others are drawn on a logarithmic axis."""
WINDOWS, LEAST = 40, 5
"""Of rounds, along the axis, and how many rounds each has at least."""
CALM = 0.03
"""The share of windows that may lie beyond an end of the axis: a disturbed one does not flatten the rest."""
MARKS = (0.0, 0.5, 0.9, 0.99, 0.999)


class Runs(NamedTuple):
    """A model's times, in milliseconds: float `(rounds,)`."""

    name: str
    times: np.ndarray
    kind: str


def timing_plots(comparison: Comparison) -> Iterator[Plot]:
    """All that can be drawn of a comparison; nothing if its times were not kept."""
    runs = _runs(comparison)
    if runs:
        yield distributions(runs)
        yield drift(runs, comparison)
        yield percentiles(runs)


def _runs(comparison: Comparison) -> list[Runs]:
    """Of every model; the first model's second runs come right after its first ones."""
    found = [Runs(t.name, 1e3 * np.array(t.times), series(k)) for k, t in enumerate(comparison.models) if t.times]
    if found and comparison.again:
        found.insert(1, Runs(f"{found[0].name}, again (A/A)", 1e3 * np.array(comparison.again), "again"))
    return found


def distributions(runs: Sequence[Runs]) -> Plot:
    """How often each model takes how long."""
    room, top = 58.0, 8.0
    bottom = top + room * len(runs)
    scale = _times_scale(runs, 14.0, RIGHT)
    marks = [across(scale, top, bottom, "milliseconds")]
    for k, each in enumerate(runs):
        marks += _hill(each, scale, top + room * (k + 1))
    note = "Heights are relative to each model's own peak; the mark is the median."
    if scale.log:
        note += " The axis is logarithmic."
    return Plot("How long runs take", drawing(bottom + 42, "Distributions of times", *marks), note)


def _hill(runs: Runs, scale: Scale, base: float) -> Iterator[Markup]:
    """One model's distribution, standing on `base`."""
    places = np.array([scale(v) for v in runs.times if v <= scale.high])
    counts, edges = np.histogram(places, BINS, (scale.start, scale.end))
    # Smoothed a little: a bin's count is chance, and its neighbours know as much.
    heights = np.convolve(counts, np.array([1, 4, 6, 4, 1]) / 16, "same")
    heights = 34 * heights / max(heights.max(), 1e-9)
    middles = (edges[:-1] + edges[1:]) / 2
    tops = [(x, base - h) for x, h in zip(middles.tolist(), heights.tolist(), strict=True)]
    median = float(np.median(runs.times))
    yield path([(scale.start, base), *tops, (scale.end, base)], f"{runs.kind} area", True)
    yield path(tops, f"{runs.kind} stroke")
    yield line((scale.start, base), (scale.end, base), "base")
    yield line((scale(median), base - 37), (scale(median), base), "median")
    yield text((scale.start, base - 40), shortened(runs.name, 30), kind="label strong")
    beyond = len(runs.times) - len(places)
    more = f", {beyond} of {len(runs.times)} beyond the axis" if beyond else ""
    yield text((scale.end, base - 40), f"median {median:.4g} ms{more}", "end")


def _times_scale(runs: Sequence[Runs], start: float, end: float, share: float = SEEN) -> Scale:
    low = min(float(each.times.min()) for each in runs)
    high = max(float(np.quantile(each.times, share)) for each in runs)
    if low > 0 and high > WIDE * low:
        return Scale(low / 1.05, high * 1.05, start, end, log=True)
    low, high = padded([low, high], 0.04)
    return Scale(low, high, start, end)


def drift(runs: Sequence[Runs], comparison: Comparison) -> Plot:
    """The ratio to the first model's time over the rounds: medians of windows, and the middle half of each."""
    first, others = runs[0].times, runs[1:]
    courses = [(each.kind, *_windows(each.times / first)) for each in others]
    key, top = legend([each.name for each in others], [each.kind for each in others], LEFT, 14, RIGHT)
    top, bottom = top + 22, top + 22 + 220
    reach = np.concatenate(
        [np.quantile(ends, [CALM, 1 - CALM]) for *_, low, _, high in courses for ends in (low, high)]
    )
    y = Scale(*padded([1.0, *reach.tolist()]), bottom, top)
    x = Scale(0, len(first), LEFT, RIGHT)
    marks = [key, across(x, top, bottom, "round"), upright(y, LEFT, RIGHT, f"times {shortened(runs[0].name, 40)}")]
    marks.append(line((LEFT, y(1.0)), (RIGHT, y(1.0)), "reference"))
    for kind, centres, low, middle, high in courses:
        below, along, above = (
            [(x(a), y(v)) for a, v in zip(centres.tolist(), np.clip(values, y.low, y.high).tolist(), strict=True)]
            for values in (low, middle, high)
        )
        marks += [path([*below, *reversed(above)], f"{kind} band", True), path(along, f"{kind} stroke")]
    note = f"Medians of windows of {_window(len(first))} rounds, and the middle half of each. Level: no drift."
    note += " Steps: models that were made anew." if len(comparison.batches) > 1 else ""
    title = f"Ratios over {comparison.rounds} rounds"
    return Plot(title, drawing(bottom + 42, "Ratios of times over the rounds", *marks), note)


def _window(rounds: int) -> int:
    return min(rounds, max(LEAST, round(rounds / WINDOWS)))


def _windows(ratios: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Centres of windows of rounds, and quartiles in them."""
    size = _window(len(ratios))
    parts = [ratios[k : k + size] for k in range(0, len(ratios) - size + 1, size)]
    low, middle, high = np.quantile(np.array(parts), [0.25, 0.5, 0.75], axis=1)
    return (np.arange(len(parts)) + 0.5) * size, low, middle, high


def percentiles(runs: Sequence[Runs]) -> Plot:
    """The times below which so many runs stay, the tail at large."""
    key, top = legend([each.name for each in runs], [each.kind for each in runs], LEFT, 14, RIGHT)
    top, bottom = top + 22, top + 22 + 220
    count = len(runs[0].times)
    x = Scale(1, count, LEFT, RIGHT, log=True)
    y = _times_scale(runs, bottom, top, 1.0)
    marks = [key, upright(y, LEFT, RIGHT, "milliseconds")]
    for mark in (m for m in MARKS if 1 / (1 - m) <= count):
        at = x(1 / (1 - mark))
        words = f"p{100 * mark:g}" if mark else "fastest"
        marks += [line((at, top), (at, bottom), "grid"), text((at, bottom + 16), words, "middle")]
    for each in runs:
        marks.append(path(_tail(each.times, x, y), f"{each.kind} stroke"))
    note = f"The right end is the slowest of {count} runs."
    return Plot("Percentiles", drawing(bottom + 26, "Percentiles of times", *marks), note)


def _tail(times: np.ndarray, x: Scale, y: Scale) -> list[tuple[float, float]]:
    """Order statistics, thinned evenly along the axis."""
    ordered, count = np.sort(times), len(times)
    above = np.unique(np.geomspace(1, count, 160).round().astype(int))[::-1]  # runs that take as long, or longer
    return [(x(count / n), y(float(ordered[count - n]))) for n in above.tolist()]
