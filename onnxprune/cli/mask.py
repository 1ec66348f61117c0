"""`onnxprune mask`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from onnxprune import api
from onnxprune.cli import options, work
from onnxprune.cli.application import Verb
from onnxprune.cli.output import Output
from onnxprune.latency.disk import model_files
from onnxprune.report import check_outputs, document, report_on, write_text
from onnxprune.report.tables import before_after, widths_table


@click.command(cls=Verb)
@options.model
@options.selection
@options.clock
@options.output("The mask file to write (docs/files.md describes it).")
@options.fold
@options.sizes
@options.printing
def mask(
    model: Path,
    selection: options.Selection,
    clock: options.Clock,
    output: Path,
    fold: bool,
    sizes: Mapping[str, int],
    out: Output,
) -> None:
    """Choose which channels to remove.

    The choice goes to a mask file. With --keep every group keeps that share of its units. With --target the units of
    all groups are ranked together and as few go as the budget allows; the cost is that of the model without them,
    counted exactly. With --target latency=0.5 layers are timed in the runtime, widths are taken that it likes, and the
    whole is measured until the promise holds. The model itself is not changed: `onnxprune apply` does that. The mask
    file is JSON and may be edited.

    \b
    Examples:
      onnxprune mask model.onnx --keep 0.5 -o mask.json
      onnxprune mask model.onnx --target macs=0.5 --round-to 8 --exclude 'fc*' -o mask.json
      onnxprune mask model.onnx --target latency=0.6 --threads 1 -o mask.json
    """
    with out.steps() as step:
        step("reading")
        loaded = work.load(model, sizes)
        check_outputs([output], model_files(model))
        step("analyzing")
        analysis = api.analyze(loaded, sizes=sizes, fold=fold)
    chosen, timed = work.choose(analysis, selection, clock, out)
    report = report_on(analysis, chosen)
    write_text(output, document(chosen.to_json()))
    work.note_what_stays(report, out)
    out.result(
        report.to_json() | {"mask": str(output)} | timed,
        widths_table(report.widths),
        before_after(report),
        *work.latency_words(timed),
        f"Written: {output}",
    )
