"""Searches for half of ResNet-20's multiply-accumulates, each as long, with the same fine-tuning after: CIFAR-10, CPU.

    python -m benchmarks.search_bed [--data FOLDER] [--seconds 240] [--epochs 12] [--images 5000] [--jobs 1]

All start from the network that `cpu_bed` trains for half of its epochs, and spend the other half on the structure that
they found; uniform width needs no search. Every search has so many seconds on one thread, and knows nothing of the test
split, on which accuracies are taken at the end. `--jobs` searches run at a time, and nothing else should: all of them
have company, the last one that of trainings. Searches and trainings that ended are kept under `build/bed`.
"""

import argparse
import contextlib
import json
import multiprocessing
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from benchmarks.common import add_jobs, arguments, record
from benchmarks.cpu_bed import MACS, Bed, add_amp, amp_of, budget_check, half, interval, make_bed, percent_left
from benchmarks.record import Benchmark, Column, Record, Row
from onnxprune.mask import Mask, read_mask
from onnxprune.report.files import document, write_text
from onnxprune.search.campaign import BEES, CHANCE, Plan
from onnxprune.search.evaluation import Evaluation, Judge
from onnxprune.search.executors import InProcess
from onnxprune.search.run import Budget, best, search
from onnxprune.search.structures import Structures, Widths
from onnxprune.torch.fitness import Recalibrated, Trained, one_thread

PUBLISHED_EPOCHS = 2
ENDLESS = 10**6
UNIFORM = "uniform width"

BENCHMARK = Benchmark(
    name="search_bed",
    claim="Test accuracy (%) of ResNet-20 at half of its multiply-accumulates, after searches of equal time",
    columns=(
        Column("search", "method"),
        Column("seed", "seed"),
        Column("evaluations", "evaluations", "d"),
        Column("seconds", "seconds", ".0f"),
        Column("validation score found", "score", ".3f"),
        Column("test accuracy after fine-tuning", "accuracy", ".2f"),
        Column("MACs left (%)", "macs", ".1f"),
        Column("params left (%)", "params", ".1f"),
    ),
    needs=("data",),
    rivals=("torch",),
)


@dataclass(frozen=True)
class Method:
    """A sampler, what judges, the rungs of successive halving, and the epochs of a judgement that trains.

    Halving needs more than the published epochs: with two, one for all and two for half of them spare nothing.
    """

    sampler: str
    fitness: type[Recalibrated]
    rungs: tuple[float, ...] = (1.0,)
    epochs: int = PUBLISHED_EPOCHS


METHODS = {
    "bees, cheap fitness": Method(BEES, Recalibrated),
    "bees, two epochs of training": Method(BEES, Trained),
    "bees, halving": Method(BEES, Trained, (0.25, 0.5, 1.0), 2 * PUBLISHED_EPOCHS),
    "random, cheap fitness": Method(CHANCE, Recalibrated),
    "random, two epochs of training": Method(CHANCE, Trained),
}


class TimeUp(Exception):
    """A search has had its time."""


class Watch:
    """Ends a search after so many seconds; knows its evaluations."""

    def __init__(self, seconds: float):
        self.start, self.seconds = time.monotonic(), seconds
        self.evaluations: Sequence[Evaluation] = ()

    @property
    def passed(self) -> float:
        """Seconds since it was made."""
        return time.monotonic() - self.start

    def __call__(self, evaluations: Sequence[Evaluation]) -> None:
        self.evaluations = list(evaluations)
        if self.passed >= self.seconds:
            raise TimeUp


def judging(bed: Bed, method: Method) -> tuple[Structures, Judge]:
    """Structures of the trained network, and what judges them."""
    network, binding = bed.trained()
    structures = Structures(binding.analysis, Widths(), {"macs": MACS})
    made = method.fitness(bed.task, network, binding, replace(bed.recipe, epochs=method.epochs))
    return structures, structures.judge(made)


def label(name: str) -> str:
    """A method's name as a file's."""
    return name.replace(", ", "-").replace(" ", "_")


def searched(name: str, bed: Bed, seconds: float) -> tuple[Mask, dict[str, Any]]:
    """The best mask of a search of so many seconds, and its figures; those of an earlier run if there are any."""
    one_thread()
    folder, method = bed.folder / f"search-{seconds:g}" / label(name), METHODS[name]
    mask, found = folder / "mask.json", folder / "search.json"
    if not found.exists():
        structures, judge = judging(bed, method)
        watch = Watch(seconds)
        budget = Budget(ENDLESS, bed.recipe.seed, method.rungs)
        sampler = Plan().sampler(method.sampler, structures, bed.recipe.seed)
        with contextlib.suppress(TimeUp):
            search(sampler, InProcess(lambda: judge), budget, show=watch)
        top = best(watch.evaluations)
        figures = {"evaluations": len(watch.evaluations), "seconds": watch.passed, "score": top.score}
        folder.mkdir(parents=True, exist_ok=True)
        write_text(mask, document(structures.mask(top.structure, {"method": method.sampler}).to_json()))
        write_text(found, document(figures))
    return read_mask(mask), json.loads(found.read_text())


def measure(name: str, bed: Bed, seconds: float) -> Row:
    """One search and seed, fine-tuned."""
    one_thread()
    if name == UNIFORM:
        mask, figures = bed.uniform(), {"evaluations": 0, "seconds": 0.0}
    else:
        mask, figures = searched(name, bed, seconds)
    found = bed.masked(f"found-{seconds:g}-{label(name)}", bed.part(0.5), mask, bed.half)
    how = {"method": name, "seed": bed.recipe.seed, **figures, "accuracy": found["accuracy"]}
    return how | percent_left(bed, found["cost"])


def summary(results: Record) -> list[str]:
    """Mean and 95 % interval (Student) of every method's accuracy, and of its lead over those without bees."""
    found = {(row["method"], row["seed"]): row["accuracy"] for row in results.rows.values() if "method" in row}
    lines = []
    for name in (*METHODS, UNIFORM):
        own = {seed: value for (method, seed), value in found.items() if method == name}
        leads = [
            f"over {other} {interval([own[seed] - found[other, seed] for seed in own if (other, seed) in found])}"
            for other in ("random, cheap fitness", "random, two epochs of training", UNIFORM)
            if other != name
        ]
        lines.append(f"{name}: {interval(list(own.values()))} %; {', '.join(leads)}")
    return lines


def begin(beds: Sequence[Bed], jobs: int) -> None:
    """Train the networks that all start from, each on one thread."""
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), initializer=one_thread) as pool:
        list(pool.map(half, beds))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = arguments(BENCHMARK)
    parser.add_argument("--seconds", type=float, default=240.0, help="of every search (240)")
    parser.add_argument("--epochs", type=int, default=12, help="of the bed, half before and half after (12)")
    parser.add_argument("--images", type=int, default=5_000, help="of the training data (5000)")
    parser.add_argument("--seeds", type=int, default=3, help="repetitions (3)")
    add_amp(parser)
    add_jobs(parser, "2 GB")
    return parser.parse_args()


def main() -> int:
    """Search and fine-tune; 1 if a budget is exceeded."""
    args = parse()
    options = {"seconds": args.seconds, "epochs": args.epochs, "images": args.images, "jobs": args.jobs}
    results = record(BENCHMARK, args, amp=amp_of(args), **options)
    beds = [make_bed(args.data, args.epochs, args.images, seed, amp_of(args)) for seed in range(args.seeds)]
    begin(beds, args.jobs)
    # Methods of one seed in a row: what changes in the machine concerns them all.
    searches = [partial(searched, name, bed, args.seconds) for bed in beds for name in METHODS]
    rows = {
        f"{name} {bed.recipe.seed}": partial(measure, name, bed, args.seconds)
        for name in (*METHODS, UNIFORM)
        for bed in beds
    }
    results.add_all(rows, args.jobs, first=searches)
    return results.finish([budget_check(results.column("macs"))], summary(results))


if __name__ == "__main__":
    sys.exit(main())
