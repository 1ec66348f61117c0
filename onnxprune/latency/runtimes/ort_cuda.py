"""onnxruntime on NVIDIA GPUs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnxprune.latency.runtimes.base import Setting
from onnxprune.latency.runtimes.cuda import no_gpu
from onnxprune.latency.runtimes.sessions import Provider

WHEEL = "onnxprune[gpu]"


def cuda_options(setting: Setting) -> Mapping[str, Any]:
    """The provider's options."""
    return {
        "device_id": str(setting.device),
        "use_tf32": str(int(setting.tf32)),
        "prefer_nhwc": str(int(setting.nhwc)),
        "cudnn_conv_algo_search": setting.search.upper(),
        "enable_cuda_graph": str(int(setting.graph)),
    }


ORT_CUDA = Provider(
    "cuda",
    "CUDAExecutionProvider",
    options=cuda_options,
    takes=("threads", "device", "tf32", "nhwc", "search", "graph", "binding"),
    needs=no_gpu,
    wheel=WHEEL,
    on_gpu=True,
)
