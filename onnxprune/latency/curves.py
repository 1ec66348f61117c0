"""How a segment's time depends on the widths of the groups on it: a curve for each of its axes.

A curve is measured at the ends and refined where it bends: a staircase costs more points than a straight line, and a
segment that takes no time to speak of costs hardly any. Over several axes times are taken to multiply, as the work of a
convolution does; how far that holds is judged on whole structures (see `target`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from onnxprune.analysis import Analysis
from onnxprune.forms import Atom, atoms
from onnxprune.latency.prediction import Latency, evenly
from onnxprune.latency.segments import Segment

PARTS, STAGES = 2, 8
"""Pieces of a curve that are looked at in any case; points at which several groups that vary together are."""
BEND, SMALL = 0.03, 0.002
"""A piece is straight if its middle is off by less than this share of the segment's time, or of the whole's."""

Widths = Mapping[str, int]
Levels = Mapping[str, Sequence[int]]
"""The widths that come into question, ascending, by group."""


@dataclass(frozen=True)
class Axis:
    """What varies together in a segment: groups that lie on the same of its forms.

    Attributes:
        factors: elements of the axis by unit, for every group.
    """

    factors: Mapping[str, float]

    def size(self, widths: Widths) -> float:
        """Its elements."""
        return sum(factor * widths[name] for name, factor in self.factors.items())


def axes_of(analysis: Analysis, segment: Segment) -> tuple[Axis, ...]:
    """The axes of a segment."""
    found: dict[tuple[int, ...], dict[str, float]] = {}
    sizes = {group.name: group.size for group in analysis.groups}
    places: dict[Atom, tuple[int, ...]] = {}
    for number, form in enumerate(segment.forms):
        for atom in (atom for atom in dict.fromkeys(atoms(form)) if atom in analysis.owner):
            places[atom] = (*places.get(atom, ()), number)
    for atom, pattern in places.items():
        name = analysis.owner[atom]
        factors = found.setdefault(pattern, {})
        factors[name] = factors.get(name, 0.0) + atom.size / sizes[name]
    return tuple(Axis(factors) for factors in found.values())


@dataclass(frozen=True)
class Curve:
    """Seconds by the size of an axis, straight between the points.

    Attributes:
        sizes: ascending, float `(points,)`.
        seconds: float `(points,)`.
    """

    sizes: np.ndarray
    seconds: np.ndarray

    def at(self, sizes: np.ndarray | float) -> np.ndarray:
        """Seconds at some sizes."""
        return np.interp(sizes, self.sizes, self.seconds)


class Curves:
    """The curves of all segments of a network.

    Args:
        latency: measures.
        levels: the widths that come into question.
    """

    def __init__(self, latency: Latency, levels: Levels):
        self.latency, self.levels = latency, levels
        self.full = {group.name: group.size for group in latency.analysis.groups}
        self.axes = [axes_of(latency.analysis, segment) for segment in latency.segments]
        self._known: dict[tuple[int, int], Curve] = {}

    def curve(self, segment: int, axis: int) -> Curve:
        """That of one axis of one segment, everything else whole."""
        if (segment, axis) not in self._known:
            self._known[segment, axis] = _Tracer(self, segment, self.axes[segment][axis]).curve()
        return self._known[segment, axis]

    def measure(self, progress: Callable[[float], None]) -> None:
        """Measure all of them."""
        pairs = [(segment, axis) for segment, axes in enumerate(self.axes) for axis in range(len(axes))]
        for number, pair in enumerate(pairs):
            progress(number / len(pairs))
            self.curve(*pair)

    def stages(self, axis: Axis) -> list[dict[str, int]]:
        """Widths of the groups on an axis at which it can be measured, ascending."""
        free = {name: levels for name in axis.factors if (levels := self.levels.get(name))}
        if len(free) == 1:
            ((name, levels),) = free.items()
            return [{name: width} for width in levels]
        shares = np.arange(1, STAGES + 1) / STAGES
        found = [{name: _nearest(levels, share * self.full[name]) for name, levels in free.items()} for share in shares]
        return [stage for before, stage in pairwise([{}, *found]) if stage != before]


def _nearest(levels: Sequence[int], wanted: float) -> int:
    return min(levels, key=lambda width: abs(width - wanted))


class _Tracer:
    """Measures one curve."""

    def __init__(self, curves: Curves, segment: int, axis: Axis):
        self._curves, self._segment, self._axis = curves, segment, axis
        self._stages = curves.stages(axis)
        self._points: dict[int, tuple[float, float]] = {}

    def curve(self) -> Curve:
        last = len(self._stages) - 1
        whole = self._curves.latency.whole
        if last < 1:
            return Curve(np.zeros(1), np.ones(1))
        self._tolerance = max(BEND * self._point(last)[1], SMALL * whole)
        known = np.unique(np.linspace(0, last, PARTS + 1).astype(int)).tolist()
        for start, end in pairwise(known):
            self._refine(start, end)
        points = np.array([self._points[k] for k in sorted(self._points)])
        return Curve(*points.T)

    def _refine(self, start: int, end: int) -> None:
        """Points between two until the curve is straight."""
        ends = np.array([self._point(start), self._point(end)])
        if end - start < 2:
            return
        middle = (start + end) // 2
        size, seconds = self._point(middle)
        if abs(seconds - np.interp(size, *ends.T)) > self._tolerance:
            self._refine(start, middle)
            self._refine(middle, end)

    def _point(self, stage: int) -> tuple[float, float]:
        """Size and seconds."""
        if stage not in self._points:
            widths, full = self._stages[stage], self._curves.full
            units = {name: evenly(full[name], width) for name, width in widths.items()}
            seconds = float(self._curves.latency.seconds(units, [self._segment])[0])
            self._points[stage] = (self._axis.size({**full, **widths}), seconds)
        return self._points[stage]
