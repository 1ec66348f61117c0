"""A report as one HTML page that needs nothing else: no scripts, no fonts, no network."""

from __future__ import annotations

from onnxprune.report.cells import Bar, Cell, Table, change, short
from onnxprune.report.data import Report
from onnxprune.report.markup import Markup, element
from onnxprune.report.tables import report_tables

BAR_WIDTH, BAR_HEIGHT = 320, 12

STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --soft: #60646c; --line: #d9d9e0; --paper: #fcfcfd;
  --kept: #2b7a5f; --gone: #dfe3e6; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #edeef0; --soft: #a0a4ab; --line: #363a3f; --paper: #111113;
  --kept: #4cc38a; --gone: #363a3f; --bad: #ff8a80; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 68rem; margin: 2.5rem auto; padding: 0 1.25rem; }
h1 { font-size: 1.5rem; font-weight: 600; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; font-weight: 600; margin: 2.5rem 0 .5rem; }
p { color: var(--soft); margin: .25rem 0; }
.cards { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1.5rem 0 0; }
.card { border: 1px solid var(--line); border-radius: .5rem; padding: .75rem 1rem; flex: 1 1 10rem; }
.card b { display: block; font-size: 1.5rem; font-weight: 600; color: var(--kept); font-variant-numeric: tabular-nums; }
.card.bad b { color: var(--bad); }
.card span { color: var(--soft); font-size: .85rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th { text-align: left; font-weight: 500; color: var(--soft); font-size: .85rem; }
th, td { padding: .3rem .75rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td { overflow-wrap: anywhere; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
svg { display: block; margin-top: .35rem; max-width: 100%; }
.kept { fill: var(--kept); }
.gone { fill: var(--gone); }
"""


def page(report: Report) -> str:
    """The whole report."""
    head = element("head", *_head(report.title))
    body = element("body", element("h1", report.title), *_summary(report), *map(_section, report_tables(report)))
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def _head(title: str) -> list[Markup]:
    viewport = Markup('<meta name="viewport" content="width=device-width, initial-scale=1">')
    return [Markup('<meta charset="utf-8">'), viewport, element("title", title), element("style", Markup(STYLE))]


def _summary(report: Report) -> list[Markup]:
    a, b = report.before, report.after
    cards = [
        _card(change(a.params, b.params), f"parameters: {short(a.params)} → {short(b.params)}"),
        _card(change(a.macs, b.macs), f"multiply-accumulates: {short(a.macs)} → {short(b.macs)}"),
    ]
    if a.bytes is not None and b.bytes is not None:
        cards.append(_card(change(a.bytes, b.bytes), f"file size: {short(a.bytes, 'B')} → {short(b.bytes, 'B')}"))
    if report.accuracy:
        found = report.accuracy
        kind = "card bad" if found.after < found.before else "card"
        cards.append(_card(f"{found.after:.2%}", f"{found.name}, before {found.before:.2%}", kind))
    return [element("p", report.verdict), element("div", *cards, class_="cards")]


def _card(figure: str, text: str, kind: str = "card") -> Markup:
    return element("div", element("b", figure), element("span", text), class_=kind)


def _section(table: Table) -> Markup:
    heads = [element("th", c.title, class_="number" if c.numeric else "text") for c in table.columns]
    rows = [element("tr", *heads)] + [_row(table, row) for row in table.rows]
    drawn = element("div", element("table", *rows), class_="scroll")
    note = [element("p", table.note)] if table.note else []
    return element("section", element("h2", table.title), drawn, *note)


def _row(table: Table, row: tuple[Cell, ...]) -> Markup:
    pairs = zip(table.columns, row, strict=True)
    return element("tr", *[element("td", _cell(c), class_="number" if k.numeric else "text") for k, c in pairs])


def _cell(cell: Cell) -> str:
    return _bar(cell) if isinstance(cell, Bar) else cell


def _bar(bar: Bar) -> Markup:
    """What stays, drawn over what was there."""
    width = BAR_WIDTH * bar.length
    blocks = _block("gone", width), _block("kept", width * bar.filled)
    return element("svg", *blocks, width=BAR_WIDTH, height=BAR_HEIGHT, role="img", aria_label=str(bar))


def _block(name: str, width: float) -> Markup:
    return element("rect", width=f"{max(width, 1):.1f}", height=BAR_HEIGHT, rx=2, class_=name)
