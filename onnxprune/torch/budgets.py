"""What a structure costs, as a differentiable function of gates.

A resource is a polynomial in the numbers of kept units, `sum of coefficient * product of counts`; a count is the sum of
gates. Coupled convolutions share one group, so their channels are counted as the union that really stays; the released
ChipNet takes the largest of the branches' own counts, which no removal reaches.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from math import prod

import numpy as np
import torch
from torch import Tensor, nn

from onnxprune.analysis import Analysis
from onnxprune.cost import Term
from onnxprune.forms import Atom, Fixed, Form, Product, Sum, resolve
from onnxprune.resources import Resource, resource_terms

Monomial = tuple[int, tuple[Atom, ...]]


class Polynomial(nn.Module):
    """A sum of products of counts, as a share of what it is when nothing is removed.

    Attributes:
        whole: the sum then.
    """

    coefficients: Tensor
    factors: Tensor

    def __init__(self, terms: Sequence[tuple[int, tuple[int, ...]]], sizes: Sequence[int]):
        """`terms`: a coefficient and the places of its factors; `sizes`: the counts when nothing is removed."""
        super().__init__()
        degree = max((len(places) for _, places in terms), default=1)
        # The place after the last count holds a one.
        table = [[*places, *[len(sizes)] * (degree - len(places))] for _, places in terms]
        self.whole = sum(c * prod(sizes[k] for k in places) for c, places in terms)
        self.register_buffer("coefficients", torch.tensor([c / self.whole for c, _ in terms], dtype=torch.float64))
        self.register_buffer("factors", torch.tensor(table, dtype=torch.long).reshape(len(terms), degree))

    def forward(self, counts: Tensor) -> Tensor:
        """The share at these counts: float64 `(counts,)` to a scalar."""
        return (self.coefficients * torch.cat([counts, counts.new_ones(1)])[self.factors].prod(1)).sum()


class Usage(nn.Module):
    """The share of a resource that is in use."""

    owner: Tensor

    def __init__(self, analysis: Analysis, resource: Resource):
        super().__init__()
        atoms = [atom for group in analysis.groups for atom in group.atoms]
        place = {atom: k for k, atom in enumerate(atoms)}
        terms = _combined(m for term in resource_terms(analysis, resource) for m in monomials(term, place))
        self.share = Polynomial([(c, tuple(place[a] for a in names)) for c, names in terms], [a.size for a in atoms])
        self.register_buffer("owner", torch.from_numpy(np.repeat(np.arange(len(atoms)), [a.size for a in atoms])))
        self.atoms = len(atoms)

    def forward(self, gates: Tensor) -> Tensor:
        """The share of the whole cost at these gates: `(units,)`, of all groups in order, to a scalar of their type.

        At gates of zeros and ones it is exact (but for rounding in double precision).
        """
        counts = gates.new_zeros(self.atoms, dtype=torch.float64).index_add(0, self.owner, gates.double())
        return self.share(counts).to(gates.dtype)


def monomials(term: Term, free: Container[Atom]) -> list[Monomial]:
    """A product of forms as a sum of products of atoms; atoms that no group owns stay whole."""
    result: list[Monomial] = [(term.fixed, ())]
    for form in term.forms:
        parts = list(_of_form(form, free))
        result = [(a * b, x + y) for a, x in result for b, y in parts]
    return result


def _of_form(form: Form, free: Container[Atom]) -> Iterator[Monomial]:
    form = resolve(form)
    if isinstance(form, Sum):
        for part in form.parts:
            yield from _of_form(part, free)
    elif isinstance(form, Product):
        yield from monomials(Term(1, tuple(form.parts)), free)
    elif isinstance(form, Fixed) or form not in free:
        yield form.size, ()
    else:
        yield 1, (form,)


def _combined(monomials: Iterable[Monomial]) -> list[Monomial]:
    """Like ones added up."""
    table: dict[frozenset[tuple[Atom, int]], Monomial] = {}
    for coefficient, names in monomials:
        key = frozenset((a, names.count(a)) for a in names)
        table[key] = (coefficient + table.get(key, (0, ()))[0], names)
    return list(table.values())
