"""`onnxprune verify`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from onnxprune import api
from onnxprune.cli import options, work
from onnxprune.cli.application import Verb
from onnxprune.cli.output import Output
from onnxprune.mask import read_mask
from onnxprune.report.tables import certificate_table


@click.command(cls=Verb)
@options.model
@click.argument("pruned", type=options.FILE, metavar="PRUNED")
@options.mask_file
@options.sizes
@options.printing
def verify(model: Path, pruned: Path, mask: Path, sizes: Mapping[str, int], out: Output) -> int:
    """Prove that a model was pruned exactly.

    PRUNED must be MODEL without the channels and branches that the mask names. Two things are shown: that PRUNED holds,
    bit for bit, the mask's slices of MODEL's tensors, and that in onnxruntime its outputs are those of MODEL whose
    removed channels are zeroed where they are consumed, and dropped branches where they are added. The check also shows
    that it can fail: the mask changes the outputs, so does another input, and a reference with one wrong channel or
    branch is told apart. The exit status is 0 when all of it holds, else 1.

    \b
    Example:
      onnxprune verify model.onnx small.onnx --mask mask.json
    """
    work.require_runtime(True)
    with out.steps() as step:
        step("reading")
        chosen = read_mask(mask)
        original, small = work.load(model, sizes), api.load(pruned)
        step("analyzing")
        analysis = api.analyze(original, sizes=sizes, fold=chosen.fold)
        step("verifying")
        certificate = api.verify(original, small, chosen, analysis=analysis)
    out.result(certificate.to_json(), certificate_table(certificate))
    return 0 if certificate.exact else 1
