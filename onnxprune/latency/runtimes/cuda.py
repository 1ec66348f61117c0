"""A GPU through NVIDIA's driver: streams, events, memory, and what it is.

The driver's own interface (libcuda) is there wherever there is a GPU, whichever version of CUDA the runtime was built
for, and its functions never change; so nothing else has to be installed.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any, Self
from uuid import UUID

import numpy as np

from onnxprune.errors import UsageError
from onnxprune.latency.runtimes.base import Missing

DRIVER = "libcuda.so.1"
OUT_OF_MEMORY = 2
NON_BLOCKING = 1
EVERY = 0.005
"""Seconds between two looks at the free memory."""


def no_gpu() -> Missing | None:
    """Whether the driver is missing, which every use of a GPU needs."""
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError:
        return Missing(f"there is no NVIDIA driver ({DRIVER})", "run it on a machine with an NVIDIA GPU")
    count = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return Missing("the NVIDIA driver finds no GPU", "check `nvidia-smi`, and CUDA_VISIBLE_DEVICES")
    return None


class Gpu:
    """One GPU, current in the thread that makes this object.

    Args:
        number: of the device, as CUDA counts them.

    Raises:
        UsageError: there is no such device.
    """

    def __init__(self, number: int):
        self.number, self._driver = number, ctypes.CDLL(DRIVER)
        self._device, self._context = ctypes.c_int(), ctypes.c_void_p()
        self._call("cuInit", 0)
        count = ctypes.c_int()
        self._call("cuDeviceGetCount", ctypes.byref(count))
        if number >= count.value:
            raise UsageError(
                f"there is no GPU {number}; there are {count.value}", f"give --device 0 to {count.value - 1}"
            )
        self._call("cuDeviceGet", ctypes.byref(self._device), number)
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), self._device)
        self.enter()

    def enter(self) -> None:
        """Make it current in this thread."""
        self._call("cuCtxSetCurrent", self._context)

    @property
    def name(self) -> str:
        """Its name, number and id."""
        name, identity = ctypes.create_string_buffer(256), (ctypes.c_ubyte * 16)()
        self._call("cuDeviceGetName", name, len(name), self._device)
        self._call("cuDeviceGetUuid", ctypes.byref(identity), self._device)
        return f"{name.value.decode()} ({self.number}, GPU-{UUID(bytes=bytes(identity))})"

    @property
    def driver_version(self) -> str:
        """The newest CUDA that the driver supports."""
        found = ctypes.c_int()
        self._call("cuDriverGetVersion", ctypes.byref(found))
        return f"{found.value // 1000}.{found.value % 1000 // 10}"

    def free_memory(self) -> int:
        """Bytes that nobody uses."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value

    def stream(self) -> Stream:
        """A new stream, which waits for no other."""
        handle = ctypes.c_void_p()
        self._call("cuStreamCreate", ctypes.byref(handle), NON_BLOCKING)
        return Stream(self, handle)

    def buffer(self, size: int) -> Buffer:
        """New memory.

        Raises:
            UsageError: there is not enough.
        """
        address = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(max(size, 1)))
        return Buffer(self, address, size)

    def _call(self, name: str, *args: Any) -> None:
        """Call the driver.

        Raises:
            UsageError: it reports an error.
        """
        if status := getattr(self._driver, name)(*args):
            text = ctypes.c_char_p()
            self._driver.cuGetErrorName(status, ctypes.byref(text))
            what = text.value.decode() if text.value else f"error {status}"
            fix = "use a smaller batch" if status == OUT_OF_MEMORY else "check `nvidia-smi`"
            raise UsageError(f"GPU {self.number}: {name} fails: {what}", fix)


class Stream:
    """An order of work on a GPU."""

    def __init__(self, gpu: Gpu, handle: ctypes.c_void_p):
        self._gpu, self._handle = gpu, handle

    @property
    def address(self) -> int:
        """For other libraries."""
        return int(self._handle.value or 0)

    def wait(self) -> None:
        """Wait until all is done."""
        self._gpu._call("cuStreamSynchronize", self._handle)

    def seconds(self, work: Callable[[], object]) -> float:
        """From the first to the last of what `work` has the device do, by its own clock."""
        start, end = self._event(), self._event()
        self._gpu._call("cuEventRecord", start, self._handle)
        work()
        self._gpu._call("cuEventRecord", end, self._handle)
        self._gpu._call("cuEventSynchronize", end)
        passed = ctypes.c_float()
        self._gpu._call("cuEventElapsedTime", ctypes.byref(passed), start, end)
        for event in (start, end):
            self._gpu._call("cuEventDestroy_v2", event)
        return passed.value / 1e3

    def _event(self) -> ctypes.c_void_p:
        event = ctypes.c_void_p()
        self._gpu._call("cuEventCreate", ctypes.byref(event), 0)
        return event


class Buffer:
    """Memory of a GPU, given back with this object."""

    def __init__(self, gpu: Gpu, address: ctypes.c_uint64, size: int):
        self._gpu, self._address, self.size = gpu, address, size

    @property
    def address(self) -> int:
        """On the device."""
        return int(self._address.value)

    def write(self, array: np.ndarray) -> None:
        """Copy an array to the device, and wait for it."""
        array = np.ascontiguousarray(array)
        self._gpu._call("cuMemcpyHtoD_v2", self._address, _pointer(array), ctypes.c_size_t(array.nbytes))

    def read(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Copy an array from the device, and wait for it."""
        array = np.empty(shape, dtype)
        self._gpu._call("cuMemcpyDtoH_v2", _pointer(array), self._address, ctypes.c_size_t(array.nbytes))
        return array

    def __del__(self) -> None:
        self._gpu._driver.cuMemFree_v2(self._address)


class MemoryWatch:
    """Looks at the free memory of a GPU, in a thread of its own; what other processes take meanwhile counts, too."""

    def __init__(self, gpu: Gpu):
        self._gpu, self._over = gpu, threading.Event()
        self._before = self._least = gpu.free_memory()
        self._thread = threading.Thread(target=self._look_on, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()
        self._least = min(self._least, self._gpu.free_memory())

    @property
    def taken(self) -> int:
        """Most bytes that were in use beyond those at the start."""
        return max(0, self._before - self._least)

    def _look_on(self) -> None:
        self._gpu.enter()
        while not self._over.wait(EVERY):
            self._least = min(self._least, self._gpu.free_memory())


def _pointer(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
