"""What the machine does while models are timed: clocks, temperature, load. What it does not tell is None."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

CPUS = Path("/sys/devices/system/cpu")
THERMAL = Path("/sys/class/thermal")
PROC = Path("/proc")
EVERY = 0.5
"""Seconds between two looks."""


class Watch:
    """Looks at the machine every now and then, in a thread of its own, which sleeps nearly always."""

    def __init__(self) -> None:
        self._clocks: list[float] = []
        self._degrees: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look_on, daemon=True)
        self._busy, self._own = _busy_seconds(), time.process_time()
        self._start = time.monotonic()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()
        self._passed = time.monotonic() - self._start
        self._busy_after, self._own_after = _busy_seconds(), time.process_time()

    def found(self) -> dict[str, Any]:
        """Facts by name: clocks in MHz, temperatures in degrees Celsius, cores that others kept busy."""
        others = None
        if self._busy is not None and self._busy_after is not None:
            spent = self._busy_after - self._busy - (self._own_after - self._own)
            others = max(0.0, round(spent / max(self._passed, 1e-9), 3))
        return {
            "clock_mhz": _ends(self._clocks),
            "clocks": clock_state(),
            "temperature_c": _ends(self._degrees),
            "cores_busy_with_other_work": others,
            "affinity": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        }

    def _look_on(self) -> None:
        while not self._over.is_set():
            self._clocks += clocks()
            self._degrees += temperatures()
            self._over.wait(EVERY)


def clocks() -> list[float]:
    """Of all cores, MHz."""
    governed = [value / 1e3 for value in _numbers(CPUS.glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))]
    return governed or _from_cpuinfo()


def _from_cpuinfo() -> list[float]:
    path = PROC / "cpuinfo"
    lines = path.read_text().splitlines() if path.exists() else []
    return [float(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz")]


def clock_state() -> str:
    """`locked` where lowest and highest clock are the same, `floating` where they are not, or `unknown`."""
    ends = [list(_numbers(CPUS.glob(f"cpu[0-9]*/cpufreq/scaling_{end}_freq"))) for end in ("min", "max")]
    if not all(ends):
        return "unknown"
    return "locked" if ends[0] == ends[1] else "floating"


def temperatures() -> list[float]:
    """Of all sensors, degrees Celsius."""
    return [value / 1e3 for value in _numbers(THERMAL.glob("thermal_zone*/temp"))]


def _busy_seconds() -> float | None:
    """What all cores have computed so far, in seconds of one core."""
    path = PROC / "stat"
    if not path.exists():
        return None
    user, nice, system, *_ = map(int, path.read_text().split("\n", 1)[0].split()[1:])
    return (user + nice + system) / os.sysconf("SC_CLK_TCK")


def _numbers(files: Iterable[Path]) -> Iterable[float]:
    for file in sorted(files):
        try:
            yield float(file.read_text())
        except (OSError, ValueError):
            continue


def _ends(values: list[float]) -> list[float] | None:
    return [min(values), max(values)] if values else None
