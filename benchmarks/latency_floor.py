"""How finely `bench` can tell: a model against itself, and against itself with two percent of its time added.

    python -m benchmarks.latency_floor [--trials 100] [--seconds 10] [--model models/zoo/resnet11_cifar10.onnx]

Every trial is what `bench` does of itself: three instances of the model take turns, then others, made anew. The third
one spins for another 2 % of its median time after every run. Should run on a machine that does nothing else.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

import onnxprune
from benchmarks.common import arguments, at_least, at_most, record
from benchmarks.record import Benchmark, Check, Column, Record, Row
from onnxprune.latency import Plan, Setting
from onnxprune.latency.ready import feeds_for, make_ready
from onnxprune.latency.turns import Runs, measure

ADDED = 0.02
MODEL = Path("models/zoo/resnet11_cifar10.onnx")
LOOKS = 20
"""Runs whose median says what 2 % are."""

BENCHMARK = Benchmark(
    name="latency_floor",
    claim="A model's time by its own (1 is right), and with 2 % added, in trials of a few seconds",
    columns=(
        Column("trial", "name"),
        Column("rounds", "rounds", "d"),
        Column("instances", "instances", "d"),
        Column("milliseconds", "milliseconds", ".3f"),
        Column("by its own", "same", ".4f"),
        Column("from", "same_low", ".4f"),
        Column("to", "same_high", ".4f"),
        Column("2 % slower", "slower", ".4f"),
        Column("from", "slower_low", ".4f"),
        Column("to", "slower_high", ".4f"),
    ),
)


class Slower:
    """Runs something, then spins."""

    def __init__(self, run: Callable[[], object]):
        self._run = run
        self._spin = ADDED * statistics.median(self._timed() for _ in range(LOOKS))

    def _timed(self) -> float:
        start = time.perf_counter()
        self._run()
        return time.perf_counter() - start

    def run(self) -> None:
        """Both."""
        self._run()
        end = time.perf_counter() + self._spin
        while time.perf_counter() < end:
            pass


def trial(model: onnxprune.Model, seconds: float, seed: int) -> Row:
    """The ratios of one trial with their intervals."""
    plan = Plan(seconds=seconds, setting=Setting(threads=1), seed=seed)
    ready = make_ready([model] * 3, feeds_for(model, plan), plan)
    count = plan.affordable(ready.build, ready.first)
    found = measure(third_slower(ready.instances), plan, lambda share: None, count)
    milliseconds = 1e3 * float(np.median(found.times[:, 0]))
    row: Row = {"rounds": len(found.times), "instances": count, "milliseconds": milliseconds}
    for name, column in (("same", 1), ("slower", 2)):
        ratio = found.ratio(column)
        row |= {name: ratio.median, f"{name}_low": ratio.low, f"{name}_high": ratio.high}
    return row


def third_slower(instances: Iterator[Runs]) -> Iterator[Runs]:
    """The same, but for the third of each."""
    while True:
        first, again, third = next(instances)
        yield [first, again, Slower(third).run]
        del first, again, third


def checks(results: Record) -> list[Check]:
    """What the issue of a trustworthy report asks for, by the share of all trials."""
    rows = list(results.rows.values())
    if not rows:
        return []
    off = [100 * abs(row["same"] - 1) for row in rows]
    covers = 100 * statistics.mean(row["same_low"] <= 1 <= row["same_high"] for row in rows)
    found = 100 * statistics.mean(row["slower_low"] > 1 for row in rows)
    return [
        at_most("a model's time off its own, in 95 of 100 trials", float(np.quantile(off, 0.95)), 0.5, " %"),
        at_most("a model's time off its own, worst trial", max(off), 1.0, " %"),
        at_least("trials whose interval covers no difference", covers, 93, " %"),
        at_least("trials that find 2 % more time", found, 95, " %"),
    ]


def parse() -> argparse.Namespace:
    """The command line."""
    parser = arguments(BENCHMARK)
    parser.add_argument("--trials", type=int, default=100, help="how many (100)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of a trial (10)")
    parser.add_argument("--model", type=Path, default=MODEL, help=f"to time ({MODEL})")
    return parser.parse_args()


def main() -> int:
    """Measure; 1 if something is missed."""
    args = parse()
    results = record(BENCHMARK, args, seconds=args.seconds, model=args.model.name)
    model = onnxprune.load(args.model)
    for number in range(args.trials):
        results.add(str(number), partial(trial, model, args.seconds, number))
    return results.finish(checks(results))


if __name__ == "__main__":
    sys.exit(main())
