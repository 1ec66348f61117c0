"""`shrink`: a mask's channels removed from the module itself, so that training on costs what the small one costs."""

from __future__ import annotations

import copy

from torch import nn
from torch.optim import Optimizer

from onnxprune.mask import Mask, dropped_by, fit_mask
from onnxprune.slicing import Edits
from onnxprune.torch.binding import Binding, bind
from onnxprune.torch.gates import Gated
from onnxprune.torch.removing import remove, state_sizes
from onnxprune.torch.trials import planned


def shrink(module: nn.Module, binding: Binding, mask: Mask, optimizer: Optimizer | None = None) -> Binding:
    """Remove a mask's channels from a module, in place; every parameter stays the same object.

    It is done to a copy first, which must then compute what the gated module computes, in evaluation mode. Of a dropped
    branch the submodules give zeros (see `zeros`); the copy must compute what the pruned export computes then.

    Args:
        module: the bound module, or a `Gated` one, whose gates are multiplied into the weights and opened.
        binding: of the module as it is.
        mask: for this network.
        optimizer: its state for the module's parameters is sliced alike; where some of it has another shape than the
            parameter, all of it for this parameter is dropped.

    Returns:
        The binding of the smaller module.

    Raises:
        MaskError: the mask is for another network, empties a group, or removes what cannot be gated.
        ModelError: `forward` states sizes that do not follow from parameters; the module is unchanged.
    """
    net = module.module if isinstance(module, Gated) else module
    kept, _ = fit_mask(binding.analysis, mask)
    edits = Edits(binding.analysis.trace, kept, dropped_by(binding.analysis, mask))
    plan = planned(net, binding, mask, edits)
    if isinstance(module, Gated):
        module.fold()
    remove(net, binding, edits, plan.zeros, optimizer)
    for name, sizes in plan.bare.items():
        state_sizes(net.get_submodule(name), sizes)
    smaller = bind(net, binding.example, mode=binding.mode)
    if isinstance(module, Gated):
        module.rebind(smaller)
        if optimizer is not None:
            optimizer.state.pop(module.gates, None)
    return smaller


def smaller_copy(module: nn.Module, binding: Binding, mask: Mask) -> nn.Module:
    """A smaller copy of a bound module, unlike `shrink` without a trial: for many masks of a module that was tried.

    Branches that the mask drops stay.

    Raises:
        MaskError: the mask is for another network, or empties a group.
    """
    kept, _ = fit_mask(binding.analysis, mask)
    small = copy.deepcopy(module)
    remove(small, binding, Edits(binding.analysis.trace, kept))
    return small
