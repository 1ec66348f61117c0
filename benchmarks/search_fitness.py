"""The cheap fitness of a search: structures a minute on one core, and what it says about the published fitness.

    python -m benchmarks.search_fitness [--data FOLDER] [--structures 30] [--epochs 12] [--images 5000] [--jobs 1] ...

Random structures at half of the multiply-accumulates of the ResNet-20 that `search_bed` begins with, too, are judged by
1,000 validation images with the statistics measured anew on 256, and by two epochs of training on the same data (Lin et
al. 2020, arXiv 2001.08565). The rate of the cheap judgement is taken at the end, on one thread, one structure after the
other; that should be on a quiet machine.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
from scipy import stats

from benchmarks.common import add_jobs, arguments, record
from benchmarks.cpu_bed import MACS, Bed, add_amp, amp_of, half, make_bed
from benchmarks.record import Benchmark, Check, Column, Record, Row
from onnxprune.search.evaluation import seed_of
from onnxprune.search.grid import Space, Structure
from onnxprune.search.structures import Structures, Widths
from onnxprune.torch.fitness import Recalibrated, Trained, one_thread

RATE = 60.0
PUBLISHED_EPOCHS = 2

BENCHMARK = Benchmark(
    name="search_fitness",
    claim="Structures of ResNet-20 at half of its multiply-accumulates, judged cheaply and by two epochs of training",
    columns=(
        Column("structure", "name"),
        Column("cheap score", "cheap", ".3f"),
        Column("in bfloat16", "amp", ".3f"),
        Column("after two epochs", "trained", ".3f"),
        Column("structures a minute", "cheap_rate", ".0f"),
        Column("in bfloat16", "amp_rate", ".0f"),
    ),
    needs=("data",),
    rivals=("torch", "scipy"),
)


class Judges:
    """The fitnesses of one trained network: in single precision, in the bed's if it has another one, and trained."""

    def __init__(self, bed: Bed):
        network, binding = bed.trained()
        self.structures = Structures(binding.analysis, Widths(), {"macs": MACS})
        quick, recipe = partial(Recalibrated, bed.task, network, binding), bed.recipe
        self.cheap = {"cheap": quick(replace(recipe, amp=None))} | ({"amp": quick(recipe)} if recipe.amp else {})
        self.trained = Trained(bed.task, network, binding, replace(recipe, epochs=PUBLISHED_EPOCHS))

    def drawn(self, count: int, seed: int) -> list[Structure]:
        """Different structures at the budget."""
        space, numbers = Space(self.structures.grid, self.structures.repair), np.random.default_rng(seed)
        found: dict[Structure, None] = {}
        while len(found) < count:
            found[space.repair(self.structures.grid.random(numbers))] = None
        return list(found)


def measure(bed: Bed, number: int, structure: Structure, seed: int) -> Row:
    """All scores of one structure."""
    one_thread()
    judges = Judges(bed)
    mask, chance = judges.structures.mask(structure, {}), seed_of(seed, number)
    return {name: judge(mask, chance)["score"] for name, judge in {**judges.cheap, "trained": judges.trained}.items()}


def rates(judges: Judges, structures: Sequence[Structure]) -> Row:
    """How many structures a minute are judged cheaply, by the median time."""
    found = {}
    for name, judge in judges.cheap.items():
        judge(judges.structures.mask(structures[0], {}))  # the first one has to prove itself, which takes time
        laps = [time.perf_counter()]
        for structure in structures:
            judge(judges.structures.mask(structure, {}))
            laps.append(time.perf_counter())
        found[f"{name}_rate"] = 60 / statistics.median(b - a for a, b in pairwise(laps))
    return found


def spearman(results: Record, name: str) -> tuple[float, float, float]:
    """The rank correlation with the published fitness and its 95 % interval (bootstrap, seeded)."""
    pairs = np.array([results.column(name), results.column("trained")])
    numbers = np.random.default_rng(0)
    draws = (pairs[:, numbers.integers(0, len(pairs[0]), len(pairs[0]))] for _ in range(2000))
    again = [float(stats.spearmanr(*draw).statistic) for draw in draws]
    low, high = np.nanpercentile(again, [2.5, 97.5])
    return float(stats.spearmanr(*pairs).statistic), float(low), float(high)


def checks(results: Record) -> list[Check]:
    """The rate is required; the correlation is told, whatever it is."""
    found = []
    for name, precision in (("cheap", ""), ("amp", ", in bfloat16")):
        if not results.column(f"{name}_rate"):
            continue
        (per_minute,), (rho, low, high) = results.column(f"{name}_rate"), spearman(results, name)
        figure = f"structures that one core judges cheaply in a minute{precision}"
        found.append(Check(figure, f"≥ {RATE:g}", f"{per_minute:.0f}", per_minute >= RATE))
        figure = f"rank correlation of cheap and published fitness{precision}"
        found.append(Check(figure, "told", f"{rho:.2f} ({low:.2f} to {high:.2f})", bool(np.isfinite(rho))))
    return found


def parse() -> argparse.Namespace:
    """The command line."""
    parser = arguments(BENCHMARK)
    parser.add_argument("--structures", type=int, default=30, help="to judge (30)")
    parser.add_argument("--epochs", type=int, default=12, help="of the bed, half of them to train the network (12)")
    parser.add_argument("--images", type=int, default=5_000, help="of the training data (5000)")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (0)")
    add_amp(parser)
    add_jobs(parser, "2 GB")
    return parser.parse_args()


def main() -> int:
    """Judge; 1 if the rate is missed."""
    args = parse()
    one_thread()
    options = {"structures": args.structures, "epochs": args.epochs, "images": args.images, "seed": args.seed}
    results = record(BENCHMARK, args, amp=amp_of(args), **options)
    bed, here = (make_bed(args.data, args.epochs, args.images, args.seed, amp_of(args)) for _ in range(2))
    half(here)
    judges = Judges(here)  # with images that do not travel: processes have a bed of their own
    drawn = judges.drawn(args.structures, args.seed)
    rows = {f"{number}": partial(measure, bed, number, found, args.seed) for number, found in enumerate(drawn)}
    results.add_all(rows, args.jobs)
    results.add("rates", partial(rates, judges, drawn))
    return results.finish(checks(results))


if __name__ == "__main__":
    sys.exit(main())
