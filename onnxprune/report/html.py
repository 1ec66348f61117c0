"""A report as one HTML page that needs nothing else: no scripts, no fonts, no network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from onnxprune.report.cells import Bar, Cell, Lines, Table
from onnxprune.report.markup import Markup, element, join
from onnxprune.report.sheet import Card, Plot, Sheet
from onnxprune.report.style import STYLE

BAR_WIDTH, BAR_HEIGHT = 320, 12


def page(sheet: Sheet) -> str:
    """The whole report."""
    cards = element("div", *map(_card, sheet.cards), class_="cards")
    body = element("body", element("h1", sheet.title), element("p", sheet.verdict), cards, *_parts(sheet.parts))
    return f"<!DOCTYPE html>\n{element('html', element('head', *_head(sheet.title)), body, lang='en')}\n"


def _head(title: str) -> list[Markup]:
    viewport = Markup('<meta name="viewport" content="width=device-width, initial-scale=1">')
    return [Markup('<meta charset="utf-8">'), viewport, element("title", title), element("style", Markup(STYLE))]


def _card(card: Card) -> Markup:
    kind = f"card {card.kind}".strip()
    return element("div", element("b", card.figure), element("span", card.text), class_=kind)


def _parts(parts: Iterable[Table | Plot]) -> Iterator[Markup]:
    """Tables, and plots side by side where there is room."""
    for kind, group in groupby(parts, type):
        if kind is Table:
            yield from (_section(part) for part in group if isinstance(part, Table))
        else:
            yield element("div", *[_figure(part) for part in group if isinstance(part, Plot)], class_="plots")


def _figure(plot: Plot) -> Markup:
    drawn = element("div", plot.drawing, class_="scroll")
    note = [element("figcaption", plot.note)] if plot.note else []
    return element("figure", element("h2", plot.title), drawn, *note, class_="wide" if plot.wide else "narrow")


def _section(table: Table) -> Markup:
    heads = [element("th", c.title, class_="number" if c.numeric else "text") for c in table.columns]
    rows = [element("tr", *heads)] + [_row(table, row) for row in table.rows]
    drawn = element("div", element("table", *rows), class_="scroll")
    note = [element("p", table.note)] if table.note else []
    if table.folded:
        title = element("summary", table.title, element("span", f" ({len(table.rows)} rows)"))
        return element("details", title, drawn, *note)
    return element("section", element("h2", table.title), drawn, *note)


def _row(table: Table, row: tuple[Cell, ...]) -> Markup:
    pairs = zip(table.columns, row, strict=True)
    return element("tr", *[element("td", _cell(c), class_="number" if k.numeric else "text") for k, c in pairs])


def _cell(cell: Cell) -> str:
    if isinstance(cell, Lines):
        return join(*[element("div", text) for text in cell.texts])
    return _bar(cell) if isinstance(cell, Bar) else cell


def _bar(bar: Bar) -> Markup:
    """What stays, drawn over what was there."""
    width = BAR_WIDTH * bar.length
    blocks = _block("gone", width), _block("kept", width * bar.filled)
    box = {"viewBox": f"0 0 {BAR_WIDTH} {BAR_HEIGHT}", "preserveAspectRatio": "none"}
    return element("svg", *blocks, **box, role="img", aria_label=str(bar), class_="bar")


def _block(name: str, width: float) -> Markup:
    return element("rect", width=f"{max(width, 1):.1f}", height=BAR_HEIGHT, rx=2, class_=name)
