"""The promise of a limit of the time, kept by what a search found.

A search predicts times. Here what it found is measured, the best first, until one is within the limit. Where none is,
the best one is made smaller by what predictions were off by, and judged.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import chain, islice
from typing import Any

from onnxprune.latency.statistic import Interval
from onnxprune.search.comparison import Found, winner
from onnxprune.search.evaluation import Evaluation, Executor, Job, seed_of
from onnxprune.search.grid import Structure
from onnxprune.search.structures import Structures, TimeLimit

TRIES = 8
"""Structures that are measured at most."""
SMALLER = "made smaller"
"""What proposed a structure that no sampler did."""


@dataclass(frozen=True)
class Promise:
    """The structure that a search gives.

    Attributes:
        evaluation: its judgement.
        asked: the share of the whole network's time that is not to be exceeded.
        ratio: its time by the whole network's, measured.
        predicted: the same, by which it was within the limit of the search.
        tries: how many structures were measured for it.
    """

    evaluation: Evaluation
    asked: float
    ratio: Interval
    predicted: float
    tries: int = 1

    @property
    def kept(self) -> bool:
        """Whether the upper end of the ratio's interval is within the limit."""
        return self.ratio.high <= self.asked

    def to_json(self) -> dict[str, Any]:
        """Its figures of the time as plain data."""
        found = {"asked": self.asked, "ratio": asdict(self.ratio), "predicted": self.predicted}
        return {**found, "tries": self.tries, "kept": self.kept}


def keep(structures: Structures, limit: TimeLimit, found: Found, executor: Executor) -> Promise:
    """The best structure that is measured within a limit of the time, or the fastest one that was measured.

    Args:
        structures: that were searched.
        limit: theirs.
        found: what the search judged.
        executor: judges what has to be made smaller.
    """
    tried, hunt = list[Promise](), _Hunt(structures, limit, found, executor)
    for evaluation in islice(hunt.candidates(), TRIES):
        tried.append(hunt.measure(evaluation))
        if tried[-1].kept:
            break
    return replace(min(tried, key=lambda each: (not each.kept, each.ratio.high)), tries=len(tried))


class _Hunt:
    """What may be measured next, given what predictions were off by so far."""

    def __init__(self, structures: Structures, limit: TimeLimit, found: Found, executor: Executor):
        self._structures, self._limit, self._executor = structures, limit, executor
        self._found, self._first, self._off = found, winner(found), 1.0

    def measure(self, evaluation: Evaluation) -> Promise:
        """The time of a structure; the worst that a prediction was off by is remembered."""
        limit, units = self._limit, self._structures.units(evaluation.structure, evaluation.seed)
        predicted, ratio = limit.predicted(units), limit.clock.ratio(units)
        if ratio.median <= limit.share:
            ratio = limit.clock.again(units, ratio)
        self._off = max(self._off, ratio.high / predicted)
        return Promise(evaluation, limit.share, ratio, predicted)

    def candidates(self) -> Iterator[Evaluation]:
        """The best ones, the winner first, then the winner made ever smaller; none twice."""
        judged = [e for seeds in self._found.values() for evaluations in seeds for e in evaluations if not e.failure]
        judged.sort(key=lambda e: (*e.rank, e is self._first), reverse=True)
        known = dict[Structure, Evaluation]()
        for evaluation in judged:
            if evaluation.rung == self._first.rung:
                known.setdefault(evaluation.structure, evaluation)
        seen = set[Structure]()
        for structure in chain(list(known)[: TRIES // 2], self._smaller()):
            if structure in seen:
                return
            seen.add(structure)
            found = known.get(structure) or self._judged(structure, len(judged) + len(seen))
            if not found.failure:
                yield found

    def _smaller(self) -> Iterator[Structure]:
        """The winner, made smaller by the worst that a prediction was off by so far."""
        while True:
            yield self._structures.tightened(1 / self._off).repair(self._first.structure)

    def _judged(self, structure: Structure, number: int) -> Evaluation:
        (found,) = self._executor.run([Job(number, structure, seed_of(self._first.seed, number), self._first.rung)])
        return found
