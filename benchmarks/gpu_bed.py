"""Published figures on CIFAR-10, on one GPU that is lent for minutes at a time.

    python -m benchmarks.gpu_bed --row vgg19 --data FOLDER --out OUT --until 560 [--from LAST_OUT] [--work build/gpu]

A row is trained in `--work` until it is done (exit status 0, or 1 if a check fails) or the time is up (75): then the
same command goes on. Where `--work` is lost in between, OUT has what is needed: the results, `gpu_bed.json`, and the
state in pieces, which `--from` puts back. The state of a whole VGG in the middle of its training (118 MB or more) is
too large to travel: the training that prunes it has to end while the machine is there. What is left behind is said.

Trained on 49,000 images; of the others, 1,000, no choice is made but ChipNet's of a mask. Accuracies are of the test
split by the weights of the last epoch. On JPEG copies of CIFAR-10 they may differ by a few tenths from published ones.
`--epochs` and `--images` make everything short, to try whether it runs.
"""

import argparse
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import BUILD, arguments, record
from benchmarks.gpu_rows import PLANS, checks, measure
from benchmarks.gpu_stages import Bed
from benchmarks.record import Benchmark, Column, Record
from benchmarks.slices import Clock, OutOfTime, pack, telling, unpack
from onnxprune.torch.handover import DENSE, FOLDED, PRUNED
from onnxprune.torch.loop import BEST

UNFINISHED = os.EX_TEMPFAIL

BENCHMARK = Benchmark(
    name="gpu_bed",
    claim="Test accuracy (%) on CIFAR-10 of pruned networks, by published recipes",
    columns=(
        Column("row", "name"),
        Column("published", "published"),
        Column("accuracy", "accuracy", ".2f"),
        Column("against", "against"),
        Column("its accuracy", "baseline", ".2f"),
        Column("MACs left (%)", "macs", ".1f"),
        Column("params (M)", "params", ".3f"),
        Column("training's MACs by the late one's (%)", "training", ".1f"),
        Column("minutes of training", "minutes", ".0f"),
    ),
    needs=("data",),
    rivals=("torch",),
)


def travels(file: Path) -> bool:
    """Whether a file is needed to go on, or wanted as a result."""
    return file.suffix in (".pt", ".json", ".jsonl", ".csv", ".onnx") and file.name not in (DENSE, FOLDED, PRUNED, BEST)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = arguments(BENCHMARK)
    parser.add_argument("--row", choices=list(PLANS), required=True, help="what to train")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="gets results and state")
    parser.add_argument("--from", type=Path, dest="before", metavar="FOLDER", help="the --out of an earlier slice")
    parser.add_argument("--until", type=float, metavar="SECONDS", help="when to stop")
    parser.add_argument("--work", type=Path, default=BUILD / "gpu", help="where trainings work (build/gpu)")
    parser.add_argument("--epochs", type=int, help="of every training at most")
    parser.add_argument("--images", type=int, help="of every split at most")
    parser.add_argument("--evaluations", type=int, default=400, help="of every search (400)")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (0)")
    parser.add_argument("--workers", type=int, default=4, help="processes that load data, on a GPU (4)")
    args = parser.parse_args()
    args.results = args.out
    return args


def results_of(args: argparse.Namespace) -> Record:
    """The record in OUT, with the rows of the earlier one."""
    there = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if there else "CPU"
    options: dict[str, Any] = {name: getattr(args, name) for name in ("epochs", "images", "evaluations", "seed")}
    old = BENCHMARK.path(args.before) if args.before else None
    if old is not None and old.exists() and not BENCHMARK.path(args.out).exists():
        args.out.mkdir(parents=True, exist_ok=True)
        BENCHMARK.path(args.out).write_bytes(old.read_bytes())
    return record(BENCHMARK, args, device=device, **options)


def main() -> int:
    """Train a row for a slice of time; 75 if it is not done yet, 1 if a check fails."""
    args, code = parse(), UNFINISHED
    clock = Clock(args.until)
    if args.before:
        unpack(args.before, args.work)
    results = results_of(args)
    bed = Bed(args.data, args.work, clock, args.seed, args.epochs, args.images, args.evaluations, args.workers)
    logs = {args.work / stage: bed.recipe(stage).epochs for stage in PLANS[args.row].stages}
    try:
        with clock.alarm(), telling(logs, args.row):
            results.add(args.row, partial(measure, args.row, bed))
        code = results.finish(checks(results))
    except OutOfTime:
        print(f"{args.row}: not done; the same command goes on")
    finally:
        for name in pack(args.work, travels, args.out):
            print(f"{name} is too large to travel: go on where {args.work} is")
    return code


if __name__ == "__main__":
    sys.exit(main())
