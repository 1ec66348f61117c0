"""How long a part of a model takes in a runtime: of onnxruntime's CPU operators alone, elsewhere by the clock."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from onnxprune.execution import random_inputs
from onnxprune.graph import Model
from onnxprune.latency.least import least_model
from onnxprune.latency.profile import LEAST, SECONDS, WARM_UP, Kernel, profiles
from onnxprune.latency.runtimes import Prepared, Setting, runtime
from onnxprune.latency.statistic import middle

LAYOUT = ("ReorderInput", "ReorderOutput")
"""Operators by which onnxruntime changes layouts: of a layer alone, but not between layers in a row."""
PROFILED = "cpu"
_IDLE: dict[str, float] = {}


def part_seconds(models: Sequence[Model], engine: str, setting: Setting) -> list[float]:
    """What parts take on random inputs, in turns.

    On the CPU it is the time of onnxruntime's operators, without changes of layout. In other runtimes, whose profiles
    tell too little, it is that of a run, less that of a model which does nothing.

    Raises:
        ModelError: one does not run.
        UsageError: the runtime cannot be used here.
    """
    if engine == PROFILED:
        return [_kernel_seconds(kernels) for kernels in profiles(models, setting.threads)]
    idle = _idle_seconds(engine, setting)
    return [max(0.0, spent - idle) for spent in _wall_seconds(models, engine, setting)]


def _kernel_seconds(kernels: Sequence[Kernel]) -> float:
    spent = [kernel.seconds for kernel in kernels if kernel.op not in LAYOUT]
    return middle(np.sum(spent, 0)) if spent else 0.0  # single times are whole microseconds


def _wall_seconds(models: Sequence[Model], engine: str, setting: Setting) -> list[float]:
    prepared = [runtime(engine).prepare(model, random_inputs(model, 0), setting) for model in models]
    times, end = list[list[float]](), time.perf_counter() + SECONDS
    while len(times) < WARM_UP + LEAST or time.perf_counter() < end:
        times.append([_seconds(each) for each in prepared])
    return [middle(own) for own in np.array(times)[WARM_UP:].T]


def _seconds(prepared: Prepared) -> float:
    start = time.perf_counter()
    prepared.run()
    return time.perf_counter() - start


def _idle_seconds(engine: str, setting: Setting) -> float:
    """Of a run of the least model, measured once."""
    if (key := f"{engine} {setting}") not in _IDLE:
        _IDLE[key] = _wall_seconds([least_model()], engine, setting)[0]
    return _IDLE[key]
