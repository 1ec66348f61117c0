"""Fitness on an ONNX file alone: labelled samples, and statistics measured anew in onnxruntime; nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

from onnxprune import api
from onnxprune.analysis import Analysis
from onnxprune.errors import ModelError, UsageError
from onnxprune.execution import run
from onnxprune.graph import Graph, Model
from onnxprune.mask import Mask

BATCH = 100


@dataclass(frozen=True)
class Samples:
    """Labelled inputs.

    Attributes:
        inputs: for the model's first input: `(N, ...)`.
        labels: the class of each: int `(N,)`.
    """

    inputs: np.ndarray
    labels: np.ndarray


def read_samples(path: Path) -> Samples:
    """Samples from an `.npz` file with `inputs` and `labels`.

    Raises:
        UsageError: it is missing, no such file, or the arrays do not fit each other.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            inputs, labels = file["inputs"], file["labels"]
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise UsageError(
            f"{path}: cannot be read: {error}", "give an .npz file with the arrays `inputs` and `labels`"
        ) from error
    if len(inputs) != len(labels) or labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer) or not len(labels):
        raise UsageError(
            f"{path}: inputs {inputs.shape} and labels {labels.dtype} {labels.shape}, expected as many integer labels",
            "give one class number for every input",
        )
    return Samples(inputs, labels)


class Calibrated:
    """The accuracy of the pruned model with its BatchNormalizations' statistics measured anew.

    Args:
        analysis: of the model.
        samples: to score on, and, without their labels, to measure on.
        calibration: how many of them to measure on.
    """

    def __init__(self, analysis: Analysis, samples: Samples, calibration: int = 256):
        self.analysis, self.samples, self.calibration = analysis, samples, calibration

    def __call__(self, mask: Mask, seed: int = 0, effort: float = 1.0) -> Mapping[str, float]:
        """The accuracy (top 1) of the first output."""
        return {"score": self.score(self.model(mask))}

    def model(self, mask: Mask) -> Model:
        """The pruned model, recalibrated."""
        pruned = api.apply(self.analysis.original, mask, verify=False, analysis=self.analysis)
        return recalibrated(pruned, self.samples.inputs[: self.calibration])

    def score(self, model: Model) -> float:
        """Its accuracy on the samples."""
        return accuracy(model, self.samples)


def accuracy(model: Model, samples: Samples) -> float:
    """The share of samples whose class has the highest of a model's first outputs, in [0, 1].

    Raises:
        ModelError: it does not run on the samples, or is no classifier.
    """
    feeds = _feeds(model, _batches(samples.inputs))
    outputs = [found[0] for found in run(model, feeds, fast=True)]
    if any(out.ndim != 2 for out in outputs):
        raise ModelError(f"the first output has shape {outputs[0].shape}, expected (N, classes)", "give a classifier")
    return float(np.mean(np.concatenate(outputs).argmax(1) == samples.labels))


def recalibrated(model: Model, inputs: np.ndarray) -> Model:
    """A model with the means and variances that its BatchNormalizations see on some inputs.

    Every normalisation is computed as in training, from the batch, so that those after it see what they will see; the
    statistics that are kept are averages over the batches.

    Raises:
        ModelError: it does not run on the inputs.
    """
    measuring, norms = _measuring(model)
    if not norms:
        return model
    names = [name for norm in norms for name in norm.measured]
    batches = _batches(inputs)
    found = run(measuring, _feeds(model, batches), names, fast=True)
    sizes = [len(batch) for batch in batches]
    averages = [np.average([f[-len(names) + k] for f in found], 0, sizes) for k in range(len(names))]
    return _with(model, dict(zip((name for norm in norms for name in norm.stored), averages, strict=True)))


@dataclass(frozen=True)
class _Norm:
    """The names of a normalisation's mean and variance: as they are stored, and as they are measured."""

    stored: tuple[str, str]
    measured: tuple[str, str]


def _batches(inputs: np.ndarray) -> list[np.ndarray]:
    return [inputs[k : k + BATCH] for k in range(0, len(inputs), BATCH)]


def _feeds(model: Model, batches: list[np.ndarray]) -> list[dict[str, np.ndarray]]:
    (name,) = [value.name for value in Graph(model).inputs][:1]
    return [{name: batch} for batch in batches]


def _with(model: Model, arrays: Mapping[str, np.ndarray]) -> Model:
    """The model with other values in some stored tensors."""
    proto = ModelProto()
    proto.CopyFrom(model.proto)
    for tensor in proto.graph.initializer:
        if tensor.name in arrays:
            kind = helper.tensor_dtype_to_np_dtype(tensor.data_type)
            tensor.CopyFrom(numpy_helper.from_array(arrays[tensor.name].astype(kind), tensor.name))
    return Model(proto, model.path, {name: own for name, own in model.arrays.items() if name not in arrays})


def _measuring(model: Model) -> tuple[Model, list[_Norm]]:
    """The model with normalisations that use and tell the statistics of the batch."""
    proto = ModelProto()
    proto.CopyFrom(model.proto)
    channels = {tensor.name: tensor.dims[0] for tensor in proto.graph.initializer if len(tensor.dims) == 1}
    norms, nodes = list[_Norm](), list[NodeProto]()
    for number, node in enumerate(proto.graph.node):
        if node.op_type != "BatchNormalization" or not {*node.input[3:5]} <= channels.keys():
            nodes.append(node)
            continue
        prefix = f"onnxprune/measured/{number}"
        norms.append(_Norm((node.input[3], node.input[4]), (f"{prefix}/mean", f"{prefix}/variance")))
        nodes += _statistics(node, prefix, channels[node.input[3]])
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    return Model(proto, model.path, model.arrays), norms


def _statistics(node: NodeProto, prefix: str, channels: int) -> list[NodeProto]:
    """Nodes that compute a batch's means and variances by channel, and the normalisation with them.

    All of them are operators that were the same in every opset.
    """

    def make(op: str, inputs: str, output: str, **attributes: Any) -> NodeProto:
        names = [node.input[0] if name == "x" else f"{prefix}/{name}" for name in inputs.split()]
        return helper.make_node(op, names, [f"{prefix}/{output}"], **attributes)

    def shape(output: str, *sizes: int) -> NodeProto:
        return make("Constant", "", output, value=numpy_helper.from_array(np.array(sizes, np.int64)))

    normal = NodeProto()
    normal.CopyFrom(node)
    normal.input[3], normal.input[4] = f"{prefix}/mean", f"{prefix}/variance"
    return [
        shape("joined", 0, 0, -1),
        shape("rows", 1, channels, -1),
        shape("flat", -1),
        make("Reshape", "x joined", "samples"),
        make("Transpose", "samples", "channels", perm=[1, 0, 2]),
        make("Reshape", "channels rows", "values"),
        make("GlobalAveragePool", "values", "means"),
        make("Sub", "values means", "centred"),
        make("Mul", "centred centred", "squares"),
        make("GlobalAveragePool", "squares", "variances"),
        make("Reshape", "means flat", "mean"),
        make("Reshape", "variances flat", "variance"),
        normal,
    ]
