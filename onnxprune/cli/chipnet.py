"""`onnxprune chipnet`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import click

from onnxprune.cli import options, training
from onnxprune.cli.application import Verb
from onnxprune.cli.output import Output
from onnxprune.errors import UsageError
from onnxprune.resources import Resource

if TYPE_CHECKING:
    from onnxprune.torch.methods import Chips


@dataclass(frozen=True)
class Gating:
    """How to learn gates."""

    target: Mapping[Resource, float]
    soft_epochs: int
    soft_lr: float
    gate_lr: float | None
    crispness: float
    budget: float
    round_to: int
    min_keep: int
    min_share: float
    compat: Literal["released"] | None

    def chips(self) -> Chips:
        """The library's form.

        Raises:
            UsageError: there is not one target.
        """
        from onnxprune.torch.chipnet import Weights
        from onnxprune.torch.methods import Chips

        if len(self.target) != 1:
            raise UsageError(f"expected one --target, got {len(self.target)}", "for example --target macs=0.5")
        [(resource, share)] = self.target.items()
        weights = Weights(self.crispness, self.budget)
        limits: dict[str, Any] = {"round_to": self.round_to, "min_keep": self.min_keep, "min_share": self.min_share}
        return Chips(resource, share, weights, self.gate_lr, compat=self.compat, **limits)


gating = options.bundled(
    "gating",
    Gating,
    options.target,
    training.training("--soft-epochs", type=int, default=20, help="Epochs in which the gates are learnt, by AdamW."),
    training.training("--soft-lr", type=float, default=1e-3, help="Learning rate of these epochs."),
    training.training(
        "--gate-lr",
        type=float,
        help="Learning rate of the gates; by default --soft-lr, or more if there are too few steps for it.",
    ),
    training.training("--crispness", type=float, default=10.0, help="Weight of the loss of undecided gates."),
    training.training("--budget", type=float, default=30.0, help="Weight of the squared distance to the target."),
    options.round_to,
    options.min_keep,
    options.min_share,
    training.training(
        "--compat",
        type=click.Choice(["released"]),
        help="Gates, budget and threshold as in the published code, to compare with: then more stays than the target.",
    ),
)


@click.command(cls=Verb)
@training.working_options
@gating
@training.recipe
@options.printing
def chipnet(working: training.Working, gating: Gating, recipe: training.Training, out: Output) -> None:
    """Learn gates within a budget, prune, fine-tune (ChipNet).

    First every channel gets a gate that training drives to open or shut, so that the target is met; after each of
    these epochs the network is pruned hard and evaluated, and the best mask is kept. Then the network is made smaller
    by it and fine-tuned by the recipe. Start from trained --weights. The folder gets dense.onnx, mask.json and
    pruned.onnx (proven), trained.onnx of the end, logs, pictures and outcome.json.

    \b
    Examples:
      onnxprune chipnet --epochs 10 --target macs=0.5 -o digits
      onnxprune chipnet --task task.py:Cifar --weights best.pt --epochs 300 --target channels=0.2 -o chip --resume
    """
    task, place = working.load()
    from onnxprune.torch import methods

    soft = recipe.recipe(
        epochs=gating.soft_epochs, lr=gating.soft_lr, optimizer="adamw", schedule="constant", warmup=0.0
    )
    outcome = methods.chip(task, soft, recipe.recipe(), gating.chips(), place)
    training.tell(outcome, working, out)
