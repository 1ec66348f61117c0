"""The protobuf that is written: a copy of the model with sliced values, and the tensors that go to a data file."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import EncodeError, Message
from onnx import ModelProto, TensorProto, numpy_helper

from onnxprune.embedded import inlined
from onnxprune.errors import OutputError
from onnxprune.external import is_embedded, is_external, is_outside
from onnxprune.lazy import LazySlice
from onnxprune.tensors import nested_tensors, stored_bytes
from onnxprune.wire import skeleton

PROTOBUF_LIMIT = (2 << 30) - 1  # bytes that one protobuf message may have
_SMALL = 1024  # bytes; smaller tensors stay inside, where exporters leave them too
_KEPT = frozenset({"name", "doc_string", "metadata_props"})  # of a tensor whose values change


@dataclass(frozen=True)
class Moved:
    """A tensor on its way to a data file.

    Attributes:
        tensor: where the reference to the data file goes, in the outgoing model.
        values: what goes into the data file.
    """

    tensor: TensorProto
    values: LazySlice


@dataclass(frozen=True)
class Outgoing:
    """A model that is about to be written.

    Attributes:
        proto: the model; the tensors in `moved` have no values yet.
        moved: the tensors that go to a data file, in model order.
        data: the serialized model where nothing is left to fill in, else None.
    """

    proto: ModelProto
    moved: list[Moved]
    data: bytes | None


def outgoing(proto: ModelProto, arrays: Mapping[str, LazySlice], base: Path | None) -> Outgoing:
    """Plans what to write; `proto` is not changed.

    Args:
        proto: the model.
        arrays: by tensor name the slice that replaces its values.
        base: the folder that external tensors refer to; embedded ones go back inside.

    Raises:
        KeyError: a name in `arrays` is no tensor of the model.
    """
    data = _serialized(proto)
    if data and not arrays and not any(is_external(header.tensor) for header in skeleton(data).headers):
        return Outgoing(proto, [], data)
    inside = data is not None and len(data) + _embedded_bytes(proto) <= PROTOBUF_LIMIT
    copy, moved, missing = ModelProto(), list[Moved](), set(arrays)
    for name, tensor, target in _paired(proto, copy):
        missing.discard(name)
        values = arrays.get(name, LazySlice(tensor, base))
        if is_outside(values.tensor) or (not inside and _can_move(values)):
            target.CopyFrom(_filled(tensor, TensorProto(dims=values.shape, data_type=values.tensor.data_type)))
            moved.append(Moved(target, values))
        elif name in arrays:
            target.CopyFrom(_filled(tensor, numpy_helper.from_array(values.array())))
        else:
            target.CopyFrom(inlined(tensor, base) if is_embedded(tensor) else tensor)
    if missing:
        raise KeyError(f"no such tensors: {', '.join(sorted(missing))}")
    return Outgoing(copy, moved, None)


def serialized(model: Outgoing) -> bytes:
    """The bytes of the `.onnx` file; OutputError where protobuf cannot hold them."""
    data = model.data or _serialized(model.proto)
    if data is None:
        raise OutputError("the model without its weights is larger than protobuf's 2 GiB", "split the model")
    return data


def _serialized(proto: ModelProto) -> bytes | None:
    try:
        data = proto.SerializeToString()
    except EncodeError:
        return None
    return data if len(data) <= PROTOBUF_LIMIT else None


def _embedded_bytes(proto: ModelProto) -> int:
    return sum(stored_bytes(t.data_type, t.dims) for t in proto.graph.initializer if is_embedded(t))


def _paired(proto: ModelProto, copy: ModelProto) -> Iterator[tuple[str, TensorProto, TensorProto]]:
    """Copies the model, and yields for every stored tensor its name, itself and its place in the copy.

    The initializers' places are empty: large ones must not be copied only to be emptied.
    """
    _merge(proto, copy, lambda name: name != "graph")
    _merge(proto.graph, copy.graph, lambda name: name != "initializer")
    for tensor in proto.graph.initializer:
        yield tensor.name, tensor, copy.graph.initializer.add()
    for (name, tensor), (_, target) in zip(nested_tensors(proto), nested_tensors(copy), strict=True):
        yield name, tensor, target


def _merge(source: Message, target: Message, wanted: Callable[[str], bool]) -> None:
    for field, value in source.ListFields():
        if wanted(field.name) and hasattr(value, "MergeFrom"):
            getattr(target, field.name).MergeFrom(value)
        elif wanted(field.name):
            setattr(target, field.name, value)


def _filled(tensor: TensorProto, values: TensorProto) -> TensorProto:
    """`values` under the name and with the documentation of `tensor`."""
    _merge(tensor, values, _KEPT.__contains__)
    return values


def _can_move(values: LazySlice) -> bool:
    return values.tensor.data_type != TensorProto.STRING and values.nbytes >= _SMALL
