"""Our load + analyze + choose + apply against onnxsim's load + simplify + prune: one process, in turns, warm files.

The protobuf round trip that onnxsim needs between its two steps is not counted.
"""

import statistics
import sys
from functools import partial
from pathlib import Path

import onnx

from benchmarks.common import (
    KEEP,
    Stopwatch,
    add_models,
    add_repeats,
    all_of,
    arguments,
    at_most,
    in_turns,
    laps,
    prune_in_steps,
    ratio,
    record,
    seconds,
    zoo_models,
)
from benchmarks.peers import PEERS
from benchmarks.record import Benchmark, Check, Column, Record, Row

BENCHMARK = Benchmark(
    name="exam_speed",
    claim="Seconds to prune at keep 0.5: onnxprune (load, analyze, choose, apply) and onnxsim (load, simplify, prune)",
    columns=(
        Column("model", "name"),
        Column("load", "load", ".3f"),
        Column("analyze", "analyze", ".3f"),
        Column("choose", "choose", ".3f"),
        Column("apply", "apply", ".3f"),
        Column("onnxprune", "ours", ".3f"),
        Column("onnxsim", "theirs", ".3f"),
        Column("ratio", "ratio", ".2f"),
    ),
    needs=("zoo",),
    rivals=("onnxsim",),
)


def rival(path: Path, watch: Stopwatch) -> onnx.ModelProto:
    """onnxsim's pruning of a file."""
    import onnxsim

    with watch("simplify"):
        simple, _ = onnxsim.simplify(onnx.load(path))
    simple = onnx.ModelProto.FromString(simple.SerializeToString())
    with watch("prune"):
        return onnxsim.apply_structured_pruning(simple, sparsity=KEEP)


def measure(path: Path, repeats: int) -> Row:
    """One model's row."""
    sides = {"ours": partial(prune_in_steps, path), "theirs": partial(rival, path)}
    watches = in_turns(sides, repeats)
    times = {side: seconds(w) for side, w in watches.items()}
    return laps(watches["ours"]) | times | {"ratio": ratio(watches["ours"], watches["theirs"])}


def checks(results: Record) -> list[Check]:
    """The median and the worst of all models' ratios."""
    ratios = results.column("ratio")
    return [
        all_of("models timed", [True] * len(ratios), len(PEERS)),
        at_most("time by onnxsim's, median of the models", statistics.median(ratios) if ratios else None, 1.0),
        at_most("time by onnxsim's, worst model", max(ratios, default=None), 2.0),
    ]


def main() -> int:
    """Measure all models; 1 if the claim fails."""
    parser = arguments(BENCHMARK)
    add_models(parser)
    add_repeats(parser, 5)
    args = parser.parse_args()
    results = record(BENCHMARK, args, keep=KEEP, repeats=args.repeats)
    for name, path in zoo_models(args.zoo, args.models, list(PEERS)).items():
        results.add(name, partial(measure, path, args.repeats))
    return results.finish(checks(results))


if __name__ == "__main__":
    sys.exit(main())
