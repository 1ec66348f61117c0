"""A serialized ONNX model without its weights, cut from the protobuf bytes: `skeleton` to look at, `detached` to use.

Reading a weight's size through the Python protobuf API copies the weight, and so does handing the model to the
checker. Walking the wire format (https://protobuf.dev/programming-guides/encoding/) copies nothing:
100 MB of weights cost a millisecond, and 100,000 nodes some 40.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from mmap import mmap

from google.protobuf.message import DecodeError
from onnx import TensorProto

Data = bytes | mmap
Refer = Callable[[TensorProto, int, int], None]
Wanted = Callable[[int, int], bool]
Rewrite = Callable[[int, int], bytes]
Schema = dict[int, "Schema | None"]

# Field numbers of onnx.proto that lead to tensors; None marks the tensor itself.
_ATTRIBUTE: Schema = {5: None, 10: None}
_NODE: Schema = {5: _ATTRIBUTE}
_GRAPH: Schema = {1: _NODE, 5: None}
_ATTRIBUTE |= {6: _GRAPH, 11: _GRAPH}
_MODEL: Schema = {7: _GRAPH, 25: {7: _NODE}}
_INITIALIZERS: Schema = {7: {5: None}}

_RAW_DATA = 9
_TYPED_DATA = frozenset({4, 5, 6, 7, 10, 11})
_NOT_IN_STUB = _TYPED_DATA | {1, _RAW_DATA, 13, 14}
_EMPTY_DIMS = b"\x08\x00"
_SMALL = 512
_LOCATION = b"location"
_WINDOW = 8192
_LENGTH_DELIMITED = 2
_FIXED_SIZES = {1: 8, 5: 4}


@dataclass(frozen=True)
class Header:
    """A tensor without its values.

    Attributes:
        tensor: name, dims, data_type and external_data; no values.
        raw_bytes: length of raw_data in bytes, or None where the tensor has none.
        typed: the values are in float_data, int32_data or the like.
    """

    tensor: TensorProto
    raw_bytes: int | None
    typed: bool


@dataclass(frozen=True)
class Skeleton:
    """A model whose large and external tensors are empty.

    Attributes:
        data: the serialized model; every tensor in `headers` has dims [0] here.
        headers: the tensors that were emptied, in file order.
    """

    data: bytes
    headers: list[Header] = field(default_factory=list)


def skeleton(data: Data) -> Skeleton:
    """Cuts the weights out of a serialized ModelProto; raises ValueError where `data` is not protobuf."""
    headers: list[Header] = []
    bones = _rewritten(data, _MODEL, _may_hold_weights(data), lambda start, stop: _stub(data, start, stop, headers))
    return Skeleton(bones, headers)


def detached(data: Data, smallest: int, refer: Refer) -> bytes:
    """A serialized ModelProto whose large initializers are references.

    Args:
        data: the model.
        smallest: raw_data of fewer bytes stays.
        refer: makes a tensor without values a reference to `length` bytes at `offset` of `data`.

    Raises:
        ValueError: `data` is not protobuf.
    """
    return _rewritten(
        data,
        _INITIALIZERS,
        lambda start, stop: stop - start >= smallest,
        lambda start, stop: _reference(data, start, stop, smallest, refer),
    )


def _rewritten(data: Data, schema: Schema, wanted: Wanted, rewrite: Rewrite) -> bytes:
    """The model with the tensors that `schema` leads to rewritten; fields that are not `wanted` stay as they are."""
    try:
        return _Rewriting(data, wanted, rewrite).message(0, len(data), schema)
    except (IndexError, DecodeError, RecursionError) as error:
        raise ValueError("not the wire format of an ONNX model") from error


@dataclass(frozen=True)
class _Rewriting:
    """What `_rewritten` does. (A function that calls itself inside another one would be in a cycle with the data.)"""

    data: Data
    wanted: Wanted
    rewrite: Rewrite

    def message(self, pos: int, end: int, schema: Schema) -> bytes:
        """The message at data[pos:end], rewritten."""
        data, pieces, kept = self.data, list[bytes](), pos
        for number, tag, start, stop in _fields(data, pos, end):
            if number not in schema or not self.wanted(start, stop):
                continue
            inner = schema[number]
            new = self.rewrite(start, stop) if inner is None else self.message(start, stop, inner)
            pieces += [data[kept:tag], _varint(number << 3 | _LENGTH_DELIMITED), _varint(len(new)), new]
            kept = stop
        return b"".join([*pieces, data[kept:end]])


def _reference(data: Data, pos: int, end: int, smallest: int, refer: Refer) -> bytes:
    """The tensor at data[pos:end], as a reference where it has `smallest` bytes of raw_data or more, and once."""
    fields = list(_fields(data, pos, end))
    raw = [(start, stop - start) for number, _, start, stop in fields if number == _RAW_DATA]
    tensor = TensorProto.FromString(b"".join(data[tag:stop] for number, tag, _, stop in fields if number != _RAW_DATA))
    if len(raw) != 1 or raw[0][1] < smallest or tensor.data_location:
        return data[pos:end]
    refer(tensor, *raw[0])
    return tensor.SerializeToString()


def _may_hold_weights(data: Data) -> Wanted:
    """Whether a field is large or may name a data file; to be asked from the start of the file on."""
    local = 0

    def wanted(start: int, stop: int) -> bool:
        nonlocal local
        if stop - start >= _SMALL:
            return True
        if stop > local:
            local = _local_until(data, start)
        return stop > local

    return wanted


def _local_until(data: Data, pos: int) -> int:
    """How far on from `pos` no field can name a data file."""
    # One search for many fields: 100,000 nodes come through here.
    found = data.find(_LOCATION, pos, pos + _WINDOW)
    return pos + _WINDOW if found < 0 else found + len(_LOCATION) - 1


def _stub(data: Data, pos: int, end: int, headers: list[Header]) -> bytes:
    """The tensor at data[pos:end] with dims [0] and no values; appends its header."""
    fields = list(_fields(data, pos, end))
    values = _TYPED_DATA | {_RAW_DATA}
    header = b"".join(data[tag:stop] for number, tag, _, stop in fields if number not in values)
    raw = [stop - start for number, _, start, stop in fields if number == _RAW_DATA]
    typed = any(number in _TYPED_DATA for number, *_ in fields)
    headers.append(Header(TensorProto.FromString(header), raw[-1] if raw else None, typed))
    return _EMPTY_DIMS + b"".join(data[tag:stop] for number, tag, _, stop in fields if number not in _NOT_IN_STUB)


def _fields(data: Data, pos: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yields (field number, where its tag starts, where its value starts, where it stops)."""
    while pos < end:
        tag_at = pos
        # One byte is the common case, and 100,000 nodes come through here.
        tag, pos = (data[pos], pos + 1) if data[pos] < 128 else _read_varint(data, pos)
        kind = tag & 7
        if kind == _LENGTH_DELIMITED:
            size, start = (data[pos], pos + 1) if data[pos] < 128 else _read_varint(data, pos)
            pos = start + size
        elif kind == 0:
            start, pos = pos, _read_varint(data, pos)[1]
        elif kind in _FIXED_SIZES:
            start, pos = pos, pos + _FIXED_SIZES[kind]
        else:
            raise ValueError(f"wire type {kind} at byte {tag_at}")
        if pos > end:
            raise IndexError(pos)
        yield tag >> 3, tag_at, start, pos


def _read_varint(data: Data, pos: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[pos]
        value |= (byte & 0x7F) << shift
        pos += 1
        if byte < 128:
            return value, pos
        shift += 7


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 128:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
