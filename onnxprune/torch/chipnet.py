"""ChipNet: gates that training drives to zero or one, within a budget (Tiwari et al. 2021, arXiv 2102.07156).

A unit's gate is `z = heaviside(logistic(psi))`, both getting steeper epoch by epoch; the loss has a term for gates that
are neither open nor shut, and one for the distance to the budget. Unlike the released code, gates sit on the consumers
of any architecture, the budget counts what physically stays, and of the thresholds tried the last that meets the budget
is kept.
"""

from __future__ import annotations

import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor, nn

from onnxprune.errors import UsageError
from onnxprune.mask import Mask, parse_mask, removed_units
from onnxprune.ranking import Limits, rank
from onnxprune.resources import Resource
from onnxprune.selection import primary_groups
from onnxprune.torch.binding import Binding
from onnxprune.torch.budgets import Usage
from onnxprune.torch.consumers import by_group
from onnxprune.torch.gates import Gated
from onnxprune.torch.hooks import Hook
from onnxprune.torch.recalibration import kept_statistics
from onnxprune.torch.run import Run

_ANY = Limits()
EPOCHS = 20
"""Of the published soft pruning."""
JOURNEY = 28.0
"""How far AdamW can take psi in it: 20 epochs of 45,000 images, batches of 32, learning rate 0.001."""
RECALIBRATE = 20
"""Batches for the statistics of a hard network."""
FASTEST = 0.1
"""A learning rate of psi at which it still follows the loss: decided gates are about 5 from undecided ones."""
INITIAL = 0.01
"""psi starts uniform between 0 and this: with the first beta and gamma the gates start at 0.7."""


def logistic(psi: Tensor, beta: float) -> Tensor:
    """`1 / (1 + exp(-beta * psi))` (equation 1, with psi0 = 0)."""
    return torch.sigmoid(beta * psi)


def heaviside(smooth: Tensor, gamma: float) -> Tensor:
    """`1 - exp(-gamma * s) + s * exp(-gamma)`: the identity at gamma = 0, a step at infinity (equation 2)."""
    return 1 - torch.exp(-gamma * smooth) + smooth * math.exp(-gamma)


@dataclass(frozen=True)
class Course:
    """How steep the curves are, epoch by epoch.

    Attributes:
        epoch: counted from 0; of a training shorter than `EPOCHS`, a stage of it.
    """

    epoch: float

    @property
    def beta(self) -> float:
        """Of the logistic curve: from 1, +0.02 an epoch, up to 6."""
        return min(6.0, 1 + 0.02 * self.epoch)

    @property
    def gamma(self) -> float:
        """Of the Heaviside curve: from 2, times the root of 2 an epoch, up to 256."""
        return min(256.0, 2 * math.sqrt(2) ** self.epoch)

    @property
    def tau(self) -> float:
        """Of the rounding of gates in the budget: from 10, +5 an epoch, up to 60."""
        return min(60.0, 10 + 5.0 * self.epoch)


class Curves(nn.Module, ABC):
    """A network whose gates are steep curves of psi.

    Attributes:
        module, binding: the network itself, and its export.
        gates: psi, one a gate: `(gates,)`.
        course: how steep the curves are at present.
        open: what has no gate, such as one factor of an axis that is a product: bool `(gates,)`.
        hard: gates of zeros and ones that stand in for the soft ones, or None.
    """

    module: nn.Module
    binding: Binding
    gates: nn.Parameter
    open: Tensor
    course = Course(0)
    hard: Tensor | None = None

    def smooth(self) -> Tensor:
        """The logistic curve of psi: `(gates,)`."""
        return logistic(self.gates, self.course.beta)

    def values(self) -> Tensor:
        """The gates: `(gates,)`."""
        if self.hard is not None:
            return self.hard
        return torch.where(self.open, 1.0, heaviside(self.smooth(), self.course.gamma))

    @abstractmethod
    def usage(self, resource: Resource) -> nn.Module:
        """The share of a resource as a function of gates `(gates,)`."""

    @abstractmethod
    def harden(self, budget: Budget, how: Mapping[str, Any]) -> tuple[Mask, Tensor]:
        """A mask for the budget, and the gates, of zeros and ones, that go with it."""

    def state_of(self, hard: Tensor) -> dict[str, Tensor]:
        """The module's state when its gates are these, as far as no mask says it."""
        return {name: t.clone() for name, t in self.module.state_dict().items()}

    def fine_tuning(self) -> list[Hook]:
        """What goes with the fine-tuning of the module, made smaller, in the state that is kept."""
        return []

    @contextlib.contextmanager
    def hardened(self, hard: Tensor) -> Iterator[None]:
        """With gates of zeros and ones."""
        self.hard = hard
        try:
            yield
        finally:
            self.hard = None


@dataclass(frozen=True)
class Budget:
    """What may stay.

    Attributes:
        resource, target: the share of it that is not to be exceeded.
        usage: the share as a function of gates.
        limits: of the groups' widths.
    """

    resource: Resource
    target: float
    usage: nn.Module
    limits: Limits


class ChipGates(Curves, Gated):
    """A module with a gate for every unit, where its channels are consumed."""

    def rebind(self, binding: Binding) -> None:
        """Take up the structure of the module as it is now, with new gates."""
        super().rebind(binding)
        names = {g.name for g in primary_groups(binding.analysis)} - self.consumption.open.keys()
        gated = np.concatenate(
            [np.zeros(0, bool)] + [np.full(g.size, g.name in names) for g in binding.analysis.groups]
        )
        self.register_buffer("open", torch.from_numpy(~gated).to(self.gates.device), persistent=False)
        self.gates.data = self.gates.new_empty(len(gated)).uniform_(0, INITIAL)

    def usage(self, resource: Resource) -> nn.Module:
        """The share of the resource that physically stays."""
        return Usage(self.binding.analysis, resource).to(self.gates.device)

    def harden(self, budget: Budget, how: Mapping[str, Any]) -> tuple[Mask, Tensor]:
        """The mask of the largest gates that meets the budget."""
        analysis = self.binding.analysis
        psi, bare = (by_group(analysis, t.detach().cpu().numpy()) for t in (self.gates, self.open))
        scores = {name: values for name, values in psi.items() if not bare[name].any()}
        mask = rank(analysis, scores, {budget.resource: budget.target}, budget.limits, how)
        return mask, torch.from_numpy(~removed_units(mask)).to(self.gates)


@dataclass(frozen=True)
class Weights:
    """Of the loss terms, published: 10 for crispness, 30 for the budget (45 for the 10 % channel budget)."""

    crispness: float = 10.0
    budget: float = 30.0


class ChipNet(Hook):
    """Soft pruning: learns the gates, and keeps the mask that did best on the validation data.

    Attributes:
        network: in training.
        budget: what may stay.
        stage: optimizer steps after which the curves get steeper, or None for an epoch, as published. A training that
            has fewer than `EPOCHS` epochs goes through all of their curves if it takes an `EPOCHS`th of its steps.
        recalibrate: batches on which the statistics of normalisations are measured anew for the hard evaluation; with
            those of soft gates it says little. The released code does not (0).
        mask: the best so far, or None before the first epoch ends.
        best: its figure.
    """

    def __init__(
        self,
        network: Curves,
        resource: Resource,
        target: float,
        weights: Weights = Weights(),
        limits: Limits = _ANY,
        lr: float | None = None,
        stage: int | None = None,
        recalibrate: int = RECALIBRATE,
    ):
        if resource not in get_args(Resource) or not 0 < target <= 1:
            raise UsageError(
                f"ChipNet: budget {resource}={target}",
                f"expected a share in (0, 1] of one of {', '.join(get_args(Resource))}",
            )
        self.network, self.weights, self.lr = network, weights, lr
        self.budget = Budget(resource, target, network.usage(resource), limits)
        self.stage, self.recalibrate = stage, recalibrate
        self._steps = 0
        self.mask: Mask | None = None
        self.best = -math.inf
        self._kept: dict[str, Tensor] = {}

    def settings(self) -> dict[str, Any]:
        """The budget, the weights and the curves' pace."""
        how = {"budget": {self.budget.resource: self.budget.target}, **asdict(self.budget.limits)}
        gates = {"gates": type(self.network).__name__, "lr": self.lr, "stage": self.stage}
        return how | gates | asdict(self.weights) | {"recalibrate": self.recalibrate}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The gates, without weight decay."""
        group: dict[str, Any] = {"params": [self.network.gates], "weight_decay": 0.0}
        return [group if self.lr is None else group | {"lr": self.lr}]

    def penalty(self) -> Tensor:
        """Crispness, and the squared distance to the budget."""
        network, course = self.network, self.network.course
        gates = network.values()
        undecided = torch.where(network.open, 0.0, network.smooth() - gates)
        crispness = undecided.square().sum() / (~network.open).sum().clamp(min=1)  # what is open has no gate
        rounded = torch.sigmoid(course.tau * (gates - 0.5))
        share = self.budget.usage(torch.where(network.open, 1.0, rounded))
        return self.weights.crispness * crispness + self.weights.budget * (share - self.budget.target) ** 2

    def after_step(self) -> None:
        """Go on with steeper curves if a stage is over."""
        self._steps += 1
        if self.stage is not None:
            self.network.course = Course(self._steps // self.stage)

    @torch.no_grad()
    def after_epoch(self, run: Run) -> Mapping[str, float]:
        """Prune hard, evaluate, keep the best, go on with soft gates."""
        gates = self.network.values()
        undecided = (gates > 0.1) & (gates < 0.9)
        figures = {"soft share": float(self.budget.usage(gates)), "undecided": float(undecided.float().mean())}
        mask, hard = self.harden()
        with kept_statistics(self.network), self.network.hardened(hard):
            if self.recalibrate:
                run.recalibrate(self.network, self.recalibrate)
            figures["hard score"] = run.evaluate("validation", self.network)
            if figures["hard score"] > self.best:
                self.mask, self.best = mask, figures["hard score"]
                self._kept = self.network.state_of(hard)
        if self.stage is None:
            self.network.course = Course(run.epoch)
        return figures

    def restore(self) -> None:
        """Give the module the weights and statistics that the best mask was evaluated with."""
        self.network.module.load_state_dict(self._kept)

    def harden(self) -> tuple[Mask, Tensor]:
        """The mask of the gates as they are, and its gates of zeros and ones."""
        return self.network.harden(self.budget, {"method": "chipnet", "epoch": self.network.course.epoch})

    def state_dict(self) -> dict[str, Any]:
        """The curves' epoch and the step, the best mask and its weights."""
        mask = None if self.mask is None else self.mask.to_json()
        return {
            "epoch": self.network.course.epoch,
            "steps": self._steps,
            "best": self.best,
            "mask": mask,
            "weights": self._kept,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as before."""
        self.network.course, self._steps = Course(state["epoch"]), state["steps"]
        self.best, self._kept = state["best"], state["weights"]
        self.mask = None if state["mask"] is None else parse_mask(state["mask"], "checkpoint")
