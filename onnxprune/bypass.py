"""Dropped branches taken out of a graph's protobuf, in place: the x of x + f(x) goes on alone."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from onnx import GraphProto, ModelProto

from onnxprune.analysis import Analysis
from onnxprune.branches import Dropped, bypassed, drop, zero_sums
from onnxprune.graph import Graph, Model


def bypass(graph: GraphProto, source: Graph, dropped: Dropped) -> None:
    """Take out what goes with dropped branches.

    Args:
        graph: a copy of the original's, whose nodes are still in their places, without the dropped tensors.
        source: the original, as it was read.
        dropped: of the original.
    """
    if not dropped.branches:
        return
    ahead = bypassed(source, dropped)
    for name, instead in ahead.items():
        for node, slot in source.readers.get(name, ()):
            graph.node[node.index].input[slot] = instead
    gone = set(dropped.nodes) | {source.constant_nodes[n] for n in dropped.tensors if n in source.constant_nodes}
    for branch in dropped.branches:
        add = source.nodes_by_index[branch.node]
        if add.outputs[0] in ahead:
            gone.add(add.index)
        elif add.index not in gone:
            _make_identity(graph, add.index, branch.operand)
    names = {n for index in gone for n in graph.node[index].output} | dropped.tensors
    for index in sorted(gone, reverse=True):
        del graph.node[index]
    _forget(graph, names)


def without_zero_sums(analysis: Analysis) -> Model:
    """The model without sums of some x and a zero, as a module that lost branches exports them; not verified."""
    source, model = analysis.trace.graph, analysis.model
    dropped = drop(source, zero_sums(analysis.trace))
    if not dropped.branches:
        return model
    proto = ModelProto()
    proto.CopyFrom(model.proto)
    bypass(proto.graph, source, dropped)
    _filter(proto.graph.initializer, dropped.tensors, "name")
    return replace(model, proto=proto)


def _make_identity(graph: GraphProto, index: int, operand: int) -> None:
    """What the model's user or a subgraph reads keeps its name."""
    node = graph.node[index]
    node.op_type = "Identity"
    del node.input[operand]
    del node.attribute[:]


def _forget(graph: GraphProto, names: Collection[str]) -> None:
    """Remove what is said of tensors that are gone; up to IR version 3 stored ones are inputs, too."""
    _filter(graph.value_info, names, "name")
    _filter(graph.input, names, "name")
    _filter(graph.quantization_annotation, names, "tensor_name")


def _filter(entries: Any, names: Collection[str], field: str) -> None:
    for k in reversed([k for k, entry in enumerate(entries) if getattr(entry, field) in names]):
        del entries[k]
