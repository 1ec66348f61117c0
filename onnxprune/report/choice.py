"""Many models to choose from: what each costs and is worth, and what nothing beats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from onnxprune.errors import UsageError
from onnxprune.latency import Comparison, Interval, Timing
from onnxprune.pareto import beaten_by
from onnxprune.report.cards import CARDS, floor_card, timing_card
from onnxprune.report.cells import Table, number, short, table, text
from onnxprune.report.drawing import (
    WIDTH,
    Scale,
    across,
    dot,
    drawing,
    line,
    padded,
    path,
    series,
    shortened,
    upright,
)
from onnxprune.report.drawing import text as words
from onnxprune.report.facts import facts_table
from onnxprune.report.markup import Markup
from onnxprune.report.plots import timing_plots
from onnxprune.report.sheet import Card, Plot, Sheet
from onnxprune.report.tables import tails_table

FORMAT, VERSION = "onnxprune-compare", 1
ACCURACY, COSTS = ("time", "accuracy"), ("time", "macs", "params", "bytes")
"""What models are judged by: where accuracies are known, and where none is."""
SAME = ("asked", "runtime", "device", "threads", "precision", "options", "inputs")
"""What comparisons share whose models are to be chosen from together."""


@dataclass(frozen=True)
class Candidate:
    """A model to choose.

    Attributes:
        name: its file name.
        seconds: of one run.
        ratio: its time by the first model's.
        macs, params, bytes: its cost.
        accuracy: higher is better; None where it is not known.
        unbeaten: whether no other model beats it; None where it could not be judged.
        beaten_by: the name of one that does, or nothing.
    """

    name: str
    seconds: Interval
    ratio: Interval
    macs: int
    params: int
    bytes: int
    accuracy: float | None = None
    unbeaten: bool | None = None
    beaten_by: str = ""


@dataclass(frozen=True)
class Choice:
    """Models to choose from.

    Attributes:
        candidates: the first is what the others' times are compared with.
        criteria: what they are judged by: `ACCURACY` or `COSTS`.
        measurements: the comparisons that the times are from; the first model is the same in all.
    """

    candidates: tuple[Candidate, ...]
    criteria: tuple[str, ...]
    measurements: tuple[Comparison, ...]

    def to_json(self) -> dict[str, Any]:
        """The choice as plain data."""
        head = {"format": FORMAT, "version": VERSION, "criteria": list(self.criteria)}
        models = [asdict(each) for each in self.candidates]
        return {**head, "models": models, "measurements": [each.to_json() for each in self.measurements]}


def choose(measurements: Sequence[Comparison], accuracy: Mapping[str, float] | None = None) -> Choice:
    """Judge the models of one or more comparisons.

    Args:
        measurements: with the same first model, on the same device, runtime, options and inputs.
        accuracy: of models by name, higher is better; models without are not judged, unless no accuracy is known.

    Raises:
        UsageError: an accuracy is of no model, two models go by one name, or the comparisons have nothing in common.
    """
    accuracy, first = accuracy or {}, measurements[0]
    for other in measurements[1:]:
        _check_alike(first, other)
    timings = [*first.models, *(t for other in measurements[1:] for t in other.models[1:])]
    names = [t.name for t in timings]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"two models are called {twice[0]!r}", "rename one of them, and time it again")
    if unknown := sorted(accuracy.keys() - set(names)):
        raise UsageError(f"an accuracy is given of {unknown[0]!r}; the models are {', '.join(names)}", "check its name")
    criteria = ACCURACY if accuracy else COSTS
    judged = [t for t in timings if t.name in accuracy] if accuracy else timings
    better = _beaten(judged, accuracy, _ends(measurements))
    return Choice(tuple(_candidate(t, accuracy, better) for t in timings), criteria, tuple(measurements))


def _check_alike(first: Comparison, other: Comparison) -> None:
    """Refuse to put times side by side that were measured on different things."""
    a, b = first.models[0], other.models[0]
    if a.sha256 != b.sha256:
        what = f"one report compares with {a.name}, another with another model, {b.name}"
        raise UsageError(what, "time all models together, or with the same first model")
    for name in SAME:
        mine, others = getattr(first, name), getattr(other, name)
        if mine != others:
            raise UsageError(
                f"reports of different measurements: {name} is {mine!r} in one and {others!r} in another",
                "time all models alike, on one machine",
            )


def _beaten(
    timings: Sequence[Timing], accuracy: Mapping[str, float], ends: Mapping[str, tuple[float, float]]
) -> dict[str, str]:
    """The name of what beats each, or nothing. Times are known to within their `ends`, all else exactly."""
    names = [t.name for t in timings]
    rest = [[-accuracy[t.name]] if accuracy else [t.macs, t.params, t.bytes] for t in timings]
    low, high = (np.array([[ends[n][k], *costs] for n, costs in zip(names, rest, strict=True)]) for k in (0, 1))
    return {n: "" if k is None else names[k] for n, k in zip(names, beaten_by(low, high), strict=True)}


def _ends(measurements: Sequence[Comparison]) -> dict[str, tuple[float, float]]:
    """The ratios' intervals by name, widened by what the first model differs from itself by."""
    return {
        t.name: (t.ratio.low * min(c.floor.low, 1.0), t.ratio.high * max(c.floor.high, 1.0))
        for c in measurements
        for t in c.models
    }


def _candidate(t: Timing, accuracy: Mapping[str, float], better: Mapping[str, str]) -> Candidate:
    judged = {"unbeaten": not better[t.name], "beaten_by": better[t.name]} if t.name in better else {}
    known = (t.seconds, t.ratio, t.macs, t.params, t.bytes, accuracy.get(t.name))
    return Candidate(t.name, *known, **judged)  # type: ignore[arg-type]


# How it is told ------------------------------------------------------------------------------------------------------


def choice_sheet(choice: Choice) -> Sheet:
    """The whole report."""
    first = choice.measurements[0]
    best_first = sorted(choice.candidates[1:], key=lambda c: (not c.unbeaten, c.ratio.median))
    cards = (*(_card(each, choice) for each in best_first[:CARDS]), floor_card(first))
    title = f"{len(choice.candidates)} models, {' and '.join(_in_words(choice))}"
    return Sheet(title, verdict(choice), cards, tuple(_parts(choice)))


def _in_words(choice: Choice) -> list[str]:
    return ["time", "accuracy"] if choice.criteria == ACCURACY else ["time", "size"]


def _card(candidate: Candidate, choice: Choice) -> Card:
    for c in choice.measurements:
        for t in c.models[1:]:
            if t.name == candidate.name:
                card = timing_card(t, c)
                known = "" if candidate.accuracy is None else f"; accuracy {candidate.accuracy:.4g}"
                return Card(card.figure, card.text + known, card.kind)
    raise AssertionError("every candidate was measured")


def verdict(choice: Choice) -> str:
    """What nothing beats, in a sentence."""
    best = [each.name for each in choice.candidates if each.unbeaten]
    left = [each.name for each in choice.candidates if each.unbeaten is None]
    by = (
        "in time and accuracy" if choice.criteria == ACCURACY else "in time, multiply-accumulates, parameters and bytes"
    )
    unknown = f" Not judged, as their accuracy is not known: {', '.join(left)}." if left else ""
    hint = "" if choice.criteria == ACCURACY else " No accuracy is known."
    return f"Nothing beats, {by}: {', '.join(best)}.{unknown}{hint}"


def _parts(choice: Choice) -> Iterator[Table | Plot]:
    yield choice_table(choice)
    yield frontier_plot(choice)
    for each in choice.measurements:
        yield from timing_plots(each)
    for each in choice.measurements:
        yield tails_table(each)
        yield facts_table(each)


def choice_table(choice: Choice) -> Table:
    """The models, the fastest first."""
    rows = [_row(each) for each in sorted(choice.candidates, key=lambda c: c.ratio.median)]
    costs = [number("MACs"), number("params"), number("file size"), number("accuracy")]
    columns = [
        text("model"),
        number("median"),
        number("ratio"),
        number("95% interval"),
        *costs,
        text("nothing beats it"),
    ]
    note = (
        "A model beats another if it is surely better in something and surely worse in nothing; times are equal whose "
        "intervals, widened by the A/A floor, overlap."
    )
    return table("Models to choose from", columns, rows, note)


def _row(c: Candidate) -> tuple[str, ...]:
    judged = "not judged" if c.unbeaten is None else "yes" if c.unbeaten else f"no: {c.beaten_by} does"
    times = (f"{1e3 * c.seconds.median:.4g} ms", f"{c.ratio.median:.3f}", f"{c.ratio.low:.3f} to {c.ratio.high:.3f}")
    costs = (short(c.macs), short(c.params), short(c.bytes, "B"), "-" if c.accuracy is None else f"{c.accuracy:.4g}")
    return (c.name, *times, *costs, judged)


def frontier_plot(choice: Choice) -> Plot:
    """Accuracy by time, and the line of what nothing beats; without accuracies, time by multiply-accumulates."""
    by_accuracy = choice.criteria == ACCURACY
    shown = [c for c in choice.candidates if c.accuracy is not None or not by_accuracy]
    places = [(c.ratio.median, c.accuracy) if by_accuracy else (c.macs / 1e6, c.ratio.median) for c in shown]
    top, bottom, left, right = 30.0, 310.0, 56.0, WIDTH - 14.0
    x = Scale(
        *padded([0.0 if not by_accuracy else min(c.ratio.low for c in shown), *(p[0] for p in places)], 0.1),
        left,
        right,
    )
    y = Scale(*padded([p[1] for p in places], 0.12), bottom, top)  # type: ignore[misc]
    titles = ("time by the first model's", "accuracy") if by_accuracy else ("million MACs", "time by the first model's")
    marks = [across(x, top, bottom, titles[0]), upright(y, left, right, titles[1])]
    if by_accuracy:
        marks.append(_steps(shown, x, y))
    for k, (each, place) in enumerate(zip(shown, places, strict=True)):
        marks += _candidate_marks(each, (x(place[0]), y(place[1])), x if by_accuracy else y, by_accuracy, k)  # type: ignore[arg-type]
    note = "Bars are 95% intervals of the time. " + ("The line: what nothing beats." if by_accuracy else "")
    name = "Accuracy and time" if by_accuracy else "Work and time"
    return Plot(name, drawing(bottom + 42, f"{name} of the models", *marks), note.strip())


def _steps(shown: Sequence[Candidate], x: Scale, y: Scale) -> Markup:
    """What is to be had at any time: a stair through what nothing beats."""
    best = sorted((c for c in shown if c.unbeaten), key=lambda c: c.ratio.median)
    points = list[tuple[float, float]]()
    for each in best:
        at = (x(each.ratio.median), y(each.accuracy or 0.0))
        points += [(at[0], points[-1][1]), at] if points else [at]
    return path(points, "frontier")


def _candidate_marks(c: Candidate, at: tuple[float, float], time: Scale, flat: bool, number: int) -> Iterator[Markup]:
    ends = [time(c.ratio.low), time(c.ratio.high)]
    a, b = [(end, at[1]) if flat else (at[0], end) for end in ends]
    kind = "good" if c.unbeaten else series(0)
    yield line(a, b, "whisker")
    yield dot(at, 6 if c.unbeaten else 4.5, f"{kind} fill", c.name)
    # The stair leaves a point to the right and reaches it from below: names stand where it does not run.
    anchor, place = ("end", (at[0] - 10, at[1] - 8)) if at[0] > WIDTH / 2 else ("start", (at[0] + 8, at[1] + 18))
    yield words(place, shortened(c.name, 34), anchor, "label strong" if c.unbeaten else "label")
