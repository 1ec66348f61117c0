"""Drawings for pages: scales, frames and marks as SVG whose colours follow the page, light or dark.

They need nothing but this file, so that a report can be drawn on the device where models are timed. Lengths are in
units of the drawing, about a pixel each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from onnxprune.report.markup import Markup, element, join

WIDTH = 560
SERIES = 6
"""Colours that the page has; further series begin again."""
GAP, LETTER = 6, 7.0
"""Between an axis and its labels; width of a letter."""
NICE = (1, 2, 2.5, 5, 10)
Point = tuple[float, float]


@dataclass(frozen=True)
class Scale:
    """Where values lie: from `low` to `high` between `start` and `end`; by their logarithms if `log`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = (
            (math.log(v) for v in (self.low, self.high, value)) if self.log else (self.low, self.high, value)
        )
        return self.start + (at - low) / ((high - low) or 1.0) * (self.end - self.start)

    def ticks(self, count: int = 5) -> list[float]:
        """About so many round values within."""
        if self.log:
            return self._decades(count)
        span = (self.high - self.low) or abs(self.low) or 1.0
        power = 10.0 ** math.floor(math.log10(span / count))
        step = next(n * power for n in NICE if n * power * count >= span * 0.999)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [k * step for k in range(first, last + 1)]

    def _decades(self, count: int) -> list[float]:
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for digits in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
            found = [d * 10.0**p for p in powers for d in digits if self.low <= d * 10.0**p <= self.high]
            if len(found) <= count + 2:
                return found
        return found[:: max(1, len(found) // count)]


def padded(values: Sequence[float], margin: float = 0.06) -> tuple[float, float]:
    """The ends of some values, with room beyond."""
    low, high = min(values), max(values)
    room = margin * ((high - low) or abs(high) or 1.0)
    return low - room, high + room


def plain(value: float) -> str:
    """A number as short as it can be."""
    return f"{value:.6g}"


def drawing(height: float, label: str, *marks: str, width: float = WIDTH) -> Markup:
    """A whole drawing; `label` says what it shows to those who cannot see it."""
    box = f"0 0 {width:g} {height:g}"
    return Markup(element("svg", *marks, viewBox=box, role="img", aria_label=label, class_="plot"))


def text(at: Point, words: str, anchor: str = "start", kind: str = "label") -> Markup:
    """Words at a point: from there (`start`), up to there (`end`) or around it (`middle`)."""
    return element("text", words, x=f"{at[0]:.1f}", y=f"{at[1]:.1f}", text_anchor=anchor, class_=kind)


def line(a: Point, b: Point, kind: str) -> Markup:
    """A straight line."""
    return element("line", x1=f"{a[0]:.1f}", y1=f"{a[1]:.1f}", x2=f"{b[0]:.1f}", y2=f"{b[1]:.1f}", class_=kind)


def path(points: Sequence[Point], kind: str, closed: bool = False, title: str = "") -> Markup:
    """A line through points, or an area."""
    steps = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return element("path", *_title(title), d=f"M{steps}{'Z' if closed else ''}", class_=kind)


def rectangle(x: float, y: float, width: float, height: float, kind: str, title: str = "") -> Markup:
    """A bar, at least a hair wide."""
    size = {"width": f"{max(width, 0.5):.1f}", "height": f"{height:.1f}"}
    return element("rect", *_title(title), x=f"{x:.1f}", y=f"{y:.1f}", **size, rx=1.5, class_=kind)


def dot(at: Point, radius: float, kind: str, title: str = "") -> Markup:
    """A filled circle; `title` is shown where the pointer rests."""
    return element("circle", *_title(title), cx=f"{at[0]:.1f}", cy=f"{at[1]:.1f}", r=f"{radius:g}", class_=kind)


def series(number: int) -> str:
    """The class of a series' colour; the first is the one that others are compared with."""
    return f"s{number if number < SERIES else 1 + (number - 1) % (SERIES - 1)}"


def across(scale: Scale, top: float, bottom: float, title: str, form: Callable[[float], str] = plain) -> Markup:
    """The horizontal axis, with a grid."""
    marks = []
    for tick in scale.ticks():
        x = scale(tick)
        marks += [line((x, top), (x, bottom), "grid"), text((x, bottom + 16), form(tick), "middle")]
    return join(*marks, text(((scale.start + scale.end) / 2, bottom + 34), title, "middle", "axis"))


def upright(scale: Scale, left: float, right: float, title: str, form: Callable[[float], str] = plain) -> Markup:
    """The vertical axis, with a grid; its title stands above."""
    marks = []
    for tick in scale.ticks():
        y = scale(tick)
        marks += [line((left, y), (right, y), "grid"), text((left - GAP, y + 4), form(tick), "end")]
    return join(*marks, text((left, scale.end - 10), title, kind="axis"))


def legend(names: Sequence[str], kinds: Sequence[str], left: float, top: float, right: float) -> tuple[Markup, float]:
    """Names beside their colours, in as many rows as they need, and where those end."""
    x, y, marks = left, top, list[Markup]()
    for name, kind in zip(names, kinds, strict=True):
        shown = shortened(name, 40)
        room = 32 + LETTER * len(shown)
        if x > left and x + room > right:
            x, y = left, y + 18
        marks += [rectangle(x, y - 9, 12, 10, f"{kind} fill"), text((x + 17, y), shown)]
        x += room
    return join(*marks), y + 18


def shortened(name: str, letters: int) -> str:
    """A name with its middle left out where it is longer than so many letters."""
    if len(name) <= letters:
        return name
    half = (letters - 1) // 2
    return f"{name[: letters - 1 - half]}…{name[-half:]}"


def _title(words: str) -> list[Markup]:
    return [element("title", words)] if words else []
