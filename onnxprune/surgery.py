"""Topology changes, by onnx-graphsurgeon: the masked reference that a pruned model must equal."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import ModelProto

from onnxprune.graph import Model, dtype_of
from onnxprune.groups import Kept, keep_mask
from onnxprune.trace import Contraction, Trace


def masked_reference(model: Model, trace: Trace, kept: Kept, extra: Iterable[Contraction] = ()) -> ModelProto:
    """The original graph in which every operator that sums over channels gets zeros for the removed ones.

    One operand of each such product is multiplied by a mask of zeros and ones. `extra` contractions have their
    mask shifted by one element: a reference that is wrong on purpose.

    Graphsurgeon keeps no metadata here, and needs none: the result is only run.
    """
    proto = _loaded(model)
    graph = gs.import_onnx(proto)
    nodes = list(graph.nodes)
    wrong = {(c.node.index, c.operand, c.axis) for c in extra}
    before: dict[int, list[gs.Node]] = {}
    for contraction in trace.contractions:
        mask = keep_mask(contraction.form, kept)
        if (contraction.node.index, contraction.operand, contraction.axis) in wrong:
            mask = _corrupted(mask)
        if not mask.all():
            index = contraction.node.index
            before.setdefault(index, []).append(_insert_mask(nodes[index], contraction, mask, trace))
    graph.nodes[:] = [n for k, node in enumerate(nodes) for n in (*before.get(k, ()), node)]
    return gs.export_onnx(graph, do_type_check=False)


def _loaded(model: Model) -> ModelProto:
    if model.base is None or not any(t.external_data for t in model.proto.graph.initializer):
        return model.proto
    proto = ModelProto()
    proto.CopyFrom(model.proto)
    onnx.load_external_data_for_model(proto, str(model.base))
    return proto


def _insert_mask(node: gs.Node, contraction: Contraction, mask: np.ndarray, trace: Trace) -> gs.Node:
    source = node.inputs[contraction.operand]
    rank = len(trace.axes(contraction.node.inputs[contraction.operand]))
    shape = [1] * rank
    shape[contraction.axis] = len(mask)
    name = f"masked/{contraction.node.index}/{contraction.operand}/{contraction.axis}"
    constant = gs.Constant(f"{name}/mask", mask.reshape(shape).astype(_float_type(contraction, trace)))
    masked = gs.Variable(name)
    node.inputs[contraction.operand] = masked
    return gs.Node("Mul", name, inputs=[source, constant], outputs=[masked])


def _float_type(contraction: Contraction, trace: Trace) -> np.dtype:
    """The type of the operator's data: that of its weight, else of the model's weights."""
    stored = trace.graph.stored
    own = [stored[trace.roots[n]] for n in contraction.node.inputs if n in trace.roots]
    for tensor in (*own, *stored.values()):
        if dtype_of(tensor).kind == "f":
            return dtype_of(tensor)
    return np.dtype(np.float32)


def _corrupted(mask: np.ndarray) -> np.ndarray:
    """The mask with one kept and one removed element swapped."""
    mask = mask.copy()
    if not mask.all() and mask.any():
        kept, removed = np.flatnonzero(mask)[0], np.flatnonzero(~mask)[0]
        mask[kept], mask[removed] = False, True
    return mask
