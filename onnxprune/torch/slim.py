"""Network slimming as a whole job: trained with a pull on all scales, pruned once, and trained on."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
from torch import nn

from onnxprune.errors import UsageError
from onnxprune.mask import Mask
from onnxprune.ranking import Limits, shares
from onnxprune.resources import Resource
from onnxprune.selection import STRATEGIES
from onnxprune.torch import plots
from onnxprune.torch.binding import Binding
from onnxprune.torch.checking import COUNT, POSITIVE, SHARE, YES_OR_NO, Rule, check, one_of
from onnxprune.torch.constants import fold_constants
from onnxprune.torch.deciding import ByBranch, ByUnit, Decision
from onnxprune.torch.ends import BranchScales
from onnxprune.torch.forecast import FORECASTERS, Trigger, macs_saved, scores
from onnxprune.torch.foresight import foresight, write_foresight
from onnxprune.torch.gates import Gated
from onnxprune.torch.handover import exported
from onnxprune.torch.jobs import Outcome, Place, ended, started, trained, write_pruned
from onnxprune.torch.pulls import PULLS
from onnxprune.torch.recipe import Recipe
from onnxprune.torch.run import Run
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
        select = partial(decision.select, values)
        # Carriers would make odd multiples; gates leave no constants, and what goes with a branch none that matters.
        fold = slimming.fold and not isinstance(network, Gated) and strategy.round_to == 1 and not strategy.branches
        whole = exported(run.network, binding) if fold else None
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
