"""Where the time goes, layer by layer, before and after: as a plot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from onnxprune.latency import Attribution
from onnxprune.report.drawing import (
    WIDTH,
    Scale,
    across,
    drawing,
    legend,
    rectangle,
    series,
    shortened,
    text,
)
from onnxprune.report.markup import Markup
from onnxprune.report.sheet import Plot

MOST, ENOUGH = 30, 0.98
"""Rows at most, and the share of the first model's time after which no more are shown."""
WIDE, LEFT = 2 * WIDTH, 300.0
THICK, BETWEEN, LETTERS = 9.0, 8.0, 40


class Row(NamedTuple):
    """A part of the first model, and microseconds of it in every model; None where one has it not."""

    name: str
    times: tuple[float | None, ...]


def layers(found: Mapping[str, Attribution]) -> Plot:
    """The parts that take longest in the first model, and what the others have in their place; `found` is by name."""
    first, rows = next(iter(found.values())), list(_rows(found))
    key, top = legend(list(found), [series(k) for k in range(len(found))], LEFT, 14, WIDE - 14)
    room = THICK * len(found) + BETWEEN
    bottom = top + room * len(rows)
    longest = max((spent for row in rows for spent in row.times if spent is not None), default=1.0)
    scale = Scale(0.0, 1.02 * longest, LEFT, WIDE - 14)
    marks = [key, across(scale, top, bottom, "microseconds")]
    for k, row in enumerate(rows):
        marks += _bars(row, scale, top + room * k + BETWEEN / 2, list(found))
    shown = sum(row.times[0] or 0.0 for row in rows) / max(1e6 * first.seconds, 1e-9)
    note = f"The {len(rows)} longest, {shown:.0%} of the time of {next(iter(found))}; all are in the table."
    return Plot("Layer by layer", drawing(bottom + 42, "Times of layers", *marks, width=WIDE), note, wide=True)


def _rows(found: Mapping[str, Attribution]) -> Iterator[Row]:
    first, *others = found.values()
    times = [{part.nodes[0]: part.seconds for part in each.parts if part.nodes} for each in others]
    left = (1 - ENOUGH) * first.seconds
    parts = sorted((part for part in first.parts if part.nodes), key=lambda part: -part.seconds)
    for k, part in enumerate(parts[:MOST]):
        if k and sum(later.seconds for later in parts[k:]) <= left:
            return
        spent = [part.seconds, *(time.get(part.nodes[0]) for time in times)]
        yield Row(part.nodes[0], tuple(None if t is None else 1e6 * t for t in spent))


def _bars(row: Row, scale: Scale, top: float, names: Sequence[str]) -> Iterator[Markup]:
    middle = top + THICK * len(names) / 2
    yield text((LEFT - 6, middle + 4), shortened(row.name, LETTERS), "end")
    for k, (name, spent) in enumerate(zip(names, row.times, strict=True)):
        if spent is not None:
            size = scale(spent) - LEFT, THICK - 1.5
            yield rectangle(LEFT, top + THICK * k, *size, f"{series(k)} fill", f"{row.name}, {name}: {spent:.1f} us")
