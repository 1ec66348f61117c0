"""Profiles of onnxruntime: how long each operator of its optimised graph takes."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from onnxprune.errors import ModelError
from onnxprune.execution import random_inputs
from onnxprune.graph import Model
from onnxprune.latency.runtimes import Setting
from onnxprune.latency.runtimes.ort_cpu import ORT_CPU

WARM_UP, LEAST, SECONDS = 3, 10, 0.03
"""Untimed runs, timed ones at least, and for how long there are more of them."""
SUFFIX = "_kernel_time"


@dataclass(frozen=True)
class Kernel:
    """An operator of the optimised graph, in the order in which it runs.

    Attributes:
        name, op: of its node.
        seconds: of all timed runs: float `(runs,)`.
    """

    name: str
    op: str
    seconds: np.ndarray


def profile(
    model: Model,
    threads: int = 0,
    sizes: Mapping[str, int] | None = None,
    seconds: float = SECONDS,
    optimized: Path | None = None,
) -> list[Kernel]:
    """Run a model on random inputs, on the CPU, and see what takes how long.

    Args:
        model: to run.
        threads: of an operator; 0 leaves it to onnxruntime.
        sizes: of symbolic dimensions.
        seconds: for how long (10 runs at least).
        optimized: where the optimised graph is to be written, or None.

    Raises:
        ModelError: it does not run, or not the same operators every time.
    """
    with TemporaryDirectory() as folder:
        setting = Setting(threads=threads, profile=Path(folder) / "profile", optimized=optimized)
        session = ORT_CPU.prepare(model, random_inputs(model, 0, sizes), setting)
        runs, end = 1, time.perf_counter() + seconds
        while runs < WARM_UP + LEAST or time.perf_counter() < end:
            session.run()
            runs += 1
        events = json.loads(Path(session.profile).read_text())
    return _kernels(events, runs)


def _kernels(events: Sequence[Mapping[str, Any]], runs: int) -> list[Kernel]:
    found = [event for event in events if event.get("cat") == "Node" and event["name"].endswith(SUFFIX)]
    if len(found) % runs:
        raise ModelError(
            f"{len(found)} operators in {runs} runs, expected as many in each", "leave out loops and branches"
        )
    names = [(event["name"].removesuffix(SUFFIX), event["args"]["op_name"]) for event in found[: len(found) // runs]]
    spent = np.reshape([event["dur"] * 1e-6 for event in found], (runs, -1))[WARM_UP:]
    return [Kernel(*name, seconds) for name, seconds in zip(names, spent.T, strict=True)]
