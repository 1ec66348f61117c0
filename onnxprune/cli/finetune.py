"""`onnxprune finetune`."""

from __future__ import annotations

from pathlib import Path

import click

from onnxprune.cli import options, training
from onnxprune.cli.application import Verb
from onnxprune.cli.options import choosing
from onnxprune.cli.output import Output


@click.command(cls=Verb)
@training.working_options
@choosing(
    "--mask", type=options.FILE, metavar="FILE", help="Remove these channels first; from any export of the network."
)
@training.recipe
@options.printing
def finetune(working: training.Working, mask: Path | None, recipe: training.Training, out: Output) -> None:
    """Train a network, made smaller by a mask first.

    The mask may come from any verb, and from any export of the same network. Without one the network is trained as it
    is. The folder gets trained.onnx, logs and outcome.json.

    \b
    Examples:
      onnxprune finetune --epochs 20 -o dense
      onnxprune finetune --task task.py:Cifar --weights dense/best.pt --mask mask.json --epochs 40 --lr 0.01 -o small
    """
    task, place = working.load()
    from onnxprune.torch import methods

    training.tell(methods.fine_tune(task, recipe.recipe(), place, mask), working, out)
