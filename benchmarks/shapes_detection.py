"""A small YOLOv3 on synthetic shapes, on a CPU: sparse training, mask, apply, mean average precision, end to end.

    python -m benchmarks.shapes_detection [--epochs 4] [--seeds 3] [--jobs 1]

For every seed the network is trained three times: with `slim`, which prunes it half-way, and twice as it is: with the
same loss of the boxes, as a control, and with another one (see `models/detection/loss.py`). Every training works on one
core, in a folder of its own under `build/shapes`, and goes on where it was stopped; finished seeds are taken from the
result file. All mAP are at an IoU of 0.5, of the 1,000 test images, by the weights of the last epoch. Time is what the
core worked for a training and all that belongs to it: export, pruning, proof, validation, test; it is known of those
that came to their end in one go. The clock on the wall, for training alone, tells how much else the machine had to do.
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from torch.utils.data import DataLoader

from benchmarks.common import BUILD, add_jobs, all_of, arguments, at_most, record
from benchmarks.record import Benchmark, Check, Column, Record, Row
from benchmarks.slices import seconds_of
from models.detection.loss import Placing, by_offset, by_overlap
from models.detection.task import ShapesDetection
from onnxprune.report.files import document, write_text
from onnxprune.torch.forecast import FixedEpoch
from onnxprune.torch.handover import TRAINED
from onnxprune.torch.jobs import Place
from onnxprune.torch.loop import LAST
from onnxprune.torch.methods import fine_tune
from onnxprune.torch.recipe import Recipe
from onnxprune.torch.slim import Slimming, slim

MACS = 0.6
FOLDER = BUILD / "shapes"
LEAST = 0.4
"""mAP of a pruned network; an untrained one has 0."""
SAME = 0.5
"""Difference of mAP (%) between runtimes: roundings change the order of detections of nearly equal scores."""
MINUTES = 10
WORKED = "worked.json"

BENCHMARK = Benchmark(
    name="shapes_detection",
    claim="YOLOv3 on synthetic shapes: sparse training, mask, apply and mAP, end to end on a core of a CPU in minutes",
    columns=(
        Column("seed", "seed"),
        Column("mAP pruned", "pruned", ".3f"),
        Column("in onnxruntime", "onnx", ".3f"),
        Column("mAP dense", "dense", ".3f"),
        Column("dense, by CIoU", "overlap", ".3f"),
        Column("MACs left (%)", "macs", ".1f"),
        Column("params left (%)", "params", ".1f"),
        Column("exact", "exact"),
        Column("error", "error", ".1e"),
        Column("seconds of a core", "seconds", ".0f"),
        Column("by the clock", "clock", ".0f"),
    ),
    rivals=("torch", "pycocotools"),
)


@dataclass(frozen=True)
class Bed:
    """One seed's trainings: how, and the folder of all."""

    recipe: Recipe
    folder: Path

    def place(self, name: str) -> Place:
        """A folder to work in."""
        return Place(self.folder / name, resume=True)

    def dense(self, name: str, placing: Placing) -> float:
        """mAP of the whole network."""
        return float(fine_tune(ShapesDetection(placing), self.recipe, self.place(name)).figures["test"])

    def pruned(self) -> dict[str, Any]:
        """The figures of a network that is pruned in the middle of its training."""
        how = Slimming({"macs": MACS}, FixedEpoch(max(1, self.recipe.epochs // 2)))
        place, start = self.place("pruned"), time.process_time()
        in_one_go = not (place.folder / LAST).exists()
        figures = slim(ShapesDetection(), self.recipe, how, place).figures
        if in_one_go:
            write_text(place.folder / WORKED, document({"seconds": time.process_time() - start}))
        return dict(figures)

    def worked(self) -> float | None:
        """Seconds that a core spent on `pruned`, or None if that was stopped in between."""
        path = self.folder / "pruned" / WORKED
        return float(json.loads(path.read_text())["seconds"]) if path.exists() else None


def in_onnxruntime(path: Path, task: ShapesDetection, batch: int = 50) -> float:
    """Test mAP of a model file, by the task's own metric."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    [image], metric = session.get_inputs(), task.metric()
    for images, targets in DataLoader(task.data("test"), batch):
        maps = session.run(None, {image.name: images.numpy()})
        metric.update([torch.from_numpy(each) for each in maps], targets)
    return metric.compute()


def measure(bed: Bed) -> Row:
    """One seed, on one core."""
    torch.set_num_threads(1)
    found = bed.pruned()
    certificate, cost = found["pruned"]["certificate"], found["pruned"]["cost"]
    left = {key: 100 * cost["after"][key] / cost["before"][key] for key in ("macs", "params")}
    return {
        "seed": bed.recipe.seed,
        "pruned": found["test"],
        "onnx": in_onnxruntime(bed.folder / "pruned" / TRAINED, ShapesDetection()),
        "dense": bed.dense("offset", by_offset),
        "overlap": bed.dense("overlap", by_overlap),
        **left,
        "exact": certificate["exact"],
        "error": certificate["error"],
        "seconds": bed.worked(),
        "clock": seconds_of([bed.folder / "pruned"]),
    }


def checks(results: Record, seeds: int) -> list[Check]:
    """Exact, within the budget, the same in onnxruntime, good enough, soon enough."""
    apart = [100 * abs(a - b) for a, b in zip(results.column("pruned"), results.column("onnx"), strict=True)]
    times, worst = results.column("seconds"), min(results.column("pruned"), default=0.0)
    longest = max(times) / 60 if len(times) == seeds else None
    return [
        all_of("small YOLOv3s whose pruning is exact", results.flags("exact"), seeds),
        at_most("most MACs that one has left", max(results.column("macs"), default=None), 100 * MACS, " %"),
        at_most("largest difference of mAP (%) between torch and onnxruntime", max(apart, default=None), SAME, ""),
        Check("lowest mAP@0.5 of a pruned one", f"≥ {LEAST}", f"{worst:.3f}", worst >= LEAST),
        at_most("most work of a core for one", longest, MINUTES, " min"),
    ]


def parse() -> argparse.Namespace:
    """The command line."""
    parser = arguments(BENCHMARK)
    parser.add_argument("--epochs", type=int, default=4, help="of every training (4)")
    parser.add_argument("--seeds", type=int, default=3, help="repetitions (3)")
    add_jobs(parser, "1.5 GB")
    return parser.parse_args()


def bed(epochs: int, seed: int) -> Bed:
    """How a seed is trained, and where."""
    recipe = Recipe(
        epochs, batch=16, lr=3e-3, optimizer="adamw", weight_decay=1e-4, warmup=0.3, clip=20.0, seed=seed, device="cpu"
    )
    return Bed(recipe, FOLDER / f"{epochs}-{seed}")


def main() -> int:
    """Run all seeds; 1 if a check fails."""
    args = parse()
    beds = [bed(args.epochs, seed) for seed in range(args.seeds)]
    results = record(BENCHMARK, args, macs=MACS, recipe=beds[0].recipe.to_json())
    results.add_all({f"seed {bed.recipe.seed}": partial(measure, bed) for bed in beds}, args.jobs)
    return results.finish(checks(results, args.seeds))


if __name__ == "__main__":
    sys.exit(main())
