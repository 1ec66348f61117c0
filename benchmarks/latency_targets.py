"""Latency as a target: twenty architectures, ten targets each, in onnxruntime on one thread of the CPU.

    python -m benchmarks.latency_targets --zoo DIR [--models NAME ...] [--seconds 8]

Every structure is chosen for its target (`choose_within`) and timed anew, in turns with the whole network and with
another structure of as many multiply-accumulates, chosen by them alone; again, on other inputs, until its ratio is
known to within 2 % (at most four times), for what is to be shown is a width of 7 %. What is measured of layers is kept
in `build/latency.json`. Should run on a machine that does nothing else.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import onnxprune
from benchmarks.common import BUILD, add_models, all_of, arguments, at_least, at_most, record, zoo_models
from benchmarks.record import Benchmark, Check, Column, Record, Row
from onnxprune.analysis import Analysis
from onnxprune.budget import candidates, choose
from onnxprune.errors import UsageError
from onnxprune.latency import Plan, Setting, compare
from onnxprune.latency.prediction import MOST, Latency
from onnxprune.latency.statistic import pooled
from onnxprune.latency.target import LEAST, choose_within
from onnxprune.mask import Mask
from onnxprune.ranking import shares

ARCHITECTURES = (
    *("alexnet", "vgg11_bn", "resnet18", "resnet50", "resnext50_32x4d", "densenet121", "googlenet", "mobilenet_v2"),
    *("mobilenet_v3_small", "mnasnet0_5", "efficientnet_b0", "regnet_y_400mf", "regnet_x_400mf", "shufflenet_v2_x1_0"),
    *("squeezenet1_1", "convnext_tiny", "vit_b_16", "swin_t", "deeplabv3_mobilenet_v3_large"),
    "lraspp_mobilenet_v3_large",
)
"""Of the exam's, without the six slowest."""
TARGETS = (0.9, 0.83, 0.77, 0.7, 0.63, 0.57, 0.5, 0.43, 0.37, 0.3)
CLOSE = 0.05
OUT_OF_REACH = "no structure was measured within"
ANOTHERS = range(MOST, MOST + 4)
"""Seeds of inputs and orders that structures were not chosen with."""
KNOWN = 0.02
"""A ratio is known well enough if half of its interval is at most this share of it."""

BENCHMARK = Benchmark(
    name="latency_targets",
    claim="Structures for a share of the network's time: measured anew, and against structures of as many MACs",
    columns=(
        Column("structure", "name"),
        Column("asked", "asked", ".2f"),
        Column("measured", "measured", ".3f"),
        Column("from", "low", ".3f"),
        Column("to", "high", ".3f"),
        Column("sum of its parts", "predicted", ".3f"),
        Column("corrected by tries before", "expected", ".3f"),
        Column("whole (ms)", "whole_ms", ".2f"),
        Column("it (ms)", "ms", ".2f"),
        Column("tries", "tries", "d"),
        Column("MACs left", "macs", ".3f"),
        Column("by MACs alone: its time by ours", "by_macs", ".2f"),
        Column("seconds", "seconds", ".0f"),
    ),
    needs=("zoo",),
)


@dataclass(frozen=True)
class Where:
    """What runs the models, and where times of layers are kept."""

    engine: str = "cpu"
    setting: Setting = field(default_factory=lambda: Setting(threads=1))
    table: Path = BUILD / "latency.json"


def measure(path: Path, share: float, seconds: float, where: Where) -> Row:
    """One target of one architecture."""
    analysis = onnxprune.analyze(onnxprune.load(path))
    start = time.perf_counter()
    try:
        latency = Latency(analysis, where.engine, where.setting, where.table)
        kept = choose_within(latency, share, candidates(analysis))
    except UsageError as error:
        if OUT_OF_REACH not in error.what:
            raise
        return {"asked": share, "refused": str(error), "seconds": time.perf_counter() - start}
    spent = time.perf_counter() - start
    left = shares(analysis, kept.mask, ["macs"])["macs"]
    found = {"predicted": kept.predicted, "expected": kept.expected, "tries": kept.tries}
    row = {"asked": share, **found, "macs": left, "seconds": spent}
    by_macs = choose(analysis, target={"macs": left})
    return row | against(analysis, (kept.mask, by_macs), Plan(seconds, runtime=where.engine, setting=where.setting))


def against(analysis: Analysis, masks: Iterable[Mask], plan: Plan) -> Row:
    """Two structures in turns with the whole network, on other inputs than in the choice, until the first is known."""
    pruned = [onnxprune.apply(analysis.original, mask, verify=False, analysis=analysis) for mask in masks]
    found = []
    for seed in ANOTHERS:
        found.append(compare([analysis, *pruned], replace(plan, seed=seed)).models)
        ours, theirs = (pooled([models[k].ratio for models in found]) for k in (1, 2))
        if ours.half_width <= KNOWN * ours.median:
            break
    whole_ms, ms = (1e3 * statistics.median(models[k].seconds.median for models in found) for k in (0, 1))
    row = {"measured": ours.median, "low": ours.low, "high": ours.high, "whole_ms": whole_ms, "ms": ms}
    return row | {"by_macs": theirs.median / ours.median}


def checks(results: Record) -> list[Check]:
    """None slower, promises kept and used, faster than by MACs alone, and predictions that hold.

    A prediction is the sum of the table's parts, multiplied by what earlier tries of the same search were off by.
    """
    rows = [row for row in results.rows.values() if "measured" in row]
    if not rows:
        return []
    ended = ["failure" not in row for row in results.rows.values()]
    kept = [LEAST * row["asked"] <= row["measured"] <= row["asked"] for row in rows]
    close, plain = ([abs(row[by] / row["measured"] - 1) <= CLOSE for row in rows] for by in ("expected", "predicted"))
    return [
        all_of("targets that were met or out of reach", ended, len(ARCHITECTURES) * len(TARGETS)),
        at_most(
            f"structures of {len(rows)} that are slower than the whole", sum(r["measured"] >= 1 for r in rows), 0, ""
        ),
        at_least("promises that are kept, and used to 93 %", 100 * statistics.mean(kept), 95, " %"),
        at_least("time by MACs alone, as many, median", statistics.median(results.column("by_macs")), 1.15),
        at_least(
            f"predictions within 5 % of what is measured (uncorrected sums: {100 * statistics.mean(plain):.0f} %)",
            *(100 * statistics.mean(close), 90, " %"),
        ),
    ]


def parse() -> argparse.Namespace:
    """The command line."""
    parser = arguments(BENCHMARK)
    add_models(parser)
    parser.add_argument(
        "--seconds", type=float, default=8.0, help="of a measurement of a structure that was chosen (8)"
    )
    return parser.parse_args()


def main() -> int:
    """Measure; 1 if something is missed."""
    args = parse()
    results = record(BENCHMARK, args, seconds=args.seconds)
    for name, path in zoo_models(args.zoo, args.models, ARCHITECTURES).items():
        for share in TARGETS:
            results.add(f"{name} {share:g}", partial(measure, path, share, args.seconds, Where()))
    return results.finish(checks(results))


if __name__ == "__main__":
    sys.exit(main())
