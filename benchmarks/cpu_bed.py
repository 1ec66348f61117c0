"""Ways to half of ResNet-20's multiply-accumulates, each with as many epochs in all: CIFAR-10 on a CPU, relative.

    python -m benchmarks.cpu_bed [--data FOLDER] [--epochs 12] [--images 10000] [--seeds 3] [--jobs 1] [--only NAME ...]

Every training works in a folder of its own under `build/bed` and goes on where it was stopped; finished ones are taken
from the result file. Methods that start from a trained network share one of the same seed, whose epochs count: that of
half of the epochs, a row of its own. There are two ways to spend epochs on either side of the pruning: one schedule of
the learning rate through all of it, or one before and one after; random masks are tried with both, as the control of
the methods with either. Accuracies are of the test split, which no method sees before its end.
"""

import argparse
import copy
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset, Subset

import onnxprune
from benchmarks.common import BUILD, add_jobs, arguments, record
from benchmarks.record import Benchmark, Check, Column, Record, Row
from models.resnet_cifar import resnet20
from models.tasks import Cifar10
from onnxprune.mask import Mask
from onnxprune.ranking import shares
from onnxprune.report.files import document, write_text
from onnxprune.search import comparison
from onnxprune.torch.binding import Binding, bind
from onnxprune.torch.forecast import EarlyBird, FixedEpoch
from onnxprune.torch.handover import load_weights
from onnxprune.torch.hooks import Hook
from onnxprune.torch.jobs import Place
from onnxprune.torch.loop import train
from onnxprune.torch.methods import Chips, chip, fine_tune
from onnxprune.torch.recipe import Precision, Recipe
from onnxprune.torch.run import Run
from onnxprune.torch.slim import Slimming, slim
from onnxprune.torch.task import Split

MACS = 0.5
VALIDATION = 2_000
FOLDER = BUILD / "bed"
STRENGTH = 1e-3
"""Of the pull on scales: ten times the published one (VGG), for a tenth of the epochs."""
AMP: Precision = "bf16"
"""Of every training, for speed on cores that multiply bfloat16."""
REG = 5e-4
"""Of Torch-Pruning's regularizer, as in its authors' script for CIFAR."""

BENCHMARK = Benchmark(
    name="cpu_bed",
    claim="Test accuracy (%) of ResNet-20 at half of its multiply-accumulates, all with equal epochs",
    columns=(
        Column("method", "method"),
        Column("schedules", "schedules"),
        Column("seed", "seed"),
        Column("accuracy", "accuracy", ".2f"),
        Column("MACs left (%)", "macs", ".1f"),
        Column("params left (%)", "params", ".1f"),
    ),
    needs=("data",),
    rivals=("torch", "torch-pruning"),
)


class Fewer(Cifar10):
    """CIFAR-10 with a part of its validation images: to choose an epoch by, on one core."""

    def data(self, split: Split) -> Dataset:
        data = super().data(split)
        return Subset(data, range(VALIDATION)) if split == "validation" else data


@dataclass(frozen=True)
class Bed:
    """One seed's trainings.

    Attributes:
        task: with its data.
        recipe: of all epochs.
        folder: of this seed.
    """

    task: Fewer
    recipe: Recipe
    folder: Path

    def part(self, share: float, **changed: Any) -> Recipe:
        """The recipe for a share of the epochs."""
        return replace(self.recipe, epochs=max(1, round(share * self.recipe.epochs)), **changed)

    def place(self, name: str, weights: Path | None = None) -> Place:
        """A folder to work in."""
        return Place(self.folder / name, weights, resume=True)

    @property
    def half(self) -> Path:
        """Weights after half of the epochs on the whole network; the method `half` makes them."""
        return self.folder / "half" / "best.pt"

    def masked(self, name: str, recipe: Recipe, mask: Mask, weights: Path | None) -> dict[str, Any]:
        """The figures of a network made smaller by a mask, then trained."""
        path = self.folder / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, document(mask.to_json()))
        return figures(fine_tune(self.task, recipe, self.place(name, weights), path).figures)

    def trained(self) -> tuple[nn.Module, Binding]:
        """The network after half of the epochs, and its binding; `half` must have been there."""
        network = self.task.model()
        load_weights(network, self.half)
        return network, bind(network, self.task.example())

    def uniform(self) -> Mask:
        """The same share of every group, as large as fits."""
        analysis = self.analysis()
        for keep in np.arange(1.0, 0.0, -1 / 64):
            mask = onnxprune.choose(analysis, keep=float(keep))
            if shares(analysis, mask, ["macs"])["macs"] <= MACS:
                return mask
        raise RuntimeError("no width fits")

    def random(self) -> Mask:
        """Units at random go."""
        return onnxprune.choose(self.analysis(), target={"macs": MACS}, score="random", seed=self.recipe.seed)

    def analysis(self) -> onnxprune.analysis.Analysis:
        """Of the network."""
        return bind(self.task.model(), self.task.example()).analysis


def make_bed(data: Path, epochs: int, images: int, seed: int, amp: Precision | None = AMP) -> Bed:
    """A seed's bed."""
    recipe = Recipe(epochs, batch=64, lr=0.1, weight_decay=1e-3, seed=seed, device="cpu", amp=amp)
    return Bed(Fewer(resnet20, data, images), recipe, FOLDER / f"{epochs}-{images}-{amp or 'fp32'}-{seed}")


def add_amp(parser: argparse.ArgumentParser) -> None:
    """The option of trainings' precision."""
    parser.add_argument("--fp32", action="store_true", help="train in single precision: for CPUs without bfloat16")


def amp_of(args: argparse.Namespace) -> Precision | None:
    """What it says."""
    return None if args.fp32 else AMP


def percent_left(bed: Bed, cost: Mapping[str, float]) -> dict[str, float]:
    """What is left of multiply-accumulates and parameters, in percent."""
    whole = bed.analysis().cost
    return {key: 100 * cost[key] / getattr(whole, key) for key in ("macs", "params")}


def figures(outcome: Any) -> dict[str, Any]:
    """What a row needs of an outcome."""
    return {"accuracy": 100 * outcome["test"], "cost": outcome["cost"]}


def dense(bed: Bed) -> dict[str, Any]:
    """The whole network, for comparison."""
    return figures(fine_tune(bed.task, bed.recipe, bed.place("dense")).figures)


def uniform(bed: Bed) -> dict[str, Any]:
    """One width for all groups, trained from scratch."""
    return bed.masked("uniform", bed.recipe, bed.uniform(), None)


def half(bed: Bed) -> dict[str, Any]:
    """The whole network after half of the epochs."""
    return figures(fine_tune(bed.task, bed.part(0.5), bed.place("half")).figures)


def random(bed: Bed) -> dict[str, Any]:
    """Half of the epochs, then units at random go, then the other half with a schedule of its own."""
    return bed.masked("random", bed.part(0.5), bed.random(), bed.half)


class Cut(Hook):
    """Removes a mask's units after so many epochs."""

    def __init__(self, mask: Mask, epoch: int):
        self.mask, self.epoch = mask, epoch

    def after_epoch(self, run: Run) -> Mapping[str, float]:
        if run.epoch == self.epoch and not run.masks:
            run.shrink(self.mask)
        return {}


def random_on(bed: Bed) -> dict[str, Any]:
    """Units at random go in the middle of one training."""
    torch.manual_seed(bed.recipe.seed)
    network, mask = bed.task.model(), bed.random()
    hooks = [Cut(mask, bed.recipe.epochs // 2)]
    run = train(bed.task, network, bed.recipe, hooks, folder=bed.folder / "random_on", resume=True)
    left = shares(bed.analysis(), mask, ["macs", "params"])
    whole = bed.analysis().cost
    cost = {"macs": left["macs"] * whole.macs, "params": left["params"] * whole.params}
    return {"accuracy": 100 * run.evaluate("test"), "cost": cost}


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
    place = bed.place("chipnet", bed.half)
    return figures(chip(bed.task, soft, bed.part(0.25), Chips("macs", MACS), place).figures)


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
            reg=REG,
            importance=tp.importance.GroupMagnitudeImportance(p=2),
            global_pruning=True,
            pruning_ratio=ratio,
            ignored_layers=[module.head],
        )

    place = bed.place("group_norm")
    hook = GroupNorm(pruner(network, 0.5), network)
    train(bed.task, network, bed.part(0.5), [hook], folder=place.folder / "sparse", resume=True)
    small = first_below(bed, network, pruner)
    run = train(bed.task, small, bed.part(0.5), folder=place.folder / "fine", resume=True)
    return {"accuracy": 100 * run.evaluate("test"), "cost": asdict(bind(small, example).analysis.cost)}


def first_below(bed: Bed, network: nn.Module, pruner: Callable[[nn.Module, float], Any]) -> nn.Module:
    """The network pruned by the smallest ratio that meets the budget, in steps of a hundredth; by our count of both."""
    limit, example = MACS * bed.analysis().cost.macs, bed.task.example()
    for percent in range(1, 100):
        small = copy.deepcopy(network)
        pruner(small, percent / 100).step()
        if bind(small, example).analysis.cost.macs <= limit:
            return small
    raise RuntimeError("no ratio fits")


HALF = "half of the epochs"
METHODS: dict[str, tuple[int, Callable[[Bed], dict[str, Any]]]] = {
    "dense": (1, dense),
    "uniform width from scratch": (1, uniform),
    "random mask, trained on": (1, random_on),
    "slimming": (1, slimming),
    "early pruning": (1, early),
    "random mask, fine-tuned": (2, random),
    "ChipNet": (2, chipnet),
    "Torch-Pruning group norm": (2, group_norm),
}
"""By name: how many schedules of the learning rate there are, and the method."""
WHOLE = ("dense", HALF)


def measure(name: str, bed: Bed, threads: int) -> Row:
    """One method and seed."""
    torch.set_num_threads(threads)
    schedules, method = (1, half) if name == HALF else METHODS[name]
    found = method(bed)
    how = {"method": name, "schedules": schedules, "seed": bed.recipe.seed}
    return {**how, "accuracy": found["accuracy"], **percent_left(bed, found["cost"])}


def budget_check(spent: Sequence[float]) -> Check:
    """That networks are within the budget: percents of multiply-accumulates. Who wins is in the table."""
    text = f"{max(spent):.1f} %" if spent else "nothing measured"
    met = bool(spent) and max(spent) <= 100 * MACS + 0.05
    return Check("most MACs that a pruned ResNet-20 has", f"≤ {100 * MACS:g} %", text, met)


def summary(results: Record) -> list[str]:
    """Mean and 95 % interval (Student) of every method over the seeds, and of its difference from the control.

    The control is the random mask with as many schedules and the same seed.
    """
    found = {(row["method"], row["seed"]): row["accuracy"] for row in results.rows.values() if "method" in row}
    controls = {1: "random mask, trained on", 2: "random mask, fine-tuned"}
    lines = []
    for name, (schedules, _) in METHODS.items():
        pairs = {seed: value for (method, seed), value in found.items() if method == name}
        control = controls[schedules]
        against = [value - found[control, seed] for seed, value in pairs.items() if (control, seed) in found]
        less = "" if name == control else f"; less its random control: {interval(against)}"
        lines.append(f"{name}: {interval(list(pairs.values()))} %{less}")
    return lines


def interval(values: Sequence[float], digits: int = 2) -> str:
    """Mean and half of the 95 % interval as text."""
    if not values:
        return "not measured"
    mean, margin = comparison.interval(values)
    return f"{mean:.{digits}f}" if margin is None else f"{mean:.{digits}f} ± {margin:.{digits}f}"


def parse() -> argparse.Namespace:
    """The command line."""
    parser = arguments(BENCHMARK)
    parser.add_argument("--epochs", type=int, default=12, help="of every method in all (12)")
    parser.add_argument("--images", type=int, default=10_000, help="of the training data (10000)")
    parser.add_argument("--seeds", type=int, default=3, help="repetitions (3)")
    parser.add_argument("--only", nargs="+", choices=list(METHODS), default=list(METHODS), help="some of the methods")
    add_jobs(parser, "2 GB")
    return parser.parse_args()


def main() -> int:
    """Run all methods on all seeds; 1 if a budget is exceeded."""
    args = parse()
    results = record(BENCHMARK, args, epochs=args.epochs, images=args.images, strength=STRENGTH, reg=REG, amp=AMP)
    beds = [make_bed(args.data, args.epochs, args.images, seed) for seed in range(args.seeds)]
    threads = max(1, (os.cpu_count() or 1) // args.jobs)
    for names in ([HALF], args.only):  # methods with two schedules begin where half of the epochs end
        rows = {f"{name} {bed.recipe.seed}": partial(measure, name, bed, threads) for name in names for bed in beds}
        results.add_all(rows, args.jobs)
    spent = [row["macs"] for row in results.rows.values() if row.get("method") not in (None, *WHOLE)]
    return results.finish([budget_check(spent)], summary(results))


if __name__ == "__main__":
    sys.exit(main())
