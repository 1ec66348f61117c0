"""Inputs and outputs of onnxruntime's sessions that stay on the GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onnxprune.errors import UsageError
from onnxprune.execution import Feeds
from onnxprune.latency.runtimes.base import Setting

DTYPES: Mapping[str, type] = {
    "tensor(bool)": np.bool_,
    "tensor(double)": np.float64,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
}
"""By onnxruntime's names."""


def bound(session: Any, feeds: Feeds, setting: Setting) -> Any:
    """A binding with the inputs on the GPU, and outputs where their sizes are known.

    Raises:
        UsageError: a CUDA graph is wanted, which needs outputs in one place, and an output's size is not known.
    """
    import onnxruntime as ort

    binding = session.io_binding()
    for name, array in feeds.items():
        binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array, "cuda", setting.device))
    sizes = named_sizes(session.get_inputs(), feeds)
    for output in session.get_outputs():
        shape, dtype = known_shape(output.shape, sizes), DTYPES.get(output.type)
        if shape is not None and dtype is not None:
            place = ort.OrtValue.ortvalue_from_shape_and_type(shape, dtype, "cuda", setting.device)
            binding.bind_ortvalue_output(output.name, place)
        elif setting.graph:
            raise UsageError(
                f"output {output.name!r} ({output.type}) has shape {output.shape}, and a CUDA graph needs all sizes",
                "leave --cuda-graph out, or export the model with fixed sizes",
            )
        else:
            binding.bind_output(output.name, "cuda", setting.device)
    binding.synchronize_inputs()
    return binding


def named_sizes(inputs: Sequence[Any], feeds: Feeds) -> dict[str, int]:
    """Sizes of symbolic dimensions, by what the inputs have."""
    shapes = ((each.shape, feeds[each.name].shape) for each in inputs)
    pairs = (pair for stated, given in shapes for pair in zip(stated, given, strict=False))
    return {dimension: size for dimension, size in pairs if isinstance(dimension, str)}


def known_shape(shape: Sequence[int | str | None], sizes: Mapping[str, int]) -> list[int] | None:
    """A shape in numbers, or None where one is not known."""
    found = [sizes.get(each) if isinstance(each, str) else each for each in shape]
    return None if any(size is None for size in found) else [int(size) for size in found if size is not None]
