"""Whole jobs besides `slim`: a task in, a smaller trained network out, as ONNX, with its mask and certificate.

Every one is resumable: called again with the same arguments it goes on where its checkpoints end.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from onnxprune.errors import UsageError
from onnxprune.mask import read_mask
from onnxprune.ranking import Limits
from onnxprune.resources import Resource
from onnxprune.torch import plots
from onnxprune.torch.checking import COUNT, NOT_NEGATIVE, POSITIVE, SHARE, Rule, check, one_of, or_none
from onnxprune.torch.chipnet import EPOCHS, FASTEST, JOURNEY, RECALIBRATE, ChipGates, ChipNet, Course, Curves, Weights
from onnxprune.torch.handover import weights_fit
from onnxprune.torch.jobs import HANDED, Outcome, Place, ended, fine_tuned, started, trained, write_pruned
from onnxprune.torch.recipe import Recipe
from onnxprune.torch.released import ReleasedGates
from onnxprune.torch.sampling import size_of
from onnxprune.torch.task import Task


@dataclass(frozen=True)
class Chips:
    """How to learn ChipNet's gates.

    Attributes:
        resource, target: the budget.
        weights: of the loss terms.
        lr: of the gates; by default the recipe's, or as much more as takes psi as far as published (`JOURNEY`).
        round_to, min_keep, min_share: of every group's width; not with `compat`.
        compat: "released" for gates, budget and threshold as in the released code (see `released`), which are not
            what physically stays; the mask is proven all the same.

    Raises:
        UsageError: a value makes no sense.
    """

    resource: Resource
    target: float
    weights: Weights = field(default_factory=Weights)
    lr: float | None = None
    round_to: int = 1
    min_keep: int = 1
    min_share: float = 0.0
    compat: Literal["released"] | None = None

    def __post_init__(self) -> None:
        check("chipnet's gates", self, {"lr": or_none(POSITIVE)})
        check("chipnet's weights", self.weights, dict.fromkeys(("crispness", "budget"), NOT_NEGATIVE))
        check("chipnet", self, _CHIPS)
        if self.compat and self.limits != Limits():
            raise UsageError(
                "chipnet: the released code's threshold knows no limits of widths",
                "leave out round_to, min_keep and min_share, or compat",
            )

    @property
    def limits(self) -> Limits:
        """What every width must satisfy."""
        return Limits(self.round_to, self.min_keep, self.min_share)


_CHIPS: dict[str, Rule] = {
    "round_to": COUNT,
    "min_keep": COUNT,
    "min_share": SHARE,
    "compat": or_none(one_of(("released",))),
}


def chip(task: Task, soft: Recipe, fine: Recipe, chips: Chips, place: Place) -> Outcome:
    """Learn ChipNet's gates, prune by the mask that did best on the validation data, fine-tune.

    Raises:
        UsageError: an option makes no sense, or no structure meets the budget.
        ModelError: the network cannot be exported.
        TrainingError: the loss is not finite.
    """
    start = time.monotonic()
    module, binding = started(task, soft, place)
    network: Curves = ReleasedGates(module, binding) if chips.compat else ChipGates(module, binding)
    steps = soft.epochs * (size_of(task.data("train")) // soft.batch)
    gates = ChipNet(
        network,
        chips.resource,
        chips.target,
        chips.weights,
        chips.limits,
        chips.lr or max(soft.lr, min(FASTEST, JOURNEY / steps)),
        stage=None if soft.epochs >= EPOCHS else max(1, steps // EPOCHS),
        recalibrate=0 if chips.compat else RECALIBRATE,
    )
    gates.harden()  # a budget out of reach is refused before the training
    run = trained(task, network, soft, [gates], place, place.folder / "soft")
    if not run.finished:
        return Outcome(False)
    if gates.mask is None:  # no figure of any epoch was above -inf
        raise UsageError(
            "chipnet: the task's metric was not finite after any epoch, so that no mask is the best",
            "let it give a number on the validation data",
        )
    if run.rank == 0:
        _picture_gates(network, place.folder)
    gates.restore()
    if not (place.folder / HANDED).exists():
        # The soft gates go: what is kept is kept whole, as it was when the mask was found to be the best.
        write_pruned(run, module, binding, gates.mask, place.folder, {"validation after": gates.best})
    if place.until is not None:
        place = replace(place, until=max(0.0, place.until - (time.monotonic() - start)))
    return fine_tuned(task, network.module, binding, gates.mask, fine, place, hooks=network.fine_tuning)


def fine_tune(task: Task, recipe: Recipe, place: Place, mask: Path | None = None) -> Outcome:
    """Train a network, made smaller by a mask first, if there is one.

    Weights may be those of the smaller network, too (`warm.pt` of a search).

    Raises:
        MaskError: the mask is for another network.
        ModelError: the network cannot be exported, or states sizes.
        TrainingError: the loss is not finite.
    """
    small = mask is not None and place.weights is not None and not weights_fit(task.model(), place.weights)
    network, binding = started(task, recipe, replace(place, weights=None) if small else place)
    if mask is None:
        return ended(trained(task, network, recipe, [], place, place.folder), place.folder)
    return fine_tuned(task, network, binding, read_mask(mask), recipe, place, place.weights if small else None)


def _picture_gates(network: Curves, folder: Path) -> None:
    shown = network.values().detach().cpu().numpy()[~network.open.cpu().numpy()]
    plots.gate_histogram(shown, folder / "gates.png")
    epochs = [0, network.course.epoch / 2, network.course.epoch]
    courses = [Course(epoch) for epoch in epochs]
    plots.gate_curves([c.beta for c in courses], [c.gamma for c in courses], folder / "curves.png")
