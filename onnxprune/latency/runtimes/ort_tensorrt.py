"""TensorRT as a provider of onnxruntime; what it cannot take runs in CUDA."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnxprune.latency.runtimes.base import Setting
from onnxprune.latency.runtimes.cuda import no_gpu
from onnxprune.latency.runtimes.ort_cuda import WHEEL
from onnxprune.latency.runtimes.profiles import Profile
from onnxprune.latency.runtimes.sessions import Provider


def tensorrt_options(setting: Setting) -> Mapping[str, Any]:
    """The provider's options; engines and timings are kept where a folder for them is given."""
    options: dict[str, Any] = {"device_id": setting.device, "trt_cuda_graph_enable": setting.graph}
    options |= {f"trt_{kind}_enable": setting.precision == kind for kind in ("fp16", "bf16")}
    if setting.cache is not None:
        folder = {"trt_engine_cache_path": str(setting.cache), "trt_timing_cache_path": str(setting.cache)}
        options |= {"trt_engine_cache_enable": True, "trt_timing_cache_enable": True, **folder}
    return options


def profile_options(found: Mapping[str, Profile]) -> Mapping[str, Any]:
    """The provider's options for shapes: with them it builds its engines when the session is made, not in a run."""
    ends = {"min": "low", "opt": "best", "max": "high"} if found else {}
    return {
        f"trt_profile_{end}_shapes": ",".join(
            f"{name}:{'x'.join(map(str, getattr(profile, field)))}" for name, profile in found.items()
        )
        for end, field in ends.items()
    }


ORT_TENSORRT = Provider(
    "ort-tensorrt",
    "TensorrtExecutionProvider",
    helpers=("CUDAExecutionProvider",),
    options=tensorrt_options,
    shapes=profile_options,
    takes=("threads", "device", "graph", "binding", "cache", "ranges"),
    precisions=("fp32", "fp16", "bf16"),
    needs=no_gpu,
    wheel=WHEEL,
    on_gpu=True,
)
