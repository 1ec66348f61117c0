"""Times of segments by width: measured once, kept in a file that belongs to one model, machine and runtime."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from onnxprune.environment import describe
from onnxprune.errors import UsageError
from onnxprune.external import write_all
from onnxprune.graph import Model
from onnxprune.latency.profile import profile
from onnxprune.saving import writing

FORMAT, VERSION = "onnxprune-latency", 1
LAYOUT = ("ReorderInput", "ReorderOutput")
"""Operators by which onnxruntime changes layouts: of a layer alone, but not between layers in a row."""
MACHINE = ("cpu", "cores", "onnxruntime")

Key = tuple[int, ...]
"""A segment's number and the counts of its atoms."""


class Table:
    """Seconds by segment and width; None for a segment that does not run by itself.

    Args:
        about: the model and how it is run: plain data.
        path: a file to go on with and to keep up to date, or None.

    Raises:
        UsageError: the file is damaged, or of another model, machine or runtime.
    """

    def __init__(self, about: Mapping[str, Any], path: Path | None = None):
        here = describe()
        self.head: dict[str, Any] = {"format": FORMAT, "version": VERSION, **about}
        self.head |= {name: here[name] for name in MACHINE}
        self.path = path
        self.seconds: dict[Key, float | None] = {}
        self.fixed: float | None = None
        if path is not None and path.exists():
            self._read(path)

    def add(self, found: Mapping[Key, float | None], fixed: float | None = None) -> None:
        """Enter times, and what a run takes beside them if that is known now."""
        self.seconds.update(found)
        self.fixed = self.fixed if fixed is None else fixed
        if self.path is not None:
            rows = [[*key, seconds] for key, seconds in self.seconds.items()]
            with writing(self.path) as file:
                write_all(file, memoryview(json.dumps(self.head | {"fixed": self.fixed, "rows": rows}).encode()))

    def _read(self, path: Path) -> None:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            rows = {tuple(int(n) for n in row[:-1]): _seconds(row[-1]) for row in content["rows"]}
            fixed = None if content["fixed"] is None else float(content["fixed"])
        except (OSError, ValueError, TypeError, KeyError, IndexError) as error:
            raise UsageError(f"{path}: no table of latencies ({error})", "take another file, or remove it") from error
        for name, own in self.head.items():
            if content.get(name) != own:
                raise UsageError(
                    f"{path}: measured with {name} {content.get(name)!r}, expected {own!r}",
                    "times hold for one model, machine and runtime: take another file, or remove it",
                )
        self.seconds, self.fixed = rows, fixed


def _seconds(value: Any) -> float | None:
    return None if value is None else float(value)


def kernel_seconds(model: Model, threads: int) -> float:
    """What the operators of a model take in a run on random inputs, without changes of layout.

    It is the mean of the middle half of the runs: single times are whole microseconds, and some are far off.

    Raises:
        ModelError: it does not run.
    """
    spent = [kernel.seconds for kernel in profile(model, threads) if kernel.op not in LAYOUT]
    runs = np.sort(np.sum(spent, 0)) if spent else np.zeros(1)
    quarter = len(runs) // 4
    return float(np.mean(runs[quarter : len(runs) - quarter]))
