"""`onnxprune apply`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from onnxprune import api
from onnxprune.cli import options, work
from onnxprune.cli.application import Verb
from onnxprune.cli.output import Output
from onnxprune.latency.disk import model_files
from onnxprune.mask import read_mask
from onnxprune.report import check_outputs, report_on
from onnxprune.report.tables import before_after


@click.command(cls=Verb)
@options.model
@options.mask_file
@options.output("The pruned model to write.")
@options.no_verify
@options.sizes
@options.printing
def apply(model: Path, mask: Path, output: Path, verified: bool, sizes: Mapping[str, int], out: Output) -> None:
    """Remove the channels that a mask names.

    So are the residual branches that it drops: x goes on alone where x + f(x) was.
    Names of nodes, weights, inputs and outputs, metadata, doc strings and opsets stay. The result is proven equal to
    the masked original before it is written: if it is not, nothing is written and the exit status is 1.

    \b
    Example:
      onnxprune apply model.onnx --mask mask.json -o small.onnx
    """
    work.require_runtime(verified)
    with out.steps() as step:
        step("reading")
        chosen = read_mask(mask)
        loaded = work.load(model, sizes)
        check_outputs([output], [*model_files(model), mask])
        step("analyzing")
        analysis = api.analyze(loaded, sizes=sizes, fold=chosen.fold)
        pruned, certificate = work.prune(analysis, chosen, verified, step)
        step("writing")
        api.save(pruned, output)
    report = report_on(analysis, chosen, output, certificate)
    work.note_what_stays(report, out)
    dropped = [f"Dropped residual branches: {', '.join(report.branches)}"] if report.branches else []
    out.result(report.to_json(), before_after(report), *dropped, report.verdict, f"Written: {output}")
