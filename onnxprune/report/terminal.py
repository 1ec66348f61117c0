"""Tables in a terminal."""

from __future__ import annotations

from rich import box
from rich.table import Table as RichTable
from rich.text import Text

from onnxprune.report.cells import Bar, Cell, Lines, Table

BAR_WIDTH = 24
_EIGHTHS = " ▏▎▍▌▋▊▉"


def terminal_table(table: Table) -> RichTable:
    """One table for `rich` to print."""
    drawn = RichTable(title=table.title, caption=table.note or None, box=box.SIMPLE_HEAD, show_edge=False)
    drawn.title_style, drawn.title_justify = "bold", "left"
    drawn.caption_justify = "left"
    for column in table.columns:
        drawn.add_column(column.title, justify="right" if column.numeric else "left", overflow="fold")
    for row in table.rows:
        drawn.add_row(*map(_cell, row))
    return drawn


def plain(text: str) -> str:
    """`text` without characters that steer a terminal: names in a model are anybody's."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def _cell(cell: Cell) -> Text:
    if isinstance(cell, Lines):
        return Text("\n".join(map(plain, cell.texts)))
    return _bar(cell) if isinstance(cell, Bar) else Text(plain(cell))


def _bar(bar: Bar) -> Text:
    """Blocks for what stays, then dots for what goes."""
    cells = max(1, round(BAR_WIDTH * bar.length))
    eighths = max(1, round(8 * cells * bar.filled))
    blocks = "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
    return Text(blocks, "green").append("·" * (cells - len(blocks)), "dim")
