"""Slices of stored tensors that are read only when they are needed, in pieces of bounded size."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnxprune.external import CHUNK, Bytes, is_external, opened, reference
from onnxprune.tensors import PACKED_BITS, stacked, stored_bytes, stored_tensors, tensor_array

_MAX_GAP = 256 << 10  # bytes; reading over a smaller gap is cheaper than starting another block
_ROWS_AT_ONCE = 1 << 16
_FLOATS = {
    number
    for name, number in TensorProto.DataType.items()
    if name.startswith(("FLOAT", "BFLOAT", "DOUBLE", "COMPLEX")) and number not in PACKED_BITS
}


@dataclass(frozen=True, eq=False)
class LazySlice:
    """Some elements along every axis of a stored tensor, read when asked for.

    Attributes:
        tensor: the stored tensor.
        base: the model's folder, for external data.
        index: per axis the kept elements, in any order, or None for all; missing axes are kept whole.
    """

    tensor: TensorProto
    base: Path | None
    index: tuple[np.ndarray | None, ...] = ()

    def __post_init__(self) -> None:
        # Reading past the end of a tensor would give the bytes of its neighbour.
        for axis, (size, keep) in enumerate(zip(self.tensor.dims, self.index, strict=False)):
            if keep is not None and keep.size and not 0 <= keep.min() <= keep.max() < size:
                raise IndexError(f"tensor '{self.tensor.name}': index on axis {axis} is outside [0, {size})")
        if len(self.index) > len(self.tensor.dims):
            raise IndexError(f"tensor '{self.tensor.name}' has {len(self.tensor.dims)} axes, got {len(self.index)}")

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes after slicing."""
        return tuple(
            size if keep is None else len(keep) for size, keep in zip(self.tensor.dims, self._keeps(), strict=True)
        )

    @property
    def nbytes(self) -> int:
        """Bytes that `chunks` yields in all."""
        return stored_bytes(self.tensor.data_type, self.shape)

    def array(self) -> np.ndarray:
        """The slice in memory; nothing of it stays tied to the file."""
        if not _streams(self.tensor):
            return _taken(tensor_array(self.tensor, self.base), self._keeps())
        out, end = np.empty(self.nbytes, np.uint8), 0
        for piece in self.chunks():
            out[end : end + len(piece)] = piece
            end += len(piece)
        return out.view(helper.tensor_dtype_to_np_dtype(self.tensor.data_type)).reshape(self.shape)

    def chunks(self) -> Iterator[memoryview]:
        """Yields the slice's bytes in row-major order, each piece valid until the next but one.

        External data comes in pieces of at most CHUNK bytes, and rows that are not kept are not read; packed
        types and tensors in memory come in one piece.
        """
        if not _streams(self.tensor):
            yield self._packed(self.array())
        elif self.nbytes:
            where = reference(self.tensor, self.base, stored_bytes(self.tensor.data_type, self.tensor.dims))
            with opened(self.tensor, where) as reader:
                yield from self._blocks(reader, 0, where.offset)

    def _blocks(self, reader: Bytes, axis: int, start: int) -> Iterator[memoryview]:
        """The part of the slice inside the block of axes axis.. that starts at byte `start`."""
        below = self.tensor.dims[axis:]
        keeps = self._keeps()[axis:]
        if all(keep is None for keep in keeps):
            yield from _contiguous(reader, start, stored_bytes(self.tensor.data_type, below))
            return
        row_bytes = stored_bytes(self.tensor.data_type, below[1:])
        if row_bytes > CHUNK:
            for row in range(below[0]) if keeps[0] is None else keeps[0].tolist():
                yield from self._blocks(reader, axis + 1, start + row * row_bytes)
            return
        dtype = helper.tensor_dtype_to_np_dtype(self.tensor.data_type)
        for run in _runs(keeps[0], below[0], row_bytes):
            first, count = int(run[0]), int(run[-1] - run[0]) + 1
            block = np.frombuffer(reader.read(start + first * row_bytes, count * row_bytes), dtype)
            block = block.reshape(count, *below[1:])
            inside = None if len(run) == count else run - first
            yield _taken(block, (inside, *keeps[1:])).reshape(-1).view(np.uint8).data

    def _packed(self, array: np.ndarray) -> memoryview:
        if self.tensor.data_type in PACKED_BITS:
            return memoryview(numpy_helper.from_array(array).raw_data)
        return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data

    def _keeps(self) -> tuple[np.ndarray | None, ...]:
        return (*self.index, *[None] * (len(self.tensor.dims) - len(self.index)))


def slices_alike(
    tensors: Sequence[TensorProto], indices: Sequence[tuple[np.ndarray | None, ...]], base: Path | None
) -> np.ndarray:
    """Slices of tensors of one type and shape, along a new first axis.

    Args:
        tensors: the tensors.
        indices: for each of them the kept elements of every axis, as for LazySlice; equally many for all tensors.
        base: the model's folder, for external data.
    """
    array = stacked(tensors, base)
    for axis, keep in enumerate(indices[0], 1):
        if keep is not None:
            keeps = np.concatenate([index[axis - 1] for index in indices])
            shape = [len(tensors), *[1] * (array.ndim - 1)]
            shape[axis] = len(keep)
            array = np.take_along_axis(array, keeps.reshape(shape), axis)
    return array


def row_blocks(tensor: TensorProto, base: Path | None) -> Iterator[tuple[int, np.ndarray]]:
    """A stored tensor in blocks of whole rows that fit the CPU's cache, each with the number of its first row.

    External data is read block by block: each is valid until the next.
    """
    shape = tuple(tensor.dims)
    row_bytes = stored_bytes(tensor.data_type, shape[1:])
    step = max(1, CHUNK // max(1, row_bytes))
    if not _streams(tensor):
        array = tensor_array(tensor, base)
        yield from ((start, array[start : start + step]) for start in range(0, shape[0], step))
        return
    dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    where = reference(tensor, base, stored_bytes(tensor.data_type, shape))
    with opened(tensor, where, max(CHUNK, row_bytes)) as reader:
        for start in range(0, shape[0], step):
            rows = min(step, shape[0] - start)
            data = reader.read(where.offset + start * row_bytes, rows * row_bytes)
            yield start, np.frombuffer(data, dtype).reshape(rows, *shape[1:])


def _streams(tensor: TensorProto) -> bool:
    """Whether a tensor is read in pieces."""
    return is_external(tensor) and tensor.data_type not in PACKED_BITS


def _contiguous(reader: Bytes, start: int, size: int) -> Iterator[memoryview]:
    for done in range(0, size, CHUNK):
        yield reader.read(start + done, min(CHUNK, size - done))


def _runs(keep: np.ndarray | None, size: int, row_bytes: int) -> Iterator[np.ndarray]:
    """Splits the kept ones of `size` rows into ascending runs worth one read each: within CHUNK, without large gaps."""
    per_chunk = CHUNK // row_bytes
    if keep is None:
        yield from (np.arange(start, min(start + per_chunk, size)) for start in range(0, size, per_chunk))
        return
    for start in range(0, len(keep), _ROWS_AT_ONCE):
        rows = keep[start : start + _ROWS_AT_ONCE]
        steps = np.diff(rows)
        breaks = (steps <= 0) | ((steps - 1) * row_bytes > _MAX_GAP) | (np.diff(rows // per_chunk) != 0)
        yield from np.split(rows, np.flatnonzero(breaks) + 1)


def _taken(array: np.ndarray, keeps: Iterable[np.ndarray | None]) -> np.ndarray:
    for axis, keep in enumerate(keeps):
        array = array if keep is None else _take(array, keep, axis)
    return array


def _take(array: np.ndarray, keep: np.ndarray, axis: int) -> np.ndarray:
    if array.flags.aligned:
        return np.take(array, keep, axis)
    # Of an array that starts anywhere in a file numpy would make a copy first; bytes have no alignment.
    rows = np.take(array.reshape(-1).view(np.uint8).reshape(*array.shape, array.itemsize), keep, axis)
    return rows.reshape(-1).view(array.dtype).reshape(rows.shape[:-1])


def nonfinite_tensors(proto: ModelProto, base: Path | None) -> list[str]:
    """The names of all floating-point tensors that hold NaN or infinity, read chunk by chunk.

    The sub-byte types are left out: they have neither.
    """
    floats = ((name, tensor) for name, tensor in stored_tensors(proto) if tensor.data_type in _FLOATS)
    return [name for name, tensor in floats if not all(map(_is_finite, _values(tensor, base)))]


def _values(tensor: TensorProto, base: Path | None) -> Iterator[np.ndarray]:
    dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    for piece in LazySlice(tensor, base).chunks():
        for start in range(0, len(piece), CHUNK):
            yield np.frombuffer(piece[start : start + CHUNK], dtype)


def _is_finite(values: np.ndarray) -> bool:
    return bool(np.isfinite(values).all())
