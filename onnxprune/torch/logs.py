"""What a training tells of itself: one row an epoch, as `log.csv` and for TensorBoard."""

from __future__ import annotations

import csv
import functools
import io
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from onnxprune.errors import UsageError
from onnxprune.report.files import write_text

NAME = "log.csv"


class Log:
    """The rows of a training so far, in its folder.

    Args:
        folder: exists.
        epoch: epochs that are done; rows of later ones, which a killed training left, are forgotten.

    Raises:
        UsageError: the folder has a `log.csv` that is none.
    """

    def __init__(self, folder: Path, epoch: int):
        self.path = folder / NAME
        self.rows = [row for row in read(self.path) if int(row["epoch"]) <= epoch]
        self._folder, self._first = folder, epoch + 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if board := vars(self).get("_board"):
            board.close()

    def add(self, row: Mapping[str, float]) -> None:
        """Write a row, which has an `epoch`; columns that earlier rows do not have are empty in these.

        Raises:
            OutputError: the file cannot be written.
        """
        self.rows.append({name: str(value) for name, value in row.items()})
        columns = dict.fromkeys(name for row in self.rows for name in row)
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.path, text.getvalue())
        for name in row if self._board else ():
            self._board.add_scalar(name, row[name], row["epoch"])

    @functools.cached_property
    def _board(self) -> Any:
        """TensorBoard's writer, if there is one; what it has of this slice's epochs already is not shown any more."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            _say_missing()
            return None
        return SummaryWriter(str(self._folder), purge_step=self._first)


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a log; none if there is no file.

    Raises:
        UsageError: it is no log of a training.
    """
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if any(not (row.get("epoch") or "").isdigit() for row in rows):
        raise UsageError(f"{path}: not the log of a training: a row has no epoch", "remove it, or use another folder")
    return rows


@functools.cache
def _say_missing() -> None:
    print("note: tensorboard is not installed; the training is logged in log.csv alone", file=sys.stderr)
