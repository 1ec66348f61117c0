"""Gates: one factor for every unit of every group, on the weights that consume its channels.

A gate of zero there is the masked reference itself: nothing that follows can revive the channel (a gate on what
*makes* a channel could not say so: sigmoid(0) is not 0). No model is edited: the module is called with gated weights
in place of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from onnxprune.errors import MaskError
from onnxprune.mask import Mask, fit_mask, removed_units
from onnxprune.torch.binding import Binding, named_tensors, tensor_of
from onnxprune.torch.consumers import Consumption, by_group, consumption


class Gated(nn.Module):
    """A module whose channels pass through gates.

    Attributes:
        module: the network itself; its parameters are trained as ever.
        gates: one factor a unit, all groups one after the other: `(units,)`. `values` says what multiplies.
        binding, consumption: of the network.
    """

    index: Tensor

    def __init__(self, module: nn.Module, binding: Binding):
        super().__init__()
        self.module = module
        device = next(iter(named_tensors(module).values())).device
        self.gates = nn.Parameter(torch.ones(0, device=device))
        self.rebind(binding)

    def rebind(self, binding: Binding) -> None:
        """Take up the structure of the module as it is now, with all gates open; `gates` stays the same object."""
        self.binding = binding
        self.consumption: Consumption = consumption(binding)
        self.gates.data, self.gates.grad = self.gates.new_ones(self.consumption.units), None
        rows = max((len(c.units) for c in self.consumption.consumers), default=1)
        index = [np.full((rows, c.units.shape[1]), -1) for c in self.consumption.consumers]
        for table, consumer in zip(index, self.consumption.consumers, strict=True):
            table[: len(consumer.units)] = consumer.units
        joined = np.concatenate(index, axis=1) if index else np.zeros((rows, 0), int)
        # The place after the last unit holds a one.
        places = torch.from_numpy(np.where(joined < 0, self.consumption.units, joined))
        self.register_buffer("index", places.to(self.gates.device), persistent=False)

    def values(self) -> Tensor:
        """What the units are multiplied with: `(units,)`."""
        return self.gates

    def of(self, group: str) -> Tensor:
        """The values of one group: `(size,)`."""
        return by_group(self.binding.analysis, self.values())[group]

    def weights(self) -> dict[str, Tensor]:
        """The consumers' weights, gated."""
        values = torch.cat([self.values(), self.gates.new_ones(1)])
        factors = values[self.index].prod(0) if len(self.index) > 1 else values[self.index[0]]
        parts = factors.split([c.units.shape[1] for c in self.consumption.consumers])
        gated: dict[str, Tensor] = {}
        for consumer, part in zip(self.consumption.consumers, parts, strict=True):
            name = consumer.parameter
            weight = gated[name] if name in gated else tensor_of(self.module, name)
            shape = [1] * weight.ndim
            shape[consumer.axis] = -1
            gated[name] = weight * part.to(weight.dtype).view(shape)
        return gated

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The module's result with gated weights."""
        return functional_call(self.module, self.weights(), args, kwargs)

    @torch.no_grad()
    def set_mask(self, mask: Mask) -> None:
        """Gates of ones for what a mask keeps and of zeros for what it removes.

        Raises:
            MaskError: the mask is for another network, drops a branch, or removes units that something without weights
                consumes.
        """
        if mask.branches:
            raise MaskError(
                f"branch {mask.branches[0]!r} cannot be dropped by gates, which reach channels alone",
                "shrink the module, or apply the mask to the exported model",
            )
        fit_mask(self.binding.analysis, mask)
        require_gated(self.consumption, mask)
        self.gates.copy_(torch.from_numpy(~removed_units(mask)))

    @torch.no_grad()
    def fold(self) -> nn.Module:
        """Multiply the gates into the weights for good and set them to one; the module alone computes the same."""
        for name, weight in self.weights().items():
            tensor_of(self.module, name).copy_(weight)
        self.gates.fill_(1)
        return self.module


def require_gated(consumption: Consumption, mask: Mask) -> None:
    """Refuse a mask that removes units which no gate can reach.

    Raises:
        MaskError: names the group and what consumes it.
    """
    for group in mask.groups:
        if group.removed and group.name in consumption.open:
            raise MaskError(
                f"group {group.name!r} cannot be gated: {consumption.open[group.name]!r} consumes it without a "
                "parameter of its own",
                f"leave it whole (--exclude '{group.name}'), or prune the exported model, where it can be masked",
            )
