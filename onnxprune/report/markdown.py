"""A report as Markdown, for README files and pull requests."""

from __future__ import annotations

import re
from collections.abc import Iterable

from onnxprune.report.cells import Cell, Lines, Table
from onnxprune.report.sheet import Sheet

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#])")


def markdown(sheet: Sheet) -> str:
    """The whole report, without drawings."""
    head = f"# {escape(sheet.title)}\n\n{escape(sheet.verdict)}\n"
    return "\n".join([head, *map(markdown_table, sheet.tables)])


def markdown_table(table: Table) -> str:
    """One table under a heading."""
    lines = [_row(column.title for column in table.columns)]
    lines.append(_row(("---:" if column.numeric else "---") for column in table.columns))
    lines += [_row(map(_cell, row)) for row in table.rows]
    note = f"\n{table.note}\n" if table.note else ""
    return f"## {table.title}\n\n" + "\n".join(lines) + f"\n{note}"


def _cell(cell: Cell) -> str:
    return "<br>".join(map(escape, cell.texts)) if isinstance(cell, Lines) else escape(str(cell))


def escape(text: str) -> str:
    """`text` so that Markdown shows it as it is, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
