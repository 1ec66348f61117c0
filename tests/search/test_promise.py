"""Limits of the time that hold when they are measured: corrected, passed on to the next best, or made smaller."""

from pathlib import Path

import numpy as np
import pytest

import onnxprune
from onnxprune.errors import UsageError
from onnxprune.latency.statistic import Interval
from onnxprune.latency.target import AIM
from onnxprune.search.comparison import proposers, winner
from onnxprune.search.evaluation import Evaluation
from onnxprune.search.executors import InProcess
from onnxprune.search.promise import TRIES, keep
from onnxprune.search.structures import Structures, TimeLimit, Widths

MODEL = Path(__file__).parents[2] / "models" / "zoo" / "resnet11_cifar10.onnx"
WIDE = 0.002
LIMIT = 0.6


@pytest.fixture(scope="module")
def analysis():
    return onnxprune.analyze(onnxprune.load(MODEL))


class Clock:
    """Predicts the share of all units that stay; what is measured is more by a factor of the structure's own."""

    unmeasured = ()

    def __init__(self, off=lambda units: 1.0, known=1.0):
        self.off, self.known, self.sure = off, known, 0

    def share(self, units):
        return sum(int(stay.sum()) for stay in units.values()) / sum(stay.size for stay in units.values())

    def ratio(self, units):
        found = self.share(units) * self.off(units)
        return Interval(found, found - WIDE, found + WIDE)

    def again(self, units, first):
        self.sure += 1
        return first

    def correction(self, units):
        return self.known


def structures_with(analysis, clock):
    return Structures(analysis, Widths(), {}, time=TimeLimit(LIMIT, clock))


def judge(job):
    return {"score": float(sum(job.structure))}


def search(structures, count=6):
    """Judgements of structures that just meet the limit."""
    chance = np.random.default_rng(0)
    found = [structures.repair(structures.grid.random(chance)) for _ in range(count)]
    return {"bees": [[Evaluation(k, s, k, 0, judge(Evaluation(k, s))) for k, s in enumerate(found)]]}


def kept_by(structures, found, how=judge):
    return keep(structures, structures.time, found, InProcess(lambda: how))


def test_a_winner_within_the_limit_is_measured_well(analysis):
    structures = structures_with(analysis, clock := Clock())
    promise = kept_by(structures, found := search(structures))
    assert promise.evaluation == winner(found) and promise.kept and promise.tries == 1
    assert clock.sure == 1 and promise.predicted <= AIM * LIMIT + 1e-9
    assert promise.to_json()["ratio"]["high"] <= LIMIT == promise.to_json()["asked"]


def test_predictions_are_corrected_before_the_search(analysis):
    structures = structures_with(analysis, Clock(lambda units: 1.3, known=1.3))
    promise = kept_by(structures, search(structures))
    assert promise.kept and promise.tries == 1
    assert promise.predicted == pytest.approx(promise.ratio.median, rel=1e-6)
    with pytest.raises(UsageError, match=r"the least is latency=0\.[6-9]"):
        structures_with(analysis, Clock(known=10.0))


def test_the_next_best_is_taken_where_the_best_is_too_slow(analysis):
    structures = structures_with(analysis, clock := Clock())
    found = search(structures)
    slow = structures.units(winner(found).structure)
    same = lambda units: all(np.array_equal(units[name], stay) for name, stay in slow.items())  # noqa: E731
    clock.off = lambda units: 1.2 if same(units) else 0.8
    promise = kept_by(structures, found)
    rest = [e for e in found["bees"][0] if e.structure != winner(found).structure]
    assert promise.kept and promise.evaluation.structure in {e.structure for e in rest}
    assert promise.tries == 2 and proposers(found, promise.evaluation) == ["bees"]


def test_what_is_too_slow_throughout_is_made_smaller_and_judged(analysis):
    structures = structures_with(analysis, Clock(lambda units: 1.2))
    found, judged = search(structures), []
    promise = kept_by(structures, found, lambda job: judged.append(job) or judge(job))
    assert promise.kept and promise.evaluation.structure == judged[-1].structure
    assert proposers(found, promise.evaluation) == [] and promise.evaluation.score < winner(found).score
    assert promise.ratio.median > 0.9 * LIMIT, "no smaller than need be"


def test_a_promise_that_nothing_keeps_is_said_to_be_missed(analysis):
    structures = structures_with(analysis, Clock(lambda units: 0.99 / Clock().share(units)))
    promise = kept_by(structures, search(structures))
    assert not promise.kept and 1 <= promise.tries <= TRIES and promise.ratio.median == pytest.approx(0.99)


def test_failures_of_smaller_structures_are_passed_over(analysis):
    structures = structures_with(analysis, Clock(lambda units: 1.2))
    promise = kept_by(structures, found := search(structures), lambda job: {})
    assert not promise.kept and promise.evaluation.structure in {e.structure for e in found["bees"][0]}
