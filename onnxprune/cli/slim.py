"""`onnxprune slim`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from onnxprune.cli import options, training
from onnxprune.cli.application import Verb
from onnxprune.cli.options import choosing
from onnxprune.cli.output import Output
from onnxprune.errors import UsageError
from onnxprune.resources import Resource
from onnxprune.selection import STRATEGIES
from onnxprune.torch.forecast import FORECASTERS, EarlyBird, FixedEpoch, ForecastConfidence, Trigger
from onnxprune.torch.pulls import PULLS

if TYPE_CHECKING:
    from onnxprune.torch.slim import Slimming

pulling = training.training


@dataclass(frozen=True)
class Sparse:
    """How to pull, when to prune and what."""

    target: Mapping[Resource, float]
    strategy: str
    strength: float
    method: str
    pull: str
    prune_at: int | None
    trigger: str | None
    forecaster: str
    min_keep: int
    min_share: float
    fold: bool

    def slimming(self, epochs: int) -> Slimming:
        """The library's form.

        Raises:
            UsageError: there is no target, or no single trigger.
        """
        from onnxprune.torch.slim import Slimming

        if not self.target:
            raise UsageError("expected --target, got none", "for example --target macs=0.5")
        names = ("target", "forecaster", "strategy", "strength", "method", "pull", "min_keep", "min_share", "fold")
        given: dict[str, Any] = {name: getattr(self, name) for name in names}
        return Slimming(trigger=self._trigger(epochs), **given)

    def _trigger(self, epochs: int) -> Trigger:
        if (self.prune_at is None) == (self.trigger is None):
            raise UsageError("expected --prune-at or --trigger", "for example --prune-at 20")
        if self.prune_at is not None:
            if not 0 < self.prune_at <= epochs:
                raise UsageError(f"--prune-at {self.prune_at}: expected an epoch from 1 to {epochs}", "change it")
            return FixedEpoch(self.prune_at)
        forecaster = FORECASTERS[self.forecaster]
        return EarlyBird() if self.trigger == "early-bird" else ForecastConfidence(epochs, forecaster)


sparse = options.bundled(
    "sparse",
    Sparse,
    options.target,
    choosing(
        "--strategy",
        type=click.Choice(list(STRATEGIES)),
        default="slim",
        help="slim: all groups, a unit stays if any of its scales wants it to. shortcut: all groups, by the mean of a "
        "unit's scales. uncoupled: leave out what a sum or an upsampling binds. regular: so, in multiples of 8. layer: "
        "drop whole residual branches, by the mean of the scales that end them.",
    ),
    pulling("--strength", type=float, default=1e-4, help="Of the pull (published: 1e-4 for VGG, 1e-5 for ResNet)."),
    pulling(
        "--method",
        type=click.Choice(["subgradient", "proximal"]),
        default="subgradient",
        help="Add the penalty's sub-gradient (published), or shrink scales after each step, to zero itself.",
    ),
    pulling(
        "--pull",
        type=click.Choice(list(PULLS)),
        default="constant",
        help="late: a hundredth of it after half of the epochs. top: only for the 15 % largest scales.",
    ),
    choosing("--prune-at", type=int, metavar="EPOCH", help="Prune after this epoch. Give this or --trigger."),
    choosing(
        "--trigger",
        type=click.Choice(["early-bird", "confidence"]),
        help="Prune when the selection has hardly changed for five epochs, or when the forecast is sure.",
    ),
    choosing(
        "--forecaster",
        type=click.Choice(list(FORECASTERS)),
        default="last",
        help="What the scales are taken to be in the end: as they are, a moving average, exponentially smoothed, or "
        "with a damped trend.",
    ),
    options.min_keep,
    options.min_share,
    choosing(
        "--fold/--no-fold",
        default=True,
        help="Let what removed channels still emit, once their scales are zero, be emitted by one that stays. Not with "
        "the strategies regular and layer, and not where units have gates.",
    ),
)


@click.command(cls=Verb)
@training.working_options
@sparse
@training.recipe
@options.printing
def slim(working: training.Working, sparse: Sparse, recipe: training.Training, out: Output) -> None:
    """Train for sparsity, prune once, train on.

    While the network learns, the scale of every channel (of its BatchNorm, or else a gate) is pulled to zero. When it
    is time the channels (or with --strategy layer the residual branches) with the smallest scales, now or as they are
    forecast to be, are removed from the network itself, which trains on without the pull. The folder gets dense.onnx,
    mask.json and pruned.onnx (proven; by folded.onnx where constants were folded) of that moment, trained.onnx of the
    end, logs, pictures and outcome.json.

    \b
    Examples:
      onnxprune slim --epochs 20 --prune-at 10 --target macs=0.5 -o digits
      onnxprune slim --task task.py:Cifar --epochs 160 --trigger early-bird --target channels=0.3 -o slim --resume
    """
    task, place = working.load()
    from onnxprune.torch import slim as job

    outcome = job.slim(task, recipe.recipe(), sparse.slimming(recipe.epochs), place)
    training.tell(outcome, working, out)
