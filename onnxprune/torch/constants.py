"""Exact folding of the constants that removed channels leave behind.

A channel whose BatchNorm scale is 0 still emits a constant, `act(bias)`. The masked reference takes it away, which
changes the network; moving it into the next BatchNorm's mean is right only where nothing is padded. Here one channel,
a *carrier*, stays in place of many. It is constant as well, and padded like those that go, so with

    W[:, carrier] += sum over the removed c of a_c / a_carrier * W[:, c]

a layer computes what it did, at borders too (METHODS, section 3). `a` is what this very layer receives: measured, not
derived. What is 0 everywhere needs no carrier, and layers share carriers, across groups too, so that few units stay.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from onnxprune.errors import ModelError
from onnxprune.mask import Mask, fit_mask, make_mask, removed_units
from onnxprune.torch.binding import Binding
from onnxprune.torch.consumers import consumption
from onnxprune.torch.exporting import tensors_in
from onnxprune.torch.gates import Gated
from onnxprune.torch.trials import difference

TOLERANCE = 1e-5  # the largest difference that folding may make, relative to the output's range
STILL = 1e-9  # what counts as constant, and as zero, relative to all that a layer receives (in double precision)
WEAK = 0.1  # a carrier emits at least this share of the largest constant there, so that weights stay small
BATCH = 4
Layers = dict[str, np.ndarray]
"""By a layer's name the units of its inputs, as in `Consumer`: `(rows, groups of the convolution, inputs of one)`."""
Intakes = dict[str, tuple[np.ndarray, np.ndarray]]
"""By a layer's name the unit with which an input goes (else -1) and its constant (else 0): `(groups of the convolution,
inputs of one)`. NaN stands for what is not constant, infinity for what goes with another group's unit, too."""


@dataclass(frozen=True)
class Folding:
    """What was folded.

    Attributes:
        mask: the mask with the carriers kept; in groups of `left` as it was.
        carriers: by group, the units that stay for this.
        left: by group, why its constants could not be folded: there the mask still changes the network.
    """

    mask: Mask
    carriers: dict[str, tuple[int, ...]]
    left: dict[str, str]


@torch.no_grad()
def fold_constants(module: nn.Module, binding: Binding, mask: Mask) -> Folding:
    """Make a removal exact, in place: scales of removed units become 0, their constants move to a few carriers.

    What removed units emit beyond a constant is lost, so their scales should be near 0 before. Afterwards the module
    computes the same with and without what the result's mask removes, but for the groups in `left`.

    Raises:
        MaskError: the mask is for another network, or empties a group.
        ModelError: folding would change more than the scales do, or cannot be tried; the module is unchanged.
    """
    fit_mask(binding.analysis, mask)
    groups, exact = binding.analysis.groups, copy.deepcopy(module).cpu().double().eval()
    owners = np.array([group.name for group in groups for _ in range(group.size)], object)
    removed = removed_units(mask)
    layers, left = _survey(exact, binding, owners)
    faults: dict[str, str] | None = None
    while faults != {}:
        left |= faults or {}
        going = removed & ~np.isin(owners, list(left))
        silent = _silenced(exact, binding, owners, going)
        intakes = _intakes(silent, binding, layers, removed, going)
        carriers, faults = _carriers(intakes, owners)
    stays = np.isin(np.arange(len(owners)), carriers)
    kept = {group.name: ~(removed & ~stays)[owners == group.name] for group in groups}
    gated, wanted = Gated(silent, binding), _outputs(silent, binding, 1)
    gated.set_mask(make_mask(binding.analysis, {name: k for name, k in kept.items() if name not in left}, {}))
    for name, (units, values) in intakes.items():
        _merge(silent.get_submodule(name), units, values, stays)
    _take_over(module, gated, wanted)
    by_group = {name: tuple(np.flatnonzero(stays[owners == name]).tolist()) for name in owners[stays]}
    left = {name: left[name] for name in owners[removed] if name in left}
    return Folding(make_mask(binding.analysis, kept, mask.provenance, mask.branches), by_group, left)


def _survey(module: nn.Module, binding: Binding, owners: np.ndarray) -> tuple[Layers, dict[str, str]]:
    """The layers that consume channels, and why some groups cannot be folded at all."""
    used, layers = consumption(binding), {}
    left = {g.name: "no normalisation scales it" for g in binding.analysis.groups if not binding.scales_of(g)}
    left |= {name: f"{node!r} consumes it without a parameter of its own" for name, node in used.open.items()}
    for parameter, axis, units in used.consumers:
        path, _, own = parameter.rpartition(".")
        part: Any = module.get_submodule(path)
        transposed, count = isinstance(part, _ConvTransposeNd), getattr(part, "groups", 1)
        if own == "weight" and isinstance(part, nn.Linear | _ConvNd) and axis == (not transposed):
            layers[path] = (units if transposed else np.tile(units, count)).reshape(len(units), count, -1)
        else:
            why = f"{parameter!r} consumes it, which is not the weight of a convolution or linear layer"
            left |= dict.fromkeys(owners[units[units >= 0]].tolist(), why)
    return layers, left


def _silenced(module: nn.Module, binding: Binding, owners: np.ndarray, going: np.ndarray) -> nn.Module:
    """A copy in which the scales of the units that go are 0."""
    silent = copy.deepcopy(module)
    for group in binding.analysis.groups:
        own = np.append(going[owners == group.name], False)
        for scale in binding.scales_of(group) if own.any() else ():
            silent.get_parameter(scale.parameter)[torch.from_numpy(own[scale.units])] = 0
    return silent


def _outputs(module: nn.Module, binding: Binding, seed: int) -> list[Tensor]:
    """What a module makes of random inputs: numbers as normal floats, integers drawn from the example's."""
    example, generator = binding.example, torch.Generator().manual_seed(seed)

    def draw(x: Tensor) -> Tensor:
        shape = (BATCH, *x.shape[1:])
        if not x.is_floating_point():
            return x.flatten()[torch.randint(x.numel(), shape, generator=generator)]
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    try:
        return tensors_in(module(*map(draw, example if isinstance(example, tuple) else (example,))))
    except RuntimeError as error:
        what = f"constants cannot be measured in double precision: {str(error).splitlines()[0]}"
        raise ModelError(what, "`forward` must not state types of numbers; or prune unfolded") from error


def _intakes(module: nn.Module, binding: Binding, layers: Layers, removed: np.ndarray, going: np.ndarray) -> Intakes:
    """What layers receive, in all calls, from the units that go, which are some of the removed ones."""
    ends: dict[Any, Tensor] = {}

    def look(part: Any, args: tuple[Tensor, ...]) -> None:
        x = args[0].movedim(1 - part.weight.ndim, 0).flatten(1)
        new = torch.stack([x.amax(1), -x.amin(1)])
        ends[part.weight] = torch.maximum(new, ends.get(part.weight, new))

    parts: dict[str, Any] = {name: module.get_submodule(name) for name in layers}
    hooks = [part.register_forward_pre_hook(look) for part in parts.values()]
    _outputs(module, binding, 0)
    for hook in hooks:
        hook.remove()
    intakes = {}
    for name, units in layers.items():
        top, bottom = ends.get(parts[name].weight, torch.full((2, units[0].size), torch.nan))
        noise, middle = STILL * torch.maximum(top, bottom).max(), (top - bottom) / 2
        still = middle.where(middle.abs() > noise, 0).where(top + bottom <= noise, torch.nan).view(units.shape[1:])
        lost, gone = (np.append(chosen, False)[units] for chosen in (removed, going))
        values = np.where(lost.sum(0) > 1, np.inf, still.numpy())
        intakes[name] = np.where(gone, units, -1).max(0), np.where(gone.any(0), values, 0)
    return intakes


def _carriers(intakes: Intakes, owners: np.ndarray) -> tuple[list[int], dict[str, str]]:
    """Units that can stand for all others, as few as a greedy search finds; or why some groups cannot be folded."""
    faults: dict[str, str] = {}
    options: list[np.ndarray] = []
    for name, (units, values) in intakes.items():
        for bad, why in ((np.isnan, "is not constant"), (np.isinf, "goes together with that of another group")):
            faults |= dict.fromkeys(owners[units[bad(values)]].tolist(), f"what it emits {why} at {name!r}")
        rows = zip(units, np.abs(values), strict=True)
        options += [np.unique(u[size >= WEAK * size.max()]) for u, size in rows if size.any()]
    carriers: list[int] = []
    while options and not faults:
        carriers.append(int(np.bincount(np.concatenate(options)).argmax()))
        options = [units for units in options if carriers[-1] not in units]
    return carriers, faults


def _merge(part: Any, units: np.ndarray, values: np.ndarray, stays: np.ndarray) -> None:
    """Move what inputs that go bring in to a carrier's weights, and set their own to 0."""
    carried = np.append(stays, False)[units]
    going = (units >= 0) & ~carried
    weight = part.weight.data = part.weight.data.contiguous()
    cells = weight.view(len(units), -1, weight.shape[1], weight[0, 0].numel()).numpy()
    cells = cells if isinstance(part, _ConvTransposeNd) else cells.swapaxes(1, 2)
    best = np.arange(len(units)), np.where(carried, np.abs(values), 0).argmax(1)
    sums = np.einsum("gi,giok->gok", np.where(going, values, 0), cells)
    cells[best] += sums / np.where(values[best], values[best], 1)[:, None, None]
    cells[going] = 0


def _take_over(module: nn.Module, gated: Gated, wanted: list[Tensor]) -> None:
    """Copy the parameters of a gated module that computes what is wanted."""
    pairs = list(zip(module.parameters(), gated.module.parameters(), strict=True))
    for own, new in pairs:
        new.copy_(new.to(own.dtype))
    worst = max(map(difference, wanted, _outputs(gated, gated.binding, 1)), default=0.0)
    if not worst <= TOLERANCE:
        what = f"folding constants changes the outputs of {type(module).__name__} by {worst:.1e} of their range"
        raise ModelError(what, "fold in single precision, in layers that use weights as they are, or prune unfolded")
    for own, new in pairs:
        own.copy_(new)
