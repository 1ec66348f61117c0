"""Structures of one network: the grid of its groups, what fits a budget, and the mask of a structure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from copy import copy
from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np

from onnxprune.analysis import Analysis
from onnxprune.latency.statistic import Interval
from onnxprune.latency.target import AIM
from onnxprune.mask import Mask, make_mask
from onnxprune.ranking import Budget, best_of_each, check_shares, out_of_reach
from onnxprune.resources import Resource
from onnxprune.scores import SCORES
from onnxprune.search.evaluation import Judge
from onnxprune.search.grid import Grid, Structure
from onnxprune.search.widths import Compat, Given, Widths, given_widths
from onnxprune.selection import primary_groups

__all__ = ["Clock", "Compat", "Fitness", "Structures", "TimeLimit", "Widths"]

HALVINGS = 40
RANDOM = "random"

Fitness = Callable[[Mask, int, float], Mapping[str, float]]
"""Finite figures of a mask, given the seed of all chance and the share of all effort; `score` is among them."""


class Clock(Protocol):
    """Tells how long structures take, as `latency.prediction.Latency` does."""

    engine: str
    """The runtime's name."""

    @property
    def unmeasured(self) -> Collection[str]:
        """Parts of the network whose time it does not know."""

    def share(self, units: Mapping[str, np.ndarray]) -> float:
        """The time with these units of groups, by the whole network's, predicted."""

    def ratio(self, units: Mapping[str, np.ndarray]) -> Interval:
        """The same, measured on the pruned model, and how far that can be trusted."""

    def again(self, units: Mapping[str, np.ndarray], first: Interval) -> Interval:
        """The same, measured until it is known well enough."""

    def correction(self, units: Mapping[str, np.ndarray]) -> float:
        """What is measured by what is predicted; once it is known the same every time."""


@dataclass(frozen=True)
class TimeLimit:
    """A share of the whole network's time that is not to be exceeded, and who tells the time.

    Attributes:
        share: of the whole network's time.
        clock: predicts and measures.
        aim: the share of that share which predictions may take.
        factor: what predictions are multiplied by.
    """

    share: float
    clock: Clock
    aim: float = 1.0
    factor: float = 1.0

    def __post_init__(self) -> None:
        check_shares({"latency": self.share})

    def predicted(self, units: Mapping[str, np.ndarray]) -> float:
        """The time with these units of groups, by the whole network's."""
        return self.factor * self.clock.share(units)

    def holds(self, units: Mapping[str, np.ndarray]) -> bool:
        """Whether that is as little as is aimed at."""
        return self.predicted(units) <= self.aim * self.share


class Structures:
    """The structures of a network.

    Attributes:
        analysis: of the network.
        groups: those whose widths are searched, in the grid's order.
        grid: their widths.
        target: shares of the whole that are not to be exceeded; none for no limit.
        time: a limit of the time, or None; corrected by one structure, so that the others are near it when measured.
        score: by which the units of a group are kept, one of `SCORES`.
    """

    def __init__(
        self,
        analysis: Analysis,
        widths: Widths | Given,
        target: Mapping[Resource, float],
        *,
        score: str = "l1",
        exclude: Collection[str] = (),
        seed: int = 0,
        time: TimeLimit | None = None,
    ):
        """`exclude`: names of groups that stay whole; `seed` of the score `random`.

        `widths` is a rule for all groups, or widths by patterns of their names, such as `{"layer1*": (8, 16)}`.

        Raises:
            UsageError: the widths or the target make no sense, or no structure meets the target; tells the least.
        """
        self.analysis, self.target, self.score = analysis, dict(target), score
        self.time: TimeLimit | None = None
        groups = [group for group in primary_groups(analysis) if group.name not in exclude]
        own = {g.name: widths.of(g) for g in groups} if isinstance(widths, Widths) else given_widths(groups, widths)
        self.groups = [group for group in groups if group.name in own]
        self.grid = Grid(tuple(own[group.name] for group in self.groups))
        scores = SCORES[score](analysis, seed)
        self._scores = scores
        self._budget = Budget(analysis, self.groups, scores, target)
        self._check_reach()
        if time is not None:
            self.time = time
            self.time = self._corrected(time)

    def _check_reach(self) -> None:
        if not self.fits(self._least):
            raise out_of_reach(self.limits, self.shares(self._least), "with these widths", "raise the target")

    @property
    def _least(self) -> Structure:
        return (0,) * len(self.groups)

    def _corrected(self, time: TimeLimit) -> TimeLimit:
        """A limit, its predictions corrected by a structure near it, or by the least one if none seems within it."""
        typical = self.repair(tuple(level - 1 for level in self.grid.levels.tolist()))
        self.time = replace(time, factor=time.clock.correction(self.units(typical)))
        self._check_reach()
        return replace(self.time, aim=max(AIM, self.time.predicted(self.units(self._least)) / time.share))

    @property
    def limits(self) -> dict[str, float]:
        """The target, that of the time among it."""
        found: dict[str, float] = {**self.target}  # type: ignore[dict-item]  # its names are fewer
        return found if self.time is None else found | {"latency": self.time.share}

    def shares(self, structure: Structure) -> dict[str, float]:
        """What a structure takes of all that is limited, by the whole network's."""
        found: dict[str, float] = {**self._budget.shares(self.named(structure))}  # type: ignore[dict-item]
        return found if self.time is None else found | {"latency": self.time.predicted(self.units(structure))}

    def named(self, structure: Structure) -> dict[str, int]:
        """Kept units by group."""
        return {g.name: width for g, width in zip(self.groups, self.grid.widths_of(structure), strict=True)}

    def fits(self, structure: Structure) -> bool:
        """Whether a structure meets the target."""
        if not self._budget.holds(self.named(structure)):
            return False
        return self.time is None or self.time.holds(self.units(structure))

    def tightened(self, aim: float) -> Self:
        """The same, whose predicted times may take another share of the limit."""
        other = copy(self)
        other.time = self.time and replace(self.time, aim=aim)
        return other

    def repair(self, structure: Structure) -> Structure:
        """The structure of the same proportions that just meets the target; the same one if there is none."""
        return self._filled(self.scaled(structure), structure) if self.limits else structure

    def scaled(self, structure: Structure) -> Structure:
        """The same, but all groups scaled alike: what room rounding leaves is given to none."""
        if not self.limits:
            return structure
        low, high = 0.0, float(max(self.grid.levels))
        found = (0,) * len(structure)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            scaled = self.grid.nearest([middle * (place + 1) - 1 for place in structure])
            if self.fits(scaled):
                low, found = middle, scaled
            else:
                high = middle
        return found

    def _filled(self, found: Structure, wanted: Structure) -> Structure:
        """A level more for the groups that are furthest below what was wanted, as long as it fits."""
        for group in sorted(range(len(found)), key=lambda k: found[k] - wanted[k]):
            wider = tuple(place + (k == group) for k, place in enumerate(found))
            if wider[group] < self.grid.levels[group] and self.fits(wider):
                found = wider
        return found

    def units(self, structure: Structure, seed: int | None = None) -> dict[str, np.ndarray]:
        """Which units of every group stay: those of the highest score.

        By the score `random` every judgement, by its seed, has units of its own, as published; but in groups whose cost
        depends on which units stay.
        """
        scores = dict(self._scores)
        if self.score == RANDOM and seed is not None:
            drawn = SCORES[RANDOM](self.analysis, seed)
            scores |= {group.name: drawn[group.name] for group in self.groups if len(group.atoms) == 1}
        kept = best_of_each([scores[group.name] for group in self.groups], self.grid.widths_of(structure))
        return {group.name: stay for group, stay in zip(self.groups, kept, strict=True)}

    def judge(self, fitness: Fitness) -> Judge:
        """Judges jobs by a fitness of masks."""
        return lambda job: fitness(self.mask(job.structure, {}, job.seed), job.seed, job.effort)

    def mask(self, structure: Structure, provenance: Mapping[str, object], seed: int | None = None) -> Mask:
        """The mask that keeps `units`."""
        how = {**provenance, "score": self.score, "target": self.limits}
        return make_mask(self.analysis, self.units(structure, seed), how)
