"""What NVIDIA's management library tells of a GPU while models run: clocks, power, heat, throttling, who else is there.

It comes with the driver; its Python binding is `nvidia-ml-py` (module `pynvml`). What a GPU, or a virtual machine, does
not tell stays None.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any, NamedTuple

SLOWED = {
    "nvmlClocksEventReasonSwPowerCap": "power cap",
    "nvmlClocksEventReasonHwSlowdown": "hardware slowdown",
    "nvmlClocksEventReasonSyncBoost": "sync boost",
    "nvmlClocksEventReasonSwThermalSlowdown": "heat (software)",
    "nvmlClocksEventReasonHwThermalSlowdown": "heat (hardware)",
    "nvmlClocksEventReasonHwPowerBrakeSlowdown": "power brake",
}
"""Reasons for clocks below those that were asked for, by the library's names for their bits."""
SET, IDLE = "nvmlClocksEventReasonApplicationsClocksSetting", "nvmlClocksEventReasonGpuIdle"
ID = re.compile(r"GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""Of a GPU: CUDA_VISIBLE_DEVICES gives CUDA other numbers than this library's, the id is the same for both."""


class Look(NamedTuple):
    """A GPU at one moment: MHz, watts, degrees Celsius, and the bits of what holds its clocks."""

    clock: float | None
    memory_clock: float | None
    power: float | None
    temperature: float | None
    reasons: int | None


class Gpu:
    """One GPU.

    Args:
        nvml: the module `pynvml`.
        handle: the library's.
    """

    def __init__(self, nvml: Any, handle: Any):
        self._nvml, self._handle, self._looks = nvml, handle, list[Look]()

    def look(self) -> None:
        """See how it is now."""
        n, power = self._nvml, self._ask(self._nvml.nvmlDeviceGetPowerUsage)
        look = Look(
            self._ask(n.nvmlDeviceGetClockInfo, n.NVML_CLOCK_SM),
            self._ask(n.nvmlDeviceGetClockInfo, n.NVML_CLOCK_MEM),
            None if power is None else power / 1e3,
            self._ask(n.nvmlDeviceGetTemperature, n.NVML_TEMPERATURE_GPU),
            self._ask(n.nvmlDeviceGetCurrentClocksEventReasons),
        )
        self._looks.append(look)

    def found(self) -> dict[str, Any]:
        """Facts by name, over all looks."""
        limit = self._ask(self._nvml.nvmlDeviceGetEnforcedPowerLimit)
        return {
            "name": self._ask(self._nvml.nvmlDeviceGetName),
            "id": self._ask(self._nvml.nvmlDeviceGetUUID),
            "driver": self._driver(),
            "clocks": self._clock_state(),
            "clock_mhz": self._ends("clock"),
            "memory_clock_mhz": self._ends("memory_clock"),
            "power_w": self._ends("power"),
            "power_limit_w": None if limit is None else limit / 1e3,
            "temperature_c": self._ends("temperature"),
            "throttling": self._throttling(),
            "other_processes": self._others(),
        }

    def close(self) -> None:
        """Leave the library."""
        self._nvml.nvmlShutdown()

    def _ask(self, question: Callable[..., Any], *about: Any) -> Any:
        try:
            return question(self._handle, *about)
        except self._nvml.NVMLError:  # not supported here, or not permitted
            return None

    def _driver(self) -> str | None:
        return self._ask(lambda handle: self._nvml.nvmlSystemGetDriverVersion())  # no question about one GPU

    def _ends(self, name: str) -> list[float] | None:
        values = [value for look in self._looks if (value := getattr(look, name)) is not None]
        return [min(values), max(values)] if values else None

    def _clock_state(self) -> str:
        """What was seen: the library has no question for whether clocks are locked.

        `floating` if the clock changed while the GPU was at work, `locked` if it did not and the GPU said that a
        setting holds it there, else `unknown`.
        """
        idle, held = getattr(self._nvml, IDLE), getattr(self._nvml, SET)
        working = [look for look in self._looks if look.reasons is not None and not look.reasons & idle]
        clocks = {look.clock for look in working}
        if len(clocks) > 1:
            return "floating"
        told = working and None not in clocks and all((look.reasons or 0) & held for look in working)
        return "locked" if told else "unknown"

    def _throttling(self) -> list[str] | None:
        seen = [look.reasons for look in self._looks if look.reasons is not None]
        if not seen:
            return None
        return [text for name, text in SLOWED.items() if any(bits & getattr(self._nvml, name) for bits in seen)]

    def _others(self) -> int | None:
        """How many other processes use it."""
        lists = [
            self._ask(self._nvml.nvmlDeviceGetComputeRunningProcesses),
            self._ask(self._nvml.nvmlDeviceGetGraphicsRunningProcesses),
        ]
        if all(found is None for found in lists):
            return None
        return len({process.pid for found in lists for process in found or ()} - {os.getpid()})


def open_gpu(device: str) -> Gpu | None:
    """The GPU whose id is in a device's description, as runtimes give it (see `runtimes.Facts`).

    None where there is no such id, or the driver's library or its Python binding is missing.
    """
    found = ID.search(device)
    if found is None:
        return None
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        return Gpu(pynvml, pynvml.nvmlDeviceGetHandleByUUID(found[0]))
    except pynvml.NVMLError:
        return None


def is_gpu(device: str) -> bool:
    """Whether a device's description is that of a GPU."""
    return ID.search(device) is not None
