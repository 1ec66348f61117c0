"""How early a forecast of the scales tells which units a sparse training removes: moving average against last value.

    python -m benchmarks.forecast [--data FOLDER] [--seeds 3] [--jobs 1]

Networks are trained with the pull on their scales to the end and pruned there, at half of the multiply-accumulates.
Then every forecaster is asked, after every epoch, what will be removed. Agreement is Jaccard's index of the removed
units: 1 for the same, and what guessing gives is listed beside it. Trainings lie under `build/forecast` and go on where
they were stopped.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import BUILD, add_jobs, arguments, record
from benchmarks.cpu_bed import AMP, Fewer, interval
from benchmarks.record import RESULTS, Benchmark, Check, Column, Record, Row
from models.resnet_cifar import resnet20
from onnxprune.report.pictures import SERIES, picture
from onnxprune.torch.forecast import FixedEpoch
from onnxprune.torch.foresight import AGREEMENT
from onnxprune.torch.jobs import Place
from onnxprune.torch.recipe import Recipe
from onnxprune.torch.slim import Slimming, slim
from onnxprune.torch.task import Task
from onnxprune.torch.tasks import Digits

FOLDER = BUILD / "forecast"
PICTURE = "forecast.png"
MACS = 0.5
MOMENTS = {"a quarter": 0.25, "half": 0.5, "three quarters": 0.75}
"""Of the epochs, by what the table calls them."""
SHOWN = ("last", "sma")

BENCHMARK = Benchmark(
    name="forecast",
    claim="Agreement (Jaccard) of what forecasts remove with what the whole sparse training removes, by epoch",
    columns=(
        Column("task", "task"),
        Column("seed", "seed"),
        *(Column(f"{name}, {moment}", f"{name} {moment}", ".3f") for moment in MOMENTS for name in SHOWN),
        Column("guessing", "chance", ".3f"),
        Column("sma - last, mean", "gain", "+.4f"),
    ),
    needs=("data",),
    rivals=("torch",),
)


@dataclass(frozen=True)
class Trial:
    """A sparse training.

    Attributes:
        task: makes it, from the folder of CIFAR-10.
        recipe: but for its seed.
        strength: of the pull.
    """

    task: Callable[[Path], Task]
    recipe: Recipe
    strength: float


TRIALS = {
    "digits, DigitsNet, 60 epochs": Trial(lambda data: Digits(), Recipe(60, batch=64, lr=0.1, device="cpu"), 2e-3),
    "CIFAR-10 (5,000 images), ResNet-20, 20 epochs": Trial(
        lambda data: Fewer(resnet20, data, 5_000),
        Recipe(20, batch=64, lr=0.1, weight_decay=1e-3, device="cpu", amp=AMP),
        1e-3,
    ),
}


def measure(name: str, seed: int, data: Path) -> Row:
    """One training: agreements by forecaster and epoch, and the moments that the table shows."""
    torch.set_num_threads(1)
    trial = TRIALS[name]
    folder = FOLDER / f"{list(TRIALS).index(name)}-{seed}"
    recipe = replace(trial.recipe, seed=seed)
    how = Slimming({"macs": MACS}, FixedEpoch(recipe.epochs), strength=trial.strength, fold=False)
    outcome = slim(trial.task(data), recipe, how, Place(folder, resume=True))
    found = json.loads((folder / AGREEMENT).read_text())
    curves, epochs = found["by_forecaster"], recipe.epochs
    at = {f"{f} {m}": curves[f][round(share * epochs) - 1] for m, share in MOMENTS.items() for f in curves}
    gain = statistics.mean(sma - last for sma, last in zip(curves["sma"], curves["last"], strict=True))
    row: Row = {"task": name, "seed": seed, **at, "chance": statistics.mean(found["chance"]), "gain": gain}
    return row | {"test": outcome.figures["test"], "curves": curves}


def spread(results: Record, name: str) -> str:
    """The gain of the moving average over the last value in a task: mean over seeds, 95 % interval (Student)."""
    gains = [row["gain"] for row in results.rows.values() if row.get("task") == name]
    return interval(gains, digits=4)


def checks(results: Record) -> list[Check]:
    """That forecasts are better than guessing; whether the moving average is better than nothing is in the table."""
    pairs = [(row["last half"], row["chance"]) for row in results.rows.values() if "curves" in row]
    worst = min((last - chance for last, chance in pairs), default=0.0)
    figure = "agreement of the last value after half of the epochs, less that of guessing, worst"
    return [Check(figure, "> 0", f"{worst:.3f}", worst > 0)]


def draw(results: Record, path: Path) -> None:
    """Every forecaster's agreement by epoch, the mean over seeds, one panel a task."""
    with picture(path, 5 * len(TRIALS), 3.5, columns=len(TRIALS)) as panels:
        for axes, name in zip(panels, TRIALS, strict=True):
            rows = [row for row in results.rows.values() if row.get("task") == name]
            for forecaster, colour in zip(rows[0]["curves"] if rows else (), SERIES, strict=False):
                curves = [row["curves"][forecaster] for row in rows]
                means = [statistics.mean(values) for values in zip(*curves, strict=True)]
                axes.plot(range(1, len(means) + 1), means, color=colour, label=forecaster)
            axes.set(title=name, xlabel="epoch of the forecast", ylabel="agreement (Jaccard)", ylim=(0, 1.02))
            axes.legend()


def parse() -> argparse.Namespace:
    """The command line."""
    parser = arguments(BENCHMARK)
    parser.add_argument("--seeds", type=int, default=3, help="repetitions (3)")
    add_jobs(parser, "2 GB")
    return parser.parse_args()


def main() -> int:
    """Train everything; 1 if the last value is no better than guessing."""
    args = parse()
    described: dict[str, Any] = {name: t.recipe.to_json() | {"strength": t.strength} for name, t in TRIALS.items()}
    results = record(BENCHMARK, args, macs=MACS, trials=json.dumps(described))
    rows = {f"{name}, {seed}": partial(measure, name, seed, args.data) for name in TRIALS for seed in range(args.seeds)}
    results.add_all(rows, args.jobs)
    lines = [f"{name}: moving average less last value, mean over epochs: {spread(results, name)}" for name in TRIALS]
    code = results.finish(checks(results), lines)
    draw(results, (args.results or RESULTS) / PICTURE)
    return code


if __name__ == "__main__":
    sys.exit(main())
