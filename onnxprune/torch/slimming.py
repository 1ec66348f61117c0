"""Sparsity training: scales are pulled to zero while the network learns (Liu et al. 2017, arXiv 1708.06519), and the
network is pruned, once, by what they are or by what they are going to be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
        parameters = list(dict.fromkeys(part.parameter for part in scales.parts))
        self._group: dict[str, Any] = {"params": parameters, "weight_decay": 0.0}
        self._aim(np.ones(scales.units, np.float32))

    def _aim(self, factors: np.ndarray) -> None:
        """Set the strength for every element of every scale."""
        summed: dict[nn.Parameter, Tensor] = {}
        for parameter, part in self.scales.elementwise(factors * self.strength):
            summed[parameter] = summed[parameter] + part if parameter in summed else part
        self._factors, self._strengths = factors, summed

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The scales, where their learning rate has to be known."""
        return [self._group] if self.method == "proximal" else []

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


class PruneOnce(Hook):
    """Records the scales after every epoch and, when the trigger says so, makes the network smaller and ends the pull.

    At the end of the last epoch it does so in any case.

    With a fixed epoch and the last values it is network slimming; with a forecast, early pruning.

    Attributes:
        sparsity: what pulls until then.
        select: from scales `(units,)` to a mask.
        trigger: says when.
        forecaster: of the scales at the end of the training.
        read, removed: the scales now, and what a mask removes of what has them; those of units, unless they are given.
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
        removed: Callable[[Mask], np.ndarray] = removed_units,
    ):
        """`decide` gives the mask when it is time, from the forecast, instead of `select`; it may edit the network."""
        self.read, self.removed = read or sparsity.scales.read, removed
        self.sparsity, self.select, self.trigger, self.forecaster = sparsity, select, trigger, forecaster
        self.decide = decide or (lambda run, values: select(values))
        self.history, self.pruned = History(), False

    def after_epoch(self, run: Run) -> Mapping[str, float]:
        """Prune if it is time."""
        if self.pruned:
            return {}
        self.history.append(self.read())
        last_chance = run.epoch >= run.recipe.epochs
        if not last_chance and not self.trigger(self.history.array, self._removed):
            return {}
        forecast = scores(self.forecaster, self.history.array, max(1, run.recipe.epochs - run.epoch))
        mask, self.pruned = self.decide(run, forecast), True
        self.sparsity.stop()
        run.shrink(mask)
        return {"pruned at": float(run.epoch)}

    def _removed(self, scales: np.ndarray) -> np.ndarray:
        return self.removed(self.select(scales))

    def state_dict(self) -> dict[str, Any]:
        """The history, and whether the network is pruned."""
        return {"history": self.history.to_list(), "pruned": self.pruned}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as before; the mask itself is the run's."""
        self.history = History.from_list(state["history"])
        self.pruned = state["pruned"]
