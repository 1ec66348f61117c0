"""Models without their weights, for machines to which little can be carried: random ones take their place again."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, TensorProto, numpy_helper

LARGE = 4096
"""Elements from which on a tensor of floating point travels as its shape alone."""


def hollowed(model: ModelProto) -> ModelProto:
    """A copy whose large weights have shapes and no values."""
    found = ModelProto()
    found.CopyFrom(model)
    for tensor in found.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and np.prod(tensor.dims) >= LARGE:
            tensor.CopyFrom(TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims))
    return found


def refilled(model: ModelProto, seed: int = 0) -> ModelProto:
    """A copy with random weights where there are none, of a size that keeps signals alive (He et al. 2015)."""
    found, numbers = ModelProto(), np.random.default_rng(seed)
    found.CopyFrom(model)
    for tensor in found.graph.initializer:
        shape = tuple(tensor.dims)
        if tensor.data_type == TensorProto.FLOAT and np.prod(shape) >= LARGE and not tensor.raw_data:
            scale = np.sqrt(2 / max(1, np.prod(shape[1:])))
            values = scale * numbers.standard_normal(shape, np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), tensor.name))
    return found
