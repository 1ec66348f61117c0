"""`onnxprune bench`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from onnxprune import api
from onnxprune.analysis import analyze
from onnxprune.cli import options
from onnxprune.cli.application import Verb
from onnxprune.cli.output import Output
from onnxprune.cli.work import refuse_unknown_sizes
from onnxprune.errors import UsageError
from onnxprune.graph import Model
from onnxprune.latency import (
    RUNTIMES,
    Attribution,
    Comparison,
    Plan,
    Setting,
    attribute,
    compare,
    parse_condition,
)
from onnxprune.report.tables import compared_table, layers_table, machine_table, tails_table, timing_table

measuring, running = options.under("How to measure"), options.under("Where to run")


@dataclass(frozen=True)
class Measuring:
    """How to measure."""

    seconds: float
    runs: int | None
    tolerance: float | None
    seed: int
    layers: bool
    fail_if: tuple[str, ...]


@dataclass(frozen=True)
class Running:
    """Where to run."""

    runtime: str
    threads: int
    device: int
    precision: str
    tf32: bool
    nhwc: bool
    cuda_graph: bool
    binding: bool
    fallback: bool
    cache: Path | None

    @property
    def setting(self) -> Setting:
        """The library's form."""
        gpu = {"tf32": self.tf32, "nhwc": self.nhwc, "graph": self.cuda_graph, "binding": self.binding}
        how = {"precision": self.precision, "cache": self.cache, "fallback": self.fallback}
        return Setting(threads=self.threads, device=self.device, **gpu, **how)  # type: ignore[arg-type]


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
    measuring("--seed", type=int, default=0, help="Seed of the random input."),
    measuring("--layers", is_flag=True, help="Also profile every model, and tell the time of each of its nodes (CPU)."),
    measuring(
        "--fail-if",
        multiple=True,
        metavar="CONDITION",
        help="Exit with 1 if it holds of a model: 'p50 > 0.95x' by the first model's, or 'p99 > 8ms'. May be repeated.",
    ),
)
run = options.bundled(
    "run",
    Running,
    running("--runtime", type=click.Choice(list(RUNTIMES)), default="cpu", help="cpu, cuda: onnxruntime's."),
    running("--threads", type=click.IntRange(min=0), default=0, metavar="N", help="On the CPU (0: the default)."),
    running("--device", type=click.IntRange(min=0), default=0, metavar="N", help="Number of the GPU."),
    running("--precision", type=click.Choice(["fp32", "fp16", "bf16"]), default="fp32", help="Where it can be chosen."),
    running("--tf32", is_flag=True, help="Let a GPU multiply single precision in TF32."),
    running("--nhwc", is_flag=True, help="Let a GPU compute convolutions with channels last."),
    running("--cuda-graph", is_flag=True, help="Replay a recorded CUDA graph."),
    running("--binding/--no-binding", default=True, help="Keep inputs and outputs on the GPU."),
    running("--fallback", is_flag=True, help="Let nodes that the runtime lacks run elsewhere; else that is an error."),
    running("--cache", type=options.FILE, metavar="FOLDER", help="For TensorRT's engines and timings."),
)


@click.command(cls=Verb)
@click.argument("models", type=options.FILE, nargs=-1, required=True, metavar="MODEL MODEL...")
@measured
@run
@options.sizes
@options.printing
def bench(models: tuple[Path, ...], measured: Measuring, run: Running, sizes: Mapping[str, int], out: Output) -> None:
    """Time models side by side.

    The models take turns on the same random input, in orders drawn at random, so that a machine that slows down slows
    all of them. The first is what the others are compared with, and takes part twice: by how much it differs from
    itself is the floor below which no difference means anything. Prints medians with 95% confidence intervals of the
    time and of its ratio to the first model's, tails, what the machine did meanwhile, and by how much outputs differ
    from the first model's, relative to their range.

    \b
    Examples:
      onnxprune bench model.onnx small.onnx
      onnxprune bench model.onnx small.onnx --threads 1 --seconds 30 --size batch=8 --fail-if 'p99 > 50ms'
    """
    if measured.layers and run.runtime != "cpu":
        raise UsageError("--layers profiles onnxruntime on the CPU", "leave it out, or take --runtime cpu")
    conditions = [parse_condition(text) for text in measured.fail_if]
    loaded = [api.load(path) for path in models]
    for model in loaded:
        refuse_unknown_sizes(model, sizes)
    how = {"seconds": measured.seconds, "rounds": measured.runs, "tolerance": measured.tolerance, "seed": measured.seed}
    plan = Plan(runtime=run.runtime, setting=run.setting, sizes=sizes, **how)  # type: ignore[arg-type]
    with out.bar("timing") as progress:
        found = compare(loaded, plan, progress)
    layers = _profiled(found, loaded, run, sizes) if measured.layers else {}
    failed = [text for condition in conditions for text in condition.met_by(found)]
    shown = [timing_table(found), tails_table(found), machine_table(found), compared_table(found)]
    shown += [layers_table(layers)] if layers else []
    told = {name: [asdict(part) for part in each.parts] for name, each in layers.items()}
    out.result(found.to_json() | {"layers": told, "failed": failed}, *shown, *failed)
    if failed:
        click.get_current_context().exit(1)


def _profiled(
    found: Comparison, models: Sequence[Model], run: Running, sizes: Mapping[str, int]
) -> dict[str, Attribution]:
    """Where the time of every model goes, by its name."""
    names = [timing.name for timing in found.models]
    analyses = [analyze(model, sizes=sizes) for model in models]
    return {name: attribute(analysis, run.threads) for name, analysis in zip(names, analyses, strict=True)}
