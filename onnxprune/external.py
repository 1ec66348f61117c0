"""External data: tensors that live in files beside the model, and embedded ones, left in the model's own file.

The one rule: such a file lies in the model's folder, after all links are followed. An absolute path, a `..` that
leaves the folder or a symbolic link to elsewhere would let a model read (and a pruned copy publish) any file.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from mmap import ACCESS_READ, mmap
from pathlib import Path, PureWindowsPath
from types import TracebackType
from typing import BinaryIO, Protocol, Self
from weakref import WeakValueDictionary

import numpy as np
from onnx import TensorProto

from onnxprune.errors import ModelError

CHUNK = 1 << 20  # bytes; larger is no faster and falls out of the CPU's cache
_WRITE = 256 << 10  # bytes; for writes of megabytes Linux looks for free memory in one piece, up to 3 times slower
_PAGE = 4096
_LARGE = 1 << 20
_LARGE_ALIGNMENT = 64 << 10  # what Windows needs to map a tensor; small ones would be mostly padding

_STAMP = "onnxprune.stamp"  # of an embedded tensor: its file as it was when the model was read
_COPY_ALL = "copy the .onnx together with its data files"


@dataclass(frozen=True)
class Reference:
    """Where the bytes of an external tensor lie: `length` bytes from `offset` on, both in bytes."""

    path: Path
    offset: int
    length: int


def is_external(tensor: TensorProto) -> bool:
    """Whether the values lie in another file."""
    return tensor.data_location == TensorProto.EXTERNAL


def is_embedded(tensor: TensorProto) -> bool:
    """Whether an external tensor is one that was left in the model's own file when that was read."""
    return is_external(tensor) and any(entry.key == _STAMP for entry in tensor.external_data)


def is_outside(tensor: TensorProto) -> bool:
    """Whether the values lie in a data file beside the model."""
    return is_external(tensor) and not is_embedded(tensor)


def location(tensor: TensorProto) -> str:
    """The file that an external tensor names, relative to the model's folder; "" for none."""
    return _entries(tensor).get("location", "")


def data_file(name: str, base: Path) -> Path:
    """The real path of the data file `name` of a model in folder `base`; ModelError unless it exists inside it."""
    if not name or "\0" in name:
        raise ModelError(f"{base}: an external tensor names no data file", "export the model again")
    if Path(name).is_absolute() or PureWindowsPath(name).anchor:
        raise _outside(name, base, "expected a relative path, got an absolute one")
    # Path.resolve() would raise RuntimeError on a loop of links before Python 3.13.
    folder, path = Path(os.path.realpath(base)), Path(os.path.realpath(base / name))
    if not path.is_relative_to(folder):
        raise _outside(name, base, f"it leads to {path}")
    if not path.is_file():
        raise ModelError(f"{base / name}: external data file not found", _COPY_ALL)
    return path


def reference(
    tensor: TensorProto, base: Path | None, length: int, find: Callable[[str, Path], Path] = data_file
) -> Reference:
    """Locates an external tensor.

    Args:
        tensor: external; only its name and external_data are read.
        base: the model's folder.
        length: what shape and type ask for, in bytes.
        find: `data_file`, or a cached form of it.

    Raises:
        ModelError: the file is missing or outside the folder, or offset and length do not fit it or the shape, or an
            embedded tensor's file has changed.
    """
    if base is None:
        raise ModelError(
            f"tensor '{tensor.name}' has external data, but the model has no folder", "load the model from its file"
        )
    entries = _entries(tensor)
    name = entries.get("location", "")
    path = base / name if _STAMP in entries else find(name, base)
    offset, given = (_whole_number(entries, key, tensor, path) for key in ("offset", "length"))
    if given is not None and given != length:
        raise ModelError(
            f"{path}: tensor '{tensor.name}': shape and type need {length} bytes, the model says {given}",
            "export the model again",
        )
    if _STAMP in entries and entries[_STAMP] != file_stamp(path):
        raise ModelError(f"{path}: the file is gone or has changed since it was read", "load the model again")
    size = path.stat().st_size
    end = (offset or 0) + length
    if end > size:
        raise ModelError(
            f"{path}: too short for tensor '{tensor.name}': expected at least {end} bytes, got {size}", _COPY_ALL
        )
    return Reference(path, end - length, length)


class Bytes(Protocol):
    """A file to read parts of."""

    def read(self, offset: int, size: int) -> memoryview:
        """`size` bytes from `offset` on; valid until the next read but one."""


@contextmanager
def opened(tensor: TensorProto, where: Reference, size: int = CHUNK) -> Iterator[Bytes]:
    """The file of an external tensor, for reads of at most `size` bytes.

    Raises:
        ModelError: it cannot be read.
    """
    if is_embedded(tensor):
        yield file_map(where.path)
    else:
        with Reader(where.path, min(size, where.length)) as file:
            yield file


class FileMap:
    """A file mapped into memory, which spares copies; for files that may as well be in memory as a whole."""

    def __init__(self, path: Path):
        try:
            with open(path, "rb") as file:
                self._view = memoryview(mmap(file.fileno(), 0, access=ACCESS_READ))
        except OSError as error:
            raise unreadable(path, error.strerror) from error

    def read(self, offset: int, size: int) -> memoryview:
        """The bytes themselves, at any alignment."""
        return self._view[offset : offset + size]


_MAPS: WeakValueDictionary[tuple[str, str], FileMap] = WeakValueDictionary()


def file_map(path: Path) -> FileMap:
    """The mapping of a file as it is now: the same one for as long as somebody holds it.

    To touch pages that are mapped already takes half as long as to map them again.

    Raises:
        ModelError: the file cannot be read.
    """
    key = str(path), file_stamp(path)
    if (found := _MAPS.get(key)) is None:
        found = _MAPS[key] = FileMap(path)
    return found


class Reader:
    """Reads parts of a file into two reusable buffers of `size` bytes, in turns, so that memory stays bounded.

    Not a memory map: mapped pages count as the process's memory until the system takes them back.
    """

    def __init__(self, path: Path, size: int = CHUNK):
        self._path = path
        self._buffers = [np.empty(size, np.uint8).data for _ in range(2)]

    def __enter__(self) -> Self:
        try:
            self._file: BinaryIO = open(self._path, "rb", buffering=0)
        except OSError as error:
            raise unreadable(self._path, error.strerror) from error
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def read(self, offset: int, size: int) -> memoryview:
        """`size` bytes, at most a buffer's, from `offset` on; valid until the next read but one."""
        self._buffers.reverse()
        view, done = self._buffers[0][:size], 0
        try:
            self._file.seek(offset)
            while done < size and (count := self._file.readinto(view[done:])):  # type: ignore[attr-defined]
                done += count
        except OSError as error:
            raise unreadable(self._path, error.strerror) from error
        if done < size:
            raise unreadable(self._path, f"expected {size} bytes at {offset}, got {done}")
        return view


def unreadable(path: Path, why: str | None) -> ModelError:
    """The error for a data file that was found but cannot be read."""
    return ModelError(f"{path}: cannot read external data: {why}", _COPY_ALL)


def write_data(file: BinaryIO, tensors: Iterable[Iterable[memoryview]], sizes: Iterable[int]) -> tuple[list[int], str]:
    """Writes tensors one after the other, each aligned for mapping.

    Args:
        file: open for writing, unbuffered.
        tensors: for each tensor its bytes, in pieces that stay valid while the next one is made.
        sizes: for each tensor the number of its bytes.

    Returns:
        The offset of every tensor, and the SHA-256 of the whole file in hex.
    """
    digest, offsets, end = hashlib.sha256(), [], 0
    pending: list[Future[None]] = []
    # One piece is hashed and written while the next is read: each takes about as long.
    with ThreadPoolExecutor(2) as pool:
        for pieces, size in zip(tensors, sizes, strict=True):
            padding = -end % (_LARGE_ALIGNMENT if size >= _LARGE else _PAGE)
            offsets.append(end + padding)
            for piece in chain([memoryview(bytes(padding))], pieces):
                for task in pending:
                    task.result()
                pending = [pool.submit(digest.update, piece), pool.submit(write_all, file, piece)]
            end = offsets[-1] + size
        for task in pending:
            task.result()
    return offsets, digest.hexdigest()


def write_all(file: BinaryIO, piece: memoryview) -> None:
    """Writes a piece to an unbuffered file, which may take less than it is given."""
    while piece:
        piece = piece[file.write(piece[:_WRITE]) :]


def refer(tensor: TensorProto, name: str, offset: int, length: int, stamp: str = "") -> None:
    """Makes `tensor` an external one, `length` bytes at `offset` of the file `name`; embedded, if it has a stamp."""
    tensor.ClearField("external_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", name), ("offset", offset), ("length", length), (_STAMP, stamp)):
        if value != "":
            tensor.external_data.add(key=key, value=str(value))


def file_stamp(path: Path) -> str:
    """What tells a file from a later one at the same path; "" where there is none."""
    try:
        stat = path.stat()
    except OSError:
        return ""
    return f"{stat.st_dev}:{stat.st_ino}:{stat.st_size}:{stat.st_mtime_ns}"


def hashed_name(stem: str, digest: str) -> str:
    """The name of the data file of `<stem>.onnx` with this content."""
    return f"{stem}-{digest[:12]}.data"


def is_hashed_name(name: str, stem: str) -> bool:
    """Whether `name` can only come from `hashed_name`."""
    return re.fullmatch(re.escape(stem) + r"-[0-9a-f]{12}\.data", name) is not None


def _entries(tensor: TensorProto) -> dict[str, str]:
    # protobuf gives bytes for a string that is not UTF-8
    return {os.fsdecode(entry.key): os.fsdecode(entry.value) for entry in tensor.external_data}


def _whole_number(entries: dict[str, str], key: str, tensor: TensorProto, path: Path) -> int | None:
    text = entries.get(key)
    if text is None or re.fullmatch("[0-9]{1,19}", text):
        return None if text is None else int(text)
    raise ModelError(
        f"{path}: tensor '{tensor.name}': expected a byte count as {key}, got '{text}'", "export the model again"
    )


def _outside(name: str, base: Path, why: str) -> ModelError:
    return ModelError(
        f"{base}: external data '{name}' is outside the model's folder: {why}",
        "move the data file into the model's folder and name it there",
    )
