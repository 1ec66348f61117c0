"""What the machine does while models are timed. What it does not tell is None."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

from onnxprune.latency import sensors
from onnxprune.latency.nvml import Gpu

EVERY = 0.5
"""Seconds between two looks."""
BUSY = 0.01
"""Cores that another process takes at least to be told."""
TOLD = 5
"""How many of them are."""


class Counters(NamedTuple):
    """What only counts up, at one moment."""

    moment: float
    busy: float | None
    own: float
    joules: list[float] | None
    throttlings: int | None
    processes: Mapping[int, sensors.Process]

    @classmethod
    def now(cls) -> Counters:
        """All of them."""
        spent = time.process_time()
        energy, slowed = sensors.joules(), sensors.throttlings()
        return cls(time.monotonic(), sensors.busy_seconds(), spent, energy, slowed, sensors.processes())


class Watch:
    """Looks at the machine every now and then, in a thread of its own, which sleeps nearly always.

    Args:
        gpu: to look at, too; it is closed at the end.
    """

    def __init__(self, gpu: Gpu | None = None) -> None:
        self._gpu, self._seen = gpu, dict[str, Any]()
        self._clocks: list[float] = []
        self._degrees: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look_on, daemon=True)

    def __enter__(self) -> Self:
        self._before = Counters.now()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()
        self._after = Counters.now()
        if self._gpu is not None:
            self._seen = self._gpu.found()
            self._gpu.close()

    def found(self) -> dict[str, Any]:
        """Facts by name: clocks in MHz, temperatures in degrees Celsius, watts, cores that others kept busy."""
        before, after = self._before, self._after
        slowed = None
        if before.throttlings is not None and after.throttlings is not None:
            slowed = after.throttlings - before.throttlings
        return {
            "clocks": sensors.clock_state(),
            "clock_mhz": _ends(self._clocks),
            "power_w": _watts(before, after),
            "temperature_c": _ends(self._degrees),
            "throttlings": slowed,
            "cores_busy_with_other_work": _others(before, after),
            "other_processes": _busiest(before, after),
            "affinity": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
            "gpu": self._seen or None,
        }

    def _look_on(self) -> None:
        while not self._over.is_set():
            self._clocks += sensors.clocks()
            self._degrees += sensors.temperatures()
            if self._gpu is not None:
                self._gpu.look()
            self._over.wait(EVERY)


def _passed(before: Counters, after: Counters) -> float:
    return max(after.moment - before.moment, 1e-9)


def _watts(before: Counters, after: Counters) -> float | None:
    """On average, all packages together; None where a counter has begun again."""
    if not before.joules or not after.joules:
        return None
    spent = [b - a for a, b in zip(before.joules, after.joules, strict=True)]
    return round(sum(spent) / _passed(before, after), 2) if min(spent) >= 0 else None


def _others(before: Counters, after: Counters) -> float | None:
    """Cores that were busy with something else."""
    if before.busy is None or after.busy is None:
        return None
    spent = after.busy - before.busy - (after.own - before.own)
    return max(0.0, round(spent / _passed(before, after), 3))


def _busiest(before: Counters, after: Counters) -> list[dict[str, Any]] | None:
    """Other processes that computed, with the cores that they took on average, the busiest first."""
    if after.busy is None:
        return None
    passed, gone = _passed(before, after), sensors.Process("", 0.0)
    cores = [
        (process.name, (process.seconds - before.processes.get(number, gone).seconds) / passed)
        for number, process in after.processes.items()
    ]
    busy = sorted((row for row in cores if row[1] >= BUSY), key=lambda row: -row[1])
    return [{"name": name, "cores": round(share, 3)} for name, share in busy[:TOLD]]


def _ends(values: list[float]) -> list[float] | None:
    return [min(values), max(values)] if values else None
