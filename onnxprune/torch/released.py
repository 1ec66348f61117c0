"""ChipNet as its released code has it, to compare with: gates, budget and threshold are other ones than `chipnet`'s.

Gates are on the output of every BatchNorm, before the activation, so that coupled layers choose for themselves. The
budget counts a layer's outputs by its own gates and its inputs by the largest count of the layers that are coupled
there, which no removal reaches: what is removed in the end is what all of them agree on. And of the thresholds tried
the last one is kept, whether it meets the budget or not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from onnxprune.analysis import Analysis
from onnxprune.cost import Term, term
from onnxprune.errors import ModelError
from onnxprune.forms import Atom, atoms, resolve
from onnxprune.mask import Mask, make_mask
from onnxprune.resources import Resource
from onnxprune.selection import primary_groups
from onnxprune.torch.binding import Binding, named_tensors, tensor_of
from onnxprune.torch.budgets import Polynomial, monomials
from onnxprune.torch.chipnet import INITIAL, Budget, Curves
from onnxprune.torch.consumers import by_group, first_units
from onnxprune.torch.hooks import Hook
from onnxprune.trace import Work

TRIES = 20
"""Thresholds that are tried, each halving the interval."""


class Gate(NamedTuple):
    """The gates of one BatchNorm.

    Attributes:
        scale, shift: names of its parameters; no shift, no name.
        units: the unit of every channel, over all groups one after the other; -1 for none: int `(channels,)`.
    """

    scale: str
    shift: str
    units: np.ndarray


def batch_norm_gates(binding: Binding, module: nn.Module) -> list[Gate]:
    """The BatchNorms that the groups up for pruning pass.

    Raises:
        ModelError: there is none.
    """
    first, _ = first_units(binding.analysis)
    tensors, found = named_tensors(module), dict[str, np.ndarray]()
    for group in primary_groups(binding.analysis):
        for lying in binding.scales_of(group):
            units = found.setdefault(lying.parameter, np.full(len(lying.units), -1))
            np.copyto(units, lying.units + first[group.name], where=lying.units >= 0)
    if not found:
        raise ModelError("none of the groups passes a BatchNorm", "leave out compat='released'")
    shifts = {scale: f"{scale.removesuffix('weight')}bias" for scale in found}
    return [Gate(scale, shifts[scale] if shifts[scale] in tensors else "", units) for scale, units in found.items()]


class KeptShut(Hook):
    """Scales that are zero stay so, and the shifts beside them.

    Args:
        norms: scales of normalisations, each with its shift, if there is one.
    """

    def __init__(self, norms: Sequence[Sequence[Tensor]]):
        self._open = [(tensor, (tensors[0] != 0).to(tensor)) for tensors in norms for tensor in tensors]

    @torch.no_grad()
    def after_step(self) -> None:
        """Put back what the step has moved."""
        for tensor, factor in self._open:
            tensor.mul_(factor.to(tensor.device))


class ReleasedGates(Curves):
    """A module with a gate for every channel of every BatchNorm, on its output."""

    def __init__(self, module: nn.Module, binding: Binding):
        super().__init__()
        self.module, self.binding = module, binding
        self.norms = batch_norm_gates(binding, module)
        units = np.concatenate([gate.units for gate in self.norms])
        device = tensor_of(module, self.norms[0].scale).device
        self.gates = nn.Parameter(torch.empty(len(units), device=device).uniform_(0, INITIAL))
        self.register_buffer("open", torch.from_numpy(units < 0).to(device), persistent=False)
        self._units = units

    def gated(self, values: Tensor) -> dict[str, Tensor]:
        """The BatchNorms' parameters times gates: on scale and shift, they are on the output."""
        parts = values.split([len(gate.units) for gate in self.norms])
        pairs = ((name, part) for gate, part in zip(self.norms, parts, strict=True) for name in gate[:2] if name)
        return {name: tensor_of(self.module, name) * part for name, part in pairs}

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The module's result with gates."""
        return functional_call(self.module, self.gated(self.values()), args, kwargs)

    def usage(self, resource: Resource) -> nn.Module:
        """The published formula, by layers' own counts."""
        return ReleasedUsage(self.binding, self.norms, resource).to(self.gates.device)

    def fine_tuning(self) -> list[Hook]:
        """Psi is frozen: what a shut gate makes zero stays zero, also where coupled layers keep the channel."""
        names = [[name for name in gate[:2] if name] for gate in self.norms]
        return [KeptShut([[tensor_of(self.module, name) for name in each] for each in names])]

    @torch.no_grad()
    def harden(self, budget: Budget, how: Mapping[str, Any]) -> tuple[Mask, Tensor]:
        """The last threshold of a bisection, and the mask of what all coupled layers shut."""
        values, low, high = self.values(), 0.0, 1.0
        hard = torch.ones_like(values)
        for _ in range(TRIES):
            threshold = (low + high) / 2
            hard = (self.open | (values > threshold)).to(values)
            low, high = (threshold, high) if budget.usage(hard) > budget.target else (low, threshold)
        how = {**how, "compat": "released", "target": {budget.resource: budget.target}}
        return make_mask(self.binding.analysis, self._union(values, hard), how), hard

    def _union(self, values: Tensor, hard: Tensor) -> dict[str, np.ndarray]:
        """The units that any layer keeps, by group; the one of the largest gate where there is none."""
        analysis, inside = self.binding.analysis, self._units >= 0
        _, count = first_units(analysis)
        largest, kept = np.zeros(count), np.zeros(count, bool)
        np.maximum.at(largest, self._units[inside], values.cpu().double().numpy()[inside])
        np.logical_or.at(kept, self._units[inside], hard.cpu().numpy()[inside] > 0)
        seen = by_group(analysis, np.isin(np.arange(count), self._units))
        kept_by, largest_by = by_group(analysis, kept), by_group(analysis, largest)
        for name, own in kept_by.items():
            own[largest_by[name].argmax()] |= not own.any()
        return {name: own for name, own in kept_by.items() if seen[name].all()}

    def state_of(self, hard: Tensor) -> dict[str, Tensor]:
        """The module's state, with zeros where a layer is shut and others keep the unit."""
        return super().state_of(hard) | {name: t.detach() for name, t in self.gated(hard).items()}


@dataclass(frozen=True)
class Counts:
    """What counts are made of gates: of every BatchNorm and atom, then of every atom the largest of these.

    Attributes:
        own: the place of the count of a BatchNorm's channels of an atom.
        most: the place of an atom's largest count.
    """

    own: Mapping[tuple[int, Atom], int]
    most: Mapping[Atom, int]

    @staticmethod
    def of(analysis: Analysis, norms: list[Gate]) -> tuple[Counts, np.ndarray]:
        """The counts, and the own one of every gate, -1 for none: int `(gates,)`."""
        first, _ = first_units(analysis)
        starts = [(first[g.name] + unit, atom) for g in analysis.groups for atom, unit in g.first_units.items()]
        starts.sort(key=lambda pair: pair[0])
        own: dict[tuple[int, Atom], int] = {}
        places = []
        for k, gate in enumerate(norms):
            index = np.searchsorted([start for start, _ in starts], gate.units, "right") - 1
            for i in index:
                places.append(own.setdefault((k, starts[i][1]), len(own)) if i >= 0 else -1)
        found = dict.fromkeys(atom for _, atom in own)
        return Counts(own, {atom: len(own) + k for k, atom in enumerate(found)}), np.array(places)


class ReleasedUsage(nn.Module):
    """The share of a resource by the published formulas (appendix of the paper; FLOPs with the additions of biases)."""

    owner: Tensor
    group: Tensor

    def __init__(self, binding: Binding, norms: list[Gate], resource: Resource):
        super().__init__()
        analysis = binding.analysis
        counts, owner = Counts.of(analysis, norms)
        follows = _following(binding, norms)
        sizes = [atom.size for _, atom in counts.own] + [atom.size for atom in counts.most]
        terms = [
            (c, tuple(_place(counts, follows.get(work.node.index), made, atom) for atom in names))
            for work, made, part in _terms(analysis, resource)
            for c, names in monomials(part, counts.most)
        ]
        self.share, self.counts = Polynomial(terms, sizes), (len(counts.own), len(counts.most))
        # Gates that are no unit's are counted where nothing is read.
        self.register_buffer("owner", torch.from_numpy(np.where(owner < 0, len(counts.own), owner)))
        self.register_buffer("group", torch.tensor([counts.most[a] - len(counts.own) for _, a in counts.own]))

    def forward(self, gates: Tensor) -> Tensor:
        """The share at these gates: `(gates,)` to a scalar of their type."""
        owns, atoms_ = self.counts
        own = gates.new_zeros(owns + 1, dtype=torch.float64).index_add(0, self.owner, gates.double())[:-1]
        most = own.new_zeros(atoms_).scatter_reduce(0, self.group, own, "amax", include_self=False)
        return self.share(torch.cat([own, most])).to(gates.dtype)


def _place(counts: Counts, norm: int | None, made: set[Atom], atom: Atom) -> int:
    """The count of an atom in a layer: of what it makes, that of the BatchNorm that follows."""
    own = counts.own.get((norm, atom)) if norm is not None and atom in made else None
    return counts.most[atom] if own is None else own


def _following(binding: Binding, norms: list[Gate]) -> dict[int, int]:
    """For the nodes that a BatchNorm follows at once, by index, which."""
    graph = binding.analysis.trace.graph
    place = {gate.scale: k for k, gate in enumerate(norms)}
    found = {}
    for node in graph.nodes:
        held = [p.parameter for name in node.inputs[1:2] for p in binding.places.get(name, ())]
        before = graph.producers.get(node.inputs[0]) if node.inputs else None
        if node.op == "BatchNormalization" and before is not None and held and held[0] in place:
            found[before.index] = place[held[0]]
    return found


def _terms(analysis: Analysis, resource: Resource) -> Iterator[tuple[Work, set[Atom], Term]]:
    """What every layer has of a resource, and the atoms that it makes."""
    trace = analysis.trace
    for work in trace.work:
        out, weight = (trace.forms[name] or () for name in (work.node.outputs[0], work.node.inputs[1]))
        produced = {id(resolve(p.form)) for p in trace.productions if p.node.index == work.node.index}
        makes = [form for form in out if id(resolve(form)) in produced]
        made = {a for form in makes for a in atoms(form)}
        loses = any(a in analysis.owner for a in made)
        if resource == "macs":
            yield work, made, term(work.forms)
            yield work, made, term(out)
        elif resource == "params":
            yield work, made, term(weight)
        elif loses:
            yield work, made, term(makes[:1] if resource == "channels" else out)
