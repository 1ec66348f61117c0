"""The tensors stored in a model, wherever they are, and their values as arrays."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from onnxprune.errors import ModelError
from onnxprune.external import file_map, is_external, reference

_TENSORS_IN: dict[int, Callable[[AttributeProto], Iterable[TensorProto]]] = {
    AttributeProto.TENSOR: lambda attribute: [attribute.t],
    AttributeProto.TENSORS: lambda attribute: attribute.tensors,
}
_GRAPHS_IN: dict[int, Callable[[AttributeProto], Iterable[GraphProto]]] = {
    AttributeProto.GRAPH: lambda attribute: [attribute.g],
    AttributeProto.GRAPHS: lambda attribute: attribute.graphs,
}
_BITS_OF = {"UINT2": 2, "INT2": 2, "UINT4": 4, "INT4": 4, "FLOAT4E2M1": 4, "FLOAT6E2M3": 6, "FLOAT6E3M2": 6}
PACKED_BITS = {number: _BITS_OF[name] for name, number in TensorProto.DataType.items() if name in _BITS_OF}


def stored_tensors(proto: ModelProto) -> Iterator[tuple[str, TensorProto]]:
    """Yields every tensor stored in a model, subgraphs and functions included, with its name.

    The name of an initializer is its own, that of a Constant's tensor is the Constant's output; for tensors in
    other attributes it is a description.
    """
    yield from ((tensor.name, tensor) for tensor in proto.graph.initializer)
    yield from nested_tensors(proto)


def nested_tensors(proto: ModelProto) -> Iterator[tuple[str, TensorProto]]:
    """Yields what `stored_tensors` does, but for the initializers of the main graph."""
    yield from _tensors_of_nodes(proto.graph.node)
    for function in proto.functions:
        yield from _tensors_of_nodes(function.node)


def _tensors_of_nodes(nodes: Iterable[NodeProto]) -> Iterator[tuple[str, TensorProto]]:
    for node in nodes:
        for attribute in node.attribute:
            kind = attribute.type
            for tensor in _TENSORS_IN[kind](attribute) if kind in _TENSORS_IN else ():
                yield node.output[0] if node.op_type == "Constant" else f"{attribute.name} of {node.name}", tensor
            for graph in _GRAPHS_IN[kind](attribute) if kind in _GRAPHS_IN else ():
                yield from ((tensor.name, tensor) for tensor in graph.initializer)
                yield from _tensors_of_nodes(graph.node)


def stored_bytes(data_type: int, shape: Iterable[int]) -> int:
    """Bytes of raw or external data that a tensor takes; 2, 4 and 6-bit types are packed."""
    bits = PACKED_BITS.get(data_type) or 8 * helper.tensor_dtype_to_np_dtype(data_type).itemsize
    return (math.prod(shape) * bits + 7) // 8


def tensor_array(tensor: TensorProto, base: Path | None) -> np.ndarray:
    """The values of a tensor: external data as a read-only memory map, all else in memory.

    Args:
        tensor: any data type; bfloat16, float8 and the sub-byte types come as ml_dtypes.
        base: the model's folder; needed for external data only.

    Raises:
        ModelError: the data is missing, outside the folder, or does not fit shape and type.
    """
    try:
        if is_external(tensor):
            return _mapped(tensor, base)
        if tensor.HasField("raw_data") and tensor.data_type not in PACKED_BITS:
            dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
            return np.frombuffer(tensor.raw_data, dtype).reshape(tensor.dims)
        return numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise ModelError(f"tensor '{tensor.name}': bad values: {error}", "export the model again") from error


def stacked(tensors: Sequence[TensorProto], base: Path | None) -> np.ndarray:
    """The values of tensors of one data type and shape, along a new first axis.

    Raises:
        ModelError: as `tensor_array`.
    """
    kind, shape = tensors[0].data_type, tuple(tensors[0].dims)
    size = stored_bytes(kind, shape)
    if size and kind not in PACKED_BITS:
        raw = [tensor.raw_data for tensor in tensors]
        if all(len(data) == size for data in raw):
            dtype = helper.tensor_dtype_to_np_dtype(kind)
            return np.frombuffer(b"".join(raw), dtype).reshape(len(raw), *shape)
    return np.stack([tensor_array(tensor, base) for tensor in tensors])


def _mapped(tensor: TensorProto, base: Path | None) -> np.ndarray:
    where = reference(tensor, base, stored_bytes(tensor.data_type, tensor.dims))
    dtype, shape = helper.tensor_dtype_to_np_dtype(tensor.data_type), tuple(tensor.dims)
    if not where.length:  # an empty range cannot be mapped
        return np.empty(shape, dtype)
    data = np.frombuffer(file_map(where.path).read(where.offset, where.length), np.uint8)
    if tensor.data_type in PACKED_BITS:
        return numpy_helper.to_array(TensorProto(dims=shape, data_type=tensor.data_type, raw_data=data.tobytes()))
    return data.view(dtype).reshape(shape)
