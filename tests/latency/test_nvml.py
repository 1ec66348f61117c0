"""What is made of a GPU's answers; a module with the names of the real one stands in for it."""

import inspect
import os
import sys
from types import SimpleNamespace

import pytest

from onnxprune.latency import nvml
from onnxprune.latency.machine import Watch
from onnxprune.latency.nvml import Gpu

pynvml = pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")

HELD = pynvml.nvmlClocksEventReasonApplicationsClocksSetting
IDLE = pynvml.nvmlClocksEventReasonGpuIdle
CAP, HEAT = pynvml.nvmlClocksEventReasonSwPowerCap, pynvml.nvmlClocksEventReasonHwThermalSlowdown


class Refusing:
    """The real module's names and errors; every question that is not answered here is refused."""

    def __init__(self, **answers):
        self._answers, self.asked = answers, list[str]()

    def __getattr__(self, name):
        real = getattr(pynvml, name)  # an unknown name fails here, as it would with the real one
        if not name.startswith(("nvmlDevice", "nvmlSystem", "nvmlShutdown", "nvmlInit")):
            return real

        def answer(*given):
            self.asked.append(name)
            inspect.signature(real).bind(*given)
            if name not in self._answers:
                raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
            found = self._answers[name]
            return found(*given) if callable(found) else found

        return answer


def gpu(looks=1, **answers):
    found = Gpu(Refusing(**answers), "handle")
    for _ in range(looks):
        found.look()
    return found


def test_a_gpu_that_tells_nothing():
    found = gpu().found()
    assert found.pop("clocks") == "unknown" and set(found.values()) == {None}


def test_a_gpu_that_tells_all():
    power, reasons = iter([312_500, 498_000]), iter([CAP, CAP | HEAT])
    clocks = {pynvml.NVML_CLOCK_SM: iter([1410, 1980]), pynvml.NVML_CLOCK_MEM: iter([2619, 2619])}
    found = gpu(
        2,
        nvmlDeviceGetClockInfo=lambda handle, kind: next(clocks[kind]),
        nvmlDeviceGetPowerUsage=lambda handle: next(power),
        nvmlDeviceGetTemperature=lambda handle, sensor: 61,
        nvmlDeviceGetCurrentClocksEventReasons=lambda handle: next(reasons),
        nvmlDeviceGetEnforcedPowerLimit=700_000,
        nvmlDeviceGetName="NVIDIA H200",
        nvmlDeviceGetUUID="GPU-1",
        nvmlSystemGetDriverVersion="570.1",
        nvmlDeviceGetComputeRunningProcesses=[SimpleNamespace(pid=1), SimpleNamespace(pid=os.getpid())],
        nvmlDeviceGetGraphicsRunningProcesses=[SimpleNamespace(pid=1)],
    ).found()
    assert found == {
        "name": "NVIDIA H200",
        "id": "GPU-1",
        "driver": "570.1",
        "clocks": "floating",
        "clock_mhz": [1410, 1980],
        "memory_clock_mhz": [2619, 2619],
        "power_w": [312.5, 498.0],
        "power_limit_w": 700.0,
        "temperature_c": [61, 61],
        "throttling": ["power cap", "heat (hardware)"],
        "other_processes": 1,
    }


@pytest.mark.parametrize(
    ("clocks", "reasons", "state"),
    [
        ([1410, 1410], [HELD, HELD], "locked"),
        ([1410, 1410], [0, 0], "unknown"),
        ([1410, 1980], [HELD, HELD], "floating"),
        ([345, 1410], [IDLE, HELD], "locked"),
        ([345, 345], [IDLE, IDLE], "unknown"),
    ],
)
def test_whether_clocks_are_locked(clocks, reasons, state):
    speed, held = iter(clocks), iter(reasons)
    found = gpu(
        2,
        nvmlDeviceGetClockInfo=lambda handle, kind: next(speed) if kind == pynvml.NVML_CLOCK_SM else 1,
        nvmlDeviceGetCurrentClocksEventReasons=lambda handle: next(held),
    )
    assert found.found()["clocks"] == state


def test_no_throttling_is_not_unknown():
    assert gpu(nvmlDeviceGetCurrentClocksEventReasons=0).found()["throttling"] == []


def test_a_watch_looks_at_the_gpu_and_leaves_the_library():
    module = Refusing(nvmlDeviceGetName="NVIDIA H200", nvmlShutdown=None)
    with Watch(Gpu(module, "handle")) as watch:
        pass
    assert watch.found()["gpu"]["name"] == "NVIDIA H200"
    assert "nvmlDeviceGetPowerUsage" in module.asked and module.asked[-1] == "nvmlShutdown"


DEVICE = "NVIDIA H200 (3, GPU-01234567-89ab-cdef-0123-456789abcdef)"


def test_the_gpu_is_found_by_its_id(monkeypatch):
    module = Refusing(nvmlInit=None, nvmlDeviceGetHandleByUUID=lambda name: f"handle of {name}")
    monkeypatch.setitem(sys.modules, "pynvml", module)
    found = nvml.open_gpu(DEVICE)
    assert found is not None and found._handle == "handle of GPU-01234567-89ab-cdef-0123-456789abcdef"
    assert nvml.is_gpu(DEVICE)


def test_a_cpu_is_no_gpu(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)  # nothing asks it
    assert nvml.open_gpu("AMD EPYC") is None and nvml.open_gpu("") is None
    assert not nvml.is_gpu("AMD EPYC")


def test_without_the_library_or_its_binding_there_is_none(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", Refusing())  # the driver refuses to begin
    assert nvml.open_gpu(DEVICE) is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert nvml.open_gpu(DEVICE) is None


def test_the_names_are_the_real_ones():
    names = [*nvml.SLOWED, nvml.SET, nvml.IDLE]
    assert all(isinstance(getattr(pynvml, name), int) for name in names)
    assert len({getattr(pynvml, name) for name in names}) == len(names)
