"""Ways to half of ResNet-20's multiply-accumulates, each with as many epochs in all: CIFAR-10 on a CPU, relative.

    python -m benchmarks.cpu_bed [--data FOLDER] [--epochs 12] [--images 10000] [--seeds 3] [--only NAME ...]

Every training works in a folder of its own under `build/bed` and goes on where it was stopped; finished ones are taken
from the result file. Methods that start from a trained network share one of the same seed, whose epochs count.
Accuracies are of the test split, which no method sees before its end.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import onnxprune
from benchmarks.common import BUILD, arguments, record
from benchmarks.record import Benchmark, Check, Column, Record, Row
from models.resnet_cifar import resnet20
from models.tasks import Cifar10
from onnxprune.budget import shares
from onnxprune.mask import Mask
from onnxprune.report.files import document, write_text
from onnxprune.torch.binding import bind
from onnxprune.torch.chipnet import Weights
from onnxprune.torch.forecast import EarlyBird, FixedEpoch
from onnxprune.torch.hooks import Hook
from onnxprune.torch.loop import train
from onnxprune.torch.methods import Chips, Place, Slimming, chip, fine_tune, slim
from onnxprune.torch.recipe import Recipe

MACS = 0.5
FOLDER = BUILD / "bed"
STRENGTH = 1e-3
"""Of the pull on scales: ten times the published one, for a tenth of the epochs."""

BENCHMARK = Benchmark(
    name="cpu_bed",
    claim="Test accuracy (%) of ResNet-20 at half of its multiply-accumulates, all with equal epochs",
    columns=(
        Column("method", "method"),
        Column("seed", "seed"),
        Column("accuracy", "accuracy", ".2f"),
        Column("MACs left (%)", "macs", ".1f"),
        Column("params left (%)", "params", ".1f"),
    ),
    needs=("data",),
    rivals=("torch", "torch-pruning"),
)


@dataclass(frozen=True)
class Bed:
    """One seed's trainings.

    Attributes:
        task: with its data.
        recipe: of all epochs.
        folder: of this seed.
    """

    task: Cifar10
    recipe: Recipe
    folder: Path

    def part(self, share: float, **changed: Any) -> Recipe:
        """The recipe for a share of the epochs."""
        return replace(self.recipe, epochs=max(1, round(share * self.recipe.epochs)), **changed)

    def place(self, name: str, weights: Path | None = None) -> Place:
        """A folder to work in."""
        return Place(self.folder / name, weights, resume=True)

    def half(self) -> Path:
        """Weights after half of the epochs on the whole network."""
        fine_tune(self.task, self.part(0.5), self.place("half"))
        return self.folder / "half" / "best.pt"

    def masked(self, name: str, recipe: Recipe, mask: Mask, weights: Path | None) -> dict[str, Any]:
        """The figures of a network made smaller by a mask, then trained."""
        path = self.folder / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, document(mask.to_json()))
        return figures(fine_tune(self.task, recipe, self.place(name, weights), path).figures)

    def analysis(self) -> onnxprune.analysis.Analysis:
        """Of the network."""
        return bind(self.task.model(), self.task.example()).analysis


def figures(outcome: Any) -> dict[str, Any]:
    """What a row needs of an outcome."""
    return {"accuracy": 100 * outcome["test"], "cost": outcome["cost"]}


def dense(bed: Bed) -> dict[str, Any]:
    """The whole network, for comparison."""
    return figures(fine_tune(bed.task, bed.recipe, bed.place("dense")).figures)


def uniform(bed: Bed) -> dict[str, Any]:
    """The same share of every group, as large as fits, trained from scratch."""
    analysis = bed.analysis()
    for keep in np.arange(1.0, 0.0, -1 / 64):
        mask = onnxprune.choose(analysis, keep=float(keep))
        if shares(analysis, mask, ["macs"])["macs"] <= MACS:
            return bed.masked("uniform", bed.recipe, mask, None)
    raise RuntimeError("no width fits")


def random(bed: Bed) -> dict[str, Any]:
    """Half of the epochs, then units at random go, then the other half."""
    mask = onnxprune.choose(bed.analysis(), target={"macs": MACS}, score="random", seed=bed.recipe.seed)
    return bed.masked("random", bed.part(0.5), mask, bed.half())


def slimming(bed: Bed) -> dict[str, Any]:
    """Half of the epochs with the pull, then the smallest scales go, then the other half."""
    how = Slimming({"macs": MACS}, FixedEpoch(max(1, bed.recipe.epochs // 2)), strength=STRENGTH)
    return figures(slim(bed.task, bed.recipe, how, bed.place("slimming")).figures)


def early(bed: Bed) -> dict[str, Any]:
    """The pull until the selection has settled, then what a moving average forecasts to be small goes."""
    how = Slimming({"macs": MACS}, EarlyBird(lookback=2), forecaster="sma", strength=STRENGTH)
    return figures(slim(bed.task, bed.recipe, how, bed.place("early")).figures)


def chipnet(bed: Bed) -> dict[str, Any]:
    """Half of the epochs, a quarter to learn the gates, a quarter after."""
    soft = bed.part(0.25, lr=1e-3, optimizer="adamw", schedule="constant", warmup=0.0)
    steps = soft.epochs * (bed.task.images or 45_000) // soft.batch
    chips = Chips("macs", MACS, Weights(), lr=20 / steps)  # published: psi can move by about 30 in all
    place = bed.place("chipnet", bed.half())
    return figures(chip(bed.task, soft, bed.part(0.25), chips, place).figures)


class GroupNorm(Hook):
    """Torch-Pruning's regularizer of group norms (Fang et al. 2023, arXiv 2301.12900)."""

    def __init__(self, pruner: Any, network: nn.Module):
        self.pruner, self.network = pruner, network
        pruner.update_regularizer()

    def after_backward(self) -> None:
        self.pruner.regularize(self.network)


def group_norm(bed: Bed) -> dict[str, Any]:
    """Torch-Pruning: half of the epochs with its regularizer, then its pruning, then the other half."""
    import torch_pruning as tp

    torch.manual_seed(bed.recipe.seed)
    network, example = bed.task.model(), bed.task.example()

    def pruner(module: nn.Module, ratio: float) -> Any:
        return tp.pruner.GroupNormPruner(
            module,
            example,
            importance=tp.importance.GroupNormImportance(p=2),
            global_pruning=True,
            pruning_ratio=ratio,
            ignored_layers=[module.head],
        )

    place = bed.place("group_norm")
    hook = GroupNorm(pruner(network, 0.5), network)
    train(bed.task, network, bed.part(0.5), [hook], folder=place.folder / "sparse", resume=True)
    small = first_below(network, pruner, example)
    run = train(bed.task, small, bed.part(0.5), folder=place.folder / "fine", resume=True)
    cost = tp.utils.count_ops_and_params(small, example[:1])
    return {"accuracy": 100 * run.evaluate("test"), "cost": {"macs": cost[0], "params": cost[1]}}


def first_below(network: nn.Module, pruner: Callable[[nn.Module, float], Any], example: torch.Tensor) -> nn.Module:
    """The network pruned by the smallest ratio that meets the budget, in steps of a hundredth."""
    import copy

    import torch_pruning as tp

    limit = MACS * tp.utils.count_ops_and_params(network, example[:1])[0]
    for percent in range(1, 100):
        small = copy.deepcopy(network)
        pruner(small, percent / 100).step()
        if tp.utils.count_ops_and_params(small, example[:1])[0] <= limit:
            return small
    raise RuntimeError("no ratio fits")


METHODS: dict[str, Callable[[Bed], dict[str, Any]]] = {
    "dense": dense,
    "uniform from scratch": uniform,
    "random mask": random,
    "slimming": slimming,
    "early pruning": early,
    "ChipNet": chipnet,
    "Torch-Pruning group norm": group_norm,
}


def measure(name: str, bed: Bed) -> Row:
    """One method and seed."""
    found = METHODS[name](bed)
    whole = bed.analysis().cost
    left = {key: 100 * found["cost"][key] / getattr(whole, key) for key in ("macs", "params")}
    return {"method": name, "seed": bed.recipe.seed, "accuracy": found["accuracy"], **left}


def checks(results: Record) -> list[Check]:
    """What must hold of any result: budgets are met. Who wins is in the table."""
    spent = [row["macs"] for row in results.rows.values() if row.get("method") not in (None, "dense")]
    text = f"{max(spent):.1f} %" if spent else "nothing measured"
    return [
        Check(
            "most MACs that a pruned ResNet-20 has",
            f"≤ {100 * MACS:g} %",
            text,
            bool(spent) and max(spent) <= 100 * MACS + 0.05,
        )
    ]


def summary(results: Record) -> list[str]:
    """Mean and 95 % interval (Student) of every method over the seeds."""
    lines = []
    for name in METHODS:
        values = [row["accuracy"] for row in results.rows.values() if row.get("method") == name]
        if len(values) > 1:
            wide = {2: 12.71, 3: 4.303, 4: 3.182, 5: 2.776}.get(len(values), 2.571)
            margin = wide * statistics.stdev(values) / len(values) ** 0.5
            lines.append(f"{name}: {statistics.mean(values):.2f} +- {margin:.2f} % over {len(values)} seeds")
    return lines


def parse() -> argparse.Namespace:
    """The command line."""
    parser = arguments(BENCHMARK)
    parser.add_argument("--epochs", type=int, default=12, help="of every method in all (12)")
    parser.add_argument("--images", type=int, default=10_000, help="of the training data (10000)")
    parser.add_argument("--seeds", type=int, default=3, help="repetitions (3)")
    parser.add_argument("--only", nargs="+", choices=list(METHODS), default=list(METHODS), help="some of the methods")
    return parser.parse_args()


def main() -> int:
    """Run all methods on all seeds; 1 if a budget is exceeded."""
    args = parse()
    results = record(BENCHMARK, args, epochs=args.epochs, images=args.images, strength=STRENGTH)
    task = Cifar10(resnet20, args.data, args.images)
    for seed in range(args.seeds):
        recipe = Recipe(args.epochs, batch=64, lr=0.1, weight_decay=1e-3, seed=seed, device="cpu")
        bed = Bed(task, recipe, FOLDER / f"{args.epochs}-{args.images}-{seed}")
        for name in args.only:
            results.add(f"{name} {seed}", partial(measure, name, bed))
    code = results.finish(checks(results))
    print(*summary(results), sep="\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
