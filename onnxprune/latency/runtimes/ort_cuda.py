"""onnxruntime on NVIDIA GPUs."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

from onnxprune.latency.runtimes.base import Missing, Setting
from onnxprune.latency.runtimes.sessions import Provider

WHEEL = "onnxprune[gpu]"


def cuda_options(setting: Setting) -> Mapping[str, Any]:
    """The provider's options."""
    return {
        "device_id": str(setting.device),
        "use_tf32": str(int(setting.tf32)),
        "prefer_nhwc": str(int(setting.nhwc)),
        "cudnn_conv_algo_search": "EXHAUSTIVE" if setting.search else "HEURISTIC",
        "enable_cuda_graph": str(int(setting.graph)),
    }


def no_gpu() -> Missing | None:
    """Whether the driver is missing, which every use of a GPU needs."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return Missing("there is no NVIDIA driver (libcuda.so.1)", "run it on a machine with an NVIDIA GPU")
    count = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return Missing("the NVIDIA driver finds no GPU", "check `nvidia-smi`, and CUDA_VISIBLE_DEVICES")
    return None


ORT_CUDA = Provider(
    "cuda",
    "CUDAExecutionProvider",
    options=cuda_options,
    takes=("threads", "device", "tf32", "nhwc", "search", "graph", "binding"),
    needs=no_gpu,
    wheel=WHEEL,
    on_gpu=True,
)
