"""What a search has to beat at equal evaluations: chance, one width for all, and a plain evolution strategy."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from onnxprune.search.evaluation import Rank
from onnxprune.search.grid import Space, Structure
from onnxprune.search.sampler import Steps

BATCH = 10
"""Structures that are judged at the same time."""


def random(space: Space, rng: np.random.Generator) -> Steps:
    """Uniformly random structures."""
    while batch := space.batch(rng, BATCH):
        yield batch


def uniform(space: Space, rng: np.random.Generator) -> Steps:
    """The same share of the levels for every group, from the widest down.

    It stays the same only if the space's repair scales all groups alike, as `Structures.scaled` does.
    """
    most = int(space.grid.levels.max())
    shares = np.linspace(1, 0, most) if most > 1 else np.ones(1)
    places = [space.grid.nearest(share * (space.grid.levels - 1)) for share in shares]
    found = [s for place in places if (s := space.fresh(lambda place=place: place)) is not None]  # type: ignore[misc]
    if found:
        yield found


def evolution(space: Space, rng: np.random.Generator, parents: int = 5) -> Steps:
    """(mu + lambda): children of random parents; a dimension moves with probability 1 / groups, at least one does.

    Where no child is new, the next ones are random.
    """
    batch = space.batch(rng, 2 * parents)
    best: list[tuple[Rank, Structure]] = []
    while batch:
        ranks = yield batch
        best = sorted([*best, *zip(ranks, batch, strict=True)], key=lambda pair: pair[0], reverse=True)[:parents]
        batch = _fresh(space, partial(_child, best, space, rng), BATCH) or space.batch(rng, BATCH)


def _child(best: list[tuple[Rank, Structure]], space: Space, rng: np.random.Generator) -> Structure:
    parent = np.array(best[int(rng.integers(len(best)))][1])
    moved = rng.random(len(parent)) < 1 / len(parent)
    moved[rng.integers(len(parent))] = True
    steps = rng.geometric(0.5, len(parent)) * rng.choice([-1, 1], len(parent))
    return space.grid.nearest(parent + moved * steps)


def _fresh(space: Space, propose: Callable[[], Structure], count: int) -> list[Structure]:
    found = [space.fresh(propose) for _ in range(count)]
    return [structure for structure in found if structure is not None]
