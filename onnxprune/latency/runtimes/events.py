"""Host, device and copies apart."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

from onnxprune.latency.runtimes.base import Apart
from onnxprune.latency.runtimes.cuda import Stream

RUNS = 20


def timed_apart(stream: Stream, launch: Callable[[], object], copy: Callable[[], object]) -> Apart:
    """Medians of a few runs.

    Args:
        stream: that the device works on.
        launch: starts an inference, and does not wait for it.
        copy: inputs to the device and outputs back, to the end.
    """
    launch()
    stream.wait()
    device = [stream.seconds(launch) for _ in range(RUNS)]
    host = [_seconds(launch, stream.wait) for _ in range(RUNS)]
    copies = [_seconds(copy, stream.wait) for _ in range(RUNS)]
    return Apart(median(host), median(device), median(copies))


def _seconds(work: Callable[[], object], after: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    passed = time.perf_counter() - start
    after()
    return passed
