"""`onnxprune compare`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from onnxprune.cli import options
from onnxprune.cli.application import Verb
from onnxprune.cli.bench import Measuring, load_all, measured, report_file, write_report, written
from onnxprune.cli.output import Output
from onnxprune.cli.quality import Quality, quality
from onnxprune.cli.running import Running, run
from onnxprune.cli.timed import timed
from onnxprune.errors import UsageError
from onnxprune.latency import Comparison, names_of, read_comparison
from onnxprune.report import Choice, check_outputs, choose, report_format
from onnxprune.report.choice import choice_table, verdict

REPORT = ".json"


@click.command(cls=Verb)
@click.argument("files", type=options.FILE, nargs=-1, required=True, metavar="MODEL MODEL... | REPORT.json...")
@quality
@measured
@run
@report_file
@options.sizes
@options.printing
def compare(
    files: tuple[Path, ...],
    quality: Quality,
    measured: Measuring,
    run: Running,
    report: Path | None,
    sizes: Mapping[str, int],
    out: Output,
) -> None:
    """Tell which of many models are worth having.

    Models are timed side by side as `bench` does it, and judged by time and accuracy: given by hand, or measured on
    labelled samples. What nothing beats is marked: no other model is surely better in one and surely worse in none.
    Without accuracies models are judged by time, multiply-accumulates, parameters and bytes.

    Reports that `bench` has written (.json) are read instead of models, so that nothing is timed again: one, or several
    with the same first model, device, runtime, options and inputs.

    \b
    Examples:
      onnxprune compare model.onnx small.onnx --size batch=1 --samples samples.npz --report report.html
      onnxprune compare model.onnx small.onnx --size batch=1 --accuracy model.onnx=0.91 --accuracy small.onnx=0.89
      onnxprune bench model.onnx small.onnx --size batch=1 --report times.json
      onnxprune compare times.json --accuracy model.onnx=0.91 --accuracy small.onnx=0.89
    """
    reports = [path for path in files if path.suffix.lower() == REPORT]
    if reports and len(reports) < len(files):
        raise UsageError("expected models or reports, got both", "time all models together, or give reports alone")
    choice = (
        _read(reports, quality, report) if reports else _measured(files, quality, (measured, run, sizes), report, out)
    )
    write_report(choice, report)
    out.result(choice.to_json(), verdict(choice), choice_table(choice), *written(report))


def _read(reports: Sequence[Path], quality: Quality, report: Path | None) -> Choice:
    """The choice from measurements that were made before."""
    if quality.samples is not None:
        raise UsageError("--samples needs models to run, got reports", "give --accuracy, or the models themselves")
    if report is not None:
        report_format(report)
    found: list[Comparison] = [read_comparison(path) for path in reports]
    check_outputs([report], reports)
    names = [timing.name for each in found for timing in each.models]
    return choose(found, quality.named(list(dict.fromkeys(names))))


def _measured(
    files: Sequence[Path],
    quality: Quality,
    how: tuple[Measuring, Running, Mapping[str, int]],
    report: Path | None,
    out: Output,
) -> Choice:
    """The choice from a measurement that is made now."""
    measured, run, sizes = how
    loaded = load_all(files, sizes, report)
    plans = run.plans(loaded[0], measured.plan(sizes))
    if len(plans) > 1:
        raise UsageError(
            f"expected one runtime and no sweep, got {len(plans)} plans", "`onnxprune bench` takes several"
        )
    known = quality.of(loaded, names_of(loaded))
    parts = timed(loaded, plans, out, memory=measured.memory)
    return choose([part.found for part in parts if part.found is not None], known)
