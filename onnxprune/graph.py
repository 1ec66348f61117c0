"""A model and its graph as the rules read them: nodes with decoded attributes, and the stored tensors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper

from onnxprune.external import FileMap
from onnxprune.tensors import tensor_array


@dataclass(frozen=True)
class Model:
    """An ONNX model in memory.

    Attributes:
        proto: the model; tensors with external data stay references into the folder of `path`, and large ones that
            lie inside became references into the file itself (`onnxprune.save` puts them back).
        path: the file it was read from, or None.
        arrays: tensors that replace those stored in `proto` when the model is saved (large pruned ones).
        mapped: the file itself, kept mapped for as long as the model is in use.
    """

    proto: ModelProto
    path: Path | None = None
    arrays: dict[str, Any] = field(default_factory=dict)
    mapped: FileMap | None = field(default=None, repr=False, compare=False)

    @property
    def base(self) -> Path | None:
        """The folder that external data is relative to."""
        return self.path.parent if self.path else None


class Node:
    """One operator call: `op`, tensor names, and attributes by name."""

    __slots__ = ("_attributes", "domain", "index", "inputs", "op", "outputs", "proto")

    def __init__(self, index: int, proto: NodeProto):
        self.index = index
        self.proto = proto
        self.op: str = proto.op_type
        self.domain: str = proto.domain
        # To copy a protobuf list takes half as long as to iterate over it.
        self.inputs: tuple[str, ...] = tuple(proto.input[:])
        self.outputs: tuple[str, ...] = tuple(proto.output[:])
        self._attributes: dict[str, Any] | None = None

    @property
    def label(self) -> str:
        """How messages call this node: its name, else its first output."""
        return self.proto.name or next(filter(None, self.outputs), f"#{self.index}")

    @property
    def signature(self) -> tuple[bytes, ...]:
        """What two nodes with the same attributes have in common; an operator's decoded ones take much longer."""
        return tuple([a.SerializeToString() for a in self.proto.attribute[:]])

    @property
    def attributes(self) -> dict[str, Any]:
        """Decoded attribute values; strings as `str`."""
        if self._attributes is None:
            self._attributes = {a.name: _value(a) for a in self.proto.attribute}
        return self._attributes

    def attribute(self, name: str, default: Any = None) -> Any:
        """One attribute's value, or `default`."""
        return (self._attributes or self.attributes).get(name, default)

    def input(self, k: int) -> str:
        """The name of input `k`, empty where it is left out."""
        return self.inputs[k] if k < len(self.inputs) else ""

    def captured(self) -> Iterator[str]:
        """Names that subgraphs of this node read, theirs and the outer graph's."""
        stack = [g for a in self.proto.attribute for g in (a.g, *a.graphs)]
        while stack:
            graph = stack.pop()
            yield from (v.name for v in graph.output)
            for node in graph.node:
                yield from node.input
                stack.extend(g for a in node.attribute for g in (a.g, *a.graphs))


_WITH_GRAPHS = (AttributeProto.GRAPH, AttributeProto.GRAPHS)


def _value(attribute: AttributeProto) -> Any:
    value = helper.get_attribute_value(attribute)
    return value.decode(errors="replace") if isinstance(value, bytes) else value


class Graph:
    """The main graph of a model; Constant nodes count as stored tensors, not as nodes."""

    def __init__(self, model: Model):
        self.model = model
        graph = model.proto.graph
        self.opset = next((o.version for o in model.proto.opset_import if o.domain in ("", "ai.onnx")), 1)
        self.stored: dict[str, TensorProto] = {t.name: t for t in graph.initializer}
        self.constant_nodes: dict[str, int] = {}
        self.nodes: list[Node] = []
        for index, proto in enumerate(graph.node):
            node = Node(index, proto)
            if node.op == "Constant" and (tensor := constant_tensor(proto)) is not None:
                self.stored[proto.output[0]] = tensor
                self.constant_nodes[proto.output[0]] = index
            else:
                self.nodes.append(node)
        self.inputs = [v for v in graph.input if v.name not in self.stored]
        self.outputs = [v.name for v in graph.output]
        self._arrays: dict[str, np.ndarray] = {}

    def array(self, name: str) -> np.ndarray:
        """A stored tensor's values."""
        if name not in self._arrays:
            self._arrays[name] = tensor_array(self.stored[name], self.model.base)
        return self._arrays[name]

    def small_array(self, name: str, limit: int = 4096) -> np.ndarray | None:
        """A stored tensor's values where it has at most `limit` elements."""
        tensor = self.stored.get(name)
        if tensor is None or np.prod(tensor.dims, dtype=np.int64) > limit:
            return None
        return self.array(name)

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Dimensions of the stored tensors: protobuf takes long to give them, and every pass asks."""
        return {name: tuple(tensor.dims[:]) for name, tensor in self.stored.items()}

    @cached_property
    def nodes_by_index(self) -> dict[int, Node]:
        """Nodes by their position in the file, Constant nodes left out."""
        return {node.index: node for node in self.nodes}

    @cached_property
    def producers(self) -> dict[str, Node]:
        """The node that computes each tensor."""
        return {name: node for node in self.nodes for name in node.outputs}

    @cached_property
    def captured(self) -> frozenset[str]:
        """Names that subgraphs read."""
        nested = [n for n in self.nodes if any(a.type in _WITH_GRAPHS for a in n.proto.attribute)]
        return frozenset(name for node in nested for name in node.captured())

    @cached_property
    def readers(self) -> dict[str, list[tuple[Node, int]]]:
        """For every tensor name the nodes that read it, with the input's position."""
        table: dict[str, list[tuple[Node, int]]] = {}
        for node in self.nodes:
            for k, name in enumerate(node.inputs):
                table.setdefault(name, []).append((node, k))
        return table


_CONSTANTS = {
    "value_float": TensorProto.FLOAT,
    "value_floats": TensorProto.FLOAT,
    "value_int": TensorProto.INT64,
    "value_ints": TensorProto.INT64,
}


def constant_tensor(node: NodeProto) -> TensorProto | None:
    """The tensor of a Constant node, or None where it is sparse or a string."""
    for attribute in node.attribute:
        if attribute.name == "value":
            return attribute.t
        if attribute.name in _CONSTANTS:
            value = helper.get_attribute_value(attribute)
            scalar = not isinstance(value, list) and np.ndim(value) == 0
            values, dims = ([value], []) if scalar else (list(value), [len(value)])
            return helper.make_tensor(node.output[0], _CONSTANTS[attribute.name], dims, values)
    return None


def dtype_of(tensor: TensorProto) -> np.dtype:
    """The numpy type of a stored tensor."""
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
