"""Runtimes by name."""

from __future__ import annotations

from onnxprune.errors import UsageError
from onnxprune.latency.runtimes.base import Facts, Missing, Prepared, Runtime, Setting
from onnxprune.latency.runtimes.elsewhere import Elsewhere
from onnxprune.latency.runtimes.openvino import OPENVINO
from onnxprune.latency.runtimes.ort_cpu import ORT_CPU
from onnxprune.latency.runtimes.ort_cuda import ORT_CUDA
from onnxprune.latency.runtimes.ort_tensorrt import ORT_TENSORRT
from onnxprune.latency.runtimes.tensorrt import TENSORRT

HOME = "onnxprune.torch.runtime"
TORCH = Elsewhere("torch", HOME, "EAGER", "torch", "torch-runtime")
TORCH_COMPILE = Elsewhere("torch-compile", HOME, "COMPILED", "torch", "torch-runtime")
ALL: tuple[Runtime, ...] = (ORT_CPU, ORT_CUDA, ORT_TENSORRT, TENSORRT, OPENVINO, TORCH, TORCH_COMPILE)
RUNTIMES: dict[str, Runtime] = {each.name: each for each in ALL}


def runtime(name: str) -> Runtime:
    """The runtime of this name.

    Raises:
        UsageError: there is none.
    """
    if name not in RUNTIMES:
        raise UsageError(f"unknown runtime {name!r}", f"choose from: {', '.join(RUNTIMES)}")
    return RUNTIMES[name]


__all__ = ["RUNTIMES", "Elsewhere", "Facts", "Missing", "Prepared", "Runtime", "Setting", "runtime"]
