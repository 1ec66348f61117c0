"""Topology changes, by onnx-graphsurgeon: the masked reference that a pruned model must equal."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import ModelProto, helper

from onnxprune.branches import Branch
from onnxprune.embedded import self_contained
from onnxprune.graph import Model, Node, dtype_of
from onnxprune.groups import Kept, keep_mask
from onnxprune.trace import Contraction, Trace


def masked_reference(
    model: Model,
    trace: Trace,
    kept: Kept,
    wrong: tuple[Contraction, int] | None = None,
    branches: Iterable[Branch] = (),
) -> ModelProto:
    """The original graph in which every operator that sums over channels gets zeros for the removed ones.

    One operand of each such product is multiplied by a mask of zeros and ones; the operand of an Add that is a dropped
    branch by a zero. At the contraction `wrong` the mask has its n-th kept and its n-th removed element swapped: a
    reference that is wrong on purpose.

    Graphsurgeon keeps no metadata here, and needs none: the result is only run.
    """
    graph = gs.import_onnx(_loaded(model))
    # By outputs: places differ where constants were folded.
    nodes = {node.outputs[0].name: node for node in graph.nodes if node.outputs}
    before: dict[int, list[gs.Node]] = {}
    for contraction in trace.contractions:
        mask = keep_mask(contraction.form, kept)
        if mask.all():
            continue
        if wrong is not None and contraction is wrong[0]:
            mask = _corrupted(mask, wrong[1])
        node = nodes[contraction.node.outputs[0]]
        before.setdefault(id(node), []).append(_insert_mask(node, contraction, mask, trace))
    for branch in branches:
        add = trace.graph.nodes_by_index[branch.node]
        node = nodes[add.outputs[0]]
        before.setdefault(id(node), []).append(_insert_zero(node, add, branch.operand, trace))
    graph.nodes[:] = [n for node in list(graph.nodes) for n in (*before.get(id(node), ()), node)]
    return gs.export_onnx(graph, do_type_check=False)


def _loaded(model: Model) -> ModelProto:
    whole = self_contained(model.proto, model.base)
    if model.base is None or not any(t.external_data for t in whole.graph.initializer):
        return whole
    proto = ModelProto()
    proto.CopyFrom(whole)
    onnx.load_external_data_for_model(proto, str(model.base))
    return proto


def _insert_mask(node: gs.Node, contraction: Contraction, mask: np.ndarray, trace: Trace) -> gs.Node:
    operand = contraction.operand
    shape = [1] * len(trace.axes(contraction.node.inputs[operand]))
    shape[contraction.axis] = len(mask)
    name = f"masked/{contraction.node.index}/{operand}/{contraction.axis}"
    factor = mask.reshape(shape).astype(_float_type(contraction.node.inputs[operand], trace))
    return _insert_factor(node, operand, factor, name)


def _insert_zero(node: gs.Node, add: Node, operand: int, trace: Trace) -> gs.Node:
    """Multiply a whole operand by zero; a factor of as many axes keeps the shape."""
    name = add.inputs[operand]
    zero = np.zeros([1] * len(trace.axes(name)), _float_type(name, trace))
    return _insert_factor(node, operand, zero, f"dropped/{add.index}/{operand}")


def _insert_factor(node: gs.Node, operand: int, factor: np.ndarray, name: str) -> gs.Node:
    source, product = node.inputs[operand], gs.Variable(name)
    node.inputs[operand] = product
    return gs.Node("Mul", name, inputs=[source, gs.Constant(f"{name}/mask", factor)], outputs=[product])


# Which input has the type of the result, where it is not the first; Cast and its like state it.
_TYPED_BY = {"CastLike": 1, "DequantizeLinear": 1, "Where": 1}


def _float_type(name: str, trace: Trace) -> np.dtype:
    """The type of a tensor: followed back to the stored tensor, input or Cast that it comes from."""
    graph = trace.graph
    while name not in graph.stored and (node := graph.producers.get(name)) is not None:
        if node.op == "Cast":
            return np.dtype(helper.tensor_dtype_to_np_dtype(node.attribute("to")))
        name = node.input(_TYPED_BY.get(node.op, 0))
    if name in graph.stored:
        return dtype_of(graph.stored[name])
    kinds = [v.type.tensor_type.elem_type for v in graph.inputs if v.name == name]
    return np.dtype(helper.tensor_dtype_to_np_dtype(kinds[0]) if kinds else np.float32)


def _corrupted(mask: np.ndarray, n: int) -> np.ndarray:
    """The mask with its n-th kept and its n-th removed element (counted round and round) swapped."""
    kept, removed = np.flatnonzero(mask), np.flatnonzero(~mask)
    mask = mask.copy()
    mask[kept[n % len(kept)]], mask[removed[n % len(removed)]] = False, True
    return mask
