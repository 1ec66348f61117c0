"""The promise of a limit of the time, kept by what a search found.

A search predicts times. Here what it found is measured, the best first, until one is within the limit. Where none is,
the best one is made smaller by what predictions were off by, and judged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, islice
from typing import Any

from onnxprune.latency.statistic import Interval
from onnxprune.search.comparison import Found, winner
from onnxprune.search.evaluation import Evaluation, Executor, Job, seed_of
from onnxprune.search.grid import Structure
from onnxprune.search.halving import WHOLE
from onnxprune.search.structures import Structures, TimeLimit

TRIES, BEST, NEXT = 8, 4, 2
"""Structures that are measured at most: the best ones, then the next of those that should be within the limit by what
is known of the winner, then smaller ones."""
LESS = 1.02
"""By how much a structure is made smaller whose judgement failed."""
SMALLER = "made smaller"
"""What proposed a structure that no sampler did."""


@dataclass(frozen=True)
class Trial:
    """A structure that was measured.

    Attributes:
        evaluation: its judgement.
        ratio: its time by the whole network's.
        predicted: the same, by which it was within the limit of the search.
    """

    evaluation: Evaluation
    ratio: Interval
    predicted: float


@dataclass(frozen=True)
class Promise:
    """The structure that a search gives.

    Attributes:
        asked: the share of the whole network's time that is not to be exceeded.
        best: the structure; the fastest one where the promise is not kept.
        tried: all that were measured for it, by structure.
    """

    asked: float
    best: Trial
    tried: Mapping[Structure, Trial]

    @property
    def kept(self) -> bool:
        """Whether the upper end of the ratio's interval is within the limit."""
        return self.best.ratio.high <= self.asked

    def to_json(self) -> dict[str, Any]:
        """Its figures of the time as plain data."""
        found = {"asked": self.asked, "ratio": asdict(self.best.ratio), "predicted": self.best.predicted}
        return {**found, "tries": len(self.tried), "kept": self.kept}


def keep(
    structures: Structures, limit: TimeLimit, found: Found, executor: Executor, rungs: Sequence[float] = WHOLE
) -> Promise:
    """The best structure that is measured within a limit of the time, or the fastest one that was measured.

    Args:
        structures: that were searched.
        limit: theirs.
        found: what the search judged.
        executor: judges what has to be made smaller.
        rungs: of the search (see `halving`).
    """
    tried, keeper = dict[Structure, Trial](), _Keeper(structures, limit, found, executor, rungs)
    for evaluation in islice(keeper.candidates(), TRIES):
        tried[evaluation.structure] = (trial := keeper.measure(evaluation))
        if trial.ratio.high <= limit.share:
            return Promise(limit.share, trial, tried)
    return Promise(limit.share, min(tried.values(), key=lambda trial: trial.ratio.high), tried)


class _Keeper:
    """What may be measured next, given what predictions of the winner, and of what was made of it, were off by."""

    def __init__(
        self, structures: Structures, limit: TimeLimit, found: Found, executor: Executor, rungs: Sequence[float]
    ):
        self._structures, self._limit, self._executor, self._rungs = structures, limit, executor, rungs
        self._first, self._off = winner(found), 1.0
        self._all = [e for seeds in found.values() for evaluations in seeds for e in evaluations]
        self._known = dict[Structure, Evaluation]()
        for evaluation in sorted(self._all, key=lambda e: (*e.rank, e is self._first), reverse=True):
            if evaluation.rung == self._first.rung and not evaluation.failure:
                self._known.setdefault(evaluation.structure, evaluation)

    def measure(self, evaluation: Evaluation) -> Trial:
        """The time of a structure."""
        units = self._structures.units(evaluation.structure, evaluation.seed)
        predicted, ratio = self._limit.predicted(units), self._limit.clock.ratio(units)
        if ratio.median <= self._limit.share:
            ratio = self._limit.clock.again(units, ratio)
        if evaluation is self._first or evaluation.structure not in self._known:
            self._off = ratio.high / predicted
        return Trial(evaluation, ratio, predicted)

    def candidates(self) -> Iterator[Evaluation]:
        """The best ones, the winner first, the next that should be fast enough, then the winner made ever smaller."""
        best, rest = list(self._known)[:BEST], list(self._known)[BEST:]
        seen = set[Structure]()
        for structure in chain(best, islice(filter(self._fits, rest), NEXT), self._smaller()):
            if structure in seen:
                return
            seen.add(structure)
            found = self._known.get(structure) or self._judged(structure, len(seen))
            if found.failure:
                self._off *= LESS
            else:
                yield found

    def _fits(self, structure: Structure) -> bool:
        """Whether a structure should be within the limit."""
        units = self._structures.units(structure, self._known[structure].seed)
        return self._off * self._limit.predicted(units) <= self._limit.share

    def _smaller(self) -> Iterator[Structure]:
        while True:
            yield self._structures.tightened(1 / self._off).repair(self._first.structure)

    def _judged(self, structure: Structure, count: int) -> Evaluation:
        number = max(evaluation.number for evaluation in self._all) + count
        rung = self._first.rung
        job = Job(number, structure, seed_of(self._first.seed, number), rung, self._rungs[rung])
        (found,) = self._executor.run([job])
        return found
