"""Whose time it is: the share of onnxruntime's time that `bench --layers` tells by the nodes of the exported model.

python -m benchmarks.latency_layers --zoo DIR [--seconds 3]
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import onnxprune
from benchmarks.common import all_of, arguments, record
from benchmarks.networks import built
from benchmarks.record import Benchmark, Check, Column, Record, Row
from onnxprune.graph import Model
from onnxprune.latency import attribute
from onnxprune.torch.exporting import export

ZOO = ("resnet50", "mobilenet_v2", "vit_b_16")
OWN = ("yolov3",)
LEAST = 0.95

BENCHMARK = Benchmark(
    name="latency_layers",
    claim="Share of the time of onnxruntime's operators (CPU, one thread) that is told by nodes of the exported model",
    columns=(
        Column("model", "name"),
        Column("nodes", "nodes", "d"),
        Column("parts that run", "parts", "d"),
        Column("milliseconds", "milliseconds", ".2f"),
        Column("told by nodes (%)", "told", ".2f"),
        Column("of it by channel groups (%)", "grouped", ".2f"),
    ),
    needs=("zoo",),
    rivals=("torch",),
)


def models(zoo: Path) -> Mapping[str, Callable[[], Model]]:
    """By name: the exam's, and one of `models/`."""
    exam = {name: partial(onnxprune.load, zoo / f"tv_{name}.onnx") for name in ZOO}
    return {**exam, **{name: partial(_exported, name) for name in OWN}}


def _exported(name: str) -> Model:
    network, example = built(name)
    return Model(export(network.eval(), example[:1]))


def measure(load: Callable[[], Model], seconds: float) -> Row:
    """One model's row."""
    analysis = onnxprune.analyze(load())
    found = attribute(analysis, threads=1, seconds=seconds)
    nodes = len(analysis.trace.graph.nodes)
    grouped = 1 - found.ungrouped / found.seconds
    told = {"told": 100 * found.attributed, "grouped": 100 * grouped}
    return {"nodes": nodes, "parts": len(found.parts), "milliseconds": 1e3 * found.seconds, **told}


def checks(results: Record) -> list[Check]:
    """Nearly all of every model's time is told."""
    enough = [row["told"] >= 100 * LEAST for row in results.rows.values() if "told" in row]
    return [all_of(f"models of which {LEAST:.0%} of the time is told by nodes", enough, len(ZOO) + len(OWN))]


def main() -> int:
    """Measure all models; 1 if too little is told of one."""
    parser = arguments(BENCHMARK)
    parser.add_argument("--seconds", type=float, default=3.0, help="for which each is run (3)")
    args: argparse.Namespace = parser.parse_args()
    results = record(BENCHMARK, args, seconds=args.seconds)
    for name, load in models(args.zoo).items():
        results.add(name, partial(measure, load, args.seconds))
    return results.finish(checks(results))


if __name__ == "__main__":
    sys.exit(main())
