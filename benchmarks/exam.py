"""All benchmarks in order, each in a process of its own: `python -m benchmarks.exam --exam DIR --zoo DIR`.

A stopped run continues where it stopped. At the end stands one table of all checks; 1 if any failed.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from benchmarks import (
    chain,
    corpus,
    corruption,
    cpu_bed,
    exam_exact,
    exam_speed,
    exam_torch_pruning,
    external,
    forecast,
    gate_budgets,
    gate_overhead,
    latency_floor,
    latency_layers,
    latency_native,
    latency_targets,
    resume,
    search_bed,
    search_bees,
    search_executors,
    search_fitness,
    shapes_detection,
    torch_exact,
)
from benchmarks.common import ARGUMENTS, BESIDE
from benchmarks.record import RESULTS, Benchmark, Column, show

BENCHMARKS: tuple[Benchmark, ...] = (
    exam_exact.BENCHMARK,
    corpus.BENCHMARK,
    corruption.BENCHMARK,
    exam_speed.BENCHMARK,
    exam_torch_pruning.BENCHMARK,
    chain.BENCHMARK,
    external.BENCHMARK,
    torch_exact.BENCHMARK,
    gate_budgets.BENCHMARK,
    gate_overhead.BENCHMARK,
    resume.BENCHMARK,
    cpu_bed.BENCHMARK,
    forecast.BENCHMARK,
    shapes_detection.BENCHMARK,
    search_bees.BENCHMARK,
    search_executors.BENCHMARK,
    search_fitness.BENCHMARK,
    search_bed.BENCHMARK,
    latency_floor.BENCHMARK,
    latency_layers.BENCHMARK,
    latency_native.BENCHMARK,
    latency_targets.BENCHMARK,
)
SUMMARY = Benchmark(
    name="checks",
    claim="All checks",
    columns=(
        Column("figure", "figure"),
        Column("required", "required"),
        Column("measured", "measured"),
        Column("passed", "passed"),
    ),
)


def all_checks(folder: Path = RESULTS) -> list[dict]:
    """The checks of all result files that are there."""
    files = [b.path(folder) for b in BENCHMARKS]
    return [check for f in files if f.exists() for check in json.loads(f.read_text())["checks"]]


def run(benchmark: Benchmark, args: argparse.Namespace) -> int:
    """Run one benchmark; its exit code."""
    command = [sys.executable, "-m", f"benchmarks.{benchmark.name}", "--results", str(args.results)]
    for name in benchmark.needs:
        command += [f"--{name}", str(getattr(args, name))]
    return subprocess.run(command + ["--fresh"] * args.fresh, check=False).returncode


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exam", description="Run all benchmarks.")
    for name, options in ARGUMENTS.items():
        parser.add_argument(f"--{name}", **{**options, "default": None if name in BESIDE else options["default"]})
    parser.add_argument("--only", nargs="+", choices=[b.name for b in BENCHMARKS], help="some of the benchmarks")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the result files")
    parser.add_argument("--fresh", action="store_true", help="measure again what the result files hold already")
    args = parser.parse_args()
    for name, place in BESIDE.items():
        setattr(args, name, getattr(args, name) or args.exam.parent / place)
    return args


def main() -> int:
    """Run everything; 1 if a check failed or a benchmark did not end."""
    args = parse()
    codes = [run(b, args) for b in BENCHMARKS if not args.only or b.name in args.only]
    show(SUMMARY, all_checks(args.results), [])
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main())
