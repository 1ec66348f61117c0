"""`onnxprune bench`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from onnxprune import api
from onnxprune.cli import options
from onnxprune.cli.application import Verb
from onnxprune.cli.options import option
from onnxprune.cli.output import Output
from onnxprune.cli.work import refuse_unknown_sizes
from onnxprune.environment import check_runtime
from onnxprune.latency import Plan, compare
from onnxprune.report.tables import compared_table, timing_table

HOW = "How to measure"


@click.command(cls=Verb)
@click.argument("models", type=options.FILE, nargs=-1, required=True, metavar="MODEL MODEL...")
@option(
    "--seconds",
    type=click.FloatRange(min=0),
    default=10.0,
    metavar="S",
    show_default=True,
    section=HOW,
    help="For how long (11 to 5000 rounds).",
)
@option(
    "--runs",
    type=click.IntRange(min=2),
    metavar="N",
    section=HOW,
    help="Run every model this often, however long it takes.",
)
@option(
    "--threads",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    section=HOW,
    help="Threads (0: onnxruntime's default).",
)
@option("--seed", type=int, default=0, show_default=True, section=HOW, help="Seed of the random input.")
@options.sizes
@options.printing
def bench(
    models: tuple[Path, ...],
    seconds: float,
    runs: int | None,
    threads: int,
    seed: int,
    sizes: Mapping[str, int],
    out: Output,
) -> None:
    """Time models side by side.

    The models take turns on the same random input (A B, B A, ...) in onnxruntime on the CPU, so that a machine that
    slows down slows all of them. The first is what the others are compared with. Prints medians with 95% confidence
    intervals of the time and of its ratio to the first model's, parameters, multiply-accumulates, file sizes, and by
    how much outputs differ from the first model's, relative to their range.

    \b
    Examples:
      onnxprune bench model.onnx small.onnx
      onnxprune bench model.onnx small.onnx --threads 1 --seconds 30 --size batch=8
    """
    check_runtime()
    loaded = [api.load(path) for path in models]
    for model in loaded:
        refuse_unknown_sizes(model, sizes)
    plan = Plan(seconds=seconds, rounds=runs, threads=threads, sizes=sizes, seed=seed)
    with out.bar("timing") as progress:
        comparison = compare(loaded, plan, progress)
    out.result(comparison.to_json(), timing_table(comparison), compared_table(comparison))
