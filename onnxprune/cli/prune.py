"""`onnxprune prune`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from onnxprune import api
from onnxprune.cli import options, work
from onnxprune.cli.application import Verb
from onnxprune.cli.options import option
from onnxprune.cli.output import Output
from onnxprune.latency.disk import model_files
from onnxprune.mask import Mask
from onnxprune.report import Report, check_outputs, document, render, report_format, report_on, write_text
from onnxprune.report.tables import before_after

OUT = "What comes out"


@dataclass(frozen=True)
class Outputs:
    """The files to write."""

    output: Path
    save_mask: Path | None
    report: Path | None

    def check(self, model: Path) -> None:
        """Refuse what cannot be written before the work begins.

        Raises:
            OutputError: a path cannot be written.
            UsageError: there is no report format for the name.
        """
        check_outputs([self.output, self.save_mask, self.report], model_files(model))
        if self.report:
            report_format(self.report)

    def write_texts(self, mask: Mask, report: Report) -> None:
        """Write what belongs to the pruned model."""
        if self.save_mask:
            write_text(self.save_mask, document(mask.to_json()))
        if self.report:
            write_text(self.report, render(report, self.report))


outputs = options.bundled(
    "outputs",
    Outputs,
    options.output("The pruned model to write."),
    option("--save-mask", type=options.FILE, metavar="FILE", section=OUT, help="Write the mask file, too."),
    option(
        "--report",
        type=options.FILE,
        metavar="FILE",
        section=OUT,
        help="Write a report: a page (.html), Markdown (.md) or JSON (.json).",
    ),
)


@click.command(cls=Verb)
@options.model
@options.selection
@options.clock
@outputs
@options.no_verify
@options.fold
@options.sizes
@options.printing
def prune(
    model: Path,
    selection: options.Selection,
    clock: options.Clock,
    outputs: Outputs,
    verified: bool,
    fold: bool,
    sizes: Mapping[str, int],
    out: Output,
) -> None:
    """Choose channels, remove them, prove the result.

    This is mask, apply and verify in one. Prints the costs before and after. Nothing is written unless the pruned
    model computes what the original computes with the removed channels' consumers zeroed. Accuracy is another matter:
    it falls until the model is repaired or fine-tuned.

    \b
    Examples:
      onnxprune prune model.onnx --keep 0.5 -o small.onnx
      onnxprune prune model.onnx --target macs=0.5 --round-to 8 -o small.onnx --report report.html
      onnxprune prune model.onnx --target latency=8ms --threads 4 -o small.onnx
    """
    work.require_runtime(verified)
    with out.steps() as step:
        step("reading")
        loaded = work.load(model, sizes)
        outputs.check(model)
        step("analyzing")
        analysis = api.analyze(loaded, sizes=sizes, fold=fold)
    chosen, timed = work.choose(analysis, selection, clock, out)
    with out.steps() as step:
        pruned, certificate = work.prune(analysis, chosen, verified, step)
        step("writing")
        api.save(pruned, outputs.output)
        report = report_on(analysis, chosen, outputs.output, certificate)
        outputs.write_texts(chosen, report)
    work.note_what_stays(report, out)
    told = (*work.latency_words(timed), report.verdict, f"Written: {outputs.output}")
    out.result(report.to_json() | timed, before_after(report), *told)
