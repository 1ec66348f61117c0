"""Versions of NVIDIA's libraries as they are loaded: what a wheel was built for may be another."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from pathlib import Path

from onnxprune.latency.runtimes.cuda import Gpu

MAPS = Path("/proc/self/maps")
KERNEL_MODULE = Path("/proc/driver/nvidia/version")


def gpu_versions(gpu: Gpu) -> dict[str, str]:
    """Of the driver, CUDA, cuDNN and TensorRT; what is not loaded is left out."""
    found = {"driver's CUDA": gpu.driver_version, **_driver()}
    for path in loaded(MAPS):
        for prefix, (name, read) in READERS.items():
            if Path(path).name.startswith(prefix):
                found[name] = read(ctypes.CDLL(path))
    return found


def loaded(maps: Path) -> Iterator[str]:
    """Paths of the libraries that this process has loaded."""
    lines = maps.read_text().splitlines() if maps.exists() else []
    yield from dict.fromkeys(line.split(maxsplit=5)[5] for line in lines if ".so" in line)


def _driver() -> Mapping[str, str]:
    """The driver's own version, as its kernel module tells it."""
    words = KERNEL_MODULE.read_text().split() if KERNEL_MODULE.exists() else []
    numbers = (word for word in words if word[:1].isdigit() and "." in word)
    return {"driver": next(numbers)} if any(word[:1].isdigit() and "." in word for word in words) else {}


def _cuda(library: ctypes.CDLL) -> str:
    number = ctypes.c_int()
    library.cudaRuntimeGetVersion(ctypes.byref(number))
    return f"{number.value // 1000}.{number.value % 1000 // 10}"


def _cudnn(library: ctypes.CDLL) -> str:
    library.cudnnGetVersion.restype = ctypes.c_size_t
    return three(library.cudnnGetVersion(), 10000)


def _tensorrt(library: ctypes.CDLL) -> str:
    return three(library.getInferLibVersion(), 10000)


def three(number: int, major: int) -> str:
    """92001 as 9.20.1: of a number whose last digits are two each for minor and patch."""
    return f"{number // major}.{number % major // 100}.{number % 100}"


READERS = {"libcudart.so": ("CUDA", _cuda), "libcudnn.so": ("cuDNN", _cudnn), "libnvinfer.so": ("TensorRT", _tensorrt)}
