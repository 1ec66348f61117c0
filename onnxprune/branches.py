"""Residual branches: the f of every sum x + f(x), which can be dropped whole so that x goes on alone.

With the branch's operand multiplied by zero the sum is x, whatever f computes: that is the reference of a dropped
branch, as zeros at the consumers are that of a removed channel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from onnxprune.graph import Graph, Node
from onnxprune.groups import numbered, stem_of
from onnxprune.trace import Trace


@dataclass(frozen=True, slots=True)
class Branch:
    """The f of a sum x + f(x).

    Attributes:
        name: that of its last layer, as groups are named.
        node: the index of the Add.
        operand: which of its two inputs is the branch.
    """

    name: str
    node: int
    operand: int


@dataclass(frozen=True)
class Dropped:
    """Branches that are dropped together, and what goes with them.

    Attributes:
        branches: as they were given.
        nodes: indices of the nodes that nothing reads any more; of an Add only where what it computes goes, too.
        tensors: names of the stored tensors that nothing reads any more.
    """

    branches: tuple[Branch, ...] = ()
    nodes: frozenset[int] = frozenset()
    tensors: frozenset[str] = frozenset()


NOTHING = Dropped()


def find_branches(trace: Trace) -> tuple[Branch, ...]:
    """All residual branches that have a layer, in the graph's order.

    An Add has one where both operands have the same shape and all that one of them is computed from is the other one,
    stored tensors and sizes. With a projection beside it neither is computed from the other, and nothing can go.
    """
    layers = {work.node.index for work in trace.work}
    found = []
    for node in trace.graph.nodes:
        if node.op != "Add" or not (sides := _sides(node, trace)):
            continue
        branch = Branch("", node.index, node.inputs.index(sides[1]))
        inner = _between(*sides, trace)
        if layers.intersection(inner) and (own := layers.intersection(inner, drop(trace.graph, [branch]).nodes)):
            found.append((inner[max(own)], branch))
    names = numbered([_name(last, trace) for last, _ in found])
    return tuple(replace(branch, name=name) for name, (_, branch) in zip(names, found, strict=True))


def _sides(node: Node, trace: Trace) -> tuple[str, str] | None:
    """The operand of an Add that is computed first, and the other one, if they are data of the same shape."""
    shapes = [trace.forms.get(name) for name in node.inputs]
    same = all(shapes) and len({tuple(f.size for f in shape or ()) for shape in shapes}) == 1
    if not same or any(name in trace.roots for name in node.inputs) or len(set(node.inputs)) == 1:
        return None
    first, second = sorted(node.inputs, key=lambda name: _place(name, trace.graph))
    return first, second


def _place(name: str, graph: Graph) -> int:
    producer = graph.producers.get(name)
    return -1 if producer is None else producer.index


def _between(source: str, branch: str, trace: Trace) -> dict[int, Node]:
    """The nodes that `branch` is computed by from `source`; none where something else goes in."""
    producers, first = trace.graph.producers, _place(source, trace.graph)
    inside: dict[int, Node] = {}
    pending, seen, meets = [branch], {source}, False
    while pending:
        name = pending.pop()
        meets = meets or name == source
        if name in seen or name in trace.roots or name in trace.values or not name:
            continue
        node = producers.get(name)
        # What is computed before `source` cannot come from it.
        if node is None or node.index < first:
            return {}
        seen.add(name)
        if node.index not in inside:
            inside[node.index] = node
            pending += [*node.inputs, *(n for n in node.captured() if n in producers or n in trace.forms)]
    return inside if meets else {}


def _name(last: Node, trace: Trace) -> str:
    """What a branch is called whose last layer this is."""
    stored = [trace.roots[name] for name in last.inputs if name in trace.roots]
    return stem_of(stored[0], last) if stored else last.label


def drop(graph: Graph, branches: Iterable[Branch]) -> Dropped:
    """What goes when these branches are dropped: all that only they read, by counting readers down."""
    branches = tuple(branches)
    cut = {branch.node: branch for branch in branches}
    nodes, tensors, less = set[int](), set[str](), Counter[str]()
    pending = [graph.nodes_by_index[b.node].inputs[b.operand] for b in cut.values()]
    while pending:
        name = pending.pop()
        less[name] += 1
        if _uses(graph, name) > less[name]:
            continue
        node = graph.producers.get(name)
        if name in graph.stored:
            tensors.add(name)
        elif node is not None and all(_uses(graph, n) == less[n] for n in node.outputs if n):
            nodes.add(node.index)
            given_up = cut[node.index].operand if node.index in cut else None
            pending += [n for k, n in enumerate(node.inputs) if n and k != given_up]
    return Dropped(branches, frozenset(nodes), frozenset(tensors))


def _uses(graph: Graph, name: str) -> int:
    """Readers of a tensor; subgraphs and the model's user are one each."""
    return len(graph.readers.get(name, ())) + (name in graph.outputs) + (name in graph.captured)


# What gives zeros for zeros, in any place of the graph.
_KEEPS_ZERO = {"Abs", "Cast", "Dropout", "Flatten", "Gelu", "GlobalAveragePool", "Identity", "LeakyRelu", "Neg", "Relu"}
_KEEPS_ZERO |= {"Reshape", "Slice", "Squeeze", "Tanh", "Transpose", "Unsqueeze"}


def zero_sums(trace: Trace) -> tuple[Branch, ...]:
    """Sums of some x and of something of its shape that is zero whatever comes in: a stored zero is a factor of it."""
    zeros = set[str]()
    found = []
    for node in trace.graph.nodes:
        zero = [name in zeros or _is_zero(name, trace.graph) for name in node.inputs]
        if (node.op == "Mul" and any(zero)) or (node.op in _KEEPS_ZERO and zero and zero[0]):
            zeros.update(node.outputs)
        elif node.op == "Add" and _sides(node, trace) and True in zero:
            found.append(Branch(node.label, node.index, zero.index(True)))
    return tuple(found)


def _is_zero(name: str, graph: Graph) -> bool:
    array = graph.small_array(name, 1)
    return array is not None and array.dtype.kind == "f" and not array.any()


def bypassed(graph: Graph, dropped: Dropped) -> dict[str, str]:
    """For the output of every Add that is bypassed the tensor that goes on in its place.

    Names that the model's user or a subgraph reads are not among them: there the Add becomes an Identity.
    """
    ahead: dict[str, str] = {}
    for branch in sorted(dropped.branches, key=lambda b: b.node):
        node = graph.nodes_by_index[branch.node]
        source, result = node.inputs[1 - branch.operand], node.outputs[0]
        if node.index not in dropped.nodes and result not in graph.outputs and result not in graph.captured:
            ahead[result] = ahead.get(source, source)
    return ahead
