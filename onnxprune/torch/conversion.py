"""ONNX models as torch modules, by onnx2torch.

Of the converters that there are, onnx2torch gives a plain torch.fx module, in which nothing but PyTorch's own operators
takes time; onnx2pytorch, released more recently, walks the ONNX graph in Python in every run (MobileNetV2 takes 1.7
times as long) and refuses BatchNormalization as it is exported since opset 14. onnx2torch knows operators up to opset
17. For later ones its own extension point is used: an operator of which a node uses nothing new is converted as before,
and those that changed are below. The runtime compares outputs with onnxruntime's, so that a wrong guess is found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

import onnx
import torch
from onnx import NodeProto, defs, numpy_helper
from onnx.helper import get_attribute_value
from torch import nn
from torch.fx import GraphModule

from onnxprune.errors import ModelError
from onnxprune.execution import runnable
from onnxprune.graph import Model

if TYPE_CHECKING:
    from onnx2torch.onnx_graph import OnnxGraph
    from onnx2torch.onnx_node import OnnxNode

VISION = (
    *("nms", "qnms", "roi_align", "_roi_align_backward", "ps_roi_align", "_ps_roi_align_backward"),
    *("roi_pool", "_roi_pool_backward", "ps_roi_pool", "_ps_roi_pool_backward"),
    *("deform_conv2d", "_deform_conv2d_backward"),
)
"""The compiled operators that torchvision, which onnx2torch imports, looks for when it is imported."""
REDUCTIONS: dict[str, Callable[..., torch.Tensor]] = {
    "ReduceL1": lambda x, dim, keepdim: x.abs().sum(dim, keepdim),
    "ReduceL2": lambda x, dim, keepdim: x.square().sum(dim, keepdim).sqrt(),
    "ReduceMax": torch.amax,
    "ReduceMean": torch.mean,
    "ReduceMin": torch.amin,
    "ReduceSumSquare": lambda x, dim, keepdim: x.square().sum(dim, keepdim),
}


CARRIED: set[tuple[str, str, int]] = set()
"""Operators (domain, name, version) that are converted as in an older version, for nodes that say nothing newer."""


class Reduce(nn.Module):
    """A reduction over fixed axes, all where there are none."""

    def __init__(self, op: str, axes: list[int], keepdim: bool):
        super().__init__()
        self.op, self.axes, self.keepdim = REDUCTIONS[op], axes, keepdim

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The reduced tensor."""
        return self.op(x, dim=self.axes or list(range(x.dim())), keepdim=self.keepdim)


class Split(nn.Module):
    """Parts of one size, of which the last may be smaller."""

    def __init__(self, count: int, axis: int):
        super().__init__()
        self.count, self.axis = count, axis

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The parts."""
        return torch.split(x, -(-x.shape[self.axis] // self.count), dim=self.axis)


def convert(model: Model) -> GraphModule:
    """The module of a model, which takes the graph's inputs in order.

    Raises:
        ModelError: it has an operator that is not converted; it is named.
        ImportError: onnx2torch is not installed.
    """
    library = converter()
    with runnable(model) as source:
        proto = onnx.load_from_string(source) if isinstance(source, bytes) else onnx.load(source)
    _without_zeros(proto)
    versions = {each.domain or "": each.version for each in proto.opset_import}
    for node in proto.graph.node:
        _carry(model, node, versions.get(node.domain, 0))
    try:
        return library(proto).eval()
    except Exception as error:
        text = str(error) or type(error).__name__
        raise ModelError(
            f"{model.path or 'the model'} is not converted to torch: {text.splitlines()[0]}", "take another runtime"
        ) from error


def _without_zeros(proto: onnx.ModelProto) -> None:
    """Take `allowzero` off Reshapes whose constant shape has no zero: there it means nothing, and is not converted."""
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in (node for node in proto.graph.node if node.op_type == "Reshape"):
        shape = constants.get(node.input[1])
        if shape is not None and 0 not in numpy_helper.to_array(shape):
            kept = [attribute for attribute in node.attribute if attribute.name != "allowzero"]
            del node.attribute[:]
            node.attribute.extend(kept)


@cache
def converter() -> Callable[[onnx.ModelProto], Any]:
    """onnx2torch's, with the operators that are added here.

    Raises:
        ImportError: it is not installed.
    """
    _let_torchvision_in()
    from onnx2torch import convert
    from onnx2torch.node_converters.registry import add_converter

    for op in REDUCTIONS:
        add_converter(op, version=18)(_reduce)
    add_converter("Split", version=18)(_split)
    add_converter("Gelu", version=20)(_gelu)
    return convert


def _let_torchvision_in() -> None:
    """Declare torchvision's operators where its compiled part is for another build of torch, and does not load.

    Its import would fail at the first of them. A model that uses one still fails, by the operator's name.
    """
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in VISION:
            torch.library.define(f"torchvision::{name}", "(Tensor x) -> Tensor")


def _reduce(node: OnnxNode, graph: OnnxGraph) -> Any:
    from onnx2torch.utils.common import OnnxMapping, OperationConverterResult, get_const_value

    axes = [int(axis) for axis in get_const_value(node.input_values[1], graph)] if len(node.input_values) > 1 else []
    keep = bool(node.attributes.get("keepdims", 1))
    mapping = OnnxMapping(inputs=node.input_values[:1], outputs=node.output_values)
    return OperationConverterResult(Reduce(node.operation_type, axes, keep), mapping)


def _split(node: OnnxNode, graph: OnnxGraph) -> Any:
    from onnx2torch.node_converters.registry import get_converter
    from onnx2torch.utils.common import OperationConverterResult, onnx_mapping_from_node

    if "num_outputs" not in node.attributes:
        return get_converter("Split", version=13)(node, graph)
    module = Split(node.attributes["num_outputs"], node.attributes.get("axis", 0))
    return OperationConverterResult(module, onnx_mapping_from_node(node))


def _gelu(node: OnnxNode, graph: OnnxGraph) -> Any:
    from onnx2torch.utils.common import OperationConverterResult, onnx_mapping_from_node

    return OperationConverterResult(nn.GELU(node.attributes.get("approximate", "none")), onnx_mapping_from_node(node))


def _carry(model: Model, node: NodeProto, opset: int) -> None:
    """Have a node converted as in an older version of its operator, if it uses nothing that is newer.

    Raises:
        ModelError: no version that would do is converted.
    """
    from onnx2torch.node_converters.registry import add_converter, get_converter

    schemas = list(_schemas(node, opset))
    for schema in schemas:
        if len(node.input) > schema.max_input or _says_more(node, schemas[0], schema):
            break
        if (node.domain, node.op_type, schema.since_version) in CARRIED:
            continue
        try:
            found = get_converter(node.op_type, version=schema.since_version, domain=node.domain)
        except NotImplementedError:
            continue
        latest = (node.domain, node.op_type, schemas[0].since_version)
        if schema is not schemas[0] and latest not in CARRIED:
            add_converter(node.op_type, version=latest[2], domain=node.domain)(found)
            CARRIED.add(latest)
        return
    where = f"{model.path or 'the model'}: node {node.name or node.output[0]!r}"
    raise ModelError(
        f"{where}: operator {node.op_type} of opset {opset} is not converted to torch", "take another runtime"
    )


def _says_more(node: NodeProto, latest: defs.OpSchema, older: defs.OpSchema) -> bool:
    """Whether it has an attribute that an older version lacks, with another value than its default."""
    given = [each for each in node.attribute if each.name not in older.attributes]
    return any(get_attribute_value(a) != get_attribute_value(latest.attributes[a.name].default_value) for a in given)


def _schemas(node: NodeProto, opset: int) -> Iterator[defs.OpSchema]:
    """Those of an operator, from the one in an opset to the oldest."""
    version = opset
    while version > 0 and defs.has(node.op_type, node.domain):
        try:
            schema = defs.get_schema(node.op_type, version, node.domain)
        except defs.SchemaError:
            return
        yield schema
        version = schema.since_version - 1
