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
        except OSError as error:
            raise OutputError(f"{path}: cannot be written: {error.strerror}", "choose another folder") from error
        if lines:
            self._read(lines)
        self._file: BinaryIO = path.open("ab")
        if not lines:
            self._write(self.head)

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

    def _read(self, lines: list[bytes]) -> None:
        try:
            head, *entries = [json.loads(line) for line in lines]
            found = [_evaluation(entry) for entry in entries]
        except (ValueError, TypeError, KeyError) as error:
            raise UsageError(f"{self.path}: a damaged journal ({error})", "take another folder") from error
        for name, value in self.head.items():
            if not isinstance(head, dict) or head.get(name) != value:
                got = head.get(name) if isinstance(head, dict) else head
                raise UsageError(
                    f"{self.path}: a journal of another search: its {name} is {got!r}, expected {value!r}",
                    "resume with the options that it was begun with, or take another folder",
                )
        self.known = {(evaluation.number, evaluation.rung): evaluation for evaluation in found}


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
