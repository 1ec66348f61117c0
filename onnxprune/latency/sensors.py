"""What Linux tells of a machine: clocks, temperature, power, throttling, and who else computes. None: it does not tell.

Virtual machines and containers mostly hide some of it, other systems all of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

CPUS = Path("/sys/devices/system/cpu")
THERMAL = Path("/sys/class/thermal")
POWERCAP = Path("/sys/class/powercap")
PROC = Path("/proc")


class Process(NamedTuple):
    """Another program: its short name, and what it has computed so far, in seconds of one core."""

    name: str
    seconds: float


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


def joules() -> list[float] | None:
    """What every package has used so far; the counters begin again from time to time."""
    return [value / 1e6 for value in _numbers(POWERCAP.glob("intel-rapl:[0-9]/energy_uj"))] or None


def throttlings() -> int | None:
    """How often cores were slowed down by heat so far."""
    counts = list(_numbers(CPUS.glob("cpu[0-9]*/thermal_throttle/core_throttle_count")))
    return int(sum(counts)) if counts else None


def busy_seconds() -> float | None:
    """What all cores have computed so far, in seconds of one core."""
    path = PROC / "stat"
    if not path.exists():
        return None
    user, nice, system, *_ = map(int, path.read_text().split("\n", 1)[0].split()[1:])
    return (user + nice + system) / _ticks()


def processes() -> dict[int, Process]:
    """All others that can be seen, by number: neither this one nor what it has started."""
    return {number: process for number, parent, process in _processes() if os.getpid() not in (number, parent)}


def _processes() -> Iterator[tuple[int, int, Process]]:
    for file in PROC.glob("[0-9]*/stat"):
        try:
            text = file.read_text(errors="replace")
        except OSError:  # it has ended
            continue
        name, _, rest = text.partition("(")[2].rpartition(")")  # names may hold parentheses and blanks
        fields = rest.split()
        yield int(file.parent.name), int(fields[1]), Process(name, (int(fields[11]) + int(fields[12])) / _ticks())


def _ticks() -> int:
    return os.sysconf("SC_CLK_TCK")


def _numbers(files: Iterable[Path]) -> Iterable[float]:
    for file in sorted(files):
        try:
            yield float(file.read_text())
        except (OSError, ValueError):
            continue
