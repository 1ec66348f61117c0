"""Crash-safe saving.

Everything goes to temporary files in the target folder first; they are flushed to the disk, then renamed: the data
file to a name that holds its hash, and last the `.onnx`. A crash at any moment leaves the old model or the new one,
at worst with a hidden temporary file or an unused data file beside it.
"""

import errno
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import BinaryIO

from onnx import ModelProto

from onnxprune.errors import OutputError
from onnxprune.external import (
    CHUNK,
    data_file,
    hashed_name,
    is_external,
    is_hashed_name,
    location,
    refer,
    write_all,
    write_data,
)
from onnxprune.lazy import LazySlice
from onnxprune.outgoing import Moved, Outgoing, outgoing, serialized
from onnxprune.wire import skeleton

_MORE_SPACE = "free some disk space, or write to another disk"
_FIXES = {
    errno.ENOSPC: _MORE_SPACE,
    errno.EDQUOT: _MORE_SPACE,
    errno.EFBIG: "write to a disk, and as a user, without this limit on file sizes",
    errno.ENAMETOOLONG: "choose a shorter file name",
}


def write_model(proto: ModelProto, path: Path, arrays: Mapping[str, LazySlice], source: Path | None) -> None:
    """Writes a model so that `path` holds the old file or the new one, whole, at every moment.

    External tensors go into one new data file `<stem>-<hash>.data` beside the model, read and written in bounded
    pieces; so do all large ones where the model would exceed protobuf's 2 GiB. A data file of this naming that
    the old model at `path` used is removed, unless another model in the folder names it.

    Args:
        proto: the model to write; it is not changed.
        path: the file to write.
        arrays: by tensor name (a Constant's is its output) the slice that replaces the tensor's values.
        source: the file that `proto` was read from, whose folder external tensors refer to; it is never written.

    Raises:
        OutputError: the folder is missing or not writable, the disk is full, `path` is a folder or the input.
        ModelError: external data cannot be read.
    """
    with _as_output_error(path):
        _check_target(path, [source] if source else [])
        model = outgoing(proto, arrays, source.parent if source else None)
        inputs = set(_data_files(model.moved))
        _check_target(path, inputs)
        old = _data_of_old_model(path)
        used = _write(model, path)
    with suppress(OSError):  # the model is saved; a file too many is no failure
        _remove(old - {used} - {file.name for file in inputs}, path)


def _write(model: Outgoing, path: Path) -> str:
    """Writes and swaps; returns the name of the data file, or "" for none."""
    with _temporary(path) as file, _temporary(path) if model.moved else nullcontext() as data:
        name = _fill(data, model.moved, path.stem) if data else ""
        write_all(file, memoryview(serialized(model)))
        _flush(file)
        if not data:
            _rename(file, path)
            return name
        fresh = not os.path.lexists(path.with_name(name))
        _rename(data, path.with_name(name))
        try:
            _rename(file, path)
        except OSError:
            if fresh:
                path.with_name(name).unlink()
            raise
        return name


def _fill(file: BinaryIO, moved: list[Moved], stem: str) -> str:
    sizes = [item.values.nbytes for item in moved]
    offsets, digest = write_data(file, (item.values.chunks() for item in moved), sizes)
    _flush(file)
    name = hashed_name(stem, digest)
    for item, offset, size in zip(moved, offsets, sizes, strict=True):
        refer(item.tensor, name, offset, size)
    return name


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """A file to fill, unbuffered, that takes the place of `path` at the end; until then that holds the old content.

    Raises:
        OutputError: it cannot be written.
    """
    with _as_output_error(path):
        _check_target(path, [])
        with _temporary(path) as file:
            yield file
            _flush(file)
            _rename(file, path)


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Write a file so that `path` holds the old content or the new one, whole, at every moment.

    Raises:
        OutputError: it cannot be written.
    """
    with writing(path) as file:
        write_all(file, memoryview(content))


@contextmanager
def _temporary(path: Path) -> Iterator[BinaryIO]:
    """A new file in the folder of `path`, gone at the end unless it was renamed."""
    name = path.with_name(f".onnxprune-{secrets.token_hex(8)}.tmp")
    file = open(name, "xb", buffering=0)  # noqa: SIM115 (closed below)
    try:
        with file:
            yield file
    finally:
        name.unlink(missing_ok=True)


def _flush(file: BinaryIO) -> None:
    os.fsync(file.fileno())
    file.close()


def _rename(file: BinaryIO, target: Path) -> None:
    os.replace(file.name, target)
    sync_folder(target.parent)


def sync_folder(path: Path) -> None:
    """Put on the disk which files a folder has."""
    if os.name == "posix":  # elsewhere folders cannot be opened
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def _as_output_error(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        fix = _FIXES.get(error.errno or 0, "check the folder's permissions, or write elsewhere")
        raise OutputError(f"{path}: cannot be written: {error.strerror}", fix) from error


def _check_target(path: Path, inputs: Iterable[Path]) -> None:
    if not path.parent.is_dir():
        raise OutputError(f"{path}: there is no folder {path.parent}", "create it first")
    if path.is_dir():
        raise OutputError(f"{path}: expected a file to write, got a folder", "add a file name")
    if not path.exists():
        return
    # A rename over a device such as /dev/null would remove the device.
    if not path.is_file():
        raise OutputError(f"{path}: exists and is not a regular file", "write to another path")
    for other in inputs:
        if other.exists() and path.samefile(other):
            raise OutputError(f"{path}: the output is the input {other}, which is never changed", "choose another path")


def _data_files(moved: Iterable[Moved]) -> Iterator[Path]:
    slices = (item.values for item in moved)
    names = {(location(values.tensor), values.base) for values in slices if is_external(values.tensor)}
    return (data_file(name, base) for name, base in names if base)


def _data_of_old_model(path: Path) -> set[str]:
    """Names of data files that we wrote for the model now at `path`."""
    ours = {name for name in os.listdir(path.parent) if is_hashed_name(name, path.stem)}
    if not ours or not path.is_file():
        return set()
    try:
        return ours & {location(header.tensor) for header in skeleton(path.read_bytes()).headers}
    except ValueError:
        return set()  # whatever it is, we did not write it


def _remove(names: Iterable[str], path: Path) -> None:
    """Removes data files that no model in the folder mentions."""
    models = [file for file in path.parent.iterdir() if file.suffix.lower() == ".onnx" or file.stem == path.stem]
    for name in names:
        if not any(_mentions(model, name.encode()) for model in models):
            path.with_name(name).unlink()


def _mentions(file: Path, text: bytes) -> bool:
    with open(file, "rb") as stream:
        before = b""
        while block := stream.read(CHUNK):
            if text in before + block:
                return True
            before = block[-len(text) :]
    return False
