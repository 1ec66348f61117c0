"""Whose time it is: the operators that onnxruntime runs, told by the nodes of the model as it was exported.

Fusion hides the names of nodes, but not those of tensors: what an operator of the optimised graph makes is called as in
the original, or its own name says so (`<tensor>_nchwc`). So an operator stands for the original nodes between the
tensors that it reads and those that it makes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto

from onnxprune.analysis import Analysis
from onnxprune.cost import Term, term, usage
from onnxprune.forms import Atom
from onnxprune.graph import Node
from onnxprune.latency.parts import LAYOUT
from onnxprune.latency.profile import Kernel, name_of, profile
from onnxprune.latency.segments import Segment, channel_atoms
from onnxprune.latency.statistic import middle

BLOCKED = ("_bn_nchwc", "_nchwc")
"""Suffixes that onnxruntime gives to the output's name to name a node in its blocked layout."""
CAST = "InsertedPrecisionFreeCast_"
IN_PLACE = 2.0
"""Seconds for which a whole model is profiled."""


@dataclass(frozen=True)
class Part:
    """Original nodes that run as one, and what they take.

    Attributes:
        nodes: their labels, the layer among them first; none for what could not be attributed.
        op: what runs them.
        seconds: of one run: the median.
        groups: channel groups on their tensors, each with its share of the time; they sum to 1, or there are none.
    """

    nodes: tuple[str, ...]
    op: str
    seconds: float
    groups: Mapping[str, float]


@dataclass(frozen=True)
class GroupTime:
    """What a channel group has to do with a model's time.

    Attributes:
        seconds: its share of every part that its channels pass. Those of all groups, and what passes none, sum to the
            whole time.
        touched: those parts whole: no pruning of this group saves more than that. A part that several groups pass
            counts for each of them, so these do not sum to anything.
    """

    seconds: float
    touched: float


@dataclass(frozen=True)
class Attribution:
    """Where the time of a model goes.

    Attributes:
        parts: in the order in which they run.
    """

    parts: tuple[Part, ...]

    @property
    def seconds(self) -> float:
        """All operators together."""
        return sum(part.seconds for part in self.parts)

    @property
    def attributed(self) -> float:
        """The share of it that belongs to original nodes."""
        return sum(part.seconds for part in self.parts if part.nodes) / max(self.seconds, 1e-12)

    def by_group(self) -> dict[str, GroupTime]:
        """The time of every channel group.

        A part's time is shared by what would go with each group: its multiply-accumulates if it has some, else the
        elements that it makes. A convolution's all go with the group that it reads, and all with the one that it makes,
        so each gets half; of what a Concat makes, each group's own channels go with it.
        """
        found: dict[str, GroupTime] = {}
        for part in self.parts:
            for name, share in part.groups.items():
                before = found.get(name, GroupTime(0.0, 0.0))
                found[name] = GroupTime(before.seconds + share * part.seconds, before.touched + part.seconds)
        return found

    @property
    def ungrouped(self) -> float:
        """Seconds of what passes no channel group, or could not be attributed."""
        return sum(part.seconds for part in self.parts if not part.groups)


def attribute(analysis: Analysis, threads: int = 0, seconds: float = 1.0) -> Attribution:
    """Profile a model and tell whose time it is.

    Args:
        analysis: of the model.
        threads: of an operator; 0 leaves it to onnxruntime.
        seconds: for how long it is run.

    Raises:
        ModelError: it does not run.
    """
    owners, merged = Owners(analysis), dict[tuple[int, ...], list[Kernel]]()
    for kernel in profile(analysis.model, threads, analysis.sizes, seconds):
        merged.setdefault(owners.of(kernel.node), []).append(kernel)
    return Attribution(tuple(_part(owners, *row) for row in merged.items()))


def in_place(analysis: Analysis, segments: Sequence[Segment], alone: np.ndarray, threads: int = 0) -> np.ndarray:
    """What segments take where they stand, in the whole model: with its fusions, layouts and caches.

    An operator that stands for nodes of several is shared by what these take alone, and one that stands for none by
    nobody.

    Args:
        analysis: of the model.
        segments: of it.
        alone: seconds that each takes by itself: float `(segments,)`.
        threads: of an operator; 0 leaves it to onnxruntime.

    Returns:
        Seconds: float `(segments,)`.

    Raises:
        ModelError: the model does not run.
    """
    owners, found = Owners(analysis), np.zeros(len(segments))
    places = {node.index: number for number, segment in enumerate(segments) for node in segment.nodes}
    for kernel in profile(analysis.model, threads, analysis.sizes, IN_PLACE):
        own = sorted({places[index] for index in owners.of(kernel.node) if index in places})
        shares = alone[own] if alone[own].sum() else np.ones(len(own))
        found[own] += middle(kernel.seconds) * shares / max(shares.sum(), 1e-12)
    return found


def _part(owners: Owners, nodes: tuple[int, ...], kernels: list[Kernel]) -> Part:
    spent = float(np.median(np.sum([kernel.seconds for kernel in kernels], 0)))
    main = max(kernels, key=lambda kernel: float(np.median(kernel.seconds)))
    return Part(owners.labels(nodes), main.op, spent, owners.groups(nodes))


class Owners:
    """Which nodes of the original an operator of the optimised graph stands for.

    Every node is given to the first operator that needs it.
    """

    def __init__(self, analysis: Analysis):
        self._analysis = analysis
        graph = analysis.trace.graph
        constants = set(graph.constant_nodes.values())
        places = [k for k in range(len(graph.model.proto.graph.node)) if k not in constants]
        self._named = {name_of(place): node for place, node in zip(places, graph.nodes, strict=True)}
        self._layers = {work.node.index for work in analysis.trace.work}
        self._producers = {name: node for name, node in graph.producers.items() if name}
        self._nodes = {node.index: node for node in graph.nodes}
        self._taken: dict[int, tuple[int, ...]] = {}

    def of(self, node: NodeProto) -> tuple[int, ...]:
        """Indices of the nodes, the layer first; none if nothing tells."""
        if node.op_type in LAYOUT:  # belongs to who made the tensor, under whatever name
            made = self._made([*node.output, *node.input])
            return next((self._taken[one.index] for one in made if one.index in self._taken), ())
        if not (ends := self._made(self._tensors(node))):
            return ()
        inside = self._between(ends, set(map(_plain, node.input)))
        ordered = sorted(inside, key=lambda one: (one.index not in self._layers, one.index))
        indices = tuple(one.index for one in ordered)
        self._taken.update(dict.fromkeys(indices, indices))
        return indices

    def labels(self, indices: Iterable[int]) -> tuple[str, ...]:
        """Their labels."""
        return tuple(self._nodes[index].label for index in indices)

    def groups(self, indices: Sequence[int]) -> dict[str, float]:
        """The channel groups on the tensors of some nodes, with their shares (see `Attribution.by_group`)."""
        passing: dict[str, list[Atom]] = {}
        for atom in channel_atoms(self._analysis, [self._nodes[index] for index in indices]):
            passing.setdefault(self._analysis.owner[atom], []).append(atom)
        sizes = self._sizes(indices)
        gone = {name: usage(sizes, {}) - usage(sizes, dict.fromkeys(members, 0)) for name, members in passing.items()}
        # Of a part that makes none of the channels that it reads (a mean over all of them, say) nothing goes with any.
        whole = sum(gone.values())
        return {name: lost / whole if whole else 1 / len(gone) for name, lost in gone.items()}

    def _sizes(self, indices: Iterable[int]) -> list[Term]:
        """The multiply-accumulates of some nodes, or the elements that they make."""
        trace, inside = self._analysis.trace, set(indices)
        work = [term(work.forms) for work in trace.work if work.node.index in inside]
        made = (name for index in inside for name in self._nodes[index].outputs if name)
        return work or [term(forms) for name in made if (forms := trace.forms.get(name))]

    def _made(self, names: Iterable[str]) -> list[Node]:
        """The original nodes that make tensors."""
        return [self._producers[name] for name in map(_plain, names) if name in self._producers]

    def _tensors(self, node: NodeProto) -> list[str]:
        """What it makes, by the original's names, as far as they can be told."""
        if self._made(node.output):
            return list(node.output)
        for suffix in BLOCKED:
            if (name := node.name.removesuffix(suffix)) != node.name and name in self._producers:
                return [name]
        original = self._named.get(node.name.partition("/")[0])  # a fusion's name begins with one of its nodes'
        return list(original.outputs) if original else []

    def _between(self, ends: Iterable[Node], read: set[str]) -> list[Node]:
        """The nodes that lead to `ends` from what is read, or from what others stand for."""
        found, pending = dict[int, Node](), list(ends)
        while pending:
            node = pending.pop()
            if node.index in found or node.index in self._taken:
                continue
            found[node.index] = node
            pending += [self._producers[n] for n in node.inputs if n in self._producers and n not in read]
        return list(found.values())


def _plain(name: str) -> str:
    """A tensor's name without what onnxruntime puts before those that it casts."""
    return name.removeprefix(CAST)
