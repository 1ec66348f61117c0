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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import BUILD, arguments, record
from benchmarks.gpu_stages import Bed, Figures
from benchmarks.record import Benchmark, Check, Column, Record, Row
from benchmarks.slices import Clock, OutOfTime, pack, seconds_of, telling, unpack
from onnxprune.torch.handover import DENSE, PRUNED
from onnxprune.torch.loop import BEST

GOOD, SMALL = 93.5, 2.3
"""Percent, and millions of parameters: of the published 93.78 and 2.25."""
DROP = 0.5
"""Percentage points that a pruned network may lose."""
TRAINING = 60.0
"""Percent of the late training's multiply-accumulates."""
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


@dataclass(frozen=True)
class Plan:
    """A row: what is published, the trainings that it takes, by their folders, and what they give."""

    published: str
    stages: tuple[str, ...]
    measure: Callable[[Bed], Figures]
    checks: Callable[[Figures], list[Check]]


def vgg19(bed: Bed) -> Figures:
    """Network slimming as published: 160 epochs with the pull, 70 % of the channels go, 160 epochs."""
    sparse = bed.sparse("vgg19", {"channels": 0.3}, 1e-4)
    return left(bed.fine("vgg19"), sparse)


def resnet56(bed: Bed) -> Figures:
    """Network slimming, from the trained network on, to 1/2.1 of its multiply-accumulates."""
    dense = bed.dense("resnet56")
    sparse = bed.sparse("resnet56", {"macs": 1 / 2.1}, 1e-5, "dense")
    return left(bed.fine("resnet56"), sparse) | {"against": "dense", "baseline": 100 * dense["test"]}


def chipnet(bed: Bed) -> Figures:
    """ChipNet, from the same trained network on."""
    dense, found = bed.dense("resnet56"), bed.chip("resnet56", "macs", 0.47)
    return left(found, found) | {"against": "dense", "baseline": 100 * dense["test"]}


def early(bed: Bed) -> Figures:
    """Pruned as soon as the selection has settled against pruned at the end and fine-tuned."""
    sparse = bed.sparse("vgg16", {"channels": 0.3}, 1e-4)
    late, found = bed.fine("vgg16"), bed.early("vgg16", {"channels": 0.3}, 1e-4)
    spent = work(found, bed, "vgg16/early") / (
        work(sparse, bed, "vgg16/sparse") + work(late, bed, "vgg16/fine", sparse)
    )
    baseline = {"against": "late", "baseline": 100 * late["test"]}
    return left(found, found) | baseline | {"training": 100 * spent, "epoch": found["pruned"]["epoch"]}


def left(end: Figures, pruned: Figures) -> Figures:
    """Accuracy and size at the end, given the figures of the training in which the network was pruned."""
    whole = pruned["pruned"]["cost"]["before"]
    macs, params = 100 * end["cost"]["macs"] / whole["macs"], end["cost"]["params"] / 1e6
    return {"accuracy": 100 * end["test"], "macs": macs, "params": params}


def work(found: Figures, bed: Bed, stage: str, before: Figures | None = None) -> float:
    """Multiply-accumulates of a training, in epochs of the whole network.

    `before` are the figures of the training that pruned the network, if this one began with the small one.
    """
    epochs, pruned = bed.recipe(stage).epochs, (before or found)["pruned"]
    share = pruned["cost"]["after"]["macs"] / pruned["cost"]["before"]["macs"]
    first = 0 if before else pruned["epoch"]
    return first + (epochs - first) * share


def at_least(name: str, row: Figures, limit: float) -> Check:
    """The check of an accuracy."""
    return Check(f"{name}: accuracy", f"≥ {limit:g} %", f"{row['accuracy']:.2f} %", row["accuracy"] >= limit)


def at_most(figure: str, value: float, limit: float, unit: str) -> Check:
    """The check of a figure that is to be small."""
    return Check(figure, f"≤ {limit:g}{unit}", f"{value:.3g}{unit}", value <= limit)


def loses(name: str, row: Figures) -> Check:
    """The check of an accuracy against another."""
    drop = row["baseline"] - row["accuracy"]
    return Check(f"{name}: accuracy lost", f"≤ {DROP:g}", f"{drop:.2f}", drop <= DROP)


PLANS: Mapping[str, Plan] = {
    "vgg19": Plan(
        "93.78 % at 2.25 M (slimming, 70 % of the channels)",
        ("vgg19/sparse", "vgg19/fine"),
        vgg19,
        lambda row: [
            at_least("VGG19 without 70 % of its channels", row, GOOD),
            at_most("VGG19 without 70 % of its channels: parameters", row["params"], SMALL, " M"),
        ],
    ),
    "resnet56": Plan(
        "93.5 % and more at 2.1 times fewer MACs",
        ("resnet56/dense", "resnet56/sparse", "resnet56/fine"),
        resnet56,
        lambda row: [
            at_least("ResNet-56 at 2.1 times fewer MACs", row, GOOD),
            at_most("ResNet-56 at 2.1 times fewer MACs: MACs left", row["macs"], 100 / 2.1, " %"),
        ],
    ),
    "chipnet": Plan(
        "next to no drop at 0.47 of the MACs",
        ("resnet56/dense", "resnet56/chip/soft", "resnet56/chip/fine"),
        chipnet,
        lambda row: [
            loses("ChipNet's ResNet-56", row),
            at_most("ChipNet's ResNet-56: MACs left", row["macs"], 47, " %"),
        ],
    ),
    "early": Plan(
        "as good as late pruning, for less training",
        ("vgg16/sparse", "vgg16/fine", "vgg16/early"),
        early,
        lambda row: [
            loses("VGG16 pruned early, against late", row),
            at_most("VGG16 pruned early: training's MACs by the late one's", row["training"], TRAINING, " %"),
            at_most("VGG16 pruned early: epoch", row["epoch"], 20, ""),
        ],
    ),
}


def measure(name: str, bed: Bed) -> Row:
    """One row."""
    found = PLANS[name].measure(bed)
    minutes = seconds_of(bed.work / stage for stage in PLANS[name].stages) / 60
    return {"published": PLANS[name].published, **found, "minutes": minutes}


def checks(results: Record) -> list[Check]:
    """Those of all rows; one that is not measured fails."""
    found = []
    for name, plan in PLANS.items():
        row = results.rows.get(name, {})
        if "accuracy" in row:
            found += plan.checks(row)
        else:
            found.append(Check(f"GPU row {name}", "measured", row.get("failure", "not measured"), False))
    return found


def travels(file: Path) -> bool:
    """Whether a file is needed to go on, or wanted as a result."""
    return file.suffix in (".pt", ".json", ".csv", ".onnx") and file.name not in (DENSE, PRUNED, BEST)


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
    parser.add_argument("--seed", type=int, default=0, help="of everything random (0)")
    parser.add_argument("--workers", type=int, default=4, help="processes that load data, on a GPU (4)")
    args = parser.parse_args()
    args.results = args.out
    return args


def results_of(args: argparse.Namespace) -> Record:
    """The record in OUT, with the rows of the earlier one."""
    there = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if there else "CPU"
    options: dict[str, Any] = {name: getattr(args, name) for name in ("epochs", "images", "seed")}
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
    bed = Bed(args.data, args.work, clock, args.seed, args.epochs, args.images, args.workers)
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
