"""What a budget can be set on, each a sum of products of counts: of any structure, without building a model.

The four are ChipNet's (Tiwari et al. 2021, arXiv 2102.07156, appendix), but of what physically stays: convolutions
that are coupled share their channels, so that what one of them keeps, all keep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal, get_args

from onnxprune.analysis import Analysis
from onnxprune.cost import Term, term, usage
from onnxprune.forms import Atom, Form, atoms, resolve

Resource = Literal["macs", "params", "channels", "volume"]
RESOURCES: tuple[Resource, ...] = get_args(Resource)


def resource_terms(analysis: Analysis, resource: Resource) -> list[Term]:
    """The terms that add up to a resource: multiply-accumulates, parameters, output channels, output elements.

    Of layers (convolutions and matrix products) whose outputs can lose nothing neither channels nor elements count.
    """
    return list(_TERMS[resource](analysis))


class Shares:
    """The shares of the whole network's resources that structures take."""

    def __init__(self, analysis: Analysis, resources: Iterable[Resource]):
        self._terms = {name: resource_terms(analysis, name) for name in resources}
        self._whole = {name: max(usage(terms, {}), 1) for name, terms in self._terms.items()}

    def of(self, kept: Mapping[Atom, int]) -> dict[Resource, float]:
        """By resource, when `kept[a]` elements of every atom stay (all, for atoms it does not name)."""
        return {name: usage(terms, kept) / self._whole[name] for name, terms in self._terms.items()}


def _channels(analysis: Analysis) -> Iterable[Term]:
    makers = {(p.node.index, id(resolve(p.form))) for p in analysis.trace.productions}
    for index, forms in _outputs(analysis):
        made = [form for form in forms if (index, id(resolve(form))) in makers]
        yield from (term([form]) for form in made[:1])


def _volume(analysis: Analysis) -> Iterable[Term]:
    return (term(forms) for _, forms in _outputs(analysis))


def _outputs(analysis: Analysis) -> Iterable[tuple[int, tuple[Form, ...]]]:
    """Nodes with weights, and the axes of their outputs, where some channel can go."""
    nodes = {work.node.index: work.node for work in analysis.trace.work}
    for index, node in nodes.items():
        forms = analysis.trace.forms[node.outputs[0]] or ()
        if any(atom in analysis.owner for form in forms for atom in atoms(form)):
            yield index, forms


_TERMS: Mapping[Resource, Callable[[Analysis], Iterable[Term]]] = {
    "macs": lambda analysis: analysis.costs.macs,
    "params": lambda analysis: analysis.costs.params,
    "channels": _channels,
    "volume": _volume,
}
