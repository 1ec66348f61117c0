"""The first difference between two models, down to the bits of their tensors."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import zip_longest

import numpy as np
from onnx import ModelProto, TensorProto

from onnxprune.graph import Model
from onnxprune.lazy import LazySlice
from onnxprune.tensors import tensor_array

ROUNDING = 1e-5
"""Largest difference of computed tensors, relative to their largest value."""


def difference(expected: Model, got: Model, computed: Collection[str] = ()) -> str:
    """What differs first between two models, or an empty string: nodes, inputs, outputs, tensors; not metadata.

    Tensors in `computed` were calculated, perhaps on another machine: they may differ by rounding.
    """
    return next(_differences(expected, got, computed), "")


def _differences(expected: Model, got: Model, computed: Collection[str]) -> Iterator[str]:
    yield from _graph_differences(expected.proto, got.proto)
    have = {t.name: t for t in got.proto.graph.initializer}
    for tensor in expected.proto.graph.initializer:
        other = have.pop(tensor.name, None)
        if other is None:
            yield f"tensor {tensor.name!r} is missing"
        elif not _same_tensor(expected, tensor, got, other, tensor.name in computed):
            yield f"tensor {tensor.name!r} differs (expected shape {list(tensor.dims)}, got {list(other.dims)})"
    for name in have:
        yield f"tensor {name!r} is not expected"


def _graph_differences(expected: ModelProto, got: ModelProto) -> Iterator[str]:
    if [(o.domain, o.version) for o in expected.opset_import] != [(o.domain, o.version) for o in got.opset_import]:
        yield "the opsets differ"
    for field in ("input", "output"):
        if list(getattr(expected.graph, field)) != list(getattr(got.graph, field)):
            yield f"the graph's {field}s differ"
    for k, (a, b) in enumerate(zip_longest(expected.graph.node, got.graph.node)):
        if a is None or b is None or a.SerializeToString() != b.SerializeToString():
            name = (a or b).name or next(iter((a or b).output), f"#{k}")
            yield f"node {name!r} differs"


def _same_tensor(expected: Model, a: TensorProto, got: Model, b: TensorProto, rounded: bool) -> bool:
    if a.data_type != b.data_type or list(a.dims) != list(b.dims):
        return False
    x, y = _values(expected, a), _values(got, b)
    if rounded:
        return np.allclose(x, y, rtol=ROUNDING, atol=ROUNDING * float(np.abs(x).max(initial=0)))
    return np.array_equal(x.view(np.uint8), y.view(np.uint8))


def _values(model: Model, tensor: TensorProto) -> np.ndarray:
    part: LazySlice | None = model.arrays.get(tensor.name)
    array = part.array() if part is not None else tensor_array(tensor, model.base)
    return np.ascontiguousarray(array).reshape(-1)
