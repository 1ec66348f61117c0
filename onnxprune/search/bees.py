"""The artificial bee colony over a grid of widths (Karaboga 2005; for pruning, ABCPruner: Lin et al. 2020, arXiv
2001.08565).

Sources of food are structures. Employed bees look near every source, onlookers near those that are good, and a source
near which nothing better was found for long is left to a scout, who flies anywhere. A look near a source moves it along
the difference to another one, in two dimensions. Nothing is proposed twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np

from onnxprune.errors import UsageError
from onnxprune.search.evaluation import FAILED, Rank
from onnxprune.search.grid import Space, Structure
from onnxprune.search.sampler import Steps

MUTATED = 2
"""Dimensions that a look near a source changes."""


@dataclass(frozen=True)
class Colony:
    """Its size and patience.

    Attributes:
        sources: how many there are (the released code: 10; the paper: 3).
        limit: looks in vain after which a source is left (the released code: 5; the paper: 2).

    Raises:
        UsageError: fewer than two sources, or no patience.
    """

    sources: int = 10
    limit: int = 5

    def __post_init__(self) -> None:
        if self.sources < 2 or self.limit < 1:
            raise UsageError(
                f"a colony of {self.sources} sources with limit {self.limit}, expected at least 2 and 1",
                "leave them out for the published ones",
            )


PUBLISHED = Colony()


@dataclass
class Source:
    """A structure, its rank, and how often nothing better was found near it."""

    structure: Structure
    rank: Rank
    trail: int = 0


def bees(space: Space, rng: np.random.Generator, colony: Colony = PUBLISHED) -> Steps:
    """The algorithm; every phase is one batch. Ends when the grid is exhausted.

    A whole cycle that finds nothing new sends a scout, however patient the colony is.
    """
    found = space.batch(rng, colony.sources)
    ranks = yield found
    hive = [Source(*pair) for pair in zip(found, ranks, strict=True)]
    known = -1
    while len(space.seen) > known:
        known = len(space.seen)
        yield from _looks(hive, range(len(hive)), space, rng)
        yield from _looks(hive, onlookers(hive, rng), space, rng)
        yield from _scout(hive, 0 if len(space.seen) == known else colony.limit, space, rng)


def _looks(hive: list[Source], at: Sequence[int], space: Space, rng: np.random.Generator) -> Steps:
    """Look near some sources, all as they are now; each moves to what is strictly better."""
    near = [space.fresh(lambda i=i: look(hive, i, space, rng)) for i in at]  # type: ignore[misc]  # bound at once
    batch = [structure for structure in near if structure is not None]
    ranks = iter((yield batch) if batch else ())
    for i, structure in zip(at, near, strict=True):
        rank = FAILED if structure is None else next(ranks)
        if structure is not None and rank > hive[i].rank:
            hive[i] = Source(structure, rank)
        else:
            hive[i].trail += 1


def look(hive: Sequence[Source], i: int, space: Space, rng: np.random.Generator) -> Structure:
    """A structure near the i-th source: x_i + R (x_i - x_k) in two dimensions, R uniform in [-1, 1], k another one."""
    own = np.array(hive[i].structure, float)
    if len(hive) < 2:
        return space.grid.random(rng)
    k = int(rng.integers(len(hive) - 1))
    other = hive[k + (k >= i)].structure
    for d in rng.choice(len(own), min(MUTATED, len(own)), replace=False):
        own[d] += rng.uniform(-1, 1) * (own[d] - other[d])
    return space.grid.nearest(own)


def onlookers(hive: Sequence[Source], rng: np.random.Generator) -> list[int]:
    """As many sources as there are, the better ones more often: the walk goes round, and stops at i with P_i."""
    probabilities = attraction([source.rank for source in hive])
    return [i for i, _ in zip(stops(probabilities, rng), hive, strict=False)]


def stops(probabilities: Sequence[float], rng: np.random.Generator) -> Iterator[int]:
    """Where a walk round and round stops, for ever: at i with the i-th probability."""
    for i in cycle(range(len(probabilities))):
        if rng.random() < probabilities[i]:
            yield i


def attraction(ranks: Sequence[Rank]) -> list[float]:
    """0.9 fit / max fit + 0.1, as in the released code; with scores below zero, fit is counted from the least.

    Scores of different rungs cannot be compared: those below the highest rung have no fit.
    """
    top = max((rung for rung, _ in ranks), default=FAILED[0])
    scores = [score for rung, score in ranks if rung == top != FAILED[0]]
    base = min([0.0, *scores]) / 2  # of halves: the difference of any two floats may be none
    best = max((score / 2 - base for score in scores), default=0.0)
    return [0.9 * ((score / 2 - base) / best) + 0.1 if rung == top and best > 0 else 0.1 for rung, score in ranks]


def _scout(hive: list[Source], limit: int, space: Space, rng: np.random.Generator) -> Steps:
    """Leave the source with the longest trail if it is too long."""
    tired = max(range(len(hive)), key=lambda i: hive[i].trail, default=None)
    if tired is None or hive[tired].trail < limit:
        return
    structure = space.random(rng)
    if structure is not None:
        (rank,) = yield [structure]
        hive[tired] = Source(structure, rank)
