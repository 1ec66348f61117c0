"""What a budget can be set on, each a sum of products of counts: of any structure, without building a model.

The four are ChipNet's (Tiwari et al. 2021, arXiv 2102.07156, appendix), but of what physically stays: convolutions
that are coupled share their channels, so that what one of them keeps, all keep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal, get_args

from onnxprune.analysis import Analysis
from onnxprune.branches import NOTHING, Dropped
from onnxprune.cost import CostModel, Term, term, usage
from onnxprune.forms import Atom, Form, atoms, resolve

Resource = Literal["macs", "params", "channels", "volume"]
RESOURCES: tuple[Resource, ...] = get_args(Resource)


def resource_terms(analysis: Analysis, resource: Resource, dropped: Dropped = NOTHING) -> list[Term]:
    """The terms that add up to a resource: multiply-accumulates, parameters, output channels, output elements.

    Of layers (convolutions and matrix products) whose outputs can lose nothing neither channels nor elements count;
    nor do layers that go with dropped branches.
    """
    return list(_TERMS[resource](analysis, dropped))


class Shares:
    """The shares of the whole network's resources that structures take, some branches being dropped or none."""

    def __init__(self, analysis: Analysis, resources: Iterable[Resource], dropped: Dropped = NOTHING):
        whole = {name: resource_terms(analysis, name) for name in resources}
        self._whole = {name: max(usage(terms, {}), 1) for name, terms in whole.items()}
        less = {name: resource_terms(analysis, name, dropped) for name in whole} if dropped.branches else whole
        self._terms = less

    def of(self, kept: Mapping[Atom, int]) -> dict[Resource, float]:
        """By resource, when `kept[a]` elements of every atom stay (all, for atoms it does not name)."""
        return {name: usage(terms, kept) / self._whole[name] for name, terms in self._terms.items()}


def _channels(analysis: Analysis, dropped: Dropped) -> Iterable[Term]:
    makers = {(p.node.index, id(resolve(p.form))) for p in analysis.trace.productions}
    for index, forms in _outputs(analysis, dropped):
        made = [form for form in forms if (index, id(resolve(form))) in makers]
        yield from (term([form]) for form in made[:1])


def _volume(analysis: Analysis, dropped: Dropped) -> Iterable[Term]:
    return (term(forms) for _, forms in _outputs(analysis, dropped))


def _outputs(analysis: Analysis, dropped: Dropped) -> Iterable[tuple[int, tuple[Form, ...]]]:
    """Nodes with weights, and the axes of their outputs, where some channel can go."""
    nodes = {work.node.index: work.node for work in analysis.trace.work if work.node.index not in dropped.nodes}
    for index, node in nodes.items():
        forms = analysis.trace.forms[node.outputs[0]] or ()
        if any(atom in analysis.owner for form in forms for atom in atoms(form)):
            yield index, forms


def _costs(analysis: Analysis, dropped: Dropped) -> CostModel:
    return CostModel(analysis.trace, dropped) if dropped.branches else analysis.costs


_TERMS: Mapping[Resource, Callable[[Analysis, Dropped], Iterable[Term]]] = {
    "macs": lambda analysis, dropped: _costs(analysis, dropped).macs,
    "params": lambda analysis, dropped: _costs(analysis, dropped).params,
    "channels": _channels,
    "volume": _volume,
}
