"""A model in segments: a layer with what runtimes fuse into it, each cut out as a model of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx
from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto, helper

from onnxprune.analysis import Analysis
from onnxprune.cost import FLOATING
from onnxprune.forms import Atom, Form, atoms, resolve
from onnxprune.graph import Graph, Model, Node
from onnxprune.groups import count

FLOAT = onnx.TensorProto.FLOAT


@dataclass(frozen=True)
class Segment:
    """Nodes in a row.

    Attributes:
        nodes: in the graph's order; the first may be a layer, the others are none.
        forms: of the axes of their tensors, those that hold channels of groups only, each once, in the graph's order.
    """

    nodes: tuple[Node, ...]
    forms: tuple[Form, ...]

    @property
    def name(self) -> str:
        """Of its first node."""
        return self.nodes[0].label

    @property
    def outputs(self) -> frozenset[str]:
        """Tensors that its nodes make."""
        return frozenset(name for node in self.nodes for name in node.outputs if name)

    def sizes(self, kept: Mapping[Atom, int]) -> tuple[int, ...]:
        """Of its forms, when `kept[a]` elements of every atom stay."""
        return tuple(count(form, kept) for form in self.forms)


def find_segments(analysis: Analysis) -> tuple[Segment, ...]:
    """All nodes in segments.

    A node joins the segment of the last of those that it reads from, if that ends there and nobody else reads from it,
    unless the node is a layer (has multiply-accumulates of its own). Shape arithmetic, which takes no time to speak of,
    is left out.
    """
    trace, graph = analysis.trace, analysis.trace.graph
    layers, evaluated = {work.node.index for work in trace.work}, {node.index for node in trace.evaluated}
    readers = _readers(graph)
    rows: list[list[Node]] = []
    places: dict[str, int] = {}
    for node in (node for node in graph.nodes if node.index not in evaluated):
        makers = [places[name] for name in node.inputs if name in places]
        place = max(makers, default=-1)
        last = rows[place][-1] if makers else None
        if last is None or node.index in layers or not _ends_in(last, node, readers):
            place = len(rows)
            rows.append([])
        rows[place].append(node)
        places.update((name, place) for name in node.outputs if name)
    return tuple(Segment(tuple(row), _channel_forms(analysis, row)) for row in rows)


def _ends_in(last: Node, node: Node, readers: Mapping[str, int]) -> bool:
    """Whether all that `last` makes is read by `node` alone."""
    return all(name in node.inputs and readers[name] == 1 for name in last.outputs if name)


def _readers(graph: Graph) -> dict[str, int]:
    """How many nodes read a tensor; an output of the graph is read once more."""
    counts: dict[str, int] = {}
    for node in graph.nodes:
        for name in {*filter(None, node.inputs), *node.captured()}:
            counts[name] = counts.get(name, 0) + 1
    for value in graph.model.proto.graph.output:
        counts[value.name] = counts.get(value.name, 0) + 1
    return {name: counts.get(name, 0) for node in graph.nodes for name in node.outputs}


def _axes(analysis: Analysis, nodes: Iterable[Node]) -> Iterator[Form]:
    """Forms of the axes of all that some nodes read and make."""
    names = dict.fromkeys(name for node in nodes for name in (*node.inputs, *node.outputs))
    return (resolve(form) for name in names for form in analysis.trace.forms.get(name) or ())


def _channel_forms(analysis: Analysis, nodes: Iterable[Node]) -> tuple[Form, ...]:
    """Those of them that hold channels of groups, each once."""
    found = {id(form): form for form in _axes(analysis, nodes)}
    return tuple(form for form in found.values() if any(atom in analysis.owner for atom in atoms(form)))


def channel_atoms(analysis: Analysis, nodes: Iterable[Node]) -> tuple[Atom, ...]:
    """Atoms of channel groups on the axes of all that some nodes read and make."""
    found = dict.fromkeys(atom for form in _axes(analysis, nodes) for atom in atoms(form))
    return tuple(atom for atom in found if atom in analysis.owner)


class Cutter:
    """Cuts segments out of pruned models.

    Args:
        analysis: of the original.
    """

    def __init__(self, analysis: Analysis):
        self._analysis = analysis
        whole = onnx.shape_inference.infer_shapes(analysis.model.proto).graph
        values = (*whole.value_info, *whole.input, *whole.output)
        self._kinds = {value.name: value.type.tensor_type.elem_type for value in values}
        graph = analysis.trace.graph
        self._known = {*graph.stored, *graph.constant_nodes, *(value.name for value in graph.inputs)}
        self._known.update(name for node in graph.nodes for name in node.outputs)
        self._arithmetic = {name: node for node in analysis.trace.evaluated for name in node.outputs}

    def cut(self, pruned: Model, segment: Segment, kept: Mapping[Atom, int]) -> Model:
        """The segment of a pruned model as a model of its own: what it does not make itself are its inputs.

        Args:
            pruned: the original less some channels.
            segment: of the original.
            kept: how many elements of every atom the pruned model has.
        """
        graph = pruned.proto.graph
        made = segment.outputs | self._arithmetic_for(segment.nodes)
        nodes = [node for node in graph.node if made.intersection(node.output)]
        read = dict.fromkeys(name for node in nodes for name in self._read(node))
        stored = [tensor for tensor in graph.initializer if tensor.name in read]
        constants = [node for node in graph.node if node.op_type == "Constant" and node.output[0] in read]
        own = {*made, *(tensor.name for tensor in stored), *(node.output[0] for node in constants)}
        part = GraphProto(name="segment", node=[*constants, *nodes], initializer=stored)
        part.input.extend(self._input(name, kept) for name in read if name not in own)
        part.output.extend(ValueInfoProto(name=name) for name in sorted(self._ends(segment)))
        proto = ModelProto(ir_version=pruned.proto.ir_version, opset_import=pruned.proto.opset_import, graph=part)
        arrays = {name: array for name, array in pruned.arrays.items() if name in read}
        return Model(proto, pruned.path, arrays, pruned.mapped)

    def kind(self, segment: Segment) -> str:
        """A hash of what a segment computes: segments of one kind take as long where their forms have one size.

        Operators, attributes, wiring, types and fixed sizes count, and the content of stored tensors of whole numbers;
        names and weights do not.
        """
        numbers: dict[str, int] = {}
        places = {id(form): f"f{k}" for k, form in enumerate(segment.forms)}
        found = hashlib.sha256(str(self._analysis.trace.graph.opset).encode())
        for node in segment.nodes:
            for text in (node.domain, node.op, *sorted(map(repr, node.signature))):
                found.update(f"{text};".encode())
            for name in (*node.inputs, "", *node.outputs):
                found.update(f"{numbers.setdefault(name, len(numbers))}{self._described(name, places)};".encode())
        return found.hexdigest()[:16]

    def _described(self, name: str, places: Mapping[int, str]) -> str:
        """A tensor's type, its axes, and its content if it holds whole numbers."""
        graph = self._analysis.trace.graph
        axes = [places.get(id(resolve(form)), str(form.size)) for form in self._analysis.trace.forms.get(name) or ()]
        stored = graph.stored.get(name)
        if stored is None:
            return f"{self._kinds.get(name)}{axes}"
        content = "" if stored.data_type in FLOATING else hashlib.sha256(graph.array(name).tobytes()).hexdigest()
        return f"{stored.data_type}{axes}{content}"

    def _read(self, proto: NodeProto) -> Iterator[str]:
        """What a node reads, and what its branches read of the graph around."""
        yield from filter(None, proto.input)
        yield from (name for name in Node(0, proto).captured() if name in self._known)

    def _arithmetic_for(self, nodes: Sequence[Node]) -> set[str]:
        """Outputs of the shape arithmetic that these nodes read from."""
        found, pending = set[str](), [name for node in nodes for name in node.inputs]
        while pending:
            name = pending.pop()
            if name in self._arithmetic and name not in found:
                found.update(self._arithmetic[name].outputs)
                pending += self._arithmetic[name].inputs
        return found

    def _input(self, name: str, kept: Mapping[Atom, int]) -> ValueInfoProto:
        forms = self._analysis.trace.axes(name)
        return helper.make_tensor_value_info(name, self._kinds.get(name) or FLOAT, [count(f, kept) for f in forms])

    def _ends(self, segment: Segment) -> set[str]:
        """What others read of it, or nobody."""
        graph = self._analysis.trace.graph
        inside = {name for node in segment.nodes for name in node.inputs}
        own = {node.index for node in segment.nodes}
        others = [node for node in graph.nodes if node.index not in own]
        outside = {name for node in others for name in (*node.inputs, *node.captured())}
        outside |= {value.name for value in graph.model.proto.graph.output}
        return {name for name in segment.outputs if name in outside or name not in inside}
