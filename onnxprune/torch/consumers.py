"""Where a module consumes channels: the axes of parameters that are summed over, and what no parameter consumes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import mul
from typing import NamedTuple, TypeVar

import numpy as np
from torch import Tensor

from onnxprune.analysis import Analysis
from onnxprune.forms import Atom, Form, Product, atoms, expand
from onnxprune.graph import Node
from onnxprune.groups import unit_index
from onnxprune.rules import rule_for
from onnxprune.rules.pattern import parse
from onnxprune.torch.binding import Binding
from onnxprune.trace import Trace

_SAME = {"Identity", "Cast"}
_RESHAPING = {"Reshape", "Flatten", "Squeeze", "Unsqueeze"}
"""Operators through which a zeroed slice of a stored weight stays one; so it does through Transpose."""

T = TypeVar("T", np.ndarray, Tensor)
Marks = list[list[tuple[Atom, bool]]]
"""The atoms of every axis of a tensor, in order, and whether they are consumed there."""


class Consumer(NamedTuple):
    """A parameter that sums over channels along an axis.

    Attributes:
        parameter, axis: where.
        units: those that each element goes with (it goes if any of them goes; two or more where the axis is a product):
            numbers over all groups, one after the other, -1 for none: int `(rows, size)`.
    """

    parameter: str
    axis: int
    units: np.ndarray


@dataclass(frozen=True)
class Consumption:
    """All consumers of a module.

    Attributes:
        consumers: parameters' axes that are summed over.
        open: for the groups that something else consumes, too, such as a product of activations, what.
        first: the number of the first unit of every group.
        units: number of units of all groups.
    """

    consumers: tuple[Consumer, ...]
    open: dict[str, str]
    first: dict[str, int]
    units: int


def consumption(binding: Binding) -> Consumption:
    """Find the consumers of all groups of a module."""
    analysis, trace = binding.analysis, binding.analysis.trace
    consumed: dict[tuple[str, int], set[Atom]] = {}
    unclaimed: dict[str, str] = {}
    for node in {c.node.index: c.node for c in trace.contractions}.values():
        over, claims = _summed(node, analysis)
        claims = {key: claimed for key, claimed in claims.items() if key[0] in binding.places}
        for key, claimed in claims.items():
            consumed.setdefault(key, set()).update(claimed)
        unclaimed |= {analysis.owner[a]: node.label for a in over.difference(*claims.values())}
    first, units = first_units(analysis)
    found = [c for (tensor, axis), of in consumed.items() for c in _consumers(binding, tensor, axis, of, first)]
    return Consumption(tuple({(c.parameter, c.axis): c for c in found}.values()), unclaimed, first, units)


def first_units(analysis: Analysis) -> tuple[dict[str, int], int]:
    """The number of the first unit of every group, all units being counted through, and how many there are."""
    starts = list(accumulate((group.size for group in analysis.groups), initial=0))
    return dict(zip((group.name for group in analysis.groups), starts, strict=False)), starts[-1]


def by_group(analysis: Analysis, values: T) -> dict[str, T]:
    """Values of all units, `(units,)`, apart by group: `(size,)` each."""
    first, _ = first_units(analysis)
    return {group.name: values[first[group.name] : first[group.name] + group.size] for group in analysis.groups}


def _summed(node: Node, analysis: Analysis) -> tuple[set[Atom], dict[tuple[str, int], set[Atom]]]:
    """What a node sums over, and what of it along which axes of stored operands."""
    trace, over = analysis.trace, set[Atom]()
    claims: dict[tuple[str, int], set[Atom]] = {}
    for name, summed in _operands(node, trace):
        forms = trace.forms.get(name) or ()
        marks: Marks | None = [
            [(a, a in within and a in analysis.owner) for a in atoms(form)]
            for form, within in zip(forms, summed, strict=True)
        ]
        over |= {a for within in summed for a in within if a in analysis.owner}
        while marks is not None and name not in trace.graph.stored:
            name, marks = _before(name, marks, trace)
        for axis, marked in enumerate(marks or ()):
            if claimed := {a for a, consumed in marked if consumed}:
                claims[name, axis] = claimed
    return over, claims


def _operands(node: Node, trace: Trace) -> Iterator[tuple[str, list[set[Atom]]]]:
    """A node's operands, each with the atoms of every axis that it sums over."""
    pattern = parse(_pattern(node, trace))
    for name, tokens in zip(node.inputs, pattern.operands, strict=False):
        forms = trace.forms.get(name) or ()
        run = len(forms) - len(tokens) + 1
        names = [own for token in tokens for own in [token.names] * (run if token.many else 1)]
        yield (
            name,
            [
                set() if pattern.contracted.isdisjoint(own) else set(_inside(form, node, own))
                for form, own in zip(forms, names, strict=True)
            ],
        )


def _inside(form: Form, node: Node, names: tuple[str, ...]) -> Iterator[Atom]:
    """The atoms of a contracted axis; of a convolution's (group, channel) those of the channel, as groups pass."""
    outer = node.attribute("group", 1) if len(names) > 1 else 1
    form = expand(form)
    parts = form.parts if isinstance(form, Product) else (form,)
    for part, size in zip(parts, accumulate((part.size for part in parts), mul), strict=True):
        if size > outer:
            yield from atoms(part)


def _pattern(node: Node, trace: Trace) -> str:
    """The pattern that a node is read by."""
    pattern = rule_for(node.domain, node.op).pattern  # type: ignore[union-attr]  # what sums has one
    return pattern if isinstance(pattern, str) else pattern(node, trace)


def _before(name: str, marks: Marks, trace: Trace) -> tuple[str, Marks | None]:
    """The tensor that this one is a layout of, with its marks; None if it is not a mere layout."""
    node = trace.graph.producers.get(name)
    if node is None:
        return name, None
    source = node.inputs[0]
    if node.op in _SAME:
        return source, marks
    if node.op == "Transpose":
        order = node.attribute("perm") or range(len(marks))[::-1]
        return source, [marks[list(order).index(axis)] for axis in range(len(marks))]
    if node.op in _RESHAPING:
        return source, _cut([mark for marked in marks for mark in marked], trace, source)
    return name, None


def _cut(flat: Sequence[tuple[Atom, bool]], trace: Trace, name: str) -> Marks | None:
    """Marks of a tensor of which another one is a reshape: the order of its elements, and so of atoms, is the same."""
    axes = [list(atoms(form)) for form in trace.forms.get(name) or ()]
    if [a for own in axes for a in own] != [a for a, _ in flat]:
        return None
    rest = iter(flat)
    return [[next(rest) for _ in own] for own in axes]


def _consumers(binding: Binding, tensor: str, axis: int, of: set[Atom], first: Mapping[str, int]) -> Iterator[Consumer]:
    form = (binding.analysis.trace.forms[tensor] or ())[axis]
    names, rows = {binding.analysis.owner[a] for a in of}, list[np.ndarray]()
    for group in (g for g in binding.analysis.groups if g.name in names):
        own = unit_index(form, {a: unit + first[group.name] for a, unit in group.first_units.items() if a in of})
        free = next((row for row in rows if (np.minimum(row, own) < 0).all()), None)
        if free is None:
            rows.append(own)
        else:
            np.maximum(free, own, out=free)
    for place in binding.places[tensor]:
        if axis in place.axes:
            yield Consumer(place.parameter, place.axes.index(axis), np.stack(rows))
