"""The scale of every unit of a network: |gamma| of the normalisations that it passes, or else its gate."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from onnxprune.errors import ModelError
from onnxprune.groups import Group
from onnxprune.selection import Combine
from onnxprune.torch.binding import Binding, Lying
from onnxprune.torch.consumers import by_group, first_units
from onnxprune.torch.gates import Gated


@dataclass(frozen=True)
class Part:
    """A parameter that scales units along its only axis.

    Attributes:
        parameter: a normalisation's gamma, or all gates.
        is_gate: which of both.
        units: the unit of every element, over all groups one after the other; -1 for none: int `(size,)`.
    """

    parameter: nn.Parameter
    units: np.ndarray
    is_gate: bool = False

    @property
    def values(self) -> np.ndarray:
        """Absolute scales: float32 `(size,)`."""
        return self.parameter.detach().abs().float().cpu().numpy()


def trainable_scales(network: nn.Module, binding: Binding, group: Group) -> list[Lying]:
    """The normalisations' scales that a group lies on, but for frozen ones."""
    return [s for s in binding.scales_of(group) if network.get_parameter(s.parameter).requires_grad]


class Scales:
    """The scales of some groups of a network.

    Attributes:
        analysis: of the network.
        groups: the names of groups that have scales.
        parts: the parameters that hold them.
        combine: how a unit that several normalisations scale is judged: by the largest (it stays if any of them wants
            it to, the union of SlimYOLOv3), or by the mean.
        units: number of units of all groups, with scales or without.
        own: which of them have a scale: bool `(units,)`.
    """

    def __init__(
        self, network: nn.Module, binding: Binding, groups: Collection[str] | None = None, combine: Combine = "max"
    ):
        net = network.module if isinstance(network, Gated) else network
        self.analysis, self.combine = binding.analysis, combine
        self.first, self.units = first_units(binding.analysis)
        wanted = [g for g in binding.analysis.groups if groups is None or g.name in groups]
        found = {g.name: trainable_scales(net, binding, g) for g in wanted}
        self.groups = [name for name, lying in found.items() if lying or isinstance(network, Gated)]
        self.parts = [
            Part(net.get_parameter(lying.parameter), np.where(lying.units >= 0, lying.units + self.first[name], -1))
            for name, each in found.items()
            for lying in each
        ]
        if isinstance(network, Gated) and (bare := [g for g in wanted if not found[g.name]]):
            units = np.full(self.units, -1)
            for group in bare:
                own = np.arange(self.first[group.name], self.first[group.name] + group.size)
                units[own] = own
            self.parts.append(Part(network.gates, units, is_gate=True))
        self.own = np.isin(
            np.arange(self.units), np.concatenate([np.full(1, -1), *[part.units for part in self.parts]])
        )
        if not self.groups:
            raise ModelError(
                "none of the groups has a normalisation with scales that can be trained",
                "train the gated network (onnxprune.torch.Gated): its gates are the scales then",
            )

    def whole(self, own: np.ndarray) -> np.ndarray:
        """Values of the units that have a scale, `(own.sum(),)`, as `(units,)`; 0 for the others."""
        values = np.zeros(self.units, own.dtype)
        values[self.own] = own
        return values

    def read(self) -> np.ndarray:
        """The scale of every unit: float32 `(units,)`, 0 for units without one."""
        largest, total, times = (np.zeros(self.units, np.float32) for _ in range(3))
        for part in self.parts:
            inside = part.units >= 0
            np.maximum.at(largest, part.units[inside], part.values[inside])
            np.add.at(total, part.units[inside], part.values[inside])
            np.add.at(times, part.units[inside], 1)
        return largest if self.combine == "max" else total / np.maximum(times, 1)

    def by_group(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """Values `(units,)` of the groups that have scales."""
        return {name: own for name, own in by_group(self.analysis, values).items() if name in self.groups}

    def elementwise(self, values: np.ndarray) -> Iterator[tuple[nn.Parameter, Tensor]]:
        """For every part the values `(units,)` of its elements' units, 0 where an element is no unit's."""
        padded = np.append(values, 0)
        for part in self.parts:
            yield part.parameter, torch.from_numpy(padded[part.units]).to(part.parameter)
