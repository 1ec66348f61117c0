"""Running a model in onnxruntime: seeded inputs, its outputs without optimisations, and how far two runs differ."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import BadZipFile

import numpy as np
import onnx
from onnx import ModelProto, ValueInfoProto, helper

from onnxprune.coupling import input_shape
from onnxprune.embedded import self_contained
from onnxprune.errors import ModelError, first_line
from onnxprune.files import write_model
from onnxprune.forms import is_fixed
from onnxprune.graph import Graph, Model
from onnxprune.trace import Trace

PROTOBUF_LIMIT = 2**31 - 2**20
FLOATS = (1, 10, 11, 16)
NOT_RUNNING = "name the sizes of its symbolic dimensions (--size NAME=N), or check it with `onnx.checker`"

Feeds = dict[str, np.ndarray]
Outputs = list[np.ndarray]


def random_inputs(model: Model, seed: int, sizes: Mapping[str, int] | None = None) -> Feeds:
    """Seeded inputs for every graph input: normal floats, small positive integers, true."""
    rng = np.random.default_rng(seed)
    feeds = {}
    for value in Graph(model).inputs:
        shape = input_shape(value, sizes or {})
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
        if dtype.kind == "b":
            feeds[value.name] = np.ones(shape, bool)
        elif np.issubdtype(dtype, np.integer):
            feeds[value.name] = rng.integers(1, 8, shape).astype(dtype)
        else:
            feeds[value.name] = rng.standard_normal(shape).astype(dtype)
    return feeds


def read_arrays(path: Path) -> Feeds:
    """The arrays of an .npz file by name.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is no such file, is damaged, or holds what is not an array of numbers.
    """
    try:
        with path.open("rb") as file:
            found = np.load(file, allow_pickle=False)
            if isinstance(found, np.ndarray):
                raise ValueError(f"one array of shape {found.shape}, expected several by name")
            return {name: found[name] for name in found.files}
    except (EOFError, BadZipFile, zlib.error) as error:
        raise ValueError(first_line(error)) from error


def observable(trace: Trace) -> tuple[str, ...]:
    """Inner tensors to compare for outputs that are no floats (the labels that an ArgMax gives, say).

    They are the last floating-point tensors before such an output of which nothing is removed. A label may flip by
    rounding where two logits are equal; the logits tell that from a wrong channel.
    """
    graph = trace.graph
    outputs = graph.model.proto.graph.output
    pending = [v.name for v in outputs if v.type.tensor_type.elem_type not in FLOATS]
    kinds = _types(graph.model.proto) if pending else {}
    seen, found = {v.name for v in outputs} - set(pending), []
    while pending:
        name = pending.pop()
        node = graph.producers.get(name)
        if name in seen or node is None:
            continue
        seen.add(name)
        if kinds.get(name) in FLOATS and all(map(is_fixed, trace.forms.get(name) or ())):
            found.append(name)
        else:
            pending.extend(node.inputs)
    return tuple(sorted(found))


def _types(proto: ModelProto) -> dict[str, int]:
    """Element types of all tensors that onnx can tell, by name."""
    graph = onnx.shape_inference.infer_shapes(proto).graph
    return {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.output)}


def run(model: Model, feeds: Sequence[Feeds], more: Sequence[str] = (), *, fast: bool = False) -> list[Outputs]:
    """Outputs of a model for each of the inputs, in onnxruntime on the CPU.

    Args:
        model: to run.
        feeds: its inputs.
        more: inner tensors to give after the outputs.
        fast: with onnxruntime's optimisations, on one thread, so that results are the same beside other work.

    Raises:
        ModelError: onnxruntime can not run the model.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    if fast:
        options.intra_op_num_threads = options.inter_op_num_threads = 1
    else:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        with runnable(_exposing(model, more)) as source:
            session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        return [session.run(None, f) for f in feeds]
    except Exception as error:  # onnxruntime raises types of its own, none of them public
        name = model.path or "the model"
        raise ModelError(f"{name} does not run in onnxruntime: {first_line(error)}", NOT_RUNNING) from error


def _exposing(model: Model, names: Sequence[str]) -> Model:
    """The model with more outputs; their types are left to the runtime."""
    if not names:
        return model
    proto = ModelProto()
    proto.CopyFrom(model.proto)
    proto.graph.output.extend(ValueInfoProto(name=name) for name in names)
    return Model(proto, model.path, model.arrays)


@contextmanager
def runnable(model: Model) -> Iterator[str | bytes]:
    """What onnxruntime loads: bytes, or a temporary file's path for large models and those with external data."""
    whole = self_contained(model.proto, model.base)
    external = bool(model.arrays) or any(t.external_data for t in whole.graph.initializer)
    if not external and whole.ByteSize() < PROTOBUF_LIMIT:
        yield whole.SerializeToString()
        return
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        write_model(model.proto, path, model.arrays, model.path)
        yield str(path)


def relative_difference(a: Outputs, b: Outputs) -> float:
    """Largest absolute difference over all floating outputs, each relative to the largest magnitude in `a`."""
    worst = 0.0
    for x, y in zip(a, b, strict=True):
        if x.shape != y.shape:
            return float("inf")
        if x.dtype.kind != "f" or not x.size:
            continue
        x, y = x.astype(np.float64), y.astype(np.float64)
        with np.errstate(invalid="ignore"):  # infinity less infinity is no number, which counts as infinite below
            error = np.abs(x - y).max() / (np.abs(x).max() + 1e-12)
        worst = max(worst, float(error) if np.isfinite(error) else float("inf"))
    return worst
