"""Fitness on an ONNX file alone: labelled samples, and statistics measured anew in onnxruntime; nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

from onnxprune import api
from onnxprune.analysis import Analysis
from onnxprune.execution import run
from onnxprune.graph import Model
from onnxprune.mask import Mask
from onnxprune.search.samples import Samples, accuracy, batches_of, feeds_of


class Calibrated:
    """The accuracy of the pruned model with its BatchNormalizations' statistics measured anew.

    Args:
        analysis: of the model.
        samples: to score on, and, without their labels, to measure on; those that `fitting` gives.
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


def recalibrated(model: Model, inputs: np.ndarray) -> Model:
    """A model with the means and variances that its BatchNormalizations see on some inputs.

    Every normalisation is computed as in training, from the batch, so that those after it see what they will see; the
    statistics that are kept are averages over the batches. A model without any is returned as it is.

    Raises:
        ModelError: it does not run on the inputs.
    """
    measuring, norms = _measuring(model)
    if not norms:
        return model
    names = [name for norm in norms for name in norm.measured]
    batches = batches_of(inputs)
    found = run(measuring, feeds_of(model, batches), names, fast=True)
    sizes = [len(batch) for batch in batches]
    averages = [np.average([f[-len(names) + k] for f in found], 0, sizes) for k in range(len(names))]
    return _with(model, dict(zip((name for norm in norms for name in norm.stored), averages, strict=True)))


def has_statistics(model: Model) -> bool:
    """Whether there is anything to measure: exporters may have folded all BatchNormalizations into convolutions."""
    return bool(_measuring(model)[1])


@dataclass(frozen=True)
class _Norm:
    """The names of a normalisation's mean and variance: as they are stored, and as they are measured."""

    stored: tuple[str, str]
    measured: tuple[str, str]


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
