"""Constant branches that mix elements, replaced by what they compute.

Weight standardisation normalises a stored tensor over its input channels before a convolution reads it, weight
normalisation divides by a norm over them. No slice of the stored tensor passes through that, but a slice of the
result does: there the branch ends in a stored tensor. What `verify` compares with is the original as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from onnx import ModelProto, ValueInfoProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from onnxprune.graph import Graph, Model, Node
from onnxprune.rules import MIXING, rule_for
from onnxprune.tensors import tensor_array

FIRST_IR_WITHOUT_INPUTS = 4
"""Before it every initializer is listed among the graph's inputs, too."""


def fold_constants(graph: Graph) -> Model:
    """The graph's model without constant branches that mix elements; the same object where it has none."""
    branch = _constant_nodes(graph)
    mixing = [node for node in branch if _mixes(node)]
    wanted = [name for node in mixing for name in node.outputs if name in graph.readers]
    arrays = _evaluated(graph, branch, wanted) if wanted else {}
    floats = {name: array for name, array in arrays.items() if array.dtype.kind == "f" and array.size > 1}
    return _replaced(graph, branch, floats) if floats else graph.model


def _constant_nodes(graph: Graph) -> list[Node]:
    """Nodes that read stored tensors, and each other, alone."""
    constant = {"", *graph.stored}
    found = []
    for node in graph.nodes:
        if constant.issuperset(node.inputs) and node.inputs and rule_for(node.domain, node.op):
            constant.update(node.outputs)
            found.append(node)
    return found


def _mixes(node: Node) -> bool:
    if node.op == "BatchNormalization":
        return bool(node.attribute("training_mode", 0))  # otherwise channels pass
    return node.op in MIXING


def _evaluated(graph: Graph, branch: Sequence[Node], wanted: Sequence[str]) -> dict[str, np.ndarray]:
    """What constant nodes compute, in numpy."""
    read = {name for node in branch for name in node.inputs if name in graph.stored}
    tensors = [numpy_helper.from_array(tensor_array(graph.stored[n], graph.model.base), n) for n in sorted(read)]
    outputs = [ValueInfoProto(name=name) for name in wanted]
    part = helper.make_graph([node.proto for node in branch], "constants", [], outputs, tensors)
    model = helper.make_model(part, opset_imports=graph.model.proto.opset_import, ir_version=8)
    return dict(zip(wanted, map(np.asarray, ReferenceEvaluator(model).run(None, {})), strict=True))


def _replaced(graph: Graph, branch: Sequence[Node], arrays: dict[str, np.ndarray]) -> Model:
    dead = _dead(graph, branch, arrays)
    proto = ModelProto()
    proto.CopyFrom(graph.model.proto)
    unread = {name for node in branch if node.index in dead for name in node.inputs} - set(_read(graph, dead))
    dead |= {index for name, index in graph.constant_nodes.items() if name in unread}
    for field, gone in (("node", dead), ("initializer", unread), ("input", unread)):
        items = getattr(proto.graph, field)
        kept = [x for k, x in enumerate(items) if (k if field == "node" else x.name) not in gone]
        del items[:]
        items.extend(kept)
    for name, array in arrays.items():
        tensor = proto.graph.initializer.add()
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), name))
        if proto.ir_version < FIRST_IR_WITHOUT_INPUTS:
            proto.graph.input.append(helper.make_tensor_value_info(name, tensor.data_type, array.shape))
    return Model(proto, graph.model.path)


def _dead(graph: Graph, branch: Sequence[Node], arrays: dict[str, np.ndarray]) -> set[int]:
    """Indices of constant nodes that nothing reads any more once `arrays` are stored."""
    dead: set[int] = set()
    for node in reversed(branch):
        read = {name for name in node.outputs if name in graph.outputs or name in graph.captured}
        read |= {n for n in node.outputs if any(r.index not in dead for r, _ in graph.readers.get(n, ()))}
        if not read - arrays.keys():
            dead.add(node.index)
    return dead


def _read(graph: Graph, dead: set[int]) -> Iterable[str]:
    """Names that are read once the dead nodes are gone."""
    yield from graph.outputs
    yield from graph.captured
    for node in graph.nodes:
        if node.index not in dead:
            yield from node.inputs
