"""Reading and writing model files.

`read_model` accepts valid ONNX only and leaves external data where it is. `write_model` is crash-safe: whatever
happens, the path holds the old file or the new one, whole.
"""

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from mmap import ACCESS_READ, mmap
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto

from onnxprune.errors import ModelError
from onnxprune.external import data_file, file_stamp, is_embedded, is_external, refer, reference
from onnxprune.saving import write_model
from onnxprune.tensors import nested_tensors, stored_bytes
from onnxprune.wire import Data, Header, Skeleton, detached, skeleton

__all__ = ["read_model", "write_model"]

_EXPORT_AGAIN = "export the model again, or check that the download is complete"
OLDEST_OPSET = 7
_EMBEDDED = 128 << 10  # bytes; of smaller tensors a copy is cheaper than to find them again
_IR_VERSION_TAG = b"\x08"  # every exporter writes ir_version, field 1, first


def read_model(path: Path) -> ModelProto:
    """Reads and checks an ONNX model; external tensors stay references, and large ones inside become such, too.

    Raises:
        ModelError: the file is missing, not ONNX, damaged, invalid, without weights or too new, or its external
            data is missing, too short or outside its folder.
    """
    with _content(path) as data:
        bones, damage = _bones(data)
        proto = _parsed(data, bones.headers, path)
        _check_versions(proto, path)
        if damage:
            raise ModelError(f"{path}: damaged: {damage}", _EXPORT_AGAIN)
    _check_weights(bones.headers, path)
    _check_graph(bones.data, path)
    if not proto.graph.initializer and next(nested_tensors(proto), None) is None:
        raise ModelError(
            f"{path}: the model has no weights: no initializer and no constant tensor",
            "export the model with its parameters",
        )
    return proto


@contextmanager
def _content(path: Path) -> Iterator[Data]:
    """The bytes of a file, mapped: of a large model few are ever looked at."""
    if path.is_dir():
        raise ModelError(f"{path}: expected an ONNX file, got a folder", "name the .onnx file inside it")
    try:
        with open(path, "rb") as file:
            # An empty file cannot be mapped, and a pipe has no size.
            data: Data = mmap(file.fileno(), 0, access=ACCESS_READ) if path.stat().st_size else file.read()
    except FileNotFoundError as error:
        raise ModelError(f"{path}: no such file", "check the path") from error
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}", "check the file's permissions") from error
    yield data
    if isinstance(data, mmap):
        data.close()


def _bones(data: Data) -> tuple[Skeleton, ValueError | None]:
    """The model without its weights, or nothing and why."""
    try:
        return skeleton(data), None
    except ValueError as error:
        return Skeleton(b""), error


def _parsed(data: Data, headers: Iterable[Header], path: Path) -> ModelProto:
    """The model; large tensors of its main graph are references into the file."""
    stamp = file_stamp(path)
    large = any((header.raw_bytes or 0) >= _EMBEDDED for header in headers)
    try:
        proto = ModelProto.FromString(
            detached(data, _EMBEDDED, lambda tensor, start, size: refer(tensor, path.name, start, size, stamp))
            if large
            else data[:]
        )
    except DecodeError as error:
        kind = "a truncated or damaged ONNX model" if data[:1] == _IR_VERSION_TAG else "not an ONNX model"
        raise ModelError(f"{path}: {kind}: {len(data)} bytes that are not a whole protobuf", _EXPORT_AGAIN) from error
    # Any field is optional to protobuf, so that text and even an empty file can parse.
    lacks = [name for name in ("ir_version", "graph") if not proto.HasField(name)]
    lacks += [] if proto.opset_import else ["opset_import"]
    if lacks:
        raise ModelError(f"{path}: not an ONNX model: it has no {' and no '.join(lacks)}", _EXPORT_AGAIN)
    return proto


def _check_versions(proto: ModelProto, path: Path) -> None:
    newest = onnx.defs.onnx_opset_version()
    opset = max((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    if 0 < opset < OLDEST_OPSET:
        raise ModelError(
            f"{path}: opset {opset} is too old: expected at least {OLDEST_OPSET}; before it operators broadcast"
            " otherwise",
            "convert it with onnx.version_converter, or export with a higher opset",
        )
    for name, got, known in (("opset", opset, newest), ("IR version", proto.ir_version, onnx.IR_VERSION)):
        if got > known:
            raise ModelError(
                f"{path}: {name} {got} is too new: expected at most {known}, the newest that onnx {onnx.__version__}"
                " knows",
                "upgrade onnx, or export with a lower opset",
            )


def _check_weights(headers: Iterable[Header], path: Path) -> None:
    find = functools.cache(data_file)
    for header in headers:
        tensor = header.tensor
        try:
            expected = stored_bytes(tensor.data_type, tensor.dims)
        except KeyError as error:
            raise _bad_tensor(path, tensor, f"unknown data type {tensor.data_type}") from error
        if min(tensor.dims, default=0) < 0:
            raise _bad_tensor(path, tensor, f"negative size in shape {list(tensor.dims)}")
        if is_external(tensor):
            _check_external(tensor, path, expected, find)
        elif expected and not header.typed and header.raw_bytes != expected:
            raise _bad_tensor(path, tensor, f"expected {expected} bytes, got {header.raw_bytes or 0}")


def _check_external(tensor: TensorProto, path: Path, expected: int, find: Callable[[str, Path], Path]) -> None:
    if is_embedded(tensor):  # those are made while reading, past this check
        raise _bad_tensor(path, tensor, "its external data has an entry that must not be in a file")
    try:
        found = reference(tensor, path.parent, expected, find)
    except ModelError as error:
        raise ModelError(f"{path}: {error.what}", error.fix) from error
    if found.path.samefile(path):
        raise _bad_tensor(path, tensor, "its external data would be the model's own file")


def _bad_tensor(path: Path, tensor: TensorProto, why: str) -> ModelError:
    return ModelError(f"{path}: tensor '{tensor.name}': {why}", _EXPORT_AGAIN)


def _check_graph(data: bytes, path: Path) -> None:
    """Runs the ONNX checker, which finds undefined inputs, names used twice, cycles and unknown ops."""
    try:
        try:
            onnx.checker.check_model(data)
        except onnx.checker.ValidationError as error:
            if "is deprecated" not in str(error):
                raise
            onnx.checker.check_model(_without_withdrawn(data))
    except (onnx.checker.ValidationError, RuntimeError, UnicodeDecodeError) as error:
        why = " ".join(str(error).replace("==> Context:", ";").split())
        raise ModelError(f"{path}: not valid ONNX: {why}", "export the model again with a current exporter") from error


def _without_withdrawn(data: bytes) -> bytes:
    """The model with GroupNormalization of opsets 18 to 20, which was withdrawn though runtimes run it, disguised."""
    proto = ModelProto.FromString(data)
    for node in proto.graph.node:
        if node.op_type == "GroupNormalization" and node.domain in ("", "ai.onnx"):
            node.op_type = "InstanceNormalization"
            kept = [attribute for attribute in node.attribute if attribute.name == "epsilon"]
            del node.attribute[:]
            node.attribute.extend(kept)
    return proto.SerializeToString()
