"""Tables of any content: titles, columns and cells, for every format to draw in its own way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Bar:
    """A cell drawn as a bar: `part` of `whole` units, where the longest bar of the column has `longest`.

    Lengths go with the square root of `whole`, so that 12 heads are still seen beside 3072 channels.
    """

    part: int
    whole: int
    longest: int

    @property
    def length(self) -> float:
        """Of the longest bar, in (0, 1]."""
        return (self.whole / max(self.longest, 1)) ** 0.5

    @property
    def filled(self) -> float:
        """The share of the bar that is filled."""
        return self.part / max(self.whole, 1)

    def __str__(self) -> str:
        return f"{self.part} of {self.whole}"


@dataclass(frozen=True)
class Lines:
    """A cell of several texts, one below the other."""

    texts: tuple[str, ...]

    def __str__(self) -> str:
        return "; ".join(self.texts)


Cell = str | Bar | Lines


@dataclass(frozen=True)
class Column:
    """A column's title, and whether it holds numbers, which stand at the right."""

    title: str
    numeric: bool = False


@dataclass(frozen=True)
class Table:
    """Rows under a title; `note` is a sentence below. One that is long may be `folded` on a page."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    folded: bool = False


def table(
    title: str, columns: Sequence[Column], rows: Iterable[Iterable[Cell]], note: str = "", folded: bool = False
) -> Table:
    """A table from any kind of rows."""
    return Table(title, tuple(columns), tuple(tuple(row) for row in rows), note, folded)


def text(title: str = "") -> Column:
    """A column of words."""
    return Column(title)


def number(title: str) -> Column:
    """A column of numbers."""
    return Column(title, numeric=True)


def short(value: float, unit: str = "") -> str:
    """A number with four digits and a decimal prefix.

    >>> short(11_684_712), short(46_748_865, "B"), short(512)
    ('11.68 M', '46.75 MB', '512')
    """
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.4g} {prefix}{unit}"
    return f"{value:.4g} {unit}".rstrip()


def change(before: float, after: float) -> str:
    """By how much `after` is more or less than `before`, in percent."""
    return f"{100 * (after - before) / before:+.1f}%" if before else "-"
