"""Chains of up to 100,000 nodes: our five steps against plain `onnx.load` + `onnx.save`, and linear growth.

Three kinds: Relu alone between two convolutions; 1x1 convolutions of 8 channels, each with a weight of its own, and
Relu; and residual additions, which tie the whole chain into one group.
"""

import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

import onnxprune
from benchmarks.common import (
    Stopwatch,
    add_repeats,
    arguments,
    at_most,
    in_turns,
    laps,
    prune_in_steps,
    ratio,
    record,
    seconds,
    settle_disk,
)
from benchmarks.record import Benchmark, Check, Column, Record, Row

SIZES = (1_000, 10_000, 100_000)
WIDTH = 8
SLOWEST = 8.0
LINEAR = 1.5

BENCHMARK = Benchmark(
    name="chain",
    claim="Seconds for a chain of nodes: load, analyze, choose, apply, save; and plain onnx.load + onnx.save",
    columns=(
        Column("chain", "kind"),
        Column("nodes", "nodes", ",d"),
        Column("load", "load", ".3f"),
        Column("analyze", "analyze", ".3f"),
        Column("choose", "choose", ".3f"),
        Column("apply", "apply", ".3f"),
        Column("save", "save", ".3f"),
        Column("onnxprune", "ours", ".3f"),
        Column("onnx.load + save", "plain", ".3f"),
        Column("ratio", "ratio", ".2f"),
        Column("µs a node", "per_node", ".1f"),
    ),
)


def relus(k: int) -> Iterator[NodeProto]:
    """Step k of the chain of Relu alone."""
    yield helper.make_node("Relu", [f"t{k}"], [f"t{k + 1}"], f"relu{k}")


def convolutions(k: int) -> Iterator[NodeProto]:
    """Step k of the chain of convolutions, two nodes."""
    yield helper.make_node("Conv", [f"t{k}", f"w{k}"], [f"c{k}"], f"conv{k}")
    yield helper.make_node("Relu", [f"c{k}"], [f"t{k + 1}"], f"relu{k}")


def residuals(k: int) -> Iterator[NodeProto]:
    """Step k of the chain of residual additions, two nodes."""
    yield helper.make_node("Relu", [f"t{k}"], [f"r{k}"], f"relu{k}")
    yield helper.make_node("Add", [f"t{k}", f"r{k}"], [f"t{k + 1}"], f"add{k}")


KINDS = {"Relu": relus, "Conv, Relu": convolutions, "Relu, residual Add": residuals}


def weight(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> TensorProto:
    """A seeded weight."""
    return numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)


def build(kind: str, nodes: int) -> onnx.ModelProto:
    """A chain with a convolution at either end; `nodes` is the number of all its nodes."""
    rng = np.random.default_rng(0)
    steps = (nodes - 2) // len(list(KINDS[kind](0)))
    chain = [helper.make_node("Conv", ["x", "first"], ["t0"], "first")]
    chain += [node for k in range(steps) for node in KINDS[kind](k)]
    chain += [helper.make_node("Conv", [f"t{steps}", "last"], ["y"], "last")]
    own = [n.input[1] for n in chain[1:-1] if n.op_type == "Conv"]
    weights = [weight(name, (WIDTH, WIDTH, 1, 1), rng) for name in own]
    weights += [weight("first", (WIDTH, 3, 1, 1), rng), weight("last", (4, WIDTH, 1, 1), rng)]
    ends = [helper.make_tensor_value_info(n, 1, (1, c, 4, 4)) for n, c in (("x", 3), ("y", 4))]
    graph = helper.make_graph(chain, "chain", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def ours(path: Path, out: Path, watch: Stopwatch) -> None:
    """All five steps of ours."""
    *_, pruned = prune_in_steps(path, watch)
    with watch("save"):
        onnxprune.save(pruned, out)


def plain(path: Path, out: Path, watch: Stopwatch) -> None:
    """What reading and writing alone cost."""
    with watch("load and save"):
        onnx.save(onnx.load(path), out)


def measure(kind: str, nodes: int, repeats: int) -> Row:
    """One chain's row."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "chain.onnx"
        onnx.save(build(kind, nodes), path)
        sides = {
            "ours": partial(ours, path, folder / "ours.onnx"),
            "plain": partial(plain, path, folder / "plain.onnx"),
        }
        watches = in_turns(sides, repeats, settle_disk)
    times = {side: seconds(w) for side, w in watches.items()}
    per_node = {"per_node": 1e6 * times["ours"] / nodes, "ratio": ratio(watches["ours"], watches["plain"])}
    return {"kind": kind, "nodes": nodes} | laps(watches["ours"]) | times | per_node


def growth(results: Record, kind: str) -> float:
    """How much dearer a node gets from one size to the next, at most; 1 where time grows linearly."""
    cost = [row["per_node"] for row in results.rows.values() if row.get("kind") == kind]
    return max((after / before for before, after in pairwise(cost)), default=float("inf"))


def checks(results: Record) -> list[Check]:
    """Speed at the largest size and growth, by kind."""
    found = []
    for kind in KINDS:
        row = results.rows.get(f"{kind}, {SIZES[-1]:,} nodes", {})
        found.append(at_most(f"{kind}: time by onnx.load + save at {SIZES[-1]:,} nodes", row.get("ratio"), SLOWEST))
        figure = f"{kind}: cost of a node by that in a chain ten times shorter"
        found.append(at_most(figure, growth(results, kind), LINEAR))
    return found


def main() -> int:
    """Measure all chains; 1 if the claim fails."""
    parser = arguments(BENCHMARK)
    add_repeats(parser, 5)
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, help="numbers of nodes")
    args = parser.parse_args()
    results = record(BENCHMARK, args, repeats=args.repeats)
    for kind in KINDS:
        for nodes in args.sizes:
            row = f"{kind}, {nodes:,} nodes"
            results.add(row, partial(measure, kind, nodes, args.repeats))
    return results.finish(checks(results))


if __name__ == "__main__":
    sys.exit(main())
