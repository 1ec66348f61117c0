"""What a report says, before it has a format: a title, a verdict, a few figures, then tables and plots."""

from __future__ import annotations

from dataclasses import dataclass

from onnxprune.report.cells import Table
from onnxprune.report.markup import Markup


@dataclass(frozen=True)
class Card:
    """A figure to be seen first, and what it is; `kind` is `good`, `bad` or nothing."""

    figure: str
    text: str
    kind: str = "good"


@dataclass(frozen=True)
class Plot:
    """A drawing for pages: an SVG element whose colours are the page's. Its figures are in tables, too."""

    title: str
    drawing: Markup
    note: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Sheet:
    """A whole report.

    Attributes:
        title: what was reported on.
        verdict: the result in a sentence.
        cards: to be seen first.
        parts: in the order in which they are read.
    """

    title: str
    verdict: str
    cards: tuple[Card, ...]
    parts: tuple[Table | Plot, ...]

    @property
    def tables(self) -> tuple[Table, ...]:
        """The tables alone."""
        return tuple(part for part in self.parts if isinstance(part, Table))
