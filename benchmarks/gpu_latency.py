"""Dense against latency-pruned on a GPU that is lent for minutes at a time, batches of 1 and of 64.

    python -m benchmarks.gpu_latency --prepare --exam DIR [--models build/gpu_latency]
    python -m benchmarks.gpu_latency --out OUT [--from LAST_OUT] [--until 560] [--runtime cuda] [--models ...]

The first line exports the models, without their weights, so that they are small enough to travel; it needs the exam's
environment. The second one fills them with random weights, prunes each to `--target` of its time in the runtime, and
times it in turns with the whole and with a structure of as many multiply-accumulates. Where the time is up it ends with
status 75, and the same command goes on with the OUT of before.
"""

import argparse
import os
import shutil
import sys
from functools import partial
from pathlib import Path

import onnx

from benchmarks.common import BUILD, arguments, at_least, at_most, load_module, record
from benchmarks.hollow import hollowed, refilled
from benchmarks.latency_targets import Where, measure
from benchmarks.record import Benchmark, Check, Column, Record, Row
from benchmarks.slices import Clock, OutOfTime
from onnxprune.latency import RUNTIMES, Setting

BATCHES = (1, 64)
EXAM = ("resnet50", "mobilenet_v2", "vit_b_16")
OWN = ("yolov3",)
SIDES = {"yolov3": (416, 416)}
TABLE = "latency.json"
UNFINISHED = os.EX_TEMPFAIL

BENCHMARK = Benchmark(
    name="gpu_latency",
    claim="Time of latency-pruned networks by that of the whole on a GPU, and against structures of as many MACs",
    columns=(
        Column("network", "name"),
        Column("asked", "asked", ".2f"),
        Column("measured", "measured", ".3f"),
        Column("from", "low", ".3f"),
        Column("to", "high", ".3f"),
        Column("predicted", "predicted", ".3f"),
        Column("whole (ms)", "whole_ms", ".3f"),
        Column("it (ms)", "ms", ".3f"),
        Column("MACs left", "macs", ".3f"),
        Column("by MACs alone: its time by ours", "by_macs", ".2f"),
    ),
    needs=("exam",),
)


def prepare(exam: Path, folder: Path) -> None:
    """Export all models, and write them without weights."""
    import torch

    from models.yolov3 import yolov3
    from onnxprune.torch.exporting import export

    sys.path.insert(0, str(exam))
    zoo = load_module(exam / "zoo.py")
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*EXAM, *OWN):
        network, example = (
            zoo.build(f"tv:{name}") if name in EXAM else (yolov3().eval(), (torch.randn(1, 3, 416, 416),))
        )
        for batch in BATCHES:
            images = example[0].repeat(batch, 1, 1, 1)
            onnx.save(hollowed(export(network, images)), folder / f"{name}-{batch}.onnx")
            print(f"{name}, batch {batch}: exported", flush=True)


def row(args: argparse.Namespace, file: Path, clock: Clock) -> Row:
    """One model and batch.

    Raises:
        OutOfTime: there is no time left for it.
    """
    clock.left()
    path = BUILD / "filled.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(refilled(onnx.load(file)), path)
    with clock.alarm():
        return measure(path, args.target, args.seconds, Where(args.runtime, Setting(), args.out / TABLE))


def checks(results: Record) -> list[Check]:
    """None slower, and faster than by multiply-accumulates alone."""
    rows = [found for found in results.rows.values() if "measured" in found]
    ratios = sorted(found["by_macs"] for found in rows)
    median = ratios[len(ratios) // 2] if ratios else None
    return [
        at_most("networks on a GPU that are slower than the whole", sum(r["measured"] >= 1 for r in rows), 0, ""),
        at_least("time by MACs alone on a GPU, as many, median", median, 1.15),
    ]


def parse() -> argparse.Namespace:
    """The command line."""
    parser = arguments(BENCHMARK)
    parser.add_argument("--prepare", action="store_true", help="export the models")
    parser.add_argument("--models", type=Path, default=BUILD / "gpu_latency", help="folder of the exported models")
    parser.add_argument("--out", type=Path, default=BUILD / "gpu_latency_out", help="gets results and times of layers")
    parser.add_argument("--from", type=Path, dest="before", metavar="FOLDER", help="the --out of an earlier slice")
    parser.add_argument("--until", type=float, metavar="SECONDS", help="when to stop")
    parser.add_argument("--runtime", choices=list(RUNTIMES), default="cuda", help="what runs them (cuda)")
    parser.add_argument("--target", type=float, default=0.6, help="share of the time (0.6)")
    parser.add_argument("--seconds", type=float, default=4.0, help="of the last measurement of a structure (4)")
    args = parser.parse_args()
    args.results = args.out
    return args


def main() -> int:
    """Prepare, or measure until the time is up; 1 if a check failed."""
    args = parse()
    if args.prepare:
        prepare(args.exam, args.models)
        return 0
    args.out.mkdir(parents=True, exist_ok=True)
    for name in (BENCHMARK.path(Path()).name, TABLE):
        if args.before and (args.before / name).exists() and not (args.out / name).exists():
            shutil.copy(args.before / name, args.out / name)
    files = sorted(args.models.glob("*.onnx"))
    results, clock = record(BENCHMARK, args, runtime=args.runtime, target=args.target), Clock(args.until)
    try:
        for file in files:
            results.add(file.stem, partial(row, args, file, clock))
    except OutOfTime:
        print("the time is up; the same command goes on", flush=True)
        return UNFINISHED
    return results.finish(checks(results))


if __name__ == "__main__":
    sys.exit(main())
