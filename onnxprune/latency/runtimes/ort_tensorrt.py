"""TensorRT as a provider of onnxruntime; what it cannot take runs in CUDA."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnxprune.latency.runtimes.base import Setting
from onnxprune.latency.runtimes.ort_cuda import WHEEL, no_gpu
from onnxprune.latency.runtimes.sessions import Provider


def tensorrt_options(setting: Setting) -> Mapping[str, Any]:
    """The provider's options; engines and timings are kept where a folder for them is given."""
    options: dict[str, Any] = {"device_id": setting.device, "trt_cuda_graph_enable": setting.graph}
    options |= {f"trt_{kind}_enable": setting.precision == kind for kind in ("fp16", "bf16")}
    if setting.cache is not None:
        folder = {"trt_engine_cache_path": str(setting.cache), "trt_timing_cache_path": str(setting.cache)}
        options |= {"trt_engine_cache_enable": True, "trt_timing_cache_enable": True, **folder}
    return options


ORT_TENSORRT = Provider(
    "ort-tensorrt",
    "TensorrtExecutionProvider",
    helpers=("CUDAExecutionProvider",),
    options=tensorrt_options,
    takes=("threads", "device", "graph", "binding", "cache"),
    precisions=("fp32", "fp16", "bf16"),
    needs=no_gpu,
    wheel=WHEEL,
    on_gpu=True,
)
