"""Sizes written in a graph as integers: what they become, and whether the graph then states them everywhere.

Only constants are ever written. Shape arithmetic is followed back to the constant that was baked into it;
then all of it is evaluated on the pruned sizes, and an axis whose size would come out wrong anywhere is frozen.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from onnxprune.forms import Atom, Form, atoms, fix, is_fixed
from onnxprune.graph import Node
from onnxprune.groups import count
from onnxprune.shapes import OPERATIONS, Edge
from onnxprune.trace import Reason, Repair, Trace
from onnxprune.unify import tie

Counts = Mapping[Atom, int]
Edits = dict[tuple[int, str | int], np.ndarray]

# What arithmetic gives that fails on the new sizes: equal to nothing that is wanted.
IMPOSSIBLE = np.empty((0, 0), np.int64)
PROBES = 3
ROUNDS = 50


def plan_edits(trace: Trace, kept: Counts) -> Edits:
    """New values of attributes (by name) and inputs (by position) of nodes, by node index.

    An input that is computed, though from nothing that varies at run time, becomes a constant where it would
    come out wrong; one that does vary is mended at the constants that it is computed from.
    """
    edits: Edits = {}
    computed, moving = [], []
    for repair in trace.repairs:
        node, slot = repair.node, repair.slot
        if isinstance(slot, str):
            old = np.atleast_1d(np.asarray(node.attribute(slot, 1)))
            _edit(edits, (node.index, slot), old, repair, kept)
        elif node.inputs[slot] in trace.graph.stored:
            _edit(edits, (node.index, slot), trace.graph.array(node.inputs[slot]), repair, kept)
        elif trace.values[node.inputs[slot]].is_static:
            computed.append(repair)
        else:
            moving.append(repair)
    if moving:
        changed = evaluate(trace, kept, {})
        for repair in moving:
            _edit_edges(edits, trace, repair, kept, changed)
    if computed:
        changed = evaluate(trace, kept, edits)
        for repair in computed:
            name = repair.node.inputs[repair.slot]  # type: ignore[index]
            have, old = changed.get(name, trace.values[name].array), trace.values[name].array
            if not np.array_equal(have, _wanted(old, repair, kept)):
                edits[repair.node.index, repair.slot] = _wanted(old, repair, kept)
    return edits


def _wanted(old: np.ndarray, repair: Repair, kept: Counts) -> np.ndarray:
    """The integers that a repair asks for.

    What loses nothing keeps its number as it stands (0, -1, a size known at run time only), but for one counted
    from the end, where something behind it may have gone.
    """
    new = old.copy()
    anything = any(n != atom.size for atom, n in kept.items())
    for k, form in enumerate(repair.wanted):
        if form is not None:
            size = count(form, kept)
            if size != form.size or (anything and old.reshape(-1)[k] < 0):
                new.reshape(-1)[k] = size
    return new


def _edit(edits: Edits, key: tuple[int, str | int], old: np.ndarray, repair: Repair, kept: Counts) -> None:
    new = _wanted(edits.get(key, old), repair, kept)
    if not np.array_equal(new, old):
        edits[key] = new


def _edit_edges(edits: Edits, trace: Trace, repair: Repair, kept: Counts, changed: Mapping[str, np.ndarray]) -> None:
    """Mend single elements at the constants, or the values known for one structure, that they are moved from."""
    value = trace.values[repair.node.inputs[repair.slot]]  # type: ignore[index]
    if value.edges is None:
        return
    for form, edge in zip(repair.wanted, value.edges.flat, strict=True):
        if form is None or edge is None:
            continue
        name = trace.graph.nodes_by_index[edge.node].inputs[edge.operand]
        key = (edge.node, edge.operand)
        now = changed.get(name, trace.values[name].array)
        new = edits.get(key, now).copy()
        if new.reshape(-1)[edge.position] != count(form, kept):
            new.reshape(-1)[edge.position] = count(form, kept)
            edits[key] = new


def evaluate(trace: Trace, kept: Counts, edits: Edits) -> dict[str, np.ndarray]:
    """Shape values that differ from the original's once sizes and constants have changed."""
    changed: dict[str, np.ndarray] = {}
    edited = {index for index, _ in edits}
    for node in trace.evaluated:
        if (
            node.index not in trace.size_dependent
            and node.index not in edited
            and changed.keys().isdisjoint(node.inputs)
        ):
            continue
        arrays = [_operand(trace, node, k, changed, edits) for k in range(len(node.inputs))]
        if all(a is None for a in arrays) and node.op not in ("Shape", "Size"):
            continue
        if node.op in ("Shape", "Size"):
            arrays = [_sizes(trace, node.inputs[0], kept, changed)]
        else:
            arrays = [trace.values[n].array if a is None else a for a, n in zip(arrays, node.inputs, strict=True)]
        try:
            with np.errstate(all="ignore"):
                array = np.asarray(OPERATIONS[node.op](node, arrays))
        except (ArithmeticError, IndexError, ValueError):
            array = IMPOSSIBLE
        if not np.array_equal(array, trace.values[node.outputs[0]].array):
            changed[node.outputs[0]] = array
    return changed


def _operand(trace: Trace, node: Node, k: int, changed: Mapping[str, np.ndarray], edits: Edits) -> np.ndarray | None:
    edited = edits.get((node.index, k))
    return changed.get(node.inputs[k]) if edited is None else edited


def _sizes(trace: Trace, name: str, kept: Counts, changed: Mapping[str, np.ndarray]) -> np.ndarray:
    if name in changed:
        return np.array(changed[name].shape, np.int64)
    if name in trace.values and name not in trace.graph.stored:
        return np.array(trace.values[name].array.shape, np.int64)
    return np.array([count(f, kept) for f in trace.axes(name)], np.int64)


class Mismatch(NamedTuple):
    """A node that would read a wrong size.

    Attributes:
        node: the node.
        wanted: axes whose size it would be wrong about.
        behind: axes that its sizes are computed from, or share a constant with.
    """

    node: Node
    wanted: tuple[Form, ...]
    behind: tuple[Form, ...]

    @property
    def to_freeze(self) -> tuple[Form, ...]:
        """The axes to freeze next: what a size is computed from, which may serve other sizes, only as a last resort."""
        return self.behind if all(map(is_fixed, self.wanted)) else self.wanted


def mismatches(trace: Trace, kept: Counts, edits: Edits) -> list[Mismatch]:
    """Nodes that would read a wrong size, with the axes that make it wrong."""
    changed = evaluate(trace, kept, edits)
    covered = set()
    wrong = [
        Mismatch(node, (), _behind(trace, name))
        for node in trace.evaluated
        if changed.get(name := node.outputs[0]) is IMPOSSIBLE
    ]
    for repair in trace.repairs:
        if isinstance(repair.slot, str) or repair.node.inputs[repair.slot] in trace.graph.stored:
            continue
        name = repair.node.inputs[repair.slot]
        covered.add((repair.node.index, repair.slot))
        if (repair.node.index, repair.slot) in edits:
            continue
        have, old = changed.get(name, trace.values[name].array), trace.values[name].array
        same_shape = have.shape == old.shape
        bad = np.flatnonzero(have != _wanted(old, repair, kept)) if same_shape else np.arange(old.size)
        if bad.size:
            wanted = tuple(f for k in bad if (f := repair.wanted[k]) is not None)
            wrong.append(Mismatch(repair.node, wanted, _behind(trace, name)))
    computed = {node.index for node in trace.evaluated}
    for name in changed:
        for node, operand in trace.graph.readers.get(name, ()):
            if node.index not in computed and (node.index, operand) not in covered:
                wrong.append(Mismatch(node, (), _behind(trace, name)))
    return wrong


def _behind(trace: Trace, name: str) -> tuple[Form, ...]:
    return (*trace.values[name].forms, *_edited_forms(trace, name))


def _edited_forms(trace: Trace, name: str) -> list[Form]:
    """Axes whose repair rewrites a constant that `name` is computed from."""
    edges = trace.values[name].edges
    touched = set() if edges is None else {(e.node, e.operand) for e in edges.flat if e is not None}
    forms = []
    for repair in trace.repairs:
        value = trace.values.get(repair.node.input(repair.slot)) if isinstance(repair.slot, int) else None
        if value is None or value.edges is None:
            continue
        for form, edge in zip(repair.wanted, value.edges.flat, strict=True):
            if form is not None and edge is not None and (not touched or (edge.node, edge.operand) in touched):
                forms.append(form)
    return forms


def settle(trace: Trace) -> None:
    """Freeze axes whose sizes the graph could not state after pruning: tried on random counts of every axis.

    The counts are polynomials in the numbers of kept units, so a few random points tell equal from unequal
    (Schwartz and Zippel); `apply` checks the very counts of its mask again.
    """
    indirect = [r for r in trace.repairs if isinstance(r.slot, int) and r.node.inputs[r.slot] not in trace.graph.stored]
    if not indirect and not any(node.op in ("Shape", "Size") for node in trace.evaluated):
        return
    _tie_shared(indirect, trace)
    chance = random.Random(0)
    quiet = 0
    for _ in range(ROUNDS):
        free = {a for axes in trace.forms.values() for f in axes or () for a in atoms(f)}
        kept = {a: chance.randint(1, a.size) for a in sorted(free, key=lambda a: a.serial)}
        wrong = mismatches(trace, kept, plan_edits(trace, kept))
        quiet = 0 if wrong else quiet + 1
        if quiet == PROBES:
            return
        for node, form in [(m.node, form) for m in wrong for form in m.to_freeze]:
            _freeze(form, node)
    for repair in indirect:
        for wanted in repair.wanted:
            if wanted is not None:
                _freeze(wanted, repair.node)


def _freeze(form: Form, node: Node) -> None:
    if not is_fixed(form):
        fix(form, Reason(node.op, node.label, "computes its size in a way that would not follow"))


def _tie_shared(indirect: list[Repair], trace: Trace) -> None:
    """One constant that states the size of several axes keeps them equally wide: they lose the same units."""
    stated: dict[Edge, Form] = {}
    for repair in indirect:
        value = trace.values[repair.node.inputs[repair.slot]]  # type: ignore[index]
        if value.is_static or value.edges is None:
            continue
        for form, edge in zip(repair.wanted, value.edges.flat, strict=True):
            if form is not None and edge is not None and stated.setdefault(edge, form).size == form.size:
                tie(stated[edge], form)
