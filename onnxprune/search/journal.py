"""`Journal`: every evaluation of one search, a line each, on the disk before the search goes on.

The first line tells which search it is. A search is resumed by asking its sampler for the same structures again and
taking their judgements from here, so that nothing else has to be kept. A line that a crash cut short is dropped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, Self

from onnxprune.errors import OutputError, UsageError
from onnxprune.saving import sync_folder
from onnxprune.search.evaluation import Evaluation

FORMAT, VERSION = "onnxprune-search", 1


class Journal:
    """The evaluations of a search.

    Attributes:
        path: the file; JSON, a line each.
        known: evaluations that are in it, by number and rung.
    """

    def __init__(self, path: Path, search: Mapping[str, Any], resume: bool = False):
        """`search` tells the search from others, in JSON.

        Raises:
            UsageError: the file is of another search or version, is damaged, or is there although not to be resumed.
            OutputError: the file cannot be written.
        """
        self.path = path
        self.head = {"format": FORMAT, "version": VERSION, **json.loads(json.dumps(dict(search)))}
        self.known: dict[tuple[int, int], Evaluation] = {}
        if path.exists() and not resume:
            raise UsageError(f"{path}: has a search already", "go on with it (--resume), or take another folder")
        try:
            lines = _whole_lines(path)
            self._file: BinaryIO = path.open("ab")
            sync_folder(path.parent)  # a new file that its folder does not know is lost with all lines in it
        except OSError as error:
            raise OutputError(f"{path}: cannot be written: {error.strerror}", "choose another folder") from error
        if not lines:
            self._write(self.head)
            return
        try:
            self._check(lines[0])
            found = [self._evaluation(line, number) for number, line in enumerate(lines[1:], 2)]
        except BaseException:
            self._file.close()
            raise
        self.known = {(evaluation.number, evaluation.rung): evaluation for evaluation in found}

    def add(self, evaluation: Evaluation) -> None:
        """Put it on the disk."""
        self.known[evaluation.number, evaluation.rung] = evaluation
        self._write(asdict(evaluation))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def _write(self, content: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(content, separators=(",", ":"), allow_nan=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def _check(self, line: bytes) -> None:
        """Refuse the head of another search or version, before lines are read that may be of another form."""
        try:
            head = json.loads(line)
        except ValueError as error:
            raise self._damaged(1, error) from error
        for name, value in self.head.items():
            if not isinstance(head, dict) or head.get(name) != value:
                got = head.get(name) if isinstance(head, dict) else head
                raise UsageError(
                    f"{self.path}: a journal of another search: its {name} is {_short(got, value)}, expected "
                    f"{_short(value, got)}",
                    "resume with the options that it was begun with, or take another folder",
                )

    def _evaluation(self, line: bytes, number: int) -> Evaluation:
        try:
            return _evaluation(json.loads(line))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise self._damaged(number, error) from error

    def _damaged(self, line: int, error: Exception) -> UsageError:
        why = f"{type(error).__name__}: {error}"
        return UsageError(f"{self.path}: a damaged journal: line {line}: {why}", "take another folder")


def _short(value: Any, other: Any) -> str:
    """A value, without those of its fields that are the same in another one."""
    if isinstance(value, dict) and isinstance(other, dict):
        return repr({name: own for name, own in value.items() if name not in other or other[name] != own})
    return repr(value)


def _whole_lines(path: Path) -> list[bytes]:
    """All lines that were written to their end; the file is cut after them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        with path.open("r+b") as file:
            file.truncate(len(whole))
    return whole.splitlines()


def _evaluation(entry: Mapping[str, Any]) -> Evaluation:
    structure = tuple(int(place) for place in entry["structure"])
    figures = {str(name): float(value) for name, value in entry["figures"].items()}
    number, seed, rung = (int(entry[name]) for name in ("number", "seed", "rung"))
    return Evaluation(number, structure, seed, rung, figures, float(entry["seconds"]), str(entry["failure"]))
