"""The command line: every verb parses, calls the library and prints."""

from __future__ import annotations

import click

from onnxprune.cli.analyze import analyze
from onnxprune.cli.application import Application
from onnxprune.cli.apply import apply
from onnxprune.cli.bench import bench
from onnxprune.cli.chipnet import chipnet
from onnxprune.cli.compare import compare
from onnxprune.cli.finetune import finetune
from onnxprune.cli.mask import mask
from onnxprune.cli.prune import prune
from onnxprune.cli.search import search
from onnxprune.cli.slim import slim
from onnxprune.cli.verify import verify

__all__ = ["application", "main"]

VERBS = (prune, analyze, mask, apply, verify, bench, compare, slim, chipnet, search, finetune)


@click.group(cls=Application, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="onnxprune")
def application() -> None:
    """Remove channels from ONNX models, exactly.

    A pruned model computes what the original computes with the removed channels' consumers zeroed: proven on every
    run, or refused with the reason.

    \b
    The whole job:
      onnxprune prune model.onnx --keep 0.5 -o small.onnx --report report.html
    In steps:
      onnxprune analyze model.onnx
      onnxprune mask model.onnx --target macs=0.5 -o mask.json
      onnxprune apply model.onnx --mask mask.json -o small.onnx
      onnxprune verify model.onnx small.onnx --mask mask.json
      onnxprune bench model.onnx small.onnx --size batch=1
    Which of many to take:
      onnxprune compare model.onnx small.onnx --size batch=1
    While training, in PyTorch (here on shipped digits):
      onnxprune slim --epochs 4 --prune-at 2 --target macs=0.5 -o slim
      onnxprune chipnet --soft-epochs 2 --epochs 2 --target params=0.5 -o chip
      onnxprune finetune --epochs 2 -o dense
    Widths by search, of a torch task or of an ONNX file alone:
      onnxprune search --weights dense/best.pt --target macs=0.5 --evaluations 8 -o found

    Every verb explains itself with --help and answers programs with --json. The exit status is 0 when the work is
    done, 1 when a check failed, 2 when an option or a file is not as it should be.
    """


for verb in VERBS:
    application.add_command(verb)


def main() -> None:
    """The `onnxprune` command; ends the process with its exit status."""
    application.main(prog_name="onnxprune")
