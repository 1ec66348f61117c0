"""A module's per-channel normalisations: where their scales are, and what they multiply with in evaluation mode."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch import nn

SCALED = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm, nn.GroupNorm)


@dataclass(frozen=True, eq=False)
class Norm:
    """A BatchNorm in evaluation mode: `x * factor + shift`, channel by channel.

    Attributes:
        tensors: names of its parameters and statistics.
        factor, shift: float64 of shape `(size,)`.
    """

    tensors: tuple[str, ...]
    factor: np.ndarray
    shift: np.ndarray

    @property
    def size(self) -> int:
        """Number of channels."""
        return len(self.factor)


def batch_norms(module: nn.Module) -> Iterator[Norm]:
    """All BatchNorms with statistics, in the module's order."""
    for name, part in module.named_modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_var is not None:
            yield _norm(f"{name}." if name else "", part)


def scale_names(module: nn.Module) -> set[str]:
    """Names of the parameters that scale normalised channels."""
    parts = ((name, part) for name, part in module.named_modules() if isinstance(part, SCALED))
    return {f"{name}.weight" if name else "weight" for name, part in parts if part.weight is not None}


def _norm(prefix: str, part: nn.modules.batchnorm._BatchNorm) -> Norm:
    state = {name: t.detach().cpu().double().numpy() for name, t in part.state_dict().items()}
    mean, variance = state["running_mean"], state["running_var"]
    factor = state.get("weight", np.ones_like(mean)) / np.sqrt(variance + part.eps)
    tensors = tuple(prefix + name for name, array in state.items() if array.ndim)
    return Norm(tensors, factor, state.get("bias", np.zeros_like(mean)) - mean * factor)
