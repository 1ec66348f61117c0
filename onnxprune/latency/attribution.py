"""Whose time it is: the operators that onnxruntime runs, told by the nodes of the model as it was exported.

Fusion hides the names of nodes, but not those of tensors: what an operator of the optimised graph makes is called as in
the original, or its own name says so (`<tensor>_nchwc`). So an operator stands for the original nodes between the
tensors that it reads and those that it makes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import NodeProto

from onnxprune.analysis import Analysis
from onnxprune.forms import atoms
from onnxprune.graph import Node
from onnxprune.latency.profile import Kernel, profile
from onnxprune.latency.table import LAYOUT

BLOCKED = ("_bn_nchwc", "_nchwc")
"""Suffixes that onnxruntime gives to the output's name to name a node in its blocked layout."""
FUSIONS = "Fusion/"


@dataclass(frozen=True)
class Part:
    """Original nodes that run as one, and what they take.

    Attributes:
        nodes: their labels, the layer among them first; none for what could not be attributed.
        op: what runs them.
        seconds: of one run: the median.
        groups: channel groups on their tensors.
    """

    nodes: tuple[str, ...]
    op: str
    seconds: float
    groups: tuple[str, ...]


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

    def by_group(self) -> dict[str, float]:
        """Seconds of what a group's channels pass; parts that several groups pass count for each."""
        found: dict[str, float] = {}
        for part in self.parts:
            for group in part.groups:
                found[group] = found.get(group, 0.0) + part.seconds
        return found


def attribute(analysis: Analysis, threads: int = 0, seconds: float = 1.0) -> Attribution:
    """Profile a model and tell whose time it is.

    Args:
        analysis: of the model.
        threads: of an operator; 0 leaves it to onnxruntime.
        seconds: for how long it is run.

    Raises:
        ModelError: it does not run.
    """
    with TemporaryDirectory() as folder:
        optimized = Path(folder) / "optimized.onnx"
        kernels = profile(analysis.original, threads, analysis.sizes, seconds, optimized)
        graph = onnx.load(optimized, load_external_data=False).graph
    owners = Owners(analysis)
    merged: dict[tuple[str, ...], list[Kernel]] = {}
    for kernel, node in _matched(kernels, graph.node):
        merged.setdefault(owners.of(node), []).append(kernel)
    return Attribution(tuple(_part(analysis, owners, *row) for row in merged.items()))


def _part(analysis: Analysis, owners: Owners, nodes: tuple[str, ...], kernels: list[Kernel]) -> Part:
    spent = float(np.median(np.sum([kernel.seconds for kernel in kernels], 0)))
    main = max(kernels, key=lambda kernel: float(np.median(kernel.seconds)))
    return Part(nodes, main.op, spent, owners.groups(nodes))


def _matched(kernels: Iterable[Kernel], nodes: Iterable[NodeProto]) -> Iterator[tuple[Kernel, NodeProto | None]]:
    """The node of every kernel; names that occur twice are taken in order."""
    known: dict[str, list[NodeProto]] = {}
    for node in nodes:
        known.setdefault(node.name, []).append(node)
    for kernel in kernels:
        found = known.get(kernel.name)
        yield kernel, (found.pop(0) if len(found) > 1 else found[0]) if found else None


class Owners:
    """Which nodes of the original an operator of the optimised graph stands for.

    Every node is given to the first operator that needs it.
    """

    def __init__(self, analysis: Analysis):
        self._analysis = analysis
        graph = analysis.trace.graph
        self._labels = {node.label: node for node in graph.nodes}
        self._layers = {work.node.index for work in analysis.trace.work}
        self._taken: dict[int, tuple[str, ...]] = {}

    def of(self, node: NodeProto | None) -> tuple[str, ...]:
        """Labels of the nodes, the layer first; none if nothing tells."""
        if node is None:
            return ()
        if node.op_type in LAYOUT:  # belongs to who made the tensor, under whatever name
            return next((self._taken[n.index] for n in self._made([*node.output, *node.input]) if self._has(n)), ())
        ends = self._made(self._tensors(node))
        if not ends:
            return ()
        inside = self._between(ends, set(node.input))
        for one in inside:
            self._taken.setdefault(one.index, ())
        ordered = sorted(inside, key=lambda one: (one.index not in self._layers, one.index))
        labels = tuple(one.label for one in ordered)
        self._taken.update((one.index, labels) for one in inside)
        return labels

    def groups(self, labels: Iterable[str]) -> tuple[str, ...]:
        """The channel groups on the tensors of some nodes."""
        forms, owner = self._analysis.trace.forms, self._analysis.owner
        nodes = [self._labels[label] for label in labels]
        axes = [form for node in nodes for name in (*node.inputs, *node.outputs) for form in forms.get(name) or ()]
        return tuple(dict.fromkeys(owner[atom] for form in axes for atom in atoms(form) if atom in owner))

    def _has(self, node: Node) -> bool:
        return node.index in self._taken

    def _made(self, names: Iterable[str]) -> list[Node]:
        """The original nodes that make tensors."""
        producers: Mapping[str, Node] = self._analysis.trace.graph.producers
        return [producers[name] for name in names if name in producers]

    def _tensors(self, node: NodeProto) -> list[str]:
        """What it makes, by the original's names, as far as they can be told."""
        producers = self._analysis.trace.graph.producers
        own = [name for name in node.output if name in producers]
        if own:
            return own
        for suffix in BLOCKED:
            if (name := node.name.removesuffix(suffix)) != node.name and name in producers:
                return [name]
        label, _, rest = node.name.rpartition("/")[0].rpartition("/")
        if rest.endswith(FUSIONS.removesuffix("/")) and label in self._labels:
            return [name for name in self._labels[label].outputs if name]
        return [name for name in self._labels[node.name].outputs if name] if node.name in self._labels else []

    def _between(self, ends: Iterable[Node], read: set[str]) -> list[Node]:
        """The nodes that lead to `ends` from what is read, or from what others stand for."""
        producers = self._analysis.trace.graph.producers
        found, pending = dict[int, Node](), list(ends)
        while pending:
            node = pending.pop()
            if node.index in found or self._has(node):
                continue
            found[node.index] = node
            pending += [producers[name] for name in node.inputs if name in producers and name not in read]
        return list(found.values())
