"""From coupled axes to channel groups: units that may be removed, where each unit lies, and why others may not."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np

from onnxprune.forms import Atom, Fixed, Form, Product, Sum, atoms, fix, fixed_parts, flat_parts, is_fixed, resolve
from onnxprune.graph import Node
from onnxprune.trace import Trace

Kept = Mapping[Atom, np.ndarray]


class Member(NamedTuple):
    """An axis of a stored tensor that a group's units lie on.

    Attributes:
        tensor: the stored tensor.
        axis: its axis.
        size: number of elements of the axis.
        multiplicity: elements of the axis that one unit takes with it.
        makes: whether the tensor makes the group's channels here (it is consumed or carried along otherwise).
    """

    tensor: str
    axis: int
    size: int
    multiplicity: int
    makes: bool


@dataclass(frozen=True, slots=True)
class Group:
    """Units that are tied one to one over all the tensors they lie on.

    Attributes:
        name: the first tensor that makes them.
        size: number of units.
        members: the stored axes they lie on.
        producers, consumers: names of the nodes that make and that contract them.
        atoms: the variables the units are made of.
    """

    name: str
    size: int
    members: tuple[Member, ...]
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    atoms: tuple[Atom, ...] = field(repr=False)

    def counts(self, stay: np.ndarray) -> dict[Atom, int]:
        """Elements of every atom that stay when these units do: bool `(size,)`."""
        return {atom: int(stay[start : start + atom.size].sum()) for atom, start in self.first_units.items()}

    @property
    def first_units(self) -> dict[Atom, int]:
        """The number of the first unit of every atom."""
        if len(self.atoms) == 1:
            return {self.atoms[0]: 0}
        return dict(zip(self.atoms, accumulate((a.size for a in self.atoms[:-1]), initial=0), strict=True))


@dataclass(frozen=True, slots=True)
class FrozenAxis:
    """What can not be removed from an axis of a stored tensor, and the reason.

    Attributes:
        tensor, axis, size: the axis and its number of elements.
        frozen: how many elements of it are frozen, or the size of a frozen factor of it.
        reason: who froze it, in words.
    """

    tensor: str
    axis: int
    size: int
    frozen: int
    reason: str


def count(form: Form, kept: Mapping[Atom, int]) -> int:
    """Number of elements of an axis that stay when `kept[a]` elements of every atom stay."""
    form = resolve(form)
    if type(form) is Fixed:
        return form.size
    if type(form) is Atom:
        return kept.get(form, form.size)
    if isinstance(form, Sum):
        return sum([count(p, kept) for p in flat_parts(form)])
    result = 1
    for part in flat_parts(form):  # type: ignore[arg-type]
        result *= count(part, kept)
    return result


def keep_mask(form: Form, kept: Kept) -> np.ndarray:
    """Which elements of an axis stay: bool of shape `(size,)`. An element goes iff any of its factors goes."""
    form = resolve(form)
    if type(form) is Fixed:
        return np.ones(form.size, bool)
    if type(form) is Atom:
        mask = kept.get(form)
        return np.ones(form.size, bool) if mask is None else mask
    masks = [keep_mask(p, kept) for p in flat_parts(form)]  # type: ignore[arg-type]
    if isinstance(form, Sum):
        return np.concatenate(masks)
    result = masks[0]
    for mask in masks[1:]:
        result = (result[:, None] & mask).ravel()
    return result


def kept_numbers(kept: Kept) -> dict[Atom, np.ndarray]:
    """Of every atom that loses elements, the numbers of those that stay, ascending."""
    if not kept:
        return {}
    starts = np.cumsum([0, *map(len, kept.values())])
    flat = np.flatnonzero(np.concatenate(list(kept.values())))
    ends = np.searchsorted(flat, starts)
    flat -= np.repeat(starts[:-1], np.diff(ends))
    bounds = pairwise(ends.tolist())
    return {
        atom: flat[start:stop] for atom, (start, stop) in zip(kept, bounds, strict=True) if stop - start < atom.size
    }


def unit_index(form: Form, first_unit: Mapping[Atom, int]) -> np.ndarray:
    """The unit that each element of an axis belongs to: int of shape `(size,)`, -1 for none.

    `first_unit` gives the number of the first unit of every atom of the group.
    """
    form = resolve(form)
    if type(form) is Atom and form in first_unit:
        return np.arange(first_unit[form], first_unit[form] + form.size)
    if type(form) is Fixed or type(form) is Atom:
        return np.full(form.size, -1)
    parts = [unit_index(p, first_unit) for p in flat_parts(form)]  # type: ignore[arg-type]
    if isinstance(form, Sum):
        return np.concatenate(parts)
    result = parts[0]
    for part in parts[1:]:
        result = np.maximum(result[:, None], part).ravel()
    return result


def find_groups(trace: Trace) -> list[Group]:
    """All groups with more than one unit, in the order in which the graph makes them."""
    where = _places(trace)
    groups: dict[frozenset[tuple[int, int]], list[Atom]] = {}
    for atom, places in where.items():
        groups.setdefault(frozenset(places.items()), []).append(atom)
    for lonely in groups.values():
        if _units(lonely) == 1:
            fix(lonely[0], "all that it is tied to is a single unit")
    lists = [tuple(group) for group in groups.values() if _units(group) > 1]
    return _describe(trace, lists, where)


def _units(group: Sequence[Atom]) -> int:
    return group[0].size if len(group) == 1 else sum(a.size for a in group)


def occurrences(form: Form) -> Iterator[tuple[Atom, int]]:
    """The free atoms of a form, each with the number of elements that one of its units takes along there."""
    stack = [(form, 1)]
    while stack:
        top, times = stack.pop()
        top = resolve(top)
        if type(top) is Atom:
            yield top, times
        elif isinstance(top, Sum):
            stack.extend((p, times) for p in reversed(top.parts))
        elif isinstance(top, Product):
            stack.extend((p, times * top.size // p.size) for p in reversed(top.parts))


def _places(trace: Trace) -> dict[Atom, dict[int, int]]:
    """For every free atom the distinct forms it occurs in, and how often: atoms that agree are one group."""
    forms = {id(root): root for root in map(resolve, trace.free_forms)}
    where: dict[Atom, dict[int, int]] = {}
    for key, form in forms.items():
        for atom, times in ((form, 1),) if type(form) is Atom else occurrences(form):
            places = where.setdefault(atom, {})
            places[key] = places.get(key, 0) + times
    return where


def _describe(trace: Trace, lists: list[tuple[Atom, ...]], where: Mapping[Atom, Mapping[int, int]]) -> list[Group]:
    owner = {atom: k for k, group in enumerate(lists) for atom in group}
    made = _by_group(owner, [p.form for p in trace.productions], trace.productions)
    used = _by_group(owner, [c.form for c in trace.contractions], trace.contractions)
    stored = {name: forms for name in trace.graph.stored if (forms := trace.forms.get(name))}
    axes = [(name, axis, f) for name, forms in stored.items() for axis, f in enumerate(forms) if type(f) is not Fixed]
    lying = _by_group(owner, [f for *_, f in axes], axes)
    first = {name: node.index for node in reversed(trace.graph.nodes) for name in node.inputs}
    drafts = []
    for k, group in enumerate(lists):
        makers = made.get(k, [])
        times = where[group[0]]
        members = tuple(
            [
                Member(name, axis, form.size, times[id(resolve(form))], _makes(makers, name, form, group))
                for name, axis, form in lying.get(k, ())
            ]
        )
        producers, consumers = _labels(makers), _labels(used.get(k, []))
        starts = [p.node.index for p in makers] + [first.get(m.tensor, 1 << 60) for m in members]
        drafts.append((min(starts, default=0), _stem(makers, members), members, producers, consumers, group))
    drafts.sort(key=lambda d: d[0])
    return _name(drafts)


def _name(drafts: list) -> list[Group]:
    names = numbered([d[1] for d in drafts])
    return [
        Group(name, _units(group), members, producers, consumers, group)
        for name, (_, _, members, producers, consumers, group) in zip(names, drafts, strict=True)
    ]


def numbered(stems: Sequence[str]) -> list[str]:
    """Names that are each given once: `[a, b, a] -> [a:0, b, a:1]`."""
    times, seen = Counter(stems), Counter[str]()
    names = []
    for stem in stems:
        names.append(f"{stem}:{seen[stem]}" if times[stem] > 1 else stem)
        seen[stem] += 1
    return names


def _by_group(owner: Mapping[Atom, int], forms: Sequence[Form], items: Sequence) -> dict[int, list]:
    """Items by the groups that lie on their forms."""
    table: dict[int, list] = defaultdict(list)
    for root, item in zip(map(resolve, forms), items, strict=True):
        if type(root) is Atom:
            if root in owner:
                table[owner[root]].append(item)
        else:
            for k in {owner[a] for a in atoms(root) if a in owner}:
                table[k].append(item)
    return table


def _makes(productions: list, tensor: str, form: Form, group: tuple[Atom, ...]) -> bool:
    """Whether this axis of `tensor` is one that it makes channels on, not one that it consumes."""
    for production in productions:
        made = production.form
        if production.tensor == tensor and (made is form or not _apart(made, form, group)):
            return True
    return False


def _apart(made: Form, form: Form, group: tuple[Atom, ...]) -> bool:
    """Whether two forms share no atom of the group."""
    return set(atoms(form)).intersection(group).isdisjoint(atoms(made))


def _labels(items: list) -> tuple[str, ...]:
    """The nodes of productions or contractions, each once."""
    return (items[0].node.label,) if len(items) == 1 else tuple(dict.fromkeys([item.node.label for item in items]))


def _stem(made: list, members: tuple[Member, ...]) -> str:
    if made:
        production = made[0] if len(made) == 1 else min(made, key=lambda p: p.node.index)
        return stem_of(production.tensor, production.node)
    return members[0].tensor if members else "activation"


def stem_of(tensor: str, node: Node) -> str:
    """What a layer is called: as its weight is, unless the exporter made that name up, else as its node."""
    stem = tensor.removesuffix(".weight").removesuffix(".bias")
    if stem.startswith(("onnx::", "_v_")) and (named := node.proto.name):
        return named.strip("/").replace("/", ".")
    return stem


def frozen_axes(trace: Trace) -> Iterator[FrozenAxis]:
    """Stored axes of more than one element that are frozen, or that have frozen parts or factors."""
    for name in trace.graph.stored:
        for axis, form in enumerate(trace.forms.get(name) or ()):
            if form.size <= 1 or type(form := resolve(form)) is Atom:
                continue
            parts = [(p.size, p.reason) for p in fixed_parts(form) if p.size > 1]
            if is_fixed(form):
                parts = [(form.size, next((r for _, r in parts if r is not None), "no operator reads it as channels"))]
            for size, reason in parts:
                if reason is not None:
                    yield FrozenAxis(name, axis, form.size, size, str(reason))
