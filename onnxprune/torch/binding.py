"""`bind`: an export's analysis mapped back to the parameters and buffers of the module."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from torch import Tensor, nn

from onnxprune.analysis import Analysis, analyze
from onnxprune.cost import FLOATING
from onnxprune.errors import ModelError
from onnxprune.forms import Atom, atoms
from onnxprune.graph import Model
from onnxprune.groups import Group, unit_index
from onnxprune.torch.exporting import EXPORTERS, Example, Mode, distinct, export, on_cpu
from onnxprune.torch.matching import Place, Places, match
from onnxprune.torch.norms import batch_norms, scale_names
from onnxprune.torch.values import with_values


class Lying(NamedTuple):
    """An axis of a parameter or buffer that a group's units lie on.

    Attributes:
        parameter: its name, the first one if it has several.
        axis: its axis.
        units: the unit of every element along the axis, -1 for none: int `(size,)`.
        makes: whether the parameter makes the group's channels there.
    """

    parameter: str
    axis: int
    units: np.ndarray
    makes: bool


@dataclass(frozen=True)
class Binding:
    """A module and its export, side by side.

    Attributes:
        analysis: of the export, with the values that the module had when it was bound; in export modes that fold
            BatchNorms with values of no meaning, unless the export was given.
        places: for every stored tensor that was found, the parameters and buffers that it holds; those with several
            names under the first one.
        unmapped: stored floating-point tensors on channel axes that hold nothing of the module.
        scales: parameters that scale normalised channels.
        example: inputs of the module, on the CPU.
        mode: how to export it.
    """

    analysis: Analysis
    places: Mapping[str, tuple[Place, ...]] = field(repr=False)
    unmapped: tuple[str, ...]
    scales: frozenset[str] = field(repr=False)
    example: Example = field(repr=False)
    mode: Mode

    def __deepcopy__(self, memo: object) -> Binding:
        """Itself: nothing in it ever changes, and networks that are copied hold it."""
        return self

    def lying(self, group: Group) -> Iterator[Lying]:
        """All axes of parameters and buffers that a group lies on, each once."""
        seen = set()
        for member in group.members:
            forms = self.analysis.trace.forms[member.tensor] or ()
            for place in self.places.get(member.tensor, ()):
                axis = place.axes.index(member.axis) if member.axis in place.axes else None
                if axis is not None and (place.parameter, axis) not in seen:
                    seen.add((place.parameter, axis))
                    units = unit_index(forms[member.axis], group.first_units)
                    yield Lying(place.parameter, axis, units, member.makes)

    def scales_of(self, group: Group) -> list[Lying]:
        """The normalisations' scales that a group lies on."""
        return [lying for lying in self.lying(group) if lying.parameter in self.scales]


def bind(
    module: nn.Module, example: Example, *, mode: Mode = "torchscript-preserve", analysis: Analysis | None = None
) -> Binding:
    """Map an export of a module back to its parameters and buffers.

    Without an analysis the module is exported here, with values of its own for every parameter, so that an untrained
    network is mapped as surely as a trained one.

    Args:
        module: is not changed.
        example: inputs of the module.
        mode: of the export (and of those that follow, when the module gets smaller).
        analysis: of an export of this very module, with the values that it has now, in any mode.

    Raises:
        ModelError: the module cannot be exported, no stored tensor of the export is a parameter of it, or one parameter
            is stored several times, with channels that the export does not tie.
    """
    example, first, given = on_cpu(example), _first_names(module), analysis
    own = named_tensors(module)
    if analysis is None:
        module = distinct(module)
        analysis = analyze(Model(export(module, example, mode=mode)))
    graph = analysis.trace.graph
    stored = {name: graph.array(name) for name, t in graph.stored.items() if t.data_type in FLOATING and t.dims}
    state = {name: t for name, t in named_tensors(module).items() if t.is_floating_point() and t.ndim}
    found = match(
        {name: array.astype(np.float32, copy=False) for name, array in stored.items()},
        {name: t.detach().cpu().float().numpy() for name, t in state.items()},
        batch_norms(module),
    )
    if not found:
        raise ModelError("no tensor of the export is a parameter of the module", "export this module, as it is now")
    places = {name: tuple(p._replace(parameter=first[p.parameter]) for p in held) for name, held in found.items()}
    _require_ties(analysis, places)
    unmapped = tuple(name for name in stored if name not in places and _carries(analysis, name))
    scales = frozenset(first.get(name, name) for name in scale_names(module))
    if given is None and EXPORTERS[mode].keeps_names:
        analysis = analyze(with_values(analysis.model, places, own))
    return Binding(analysis, places, unmapped, scales, example, mode)


def named_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, each once, by the first of its names."""
    first = _first_names(module)
    tensors = (*module.named_parameters(), *module.named_buffers())
    return {name: tensor for name, tensor in tensors if first[name] == name}


def tensor_of(module: nn.Module, name: str) -> Tensor:
    """A parameter or buffer."""
    path, _, own = name.rpartition(".")
    return getattr(module.get_submodule(path), own)


def _first_names(module: nn.Module) -> dict[str, str]:
    """For every name of a parameter or buffer the first name of the same tensor."""
    first: dict[int, str] = {}
    tensors = (*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False))
    return {name: first.setdefault(id(tensor), name) for name, tensor in tensors}


def _require_ties(analysis: Analysis, places: Places) -> None:
    """Refuse a parameter that lies on two sets of channels at once: it could not be made smaller."""
    lies: dict[tuple[str, int], tuple[str, list[Atom]]] = {}
    for tensor, held in places.items():
        forms = analysis.trace.forms.get(tensor) or ()
        for place in held:
            for axis, stored in enumerate(place.axes):
                if stored is None or not forms:
                    continue
                own = list(atoms(forms[stored]))
                other, theirs = lies.setdefault((place.parameter, axis), (tensor, own))
                if own != theirs:
                    raise ModelError(
                        f"parameter {place.parameter!r} is stored as {other!r} and as {tensor!r}, with channels on its "
                        f"axis {axis} that are not tied",
                        "bind with mode='torchscript-preserve', which stores it once, or give it values of its own",
                    )


def _carries(analysis: Analysis, tensor: str) -> bool:
    """Whether a group lies on a stored tensor."""
    return any(a in analysis.owner for form in analysis.trace.forms.get(tensor) or () for a in atoms(form))
