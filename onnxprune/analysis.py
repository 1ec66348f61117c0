"""`analyze`: everything that is known of a model's channels, before anything is chosen."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, count

from onnxprune.branches import Branch, drop, find_branches
from onnxprune.collector import no_collection
from onnxprune.cost import Cost, CostModel, Term, stored_terms, term, usage
from onnxprune.coupling import couple
from onnxprune.folding import fold_constants
from onnxprune.forms import Atom, Product, Sum, atoms, expand, resolve
from onnxprune.graph import Graph, Model, Node
from onnxprune.groups import FrozenAxis, Group, find_groups, frozen_axes
from onnxprune.repair import settle
from onnxprune.trace import Trace


@dataclass(frozen=True)
class Analysis:
    """Channel groups of a model and why its other axes are frozen.

    Attributes:
        model: what was analyzed: the original, but for folded constants.
        original: the model that was given.
        groups: what may be removed, in the graph's order.
        frozen: stored axes that stay whole, with reasons.
        sizes: the sizes that symbolic dimensions stood for.
    """

    model: Model = field(repr=False)
    trace: Trace = field(repr=False)
    groups: tuple[Group, ...]
    frozen: tuple[FrozenAxis, ...]
    sizes: Mapping[str, int]
    original: Model = field(repr=False)

    @property
    def folded(self) -> tuple[str, ...]:
        """Stored tensors of `model` that the original computes from others (see `folding`)."""
        if self.model is self.original:
            return ()
        stored = {tensor.name for tensor in self.original.proto.graph.initializer}
        return tuple(t.name for t in self.model.proto.graph.initializer if t.name not in stored)

    @cached_property
    def branches(self) -> tuple[Branch, ...]:
        """Residual branches that can be dropped whole, in the graph's order."""
        return find_branches(self.trace)

    @cached_property
    def costs(self) -> CostModel:
        """Params and MACs as functions of how much is kept."""
        return CostModel(self.trace)

    @cached_property
    def cost(self) -> Cost:
        """Params and MACs of the whole model."""
        return self.costs.cost({})

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the model's structure: operators, their wiring and the shapes of weights, not their names."""
        return _fingerprint(self.trace.graph)

    def unit_cost(self, group: Group) -> Cost:
        """What the removal of one unit saves, everything else whole."""
        part = self.costs.about(group.atoms)
        whole, less = part.cost({}), part.cost({group.atoms[0]: group.atoms[0].size - 1})
        return Cost(whole.params - less.params, whole.macs - less.macs)

    def removable(self, group: Group) -> Cost:
        """What the removal of all units but one saves, everything else whole."""
        part = self.costs.about(group.atoms)
        kept = dict.fromkeys(group.atoms, 0) | {group.atoms[0]: 1}
        whole, less = part.cost({}), part.cost(kept)
        return Cost(whole.params - less.params, whole.macs - less.macs)

    def branch_cost(self, branch: Branch) -> Cost:
        """What the dropping of a branch saves, everything else whole."""
        gone = drop(self.trace.graph, [branch])
        work = chain.from_iterable(self._work.get(index, ()) for index in gone.nodes)
        return Cost(usage(stored_terms(self.trace, gone.tensors), {}), usage(work, {}))

    @cached_property
    def _work(self) -> dict[int, list[Term]]:
        """The multiply-accumulates of every node, by index."""
        table: dict[int, list[Term]] = {}
        for work in self.trace.work:
            table.setdefault(work.node.index, []).append(term(work.forms))
        return table

    @cached_property
    def owner(self) -> dict[Atom, str]:
        """The group of every atom."""
        return {atom: group.name for group in self.groups for atom in group.atoms}

    def groups_on(self, tensor: str) -> set[str]:
        """Names of the groups that lie on a tensor's axes."""
        forms = self.trace.forms.get(tensor) or ()
        return {self.owner[a] for f in forms for a in atoms(f) if a in self.owner}

    def shared_axes(self) -> Iterator[list[frozenset[str]]]:
        """Axes that are products of groups: for each factor, outermost first, the groups it is made of."""
        for factors in products_of(self.trace):
            named = [frozenset(self.owner[a] for a in factor if a in self.owner) for factor in factors]
            named = [n for n in named if n]
            if len(named) > 1:
                yield named

    @cached_property
    def convolution_groups(self) -> frozenset[str]:
        """Groups whose units are whole groups of a grouped convolution, of more than one channel each."""
        stated = (r for r in self.trace.repairs if r.slot == "group" and not self._is_depthwise(r.node))
        inside = {a for r in stated for f in r.wanted if f for a in atoms(f)}
        return frozenset(g.name for g in self.groups if inside.intersection(g.atoms))

    def _is_depthwise(self, node: Node) -> bool:
        """Whether every group of a convolution reads one channel, however many it makes."""
        return self.trace.shape(node.inputs[0])[1] == node.attribute("group", 1)


@no_collection()
def analyze(model: Model, *, sizes: Mapping[str, int] | None = None, fold: bool = False) -> Analysis:
    """Find the channel groups of a model.

    Args:
        model: a model from `load`.
        sizes: sizes of symbolic dimensions by name (`{"batch": 1}`); `*` is for all others.
        fold: store what constant branches compute that no slice passes through (see `folding`), so that it can be
            pruned; the pruned model has the result in place of the branch.

    >>> analysis = analyze(load("models/zoo/resnet11_cifar10.onnx"))
    >>> [group.name for group in analysis.groups]
    """
    graph = Graph(model)
    folded = fold_constants(graph) if fold else model
    trace = couple(graph if folded is model else Graph(folded), sizes)
    settle(trace)
    groups, frozen = tuple(find_groups(trace)), tuple(frozen_axes(trace))
    return Analysis(folded, trace, groups, frozen, dict(sizes or {}), model)


def products_of(trace: Trace) -> Iterator[list[list[Atom]]]:
    """Distinct products among all axes: for each factor, outermost first, its atoms."""
    roots = {id(root): root for form in trace.free_forms if type(root := resolve(form)) in (Product, Sum)}
    stack = [expand(root) for root in roots.values()]
    while stack:
        form = stack.pop()
        if isinstance(form, Product):
            yield [list(atoms(p)) for p in form.parts]
        if isinstance(form, Product | Sum):
            stack.extend(form.parts)


def _fingerprint(graph: Graph) -> str:
    texts = {shape: f"w{list(shape)}" for shape in set(graph.shapes.values())}
    known = {name: texts[shape] for name, shape in graph.shapes.items()}
    numbers = count()
    known |= {value.name: str(next(numbers)) for value in graph.inputs}
    calls = []
    for node in graph.nodes:
        calls.append(f"{node.domain}.{node.op}({','.join([known.get(n, '-') for n in node.inputs])});")
        for name in filter(None, node.outputs):
            known[name] = str(next(numbers))
    return hashlib.sha256("".join(calls).encode()).hexdigest()
