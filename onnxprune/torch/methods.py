"""The whole jobs: a task in, a smaller trained network out, as ONNX, with its mask and certificate.

Every one is resumable: called again with the same arguments it goes on where its checkpoints end.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from onnxprune.budget import Limits, rank, shares
from onnxprune.mask import Mask, read_mask, removed_units
from onnxprune.report.files import document, write_text
from onnxprune.resources import Resource
from onnxprune.selection import STRATEGIES
from onnxprune.torch import plots
from onnxprune.torch.binding import Binding, bind
from onnxprune.torch.chipnet import ChipGates, ChipNet, Course, Weights
from onnxprune.torch.constants import fold_constants
from onnxprune.torch.forecast import FORECASTERS, Trigger, macs_saved
from onnxprune.torch.foresight import foresight, write_foresight
from onnxprune.torch.gates import Gated
from onnxprune.torch.handover import MASK, HandOver, export_trained, hand_over, load_weights
from onnxprune.torch.hooks import Hook
from onnxprune.torch.loop import train
from onnxprune.torch.recipe import Recipe
from onnxprune.torch.run import Run
from onnxprune.torch.scales import Scales
from onnxprune.torch.shrinking import shrink
from onnxprune.torch.slimming import Method, PruneOnce, Sparsity
from onnxprune.torch.task import Task

OUTCOME, HANDED = "outcome.json", "pruned.json"
FOLD_ATTEMPTS = 5


@dataclass(frozen=True)
class Place:
    """Where a job works, and for how long.

    Attributes:
        folder: gets checkpoints, logs, models, pictures.
        weights: to start from, or None for fresh ones.
        resume: go on from the folder's checkpoints, if there are any.
        until: seconds after which to stop with a checkpoint.
    """

    folder: Path
    weights: Path | None = None
    resume: bool = False
    until: float | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of a job.

    Attributes:
        finished: whether it came to its end; else it can be resumed.
        figures: the task's metric by name (`validation`, `test`), and costs.
    """

    finished: bool
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Slimming:
    """How to train for sparsity and when to prune.

    Attributes:
        target: shares of the whole that are not to be exceeded.
        trigger: says when to prune.
        forecaster: one of `FORECASTERS`: what the scales are taken to be in the end.
        strategy: one of `STRATEGIES`.
        strength, method, pull: see `Sparsity`.
        min_keep: units that stay in every group.
        fold: let what removed channels still emit, once their scales are zero, be emitted by one that stays (see
            `constants`).
    """

    target: Mapping[Resource, float]
    trigger: Trigger
    forecaster: str = "last"
    strategy: str = "slim"
    strength: float = 1e-4
    method: Method = "subgradient"
    pull: str = "constant"
    min_keep: int = 1
    fold: bool = True


def slim(task: Task, recipe: Recipe, slimming: Slimming, place: Place) -> Outcome:
    """Train with a pull on all scales, prune when the trigger says so, train on without.

    Raises:
        UsageError: an option makes no sense, or no structure meets the target.
        ModelError: the network cannot be exported.
        TrainingError: the loss is not finite.
    """
    network, binding = _started(task, recipe, place)
    strategy = STRATEGIES[slimming.strategy]
    groups = strategy.groups(binding.analysis)
    if any(not binding.scales_of(g) for g in binding.analysis.groups if g.name in groups):
        network = Gated(network, binding)
    scales = Scales(network, binding, groups, strategy.combine)
    how = {"method": "slimming", "strategy": slimming.strategy, "forecaster": slimming.forecaster}
    limits = Limits(strategy.round_to, slimming.min_keep)
    sparsity = Sparsity(scales, slimming.strength, slimming.method, slimming.pull)

    def select(values: np.ndarray, tighter: float = 1.0) -> Mask:
        target = {name: share * tighter for name, share in slimming.target.items()}
        return rank(binding.analysis, scales.by_group(values), target, limits, how)

    def decide(run: Run, values: np.ndarray) -> Mask:
        mask, before = select(values), run.evaluate("validation", run.network)
        if slimming.fold and not isinstance(network, Gated):
            mask = _folded(network, binding, slimming.target, partial(select, values))
        _write_pruned(run, binding, mask, place.folder, before)
        return mask

    select(scales.read())  # a target out of reach is refused before the training
    prune = PruneOnce(
        sparsity,
        select,
        slimming.trigger,
        FORECASTERS[slimming.forecaster],
        decide=decide,
    )
    run = _trained(task, network, recipe, [sparsity, prune], place, place.folder)
    outcome = _ended(run, place.folder)
    if outcome.finished and run.rank == 0:
        _tell_history(prune.history.array, select, outcome.figures, place.folder, recipe.epochs)
    return outcome


@dataclass(frozen=True)
class Chips:
    """How to learn ChipNet's gates.

    Attributes:
        resource, target: the budget.
        weights: of the loss terms.
        lr: of the gates; by default the recipe's.
        round_to, min_keep: of every group's width.
    """

    resource: Resource
    target: float
    weights: Weights = field(default_factory=Weights)
    lr: float | None = None
    round_to: int = 1
    min_keep: int = 1


def chip(task: Task, soft: Recipe, fine: Recipe, chips: Chips, place: Place) -> Outcome:
    """Learn ChipNet's gates, prune by the mask that did best on the validation data, fine-tune.

    Raises:
        UsageError: an option makes no sense, or no structure meets the budget.
        ModelError: the network cannot be exported.
        TrainingError: the loss is not finite.
    """
    module, binding = _started(task, soft, place)
    network = ChipGates(module, binding)
    limits = Limits(chips.round_to, chips.min_keep)
    gates = ChipNet(network, chips.resource, chips.target, chips.weights, limits, chips.lr)
    gates.harden()  # a budget out of reach is refused before the training
    run = _trained(task, network, soft, [gates], place, place.folder / "soft")
    if not run.finished:
        return Outcome(False)
    assert gates.mask is not None  # there is one after the first epoch
    _picture_gates(network, place.folder)
    gates.restore()
    if not (place.folder / HANDED).exists():
        _write_pruned(run, binding, gates.mask, place.folder, run.evaluate("validation", run.network))
    return _fine_tuned(task, network.module, binding, gates.mask, fine, place)


def fine_tune(task: Task, recipe: Recipe, place: Place, mask: Path | None = None) -> Outcome:
    """Train a network, made smaller by a mask first, if there is one.

    Raises:
        MaskError: the mask is for another network.
        ModelError: the network cannot be exported, or states sizes.
        TrainingError: the loss is not finite.
    """
    network, binding = _started(task, recipe, place)
    if mask is None:
        return _ended(_trained(task, network, recipe, [], place, place.folder), place.folder)
    return _fine_tuned(task, network, binding, read_mask(mask), recipe, place)


def _started(task: Task, recipe: Recipe, place: Place) -> tuple[nn.Module, Binding]:
    """The network as it begins, and its binding."""
    torch.manual_seed(recipe.seed)
    network = task.model()
    if place.weights is not None:
        load_weights(network, place.weights)
    return network, bind(network, task.example())


def _tell_history(
    history: np.ndarray, select: Callable[[np.ndarray], Mask], figures: Mapping[str, Any], folder: Path, epochs: int
) -> None:
    """Pictures of the scales until the pruning, and how early it could have been told."""
    plots.scale_history(history, folder / "scales.png")
    late = removed_units(read_mask(folder / MASK))
    found = foresight(history, late, lambda values: removed_units(select(values)))
    costs = figures["pruned"]["cost"]
    saved = macs_saved(costs["before"]["macs"], costs["after"]["macs"], len(history), epochs)
    write_foresight(found, saved, folder)


def _folded(
    network: nn.Module, binding: Binding, target: Mapping[Resource, float], select: Callable[[float], Mask]
) -> Mask:
    """A mask within the target whose channels' constants are folded into the network.

    Carriers stay, so that the selection is made tighter until there is room for them; where there never is, nothing
    is folded.
    """
    tighter = 1.0
    for _ in range(FOLD_ATTEMPTS):
        trial, plain = copy.deepcopy(network), select(tighter)
        mask = fold_constants(trial, binding, plain).mask
        bare, full = (shares(binding.analysis, m, target) for m in (plain, mask))
        if all(full[name] <= share for name, share in target.items()):
            network.load_state_dict(trial.state_dict())
            return mask
        room = max((full[name] - bare[name]) / share for name, share in target.items())
        tighter = min(0.99 * tighter, 1 - room)
    return select(1.0)


def _trained(task: Task, network: nn.Module, recipe: Recipe, hooks: list[Hook], place: Place, folder: Path) -> Run:
    return train(task, network, recipe, hooks, folder=folder, resume=place.resume, until=place.until)


def _fine_tuned(task: Task, network: nn.Module, binding: Binding, mask: Mask, recipe: Recipe, place: Place) -> Outcome:
    """Make the network smaller and train it on."""
    shrink(network, binding, mask)
    folder = place.folder / "fine"
    return _ended(_trained(task, network, recipe, [], place, folder), place.folder)


def _write_pruned(run: Run, binding: Binding, mask: Mask, folder: Path, before: float) -> None:
    """Files of the network before and after it loses the mask's units, and its validation figure before."""
    if run.rank == 0:
        handed = hand_over(run.network, binding, mask, folder)
        figures = {"epoch": run.epoch, "validation before": before, **_told(handed)}
        write_text(folder / HANDED, document(figures))
        names = [group.name for group in mask.groups]
        kept = [int(group.kept.sum()) for group in mask.groups]
        plots.widths(names, [group.size for group in mask.groups], kept, folder / "widths.png")


def _told(handed: HandOver) -> dict[str, Any]:
    costs = {"before": asdict(handed.before), "after": asdict(handed.after)}
    return {"cost": costs, "certificate": handed.certificate.to_json()}


def _ended(run: Run, folder: Path) -> Outcome:
    """The figures and the model of a training that came to its end."""
    if not run.finished:
        return Outcome(False)
    figures: dict[str, Any] = {split: run.evaluate(split) for split in ("validation", "test")}
    if run.rank == 0:
        figures["cost"] = asdict(export_trained(run.evaluated, run.task.example(), folder))
        if (folder / HANDED).exists():
            figures["pruned"] = json.loads((folder / HANDED).read_text(encoding="utf-8"))
        write_text(folder / OUTCOME, document(figures))
    return Outcome(True, figures)


def _picture_gates(network: ChipGates, folder: Path) -> None:
    shown = network.values().detach().cpu().numpy()[~network.open.cpu().numpy()]
    plots.gate_histogram(shown, folder / "gates.png")
    epochs = [0, network.course.epoch / 2, network.course.epoch]
    courses = [Course(epoch) for epoch in epochs]
    plots.gate_curves([c.beta for c in courses], [c.gamma for c in courses], folder / "curves.png")
