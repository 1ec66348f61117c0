"""Parameters and multiply-accumulates of any structure, from counts alone: no model is built."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod

from onnxprune.branches import NOTHING, Dropped
from onnxprune.forms import Atom, Fixed, Form, atoms
from onnxprune.groups import count
from onnxprune.trace import Trace

FLOATING = {1, 10, 11, 16, 17, 18, 19, 20}


@dataclass(frozen=True)
class Cost:
    """Sizes of a network.

    Attributes:
        params: elements of stored floating-point tensors.
        macs: multiply-accumulates of convolutions, matrix products and Einsum for one run on the traced shapes.
    """

    params: int
    macs: int

    def share_of(self, whole: Cost) -> dict[str, float]:
        """Each figure divided by that of `whole`."""
        return {"params": self.params / max(whole.params, 1), "macs": self.macs / max(whole.macs, 1)}


@dataclass(frozen=True)
class Term:
    """`fixed` times the counts of `forms`."""

    fixed: int
    forms: tuple[Form, ...]

    def value(self, kept: Mapping[Atom, int]) -> int:
        """The term when `kept[a]` elements of every atom stay."""
        result = self.fixed
        for form in self.forms:
            result *= count(form, kept)
        return result


def term(forms: Iterable[Form]) -> Term:
    """The product of the counts of all forms."""
    forms = tuple(forms)
    free = tuple(f for f in forms if type(f) is not Fixed and next(atoms(f), None) is not None)
    return Term(prod(f.size for f in forms) // prod(f.size for f in free), free)


def usage(terms: Iterable[Term], kept: Mapping[Atom, int]) -> int:
    """The sum of terms when `kept[a]` elements of every atom stay (all, for atoms it does not name)."""
    return sum(term.value(kept) for term in terms)


def stored_terms(trace: Trace, names: Iterable[str]) -> list[Term]:
    """The parameters in these stored tensors."""
    stored = trace.graph.stored
    floating = (n for n in names if stored[n].data_type in FLOATING)
    shapes = (trace.forms.get(n) or tuple(Fixed(d) for d in stored[n].dims) for n in floating)
    return [term(s) for s in shapes if 0 not in {f.size for f in s}]


class CostModel:
    """The cost of every structure of one network, less dropped branches: a sum of products of counts."""

    def __init__(self, trace: Trace, dropped: Dropped = NOTHING):
        self.params = stored_terms(trace, [n for n in trace.graph.stored if n not in dropped.tensors])
        self.macs = [term(w.forms) for w in trace.work if w.node.index not in dropped.nodes]

    def cost(self, kept: Mapping[Atom, int]) -> Cost:
        """The cost when `kept[a]` elements of every atom stay (all, for atoms it does not name)."""
        return Cost(usage(self.params, kept), usage(self.macs, kept))

    @cached_property
    def _by_atom(self) -> tuple[dict[Atom, list[Term]], dict[Atom, list[Term]]]:
        tables: tuple[dict[Atom, list[Term]], dict[Atom, list[Term]]] = ({}, {})
        for table, terms in zip(tables, (self.params, self.macs), strict=True):
            for term in terms:
                for atom in {a for f in term.forms for a in atoms(f)}:
                    table.setdefault(atom, []).append(term)
        return tables

    def about(self, group: Iterable[Atom]) -> CostModel:
        """The part of the cost that depends on these atoms."""
        part = object.__new__(CostModel)
        wanted = list(group)
        part.params, part.macs = (
            list({id(t): t for a in wanted for t in table.get(a, ())}.values()) for table in self._by_atom
        )
        return part
