"""Sparsity training: scales are pulled to zero while the network learns (Liu et al. 2017, arXiv 1708.06519), and the
network is pruned, once, by what they are or by what they are going to be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from types import MappingProxyType
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from onnxprune.errors import UsageError
from onnxprune.mask import Mask, removed_units
from onnxprune.torch.forecast import Forecaster, History, Trigger, last, scores
from onnxprune.torch.hooks import Hook
from onnxprune.torch.pulls import PULLS
from onnxprune.torch.run import Run
from onnxprune.torch.scales import Scales

Method = Literal["subgradient", "proximal"]
DEAD = 1e-2
"""Scales below this count as gone in the logs."""


class Sparsity(Hook):
    """Pulls the scales of all units to zero, until it is stopped.

    Attributes:
        scales: what is pulled.
        strength: of the L1 penalty on every scale (published: 1e-4 for VGG, 1e-5 for ResNet).
        method: `subgradient` adds its sign to the gradient; `proximal` shrinks scales after the step, so that they
            reach zero itself (Parikh & Boyd 2014, soft thresholding), and has no weight decay on them.
        pull: one of `PULLS`.
        active: whether it still pulls.
    """

    def __init__(self, scales: Scales, strength: float = 1e-4, method: Method = "subgradient", pull: str = "constant"):
        if strength <= 0 or method not in get_args(Method) or pull not in PULLS:
            raise UsageError(
                f"sparsity: strength {strength}, method {method!r}, pull {pull!r}",
                f"strength is above 0; methods are {', '.join(get_args(Method))}; pulls are {', '.join(PULLS)}",
            )
        self.scales, self.strength, self.method, self.pull, self.active = scales, strength, method, pull, True
        alone = [part.parameter for part in scales.parts if part.is_gate or method == "proximal"]
        self._group: dict[str, Any] = {"params": list(dict.fromkeys(alone)), "weight_decay": 0.0}
        self._aim(np.ones(scales.units, np.float32))

    def _aim(self, factors: np.ndarray) -> None:
        """Set the strength for every element of every scale."""
        summed: dict[nn.Parameter, Tensor] = {}
        for parameter, part in self.scales.elementwise(factors * self.strength):
            summed[parameter] = summed[parameter] + part if parameter in summed else part
        self._factors, self._strengths = factors, summed

    def settings(self) -> dict[str, Any]:
        """The pull, and what is pulled."""
        pull = {"strength": self.strength, "method": self.method, "pull": self.pull}
        return pull | {"groups": list(self.scales.groups), "combine": self.scales.combine}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Of the scales those without weight decay: all where their learning rate has to be known, else gates."""
        return [self._group] if self._group["params"] else []

    @torch.no_grad()
    def after_backward(self) -> None:
        """The sub-gradient s * sign(scale)."""
        if self.active and self.method == "subgradient":
            for parameter, strength in self._strengths.items():
                if parameter.grad is not None:
                    parameter.grad.addcmul_(strength.to(parameter.device), parameter.sign())

    @torch.no_grad()
    def after_step(self) -> None:
        """Soft thresholding by learning rate * s."""
        if self.active and self.method == "proximal":
            for parameter, strength in self._strengths.items():
                less = self._group.get("lr", 0.0) * strength.to(parameter.device)
                parameter.copy_(parameter.sign() * (parameter.abs() - less).clamp(min=0))

    def after_epoch(self, run: Run) -> Mapping[str, float]:
        """How large the scales are, and what share of them is gone."""
        if not self.active:
            return {}
        own = self.scales.read()[self.scales.own]
        factors = np.zeros(self.scales.units, np.float32)
        factors[self.scales.own] = PULLS[self.pull](run.epoch / run.recipe.epochs, own)
        self._aim(factors)
        return {"scale mean": float(own.mean()), "scales gone": float((own < DEAD).mean())}

    def stop(self) -> None:
        """Pull no more."""
        self.active = False
        self._strengths = {}

    def state_dict(self) -> dict[str, Any]:
        """Whether it pulls, and how much at which unit."""
        return {"active": self.active, "factors": torch.from_numpy(self._factors)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as before."""
        if state["active"]:
            self._aim(state["factors"].numpy())
        else:
            self.stop()


def _told(what: object) -> str:
    """A trigger or forecaster in words that are the same in every process."""
    return repr(what) if is_dataclass(what) else getattr(what, "__qualname__", type(what).__qualname__)


class PruneOnce(Hook):
    """Records the scales after every epoch and, when the trigger says so, makes the network smaller and ends the pull.

    At the end of the last epoch it does so in any case.

    With a fixed epoch and the last values it is network slimming; with a forecast, early pruning.

    Attributes:
        sparsity: what pulls until then.
        select: from scales to a mask: those of all units, `(units,)`, or what `read` gives.
        trigger: says when.
        forecaster: of the scales at the end of the training.
        read, removed: the scales now, and what a mask removes of what has them; those of the units that have scales,
            unless they are given.
        history: the scales after every epoch until then.
        pruned: whether it was; `run.masks` has the mask.
    """

    def __init__(
        self,
        sparsity: Sparsity,
        select: Callable[[np.ndarray], Mask],
        trigger: Trigger,
        forecaster: Forecaster = last,
        decide: Callable[[Run, np.ndarray], Mask] | None = None,
        read: Callable[[], np.ndarray] | None = None,
        removed: Callable[[Mask], np.ndarray] | None = None,
        how: Mapping[str, Any] = MappingProxyType({}),
    ):
        """`decide` gives the mask when it is time, from the forecast, instead of `select`; it may edit the network.
        `how` tells what both were made with: plain data, which a resumed training has to have, too.
        """
        scales = sparsity.scales
        self.read = read or (lambda: scales.read()[scales.own])
        self.removed = removed or (lambda mask: removed_units(mask)[scales.own])
        self._expand = (lambda values: values) if read else scales.whole
        self.sparsity, self.select, self.trigger, self.forecaster = sparsity, select, trigger, forecaster
        self.decide = decide or (lambda run, values: select(values))
        self.how = how
        self.history, self.pruned = History(), False

    def after_epoch(self, run: Run) -> Mapping[str, float]:
        """Prune if it is time."""
        if self.pruned:
            return {}
        self.history.append(self.read())
        last_chance = run.epoch >= run.recipe.epochs
        if not last_chance and not self.trigger(self.history.array, self._removed):
            return {}
        forecast = scores(self.forecaster, self.history.array, run.recipe.epochs - run.epoch)
        mask, self.pruned = self.decide(run, self._expand(forecast)), True
        self.sparsity.stop()
        run.shrink(mask)
        return {"pruned at": float(run.epoch)}

    def _removed(self, scales: np.ndarray) -> np.ndarray:
        return self.removed(self.select(self._expand(scales)))

    def settings(self) -> dict[str, Any]:
        """What decides when and how to prune."""
        return {"trigger": _told(self.trigger), "forecaster": _told(self.forecaster), **self.how}

    def state_dict(self) -> dict[str, Any]:
        """The history, and whether the network is pruned."""
        return {"history": self.history.to_list(), "pruned": self.pruned}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as before; the mask itself is the run's."""
        self.history = History.from_list(state["history"])
        self.pruned = state["pruned"]
