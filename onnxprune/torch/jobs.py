"""What all jobs do: begin with a task's network, train it, write the pruned model, end with figures and files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from onnxprune.graph import Model
from onnxprune.mask import Mask
from onnxprune.report import pictures
from onnxprune.report.files import document, write_text
from onnxprune.torch.binding import Binding, bind
from onnxprune.torch.checking import NOT_NEGATIVE, check, or_none
from onnxprune.torch.handover import HandOver, export_trained, hand_over, load_weights
from onnxprune.torch.hooks import Hook
from onnxprune.torch.loop import train
from onnxprune.torch.recipe import Recipe, require_trainable
from onnxprune.torch.run import Run
from onnxprune.torch.shrinking import shrink
from onnxprune.torch.task import Task, guarded

OUTCOME, HANDED = "outcome.json", "pruned.json"


@dataclass(frozen=True)
class Place:
    """Where a job works, and for how long.

    Attributes:
        folder: gets checkpoints, logs, models, pictures.
        weights: to start from, or None for fresh ones.
        resume: go on from the folder's checkpoints, if there are any.
        until: seconds after which to stop with a checkpoint.

    Raises:
        UsageError: `until` is no number of seconds.
    """

    folder: Path
    weights: Path | None = None
    resume: bool = False
    until: float | None = None

    def __post_init__(self) -> None:
        check("place", self, {"until": or_none(NOT_NEGATIVE)})


@dataclass(frozen=True)
class Outcome:
    """What came of a job.

    Attributes:
        finished: whether it came to its end; else it can be resumed.
        figures: the task's metric by name (`validation`, `test`), and costs.
    """

    finished: bool
    figures: Mapping[str, Any] = field(default_factory=dict)


def started(task: Task, recipe: Recipe, place: Place) -> tuple[nn.Module, Binding]:
    """The network as it begins, and its binding.

    Raises:
        UsageError: the task fails, or its network has nothing to train; the weights are not as they should be.
        ModelError: the network cannot be exported.
    """
    task = guarded(task)
    torch.manual_seed(recipe.seed)
    network = task.model()
    require_trainable(network)
    if place.weights is not None:
        load_weights(network, place.weights)
    return network, bind(network, task.example())


def trained(task: Task, network: nn.Module, recipe: Recipe, hooks: list[Hook], place: Place, folder: Path) -> Run:
    """Train in a folder of the place, for as long as it says.

    Raises:
        UsageError: see `train`; the test split is empty, which would be noticed at the very end.
    """
    options: dict[str, Any] = {"folder": folder, "resume": place.resume, "until": place.until}
    return train(task, network, recipe, hooks, splits=("validation", "test"), **options)


def fine_tuned(
    task: Task,
    network: nn.Module,
    binding: Binding,
    mask: Mask,
    recipe: Recipe,
    place: Place,
    weights: Path | None = None,
    hooks: Callable[[], list[Hook]] = list,
) -> Outcome:
    """Make the network smaller, give it weights of its size if there are any, and train it on.

    `hooks` gives those of this training, when the network is as it begins.
    """
    shrink(network, binding, mask)
    if weights is not None:
        load_weights(network, weights)
    folder = place.folder / "fine"
    return ended(trained(task, network, recipe, hooks(), place, folder), place.folder)


def write_pruned(
    run: Run,
    network: nn.Module,
    binding: Binding,
    mask: Mask,
    folder: Path,
    scores: Mapping[str, float],
    unfolded: Model | None = None,
) -> None:
    """Files of a network before and after it loses the mask's units (see `hand_over`), and validation scores."""
    if run.rank == 0:
        handed = hand_over(network, binding, mask, folder, unfolded)
        write_text(folder / HANDED, document({"epoch": run.epoch, **scores, **_told(handed)}))
        pictures.mask_widths(binding.analysis, mask, folder / "widths.png")


def _told(handed: HandOver) -> dict[str, Any]:
    costs = {"before": asdict(handed.before), "after": asdict(handed.after)}
    return {"cost": costs, "certificate": handed.certificate.to_json()}


def ended(run: Run, folder: Path) -> Outcome:
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
