"""The bees on a surrogate of 27 groups with 7 widths each: as published, without the faults of the released code.

    python -m benchmarks.search_bees [--seeds 50] [--evaluations 400]

The surrogate is a fixed rugged function; every sampler has as many evaluations, and paired seeds. Controls draw from
random numbers of their own, so that nothing is shared by chance.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from functools import partial

import numpy as np
from scipy import stats

from benchmarks.common import arguments, record
from benchmarks.record import Benchmark, Check, Column, Record, Row
from benchmarks.surrogate import DIMENSIONS, LEVELS, surrogate
from onnxprune.search.bees import Colony, Source, bees, look
from onnxprune.search.controls import evolution, random
from onnxprune.search.grid import Grid, Space, Structure
from onnxprune.search.released import cut_look, released_bees
from onnxprune.search.sampler import Sampler, Steps

GRID = Grid((tuple(range(1, LEVELS + 1)),) * DIMENSIONS)
ALGORITHMS: dict[str, Callable[[Space, np.random.Generator], Steps]] = {
    "bees": bees,
    "released bees": released_bees,
    "random": random,
    "evolution": evolution,
}
LOOKS = {"bees": look, "released bees": cut_look}
TRIALS, WINS, SIGNIFICANT = 5_000, 0.7, 1e-3

BENCHMARK = Benchmark(
    name="search_bees",
    claim="Best of a surrogate (27 groups, 7 widths) at equal evaluations, means over paired seeds",
    columns=(
        Column("sampler", "name"),
        Column("best score", "best", ".4f"),
        Column("better than random (% of seeds)", "wins", ".0f"),
        Column("evaluated again (%)", "again", ".1f"),
        Column("dimensions mutated", "mutated", "d"),
    ),
    rivals=("scipy",),
)


def played(name: str, seed: int, evaluations: int) -> tuple[list[Structure], float]:
    """All structures of a search, in order, and the best score."""
    numbers = np.random.default_rng([seed, 1 + list(ALGORITHMS).index(name)])
    sampler, asked, best = Sampler(ALGORITHMS[name](Space(GRID), numbers)), list[Structure](), -np.inf
    while len(asked) < evaluations and (batch := sampler.ask()):
        scores = [surrogate(structure, seed) for structure in batch]
        best = max(best, *scores[: evaluations - len(asked)])
        asked += batch
        sampler.tell([(0, score) for score in scores])
    return asked[:evaluations], best


def measure(name: str, seeds: int, evaluations: int) -> Row:
    """One sampler against random search."""
    found = [played(name, seed, evaluations) for seed in range(seeds)]
    chance = [played("random", seed, evaluations)[1] for seed in range(seeds)]
    again = [1 - len(set(asked)) / len(asked) for asked, _ in found]
    wins = [best > other for (_, best), other in zip(found, chance, strict=True)]
    row: Row = {"best": statistics.mean(best for _, best in found), "wins": 100 * statistics.mean(wins)}
    row["again"] = 100 * statistics.mean(again)
    return row | ({"mutated": mutated(LOOKS[name])} if name in LOOKS else {})


def mutated(look: Callable[..., Structure]) -> int:
    """Dimensions in which some of many looks near a source differs from it."""
    numbers, space = np.random.default_rng(0), Space(GRID)
    hive = [Source(GRID.random(numbers), (0, 0.0)) for _ in range(10)]
    looks = np.array([look(hive, 0, space, numbers) for _ in range(TRIALS)])
    return int((looks != np.array(hive[0].structure)).any(0).sum())


def scouts(seeds: int) -> float:
    """The least p-value (chi squared, every dimension) of scouts being uniform: a colony in vain sends one a cycle."""
    counts = np.zeros((DIMENSIONS, LEVELS))
    for seed in range(seeds):
        sampler = Sampler(bees(Space(GRID), np.random.default_rng(seed), Colony(2, 1)))
        sampler.tell([(0, 1.0)] * len(sampler.ask()))
        while len(batch := sampler.ask()) > 1:
            sampler.tell([(0, 0.0)] * len(batch))
        counts[np.arange(DIMENSIONS), batch[0]] += 1
    return min(float(stats.chisquare(row).pvalue) for row in counts)


def checks(results: Record, scouting: float) -> list[Check]:
    """Whether the claim holds."""
    row = results.rows["bees"]
    level = SIGNIFICANT / DIMENSIONS
    return [
        Check(
            "dimensions that the bees mutate", f"all {DIMENSIONS}", str(row["mutated"]), row["mutated"] == DIMENSIONS
        ),
        Check("least p of uniform scouts, any dimension", f"> {level:.0e}", f"{scouting:.3f}", scouting > level),
        Check("structures that the bees evaluate twice", "0 %", f"{row['again']:.1f} %", row["again"] == 0),
        Check("seeds in which bees beat random", f">= {WINS:.0%}", f"{row['wins']:.0f} %", row["wins"] >= 100 * WINS),
    ]


def parse() -> argparse.Namespace:
    """The command line."""
    parser = arguments(BENCHMARK)
    parser.add_argument("--seeds", type=int, default=50, help="repetitions (50)")
    parser.add_argument("--evaluations", type=int, default=400, help="of every sampler (400)")
    return parser.parse_args()


def main() -> int:
    """Play; 1 if the claim fails."""
    args = parse()
    results = record(BENCHMARK, args, seeds=args.seeds, evaluations=args.evaluations)
    for name in ALGORITHMS:
        results.add(name, partial(measure, name, args.seeds, args.evaluations))
    return results.finish(checks(results, scouts(20 * args.seeds)))


if __name__ == "__main__":
    sys.exit(main())
