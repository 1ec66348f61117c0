"""How long a part of a model takes in a runtime: of onnxruntime's CPU operators alone, elsewhere by the clock."""

from __future__ import annotations

import time

import numpy as np

from onnxprune.execution import random_inputs
from onnxprune.graph import Model
from onnxprune.latency.least import least_model
from onnxprune.latency.profile import LEAST, SECONDS, WARM_UP, profile
from onnxprune.latency.runtimes import Setting, runtime
from onnxprune.latency.statistic import middle

LAYOUT = ("ReorderInput", "ReorderOutput")
"""Operators by which onnxruntime changes layouts: of a layer alone, but not between layers in a row."""
PROFILED = "cpu"
_IDLE: dict[str, float] = {}


def part_seconds(model: Model, engine: str, setting: Setting) -> float:
    """What a part takes on random inputs.

    On the CPU it is the time of onnxruntime's operators, without changes of layout. In other runtimes, whose profiles
    tell too little, it is that of a run, less that of a model which does nothing.

    Raises:
        ModelError: it does not run.
        UsageError: the runtime cannot be used here.
    """
    if engine == PROFILED:
        return _kernel_seconds(model, setting.threads)
    return max(0.0, _wall_seconds(model, engine, setting) - _idle_seconds(engine, setting))


def _kernel_seconds(model: Model, threads: int) -> float:
    spent = [kernel.seconds for kernel in profile(model, threads) if kernel.op not in LAYOUT]
    return middle(np.sum(spent, 0)) if spent else 0.0  # single times are whole microseconds


def _wall_seconds(model: Model, engine: str, setting: Setting) -> float:
    prepared = runtime(engine).prepare(model, random_inputs(model, 0), setting)
    for _ in range(WARM_UP):
        prepared.run()
    times, end = list[float](), time.perf_counter() + SECONDS
    while len(times) < LEAST or time.perf_counter() < end:
        start = time.perf_counter()
        prepared.run()
        times.append(time.perf_counter() - start)
    return middle(np.array(times))


def _idle_seconds(engine: str, setting: Setting) -> float:
    """Of a run of the least model, measured once."""
    if (key := f"{engine} {setting}") not in _IDLE:
        _IDLE[key] = _wall_seconds(least_model(), engine, setting)
    return _IDLE[key]
