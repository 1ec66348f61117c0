"""Nothing is left behind: pruned graphs against exports of modules that are as narrow, in turns, on one thread.

    python -m benchmarks.latency_native [--networks NAME ...] [--seconds 6]

Half of every group of the networks of `models/` goes, at whole multiples of eight. Should run on a machine that does
nothing else.
"""

import argparse
import copy
import sys
from functools import partial

import onnxprune
from benchmarks.common import all_of, arguments, record
from benchmarks.networks import NETWORKS, built
from benchmarks.record import Benchmark, Check, Column, Record, Row
from onnxprune.graph import Model
from onnxprune.latency import Plan, Setting, compare
from onnxprune.torch.binding import bind
from onnxprune.torch.exporting import export
from onnxprune.torch.filling import filled
from onnxprune.torch.shrinking import shrink

NEAR = 0.01

BENCHMARK = Benchmark(
    name="latency_native",
    claim="Time of the pruned graph by that of an export of the same network made as narrow",
    columns=(
        Column("network", "name"),
        Column("rounds", "rounds", "d"),
        Column("narrow export (ms)", "native", ".3f"),
        Column("pruned graph by it", "ratio", ".4f"),
        Column("from", "low", ".4f"),
        Column("to", "high", ".4f"),
        Column("the export by itself", "floor", ".4f"),
    ),
    rivals=("torch",),
)


def measure(name: str, seconds: float) -> Row:
    """One network's row."""
    network, example = built(name)
    binding = bind(network, example)
    mask = onnxprune.choose(binding.analysis, keep=0.5, round_to=8)
    pruned = onnxprune.apply(filled(binding, network), mask, verify=False)
    small = copy.deepcopy(network)
    shrink(small, binding, mask)
    native = Model(export(small.eval(), example))
    found = compare([native, pruned], Plan(seconds=seconds, setting=Setting(threads=1)))
    first, second = found.models
    row = {"rounds": found.rounds, "native": 1e3 * first.seconds.median, "floor": found.floor.median}
    return row | {"ratio": second.ratio.median, "low": second.ratio.low, "high": second.ratio.high}


def checks(results: Record) -> list[Check]:
    """The pruned graph's time is the narrow export's."""
    near = [abs(row["ratio"] - 1) <= NEAR for row in results.rows.values() if "ratio" in row]
    return [all_of("pruned graphs within 1 % of the time of an export as narrow", near, len(NETWORKS))]


def main() -> int:
    """Measure all networks; 1 if the claim fails."""
    parser = arguments(BENCHMARK)
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS), help="some of them")
    parser.add_argument("--seconds", type=float, default=6.0, help="of a comparison (6)")
    args: argparse.Namespace = parser.parse_args()
    results = record(BENCHMARK, args, seconds=args.seconds)
    for name in args.networks:
        results.add(name, partial(measure, name, args.seconds))
    return results.finish(checks(results))


if __name__ == "__main__":
    sys.exit(main())
