"""A report as Markdown, for README files and pull requests."""

from __future__ import annotations

import re
from collections.abc import Iterable

from onnxprune.report.cells import Table
from onnxprune.report.data import Report
from onnxprune.report.tables import report_tables

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#])")


def markdown(report: Report) -> str:
    """The whole report."""
    head = f"# {escape(report.title)}\n\n{report.verdict}\n"
    return "\n".join([head, *map(markdown_table, report_tables(report))])


def markdown_table(table: Table) -> str:
    """One table under a heading."""
    lines = [_row(column.title for column in table.columns)]
    lines.append(_row(("---:" if column.numeric else "---") for column in table.columns))
    lines += [_row(escape(str(cell)) for cell in row) for row in table.rows]
    note = f"\n{table.note}\n" if table.note else ""
    return f"## {table.title}\n\n" + "\n".join(lines) + f"\n{note}"


def escape(text: str) -> str:
    """`text` so that Markdown shows it as it is, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
