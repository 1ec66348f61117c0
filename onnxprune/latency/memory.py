"""How much memory a model takes on a CPU: the growth of a fresh process while it is built and run once."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import numpy as np

from onnxprune.execution import Feeds
from onnxprune.graph import Model
from onnxprune.latency.children import run_alone
from onnxprune.latency.least import least_model
from onnxprune.latency.runtimes import Setting, runtime

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_memory(model: Model, name: str, feeds: Feeds, setting: Setting) -> int | None:
    """Most bytes that the model's build and first run add to a process that has run a model of one operator before.

    The process is a child that does nothing else: in one that has prepared other models before, memory that they gave
    back would be used again, and not be seen. What counts is resident memory; that of the runtime itself is there
    already.

    Returns:
        None where the system does not tell.

    Raises:
        UsageError: the runtime cannot be used here.
        ModelError: the model does not run in it, or the child dies of it.
    """
    return run_alone(_growth, model, name, feeds, setting)


def _growth(model: Model, name: str, feeds: Feeds, setting: Setting) -> int | None:
    engine = runtime(name)
    engine.prepare(least_model(), {"x": np.zeros(1, np.float32)}, setting)
    before = _reset()
    engine.prepare(model, feeds, setting)
    peak = _peak()
    return None if before is None or peak is None else max(0, peak - before)


def _reset() -> int | None:
    """Resident bytes now, from which on the peak is counted anew where Linux allows that."""
    try:
        RESET.write_text("5")
    except OSError:
        return _peak()
    return _status("VmRSS")


def _peak() -> int | None:
    """Most resident bytes so far."""
    told = _status("VmHWM")
    if told is None and sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return told


def _status(name: str) -> int | None:
    """A size that Linux tells of this process, in bytes."""
    lines = STATUS.read_text().splitlines() if STATUS.exists() else []
    found = (line.split() for line in lines if line.startswith(f"{name}:"))
    return next((1024 * int(size) for _, size, *_ in found), None)
