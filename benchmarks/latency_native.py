"""Nothing is left behind: pruned graphs against exports of modules that are as narrow, in turns, on one thread.

    python -m benchmarks.latency_native [--networks NAME ...] [--seconds 4] [--repeats 5]

Half of every group of the networks of `models/` goes, at whole multiples of eight. What onnxruntime makes of both is
compared, too: how many nodes of each operator there are, and the shapes of all stored tensors. (As they are exported
they may differ by an Identity: PyTorch's exporter stores equal tensors once.) Times are compared several times, each
with eight instances of both. Should run on a machine that does nothing else.
"""

import argparse
import copy
import sys
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import GraphProto

import onnxprune
from benchmarks.common import all_of, arguments, record
from benchmarks.networks import NETWORKS, built
from benchmarks.record import Benchmark, Check, Column, Record, Row
from onnxprune.execution import random_inputs
from onnxprune.graph import Model
from onnxprune.latency import Plan, Setting, compare
from onnxprune.latency.runtimes import runtime
from onnxprune.search.comparison import interval
from onnxprune.torch.binding import bind
from onnxprune.torch.exporting import export
from onnxprune.torch.filling import filled
from onnxprune.torch.shrinking import shrink

NEAR = 0.01
REPEATS = 5

BENCHMARK = Benchmark(
    name="latency_native",
    claim="Time of the pruned graph by that of an export of the same network made as narrow",
    columns=(
        Column("network", "name"),
        Column("nodes", "nodes", "d"),
        Column("that run", "optimised", "d"),
        Column("others than of the export", "left_behind", "d"),
        Column("rounds", "rounds", "d"),
        Column("narrow export (ms)", "native", ".3f"),
        Column("pruned graph by it", "ratio", ".4f"),
        Column("from", "low", ".4f"),
        Column("to", "high", ".4f"),
        Column("the export by itself", "floor", ".4f"),
    ),
    rivals=("torch", "scipy"),
)


def measure(name: str, seconds: float, repeats: int = REPEATS) -> Row:
    """One network's row."""
    network, example = built(name)
    binding = bind(network, example)
    mask = onnxprune.choose(binding.analysis, keep=0.5, round_to=8)
    pruned = onnxprune.apply(filled(binding, network), mask, verify=False)
    small = copy.deepcopy(network)
    shrink(small, binding, mask)
    native = Model(export(small.eval(), example))
    return structure(native, pruned) | times(native, pruned, seconds, repeats)


def structure(native: Model, pruned: Model) -> Row:
    """How many nodes there are, and how many nodes and shapes one has that the other has not."""
    theirs, ours = (optimised(each) for each in (native, pruned))
    others = (parts(theirs) - parts(ours)) + (parts(ours) - parts(theirs))
    return {"nodes": len(pruned.proto.graph.node), "optimised": len(ours.node), "left_behind": others.total()}


def parts(graph: GraphProto) -> Counter[tuple[str, object]]:
    """Nodes by operator, and stored tensors by shape."""
    nodes = (("node", node.op_type) for node in graph.node)
    return Counter([*nodes, *(("tensor", tuple(tensor.dims)) for tensor in graph.initializer)])


def optimised(model: Model) -> GraphProto:
    """What onnxruntime makes of a model and runs."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "optimised.onnx"
        feeds = random_inputs(model, 0)
        runtime("cpu").prepare(model, feeds, Setting(threads=1, optimized=path))
        return onnx.load(path, load_external_data=False).graph


def times(native: Model, pruned: Model, seconds: float, repeats: int) -> Row:
    """Means of several comparisons, with the interval of what differs between them (Student's t)."""
    plan = Plan(seconds=seconds, setting=Setting(threads=1))
    found = [compare([native, pruned], replace(plan, seed=seed)) for seed in range(repeats)]
    mean, wide = interval([each.models[1].ratio.median for each in found]) or (np.nan, None)
    wide = np.inf if wide is None else wide
    told = {
        "rounds": sum(each.rounds for each in found),
        "native": 1e3 * float(np.median([each.models[0].seconds.median for each in found])),
        "floor": float(np.mean([each.floor.median for each in found])),
    }
    return told | {"ratio": mean, "low": mean - wide, "high": mean + wide}


def checks(results: Record) -> list[Check]:
    """The pruned graph is the narrow export, and its time is."""
    rows = [row for row in results.rows.values() if "ratio" in row]
    near, same = [abs(row["ratio"] - 1) <= NEAR for row in rows], [row["left_behind"] == 0 for row in rows]
    return [
        all_of("pruned graphs within 1 % of the time of an export as narrow", near, len(NETWORKS)),
        all_of("pruned graphs of which the same operators run, with tensors of the same shapes", same, len(NETWORKS)),
    ]


def main() -> int:
    """Measure all networks; 1 if the claim fails."""
    parser = arguments(BENCHMARK)
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS), help="some of them")
    parser.add_argument("--seconds", type=float, default=4.0, help="of a comparison (4)")
    parser.add_argument("--repeats", type=int, default=REPEATS, help=f"of a comparison ({REPEATS})")
    args: argparse.Namespace = parser.parse_args()
    results = record(BENCHMARK, args, seconds=args.seconds, repeats=args.repeats)
    for name in args.networks:
        results.add(name, partial(measure, name, args.seconds, args.repeats))
    return results.finish(checks(results))


if __name__ == "__main__":
    sys.exit(main())
