"""The bees as ABCPruner's released code has them, to compare with.

One look at a time, each seeing what the last one changed; the two dimensions may be the same one, and are never the
last; places are cut off instead of rounded, which narrows by 0.65 of a level a look; and a look that ends where it
began, or at what was judged before, is judged again.
"""

from __future__ import annotations

from itertools import islice

import numpy as np

from onnxprune.search.bees import MUTATED, PUBLISHED, Colony, Source, attraction, stops
from onnxprune.search.grid import Space, Structure
from onnxprune.search.sampler import Steps


def released_bees(space: Space, rng: np.random.Generator, colony: Colony = PUBLISHED) -> Steps:
    """The algorithm; it never ends by itself."""
    first = [space.repair(space.grid.random(rng)) for _ in range(colony.sources)]
    ranks = yield first
    hive = [Source(*pair) for pair in zip(first, ranks, strict=True)]
    while True:
        for i in range(len(hive)):
            yield from _look(hive, i, space, rng)
        for i in islice(stops(attraction([source.rank for source in hive]), rng), len(hive)):
            yield from _look(hive, i, space, rng)
        tired = max(range(len(hive)), key=lambda i: hive[i].trail)
        if hive[tired].trail >= colony.limit:
            structure = space.repair(space.grid.random(rng))
            (rank,) = yield [structure]
            hive[tired] = Source(structure, rank)


def _look(hive: list[Source], i: int, space: Space, rng: np.random.Generator) -> Steps:
    structure = space.repair(cut_look(hive, i, space, rng))
    (rank,) = yield [structure]
    if rank > hive[i].rank:
        hive[i] = Source(structure, rank)
    else:
        hive[i].trail += 1


def cut_look(hive: list[Source], i: int, space: Space, rng: np.random.Generator) -> Structure:
    """A structure near the i-th source; levels are counted from 1, as there."""
    own = np.array(hive[i].structure, float) + 1
    k = int(rng.integers(len(hive) - 1))
    other = np.array(hive[k + (k >= i)].structure) + 1
    for d in rng.integers(0, max(len(own) - 1, 1), MUTATED):
        own[d] = np.trunc(own[d] + rng.uniform(-1, 1) * (own[d] - other[d]))
    return tuple(int(p) for p in np.clip(own, 1, space.grid.levels) - 1)
