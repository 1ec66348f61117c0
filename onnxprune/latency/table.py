"""Times of segments by width: measured once, kept in a file that belongs to one model, machine and runtime."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from onnxprune.environment import describe
from onnxprune.errors import ModelError, UsageError
from onnxprune.execution import random_inputs
from onnxprune.external import write_all
from onnxprune.graph import Model
from onnxprune.latency.runtimes import Setting
from onnxprune.latency.runtimes.ort_cpu import ORT_CPU
from onnxprune.saving import writing

FORMAT, VERSION = "onnxprune-latency", 1
WARM_UP, LEAST, SECONDS = 3, 10, 0.03
"""Untimed runs, timed ones at least, and for how long there are more of them."""
LAYOUT = ("ReorderInput", "ReorderOutput")
"""Operators by which onnxruntime changes layouts: of a layer alone, but not between layers in a row."""
MACHINE = ("cpu", "cores", "onnxruntime")

Key = tuple[int, ...]
"""A segment's number and the counts of its atoms."""


class Table:
    """Seconds by segment and width.

    Args:
        fingerprint: of the model.
        threads: of an operator.
        path: a file to go on with and to keep up to date, or None.

    Raises:
        UsageError: the file is damaged, or of another model, machine or runtime.
    """

    def __init__(self, fingerprint: str, threads: int, path: Path | None = None):
        about = describe()
        self.head: dict[str, Any] = {"format": FORMAT, "version": VERSION, "model": fingerprint, "threads": threads}
        self.head |= {name: about[name] for name in MACHINE}
        self.path = path
        self.seconds: dict[Key, float] = {}
        self.fixed: float | None = None
        if path is not None and path.exists():
            self._read(path)

    def add(self, found: Mapping[Key, float], fixed: float | None = None) -> None:
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
            rows = {tuple(int(n) for n in row[:-1]): float(row[-1]) for row in content["rows"]}
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


def kernel_seconds(model: Model, threads: int) -> float:
    """What the operators of a model take in a run, without changes of layout: the median of runs on random inputs.

    Raises:
        ModelError: it does not run.
    """
    with TemporaryDirectory() as folder:
        setting = Setting(threads=threads, profile=Path(folder) / "profile")
        session = ORT_CPU.prepare(model, random_inputs(model, 0), setting)
        runs, end = 1, time.perf_counter() + SECONDS
        while runs < WARM_UP + LEAST or time.perf_counter() < end:
            session.run()
            runs += 1
        events = json.loads(Path(session.profile).read_text())
    return _median_run(events, runs)


def _median_run(events: Sequence[Mapping[str, Any]], runs: int) -> float:
    kernels = [event for event in events if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")]
    if not kernels:
        return 0.0
    if len(kernels) % runs:
        raise ModelError(f"{len(kernels)} operators in {runs} runs, expected as many in each", "report this model")
    spent = [0.0 if event["args"]["op_name"] in LAYOUT else event["dur"] * 1e-6 for event in kernels]
    return float(np.median(np.sum(np.reshape(spent, (runs, -1)), 1)[WARM_UP:]))
