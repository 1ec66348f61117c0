"""`onnxprune bench`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click

from onnxprune import api
from onnxprune.cli import options
from onnxprune.cli.application import Verb
from onnxprune.cli.output import Output
from onnxprune.cli.quality import Quality, quality
from onnxprune.cli.running import Running, run
from onnxprune.cli.timed import timed
from onnxprune.cli.work import refuse_unknown_sizes
from onnxprune.errors import UsageError
from onnxprune.graph import Model
from onnxprune.latency import Plan, names_of, parse_condition
from onnxprune.latency.disk import model_files
from onnxprune.latency.statistic import BATCHES, FEWEST
from onnxprune.latency.sweep import Part
from onnxprune.report import Bench, check_outputs, render, report_format, write_text
from onnxprune.report.bench import terminal_tables, verdict
from onnxprune.report.cells import Table
from onnxprune.report.formats import AnyReport
from onnxprune.report.sweep import Swept, sweep_tables
from onnxprune.report.sweep import verdict as sweep_verdict

measuring = options.under("How to measure")


@dataclass(frozen=True)
class Measuring:
    """How to measure."""

    seconds: float
    runs: int | None
    tolerance: float | None
    instances: int
    seed: int
    memory: bool

    def plan(self, sizes: Mapping[str, int]) -> Plan:
        """The library's form."""
        usual = Plan(self.seconds, self.runs, self.tolerance, seed=self.seed, sizes=sizes)
        return replace(usual, instances=self.instances)


@dataclass(frozen=True)
class Telling:
    """What comes out."""

    layers: bool
    fail_if: tuple[str, ...]
    report: Path | None


measured = options.bundled(
    "measured",
    Measuring,
    measuring(
        "--seconds", type=click.FloatRange(min=0), default=10.0, metavar="S", help="For how long (11 to 5000 rounds)."
    ),
    measuring("--runs", type=click.IntRange(min=2), metavar="N", help="Run each this often, however long it takes."),
    measuring(
        "--tolerance",
        type=click.FloatRange(min=0, min_open=True),
        metavar="X",
        help="Stop as soon as all ratios are known to within this (0.005: half a percent).",
    ),
    measuring(
        "--instances",
        type=click.IntRange(1, BATCHES),
        default=BATCHES,
        metavar="N",
        help=f"Prepare models anew N times (1, or {FEWEST} to {BATCHES}), if that takes no longer than the timing: "
        "where they lie in memory makes some instances faster.",
    ),
    measuring("--seed", type=int, default=0, help="Seed of the random input."),
    measuring("--memory/--no-memory", default=True, help="Also run each model once in a process of its own."),
)
telling = options.under("What comes out")
report_file = telling(
    "--report",
    type=options.FILE,
    metavar="FILE",
    help="Write a report: a page with plots (.html), Markdown (.md) or JSON with every sample (.json).",
)
told = options.bundled(
    "told",
    Telling,
    telling("--layers", is_flag=True, help="Also profile every model, and tell the time of each node and group (CPU)."),
    telling(
        "--fail-if",
        multiple=True,
        metavar="CONDITION",
        help="Exit with 1 if it holds of a model: 'p50 > 0.95x' by the first model's, or 'p99 > 8ms'. May be repeated.",
    ),
    report_file,
)


@click.command(cls=Verb)
@click.argument("models", type=options.FILE, nargs=-1, required=True, metavar="MODEL MODEL...")
@measured
@run
@quality
@told
@options.sizes
@options.printing
def bench(
    models: tuple[Path, ...],
    measured: Measuring,
    run: Running,
    quality: Quality,
    told: Telling,
    sizes: Mapping[str, int],
    out: Output,
) -> None:
    """Time models side by side.

    The models take turns on the same random input, in orders drawn at random, so that a machine that slows down slows
    all of them, and are prepared anew several times. The first is what the others are compared with, and takes part
    twice: by how much it differs from itself is the floor below which no difference means anything. Prints medians with
    95% confidence intervals of the time and of its ratio to the first model's, tails, by how much outputs differ from
    the first model's, relative to their range, and all that makes the figures reproducible, from the files' SHA-256 to
    the clocks of the machine.

    \b
    Examples:
      onnxprune bench model.onnx small.onnx --size batch=1
      onnxprune bench model.onnx small.onnx --size batch=1 --layers --report report.html
      onnxprune bench model.onnx small.onnx --runtime cpu --runtime openvino --sweep batch=1,8
      onnxprune bench model.onnx small.onnx --threads 1 --seconds 30 --size batch=8 --fail-if 'p99 > 50ms'
    """
    if told.layers and run.runtime != ("cpu",):
        raise UsageError("--layers profiles onnxruntime on the CPU", "leave it out, or take --runtime cpu alone")
    conditions = [parse_condition(text) for text in told.fail_if]
    loaded = load_all(models, sizes, told.report)
    plans = run.plans(loaded[0], measured.plan(sizes))
    known = quality.of(loaded, names_of(loaded))
    parts = timed(loaded, plans, out, memory=measured.memory, layers=told.layers)
    reports = {}
    for part in parts:
        if part.found is not None:
            failed = tuple(text for condition in conditions for text in condition.met_by(part.found))
            reports[part.name] = Bench(part.found, part.layers, part.widths, known, failed)
    _tell(parts, reports, told.report, out)


def _tell(parts: Sequence[Part], reports: Mapping[str, Bench], path: Path | None, out: Output) -> None:
    """Print and write what came out; exit with 2 if a part failed, with 1 if a condition did not hold."""
    swept = Swept(tuple(parts), reports)
    report = next(iter(reports.values())) if len(parts) == 1 else swept
    write_report(report, path)
    if isinstance(report, Bench):
        shown: list[Table | str] = [verdict(report), *terminal_tables(report)]
    else:
        shown = [sweep_verdict(swept), *sweep_tables(swept)]
    named = [(f"{name}: " if len(parts) > 1 else "", each) for name, each in reports.items()]
    failed = [f"{start}{text}" for start, each in named for text in each.failed]
    out.result(report.to_json(), *shown, *failed, *written(path))
    if swept.failed or failed:
        click.get_current_context().exit(2 if swept.failed else 1)


def load_all(paths: Sequence[Path], sizes: Mapping[str, int], report: Path | None) -> list[Model]:
    """The models, once it is sure that the report can be written.

    Raises:
        ModelError: a model cannot be read.
        OutputError: the report cannot be written, or would take the place of a model.
        UsageError: a size is for a dimension that a model does not have, or the report's format is not known.
    """
    if report is not None:
        report_format(report)
    loaded = [api.load(path) for path in paths]
    check_outputs([report], [file for path in paths for file in model_files(path)])
    for model in loaded:
        refuse_unknown_sizes(model, sizes)
    return loaded


def write_report(report: AnyReport, path: Path | None) -> None:
    """Write a report, if it is wanted.

    Raises:
        OutputError: it cannot be written.
    """
    if path is not None:
        write_text(path, render(report, path))


def written(path: Path | None) -> list[str]:
    """What was written, in words."""
    return [] if path is None else [f"Written: {path}"]
