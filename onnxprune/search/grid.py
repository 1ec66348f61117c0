"""`Grid`: the widths that every group may have; a structure is one of them for each, by place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod

import numpy as np

from onnxprune.errors import UsageError

Structure = tuple[int, ...]
"""For every group the place of its width in the grid, from 0 for the narrowest."""
Repair = Callable[[Structure], Structure]
"""From any structure to one near it that is within all limits."""

TRIES = 200
"""Proposals that may be known already before a sampler gives up on finding a new one."""
LISTED = 10_000
"""Structures of the largest grid that is gone through one by one where chance finds nothing new."""


@dataclass(frozen=True)
class Grid:
    """The widths that may be chosen.

    Attributes:
        widths: for every group those it may have, ascending. (The released code's repeat some in narrow layers.)

    Raises:
        UsageError: there is no group, or one without a width, or with widths that descend.
    """

    widths: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if not self.widths:
            raise UsageError(
                "the grid has no group: nothing can be searched", "see `onnxprune analyze` for the reasons"
            )
        for number, widths in enumerate(self.widths):
            if not widths or widths[0] < 1 or list(widths) != sorted(widths):
                raise UsageError(
                    f"group {number} of the grid has widths {list(widths)}, expected ascending ones of at least 1",
                    "give every group at least one width",
                )

    @property
    def levels(self) -> np.ndarray:
        """How many widths every group may have: int `(groups,)`."""
        return np.array([len(widths) for widths in self.widths])

    @property
    def count(self) -> int:
        """Number of structures."""
        return prod(len(widths) for widths in self.widths)

    def widths_of(self, structure: Structure) -> list[int]:
        """Kept units of every group."""
        return [widths[place] for widths, place in zip(self.widths, structure, strict=True)]

    def nearest(self, places: Sequence[float] | np.ndarray) -> Structure:
        """The structure nearest to real-valued places, of two the wider."""
        rounded = np.floor(np.asarray(places, float) + 0.5)
        return tuple(int(p) for p in np.clip(rounded, 0, self.levels - 1))

    def random(self, rng: np.random.Generator) -> Structure:
        """A uniformly random structure."""
        return tuple(int(p) for p in rng.integers(0, self.levels))


def unchanged(structure: Structure) -> Structure:
    """The repair where there are no limits."""
    return structure


@dataclass
class Space:
    """What a search has not seen yet.

    Attributes:
        grid: where structures come from.
        repair: brings them within limits.
        seen: repaired structures that were proposed.
    """

    grid: Grid
    repair: Repair = unchanged
    seen: set[Structure] = field(default_factory=set)
    _rest: Iterator[Structure] | None = field(default=None, init=False)

    def fresh(self, propose: Callable[[], Structure]) -> Structure | None:
        """The first proposal that, repaired, was not proposed before; None if there is none in `TRIES`."""
        for _ in range(TRIES):
            structure = self.repair(propose())
            if self._new(structure):
                return structure
        return None

    def random(self, rng: np.random.Generator) -> Structure | None:
        """A uniformly random structure that is new; None where the grid is exhausted.

        A grid of more than `LISTED` structures counts as exhausted after `TRIES` known ones in a row; of a smaller one
        those that chance has left are found, too.
        """
        found = None if self._rest is not None else self.fresh(lambda: self.grid.random(rng))
        if found is not None or self.grid.count > LISTED:
            return found
        if self._rest is None:
            self._rest = product(*map(range, self.grid.levels.tolist()))
        return next((new for place in self._rest if self._new(new := self.repair(place))), None)

    def batch(self, rng: np.random.Generator, count: int) -> list[Structure]:
        """So many of these, or as many as there are."""
        found = [self.random(rng) for _ in range(count)]
        return [structure for structure in found if structure is not None]

    def _new(self, structure: Structure) -> bool:
        """Whether it was not seen; from now on it was."""
        known = structure in self.seen
        self.seen.add(structure)
        return not known
