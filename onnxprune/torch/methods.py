"""The whole jobs: a task in, a smaller trained network out, as ONNX, with its mask and certificate.

Every one is resumable: called again with the same arguments it goes on where its checkpoints end.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from torch import nn

from onnxprune.errors import UsageError
from onnxprune.mask import Mask, read_mask
from onnxprune.ranking import Limits, shares
from onnxprune.resources import Resource
from onnxprune.selection import STRATEGIES
from onnxprune.torch import plots
from onnxprune.torch.binding import Binding
from onnxprune.torch.checking import COUNT, NOT_NEGATIVE, POSITIVE, SHARE, YES_OR_NO, Rule, check, one_of, or_none
from onnxprune.torch.chipnet import EPOCHS, FASTEST, JOURNEY, RECALIBRATE, ChipGates, ChipNet, Course, Curves, Weights
from onnxprune.torch.constants import fold_constants
from onnxprune.torch.deciding import ByBranch, ByUnit, Decision
from onnxprune.torch.ends import BranchScales
from onnxprune.torch.forecast import FORECASTERS, Trigger, macs_saved, scores
from onnxprune.torch.foresight import foresight, write_foresight
from onnxprune.torch.gates import Gated
from onnxprune.torch.handover import exported, weights_fit
from onnxprune.torch.jobs import HANDED, Outcome, Place, ended, fine_tuned, started, trained, write_pruned
from onnxprune.torch.pulls import PULLS
from onnxprune.torch.recipe import Recipe
from onnxprune.torch.released import ReleasedGates
from onnxprune.torch.run import Run
from onnxprune.torch.sampling import size_of
from onnxprune.torch.scales import Scales, trainable_scales
from onnxprune.torch.slimming import Method, PruneOnce, Sparsity
from onnxprune.torch.task import Task
from onnxprune.torch.trials import droppable

FOLD_ATTEMPTS = 5


@dataclass(frozen=True)
class Slimming:
    """How to train for sparsity and when to prune.

    Attributes:
        target: shares of the whole that are not to be exceeded.
        trigger: says when to prune.
        forecaster: one of `FORECASTERS`: what the scales are taken to be in the end.
        strategy: one of `STRATEGIES`.
        strength, method, pull: see `Sparsity`.
        min_keep, min_share: units that stay in every group; dropped branches take their groups along.
        fold: let what removed channels still emit, once their scales are zero, be emitted by one that stays (see
            `constants`).

    Raises:
        UsageError: a value makes no sense.
    """

    target: Mapping[Resource, float]
    trigger: Trigger
    forecaster: str = "last"
    strategy: str = "slim"
    strength: float = 1e-4
    method: Method = "subgradient"
    pull: str = "constant"
    min_keep: int = 1
    min_share: float = 0.0
    fold: bool = True

    def __post_init__(self) -> None:
        check("slim", self, _SLIMMING)


_DECIDING = ("strategy", "min_keep", "min_share", "fold")
_SLIMMING: dict[str, Rule] = {
    "forecaster": one_of(FORECASTERS),
    "strategy": one_of(STRATEGIES),
    "strength": POSITIVE,
    "method": one_of(get_args(Method)),
    "pull": one_of(PULLS),
    "min_keep": COUNT,
    "min_share": SHARE,
    "fold": YES_OR_NO,
}


def slim(task: Task, recipe: Recipe, slimming: Slimming, place: Place) -> Outcome:
    """Train with a pull on all scales, prune when the trigger says so, train on without.

    Raises:
        UsageError: an option makes no sense, or no structure meets the target.
        ModelError: the network cannot be exported.
        TrainingError: the loss is not finite.
    """
    network, binding = started(task, recipe, place)
    strategy = STRATEGIES[slimming.strategy]
    groups = strategy.groups(binding.analysis)
    if any(not trainable_scales(network, binding, g) for g in binding.analysis.groups if g.name in groups):
        network = Gated(network, binding)
    scales = Scales(network, binding, groups, strategy.combine)
    sparsity = Sparsity(scales, slimming.strength, slimming.method, slimming.pull)
    decision = _decision(network, binding, scales, slimming)

    def decide(run: Run, values: np.ndarray) -> Mask:
        told = {"validation before": run.evaluate("validation", run.network)}
        whole, select = exported(run.network, binding), partial(decision.select, values)
        # Carriers would make odd multiples; gates leave no constants, and what goes with a branch none that matters.
        fold = slimming.fold and not isinstance(network, Gated) and strategy.round_to == 1 and not strategy.branches
        mask = _folded(network, binding, slimming.target, select) if fold else None
        if mask is None:
            write_pruned(run, run.network, binding, mask := select(), place.folder, told)
            return mask
        if run.average is not None:
            run.average = None  # it knows nothing of what was folded
            run.refresh()
        told["validation after"] = run.evaluate("validation", run.network)
        write_pruned(run, run.network, binding, mask, place.folder, told, whole)
        return mask

    decision.select(decision.read())  # a target out of reach is refused before the training
    prune = PruneOnce(
        sparsity,
        decision.select,
        slimming.trigger,
        FORECASTERS[slimming.forecaster],
        decide=decide,
        read=decision.read,
        removed=decision.removed,
        how={"target": dict(slimming.target), **{name: getattr(slimming, name) for name in _DECIDING}},
    )
    run = trained(task, network, recipe, [sparsity, prune], place, place.folder)
    outcome = ended(run, place.folder)
    if outcome.finished and run.rank == 0:
        _tell_history(prune, decision, outcome.figures, place.folder, recipe.epochs)
    return outcome


def _decision(network: nn.Module, binding: Binding, scales: Scales, slimming: Slimming) -> Decision:
    strategy = STRATEGIES[slimming.strategy]
    how = {"method": "slimming", "strategy": slimming.strategy, "forecaster": slimming.forecaster}
    if strategy.branches:
        # What the module cannot lose is known before the training.
        ends = BranchScales(network, binding, scales, droppable(network, binding))
        return ByBranch(binding.analysis, ends, slimming.target, how)
    limits = Limits(strategy.round_to, slimming.min_keep, slimming.min_share)
    return ByUnit(binding.analysis, scales, slimming.target, limits, how)


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


def _tell_history(prune: PruneOnce, decision: Decision, figures: Mapping[str, Any], folder: Path, epochs: int) -> None:
    """Pictures of the scales until the pruning, and how early it could have been told."""
    history = prune.history.array
    plots.scale_history(history, folder / "scales.png")
    # What the scales said, without the carriers that folding has kept.
    late = decision.removed(decision.select(scores(prune.forecaster, history, epochs - len(history))))
    found = foresight(history, late, lambda values: decision.removed(decision.select(values)))
    costs = figures["pruned"]["cost"]
    saved = macs_saved(costs["before"]["macs"], costs["after"]["macs"], len(history), epochs)
    write_foresight(found, saved, folder)


def _folded(
    network: nn.Module, binding: Binding, target: Mapping[Resource, float], select: Callable[[float], Mask]
) -> Mask | None:
    """A mask within the target whose channels' constants are folded into the network.

    Carriers stay, so that the selection is made tighter until there is room for them; where there never is, nothing
    is folded, and there is no mask.
    """
    tighter = 1.0
    for _ in range(FOLD_ATTEMPTS):
        try:
            plain = select(tighter)
        except UsageError:  # no structure is so small
            break
        trial = copy.deepcopy(network)
        mask = fold_constants(trial, binding, plain).mask
        bare, full = (shares(binding.analysis, m, target) for m in (plain, mask))
        if all(full[name] <= share for name, share in target.items()):
            network.load_state_dict(trial.state_dict())
            return mask
        room = max((full[name] - bare[name]) / share for name, share in target.items())
        tighter = min(0.99 * tighter, 1 - room)
    return None


def _picture_gates(network: Curves, folder: Path) -> None:
    shown = network.values().detach().cpu().numpy()[~network.open.cpu().numpy()]
    plots.gate_histogram(shown, folder / "gates.png")
    epochs = [0, network.course.epoch / 2, network.course.epoch]
    courses = [Course(epoch) for epoch in epochs]
    plots.gate_curves([c.beta for c in courses], [c.gamma for c in courses], folder / "curves.png")
