"""Limits of the time that hold when they are measured: corrected, passed on to the next best, or made smaller."""

from pathlib import Path

import numpy as np
import pytest

import onnxprune
from onnxprune.errors import UsageError
from onnxprune.latency.statistic import Interval
from onnxprune.latency.target import AIM
from onnxprune.search.comparison import proposers, winner
from onnxprune.search.evaluation import Evaluation, Job
from onnxprune.search.executors import InProcess
from onnxprune.search.frontier import points
from onnxprune.search.promise import BEST, SMALLER, TRIES, keep
from onnxprune.search.structures import Structures, TimeLimit, Widths

MODEL = Path(__file__).parents[2] / "models" / "zoo" / "resnet11_cifar10.onnx"
WIDE = 0.002
LIMIT = 0.6


@pytest.fixture(scope="module")
def analysis():
    return onnxprune.analyze(onnxprune.load(MODEL))


class Clock:
    """Predicts the share of all units that stay; what is measured is more by a factor of the structure's own."""

    unmeasured, engine = (), "made up"

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


def structures_with(analysis, clock, limit=LIMIT):
    return Structures(analysis, Widths(), {}, time=TimeLimit(limit, clock))


def share_of_least(analysis):
    structures = structures_with(analysis, Clock())
    return Clock().share(structures.units((0,) * len(structures.groups)))


def judge(job):
    return {"score": float(sum(job.structure))}


def search(structures, count=6, rung=0):
    """Judgements of structures that just meet the limit."""
    chance = np.random.default_rng(0)
    found = [structures.repair(structures.grid.random(chance)) for _ in range(count)]
    return {"bees": [[Evaluation(k, s, k, rung, judge(Job(k, s, k))) for k, s in enumerate(found)]]}


def kept_by(structures, found, how=judge, **rungs):
    return keep(structures, structures.time, found, InProcess(lambda: how), **rungs)


def best_of(promise):
    return promise.best.evaluation


def test_a_winner_within_the_limit_is_measured_well(analysis):
    structures = structures_with(analysis, clock := Clock())
    promise = kept_by(structures, found := search(structures))
    assert best_of(promise) == winner(found) and promise.kept and len(promise.tried) == 1
    assert clock.sure == 1 and promise.best.predicted <= AIM * LIMIT + 1e-9
    told = promise.to_json()
    assert told["ratio"]["high"] <= LIMIT == told["asked"] and told["kept"] and told["tries"] == 1


def test_predictions_are_corrected_before_the_search(analysis):
    structures = structures_with(analysis, Clock(lambda units: 1.3, known=1.3))
    promise = kept_by(structures, search(structures))
    assert promise.kept and len(promise.tried) == 1
    assert promise.best.predicted == pytest.approx(promise.best.ratio.median, rel=1e-6)
    with pytest.raises(UsageError, match=r"the least is latency=[1-9]"):
        structures_with(analysis, Clock(known=100.0))


def test_a_limit_that_only_corrected_predictions_meet_is_not_refused(analysis):
    least = share_of_least(analysis)
    structures = structures_with(analysis, Clock(lambda units: 0.9, known=0.9), 0.95 * least)
    assert structures.fits((0,) * len(structures.groups))
    with pytest.raises(UsageError, match="no structure meets"):
        structures_with(analysis, Clock(), 0.95 * least)


def test_a_structure_just_within_the_limit_leaves_room_for_itself(analysis):
    least = share_of_least(analysis)
    structures = structures_with(analysis, Clock(), least / 0.99)
    assert AIM < structures.time.aim < 1 and structures.fits((0,) * len(structures.groups))


def test_the_next_best_is_taken_where_the_best_is_too_slow(analysis):
    structures = structures_with(analysis, clock := Clock())
    found = search(structures)
    slow = structures.units(winner(found).structure)
    same = lambda units: all(np.array_equal(units[name], stay) for name, stay in slow.items())  # noqa: E731
    clock.off = lambda units: 1.2 if same(units) else 0.8
    promise = kept_by(structures, found)
    second = sorted(found["bees"][0], key=lambda e: e.rank)[-2]
    assert promise.kept and best_of(promise).score == second.score < winner(found).score
    assert len(promise.tried) == 2 and proposers(found, best_of(promise)) == ["bees"]


def test_what_is_too_slow_throughout_is_made_smaller_and_judged(analysis):
    structures = structures_with(analysis, Clock(lambda units: 1.2))
    found, judged = search(structures), []
    promise = kept_by(structures, found, lambda job: judged.append(job) or judge(job))
    assert promise.kept and best_of(promise).structure == judged[-1].structure
    assert best_of(promise).score < winner(found).score and promise.best.ratio.median > 0.9 * LIMIT
    assert judged[0].number > max(e.number for e in found["bees"][0])
    tie = Evaluation(9, best_of(promise).structure, 0, 0, winner(found).figures)
    assert proposers(found, best_of(promise)) == proposers(found, tie) == [], "a tie is no proposal"


def test_times_that_were_measured_are_on_the_frontier(analysis):
    structures = structures_with(analysis, Clock(lambda units: 1.2))
    promise = kept_by(structures, found := search(structures))
    shown = {tuple(p.widths.values()): p for p in points(structures, found, "latency", promise)}
    for structure, trial in promise.tried.items():
        point = shown[tuple(structures.named(structure).values())]
        assert point.share == trial.ratio.median and (point.sampler == SMALLER) == (point.share <= LIMIT)


def test_a_smaller_structure_is_judged_as_far_as_the_best(analysis):
    structures = structures_with(analysis, Clock(lambda units: 1.2))
    found, judged = search(structures, rung=1), []
    kept_by(structures, found, lambda job: judged.append(job) or judge(job), rungs=(0.25, 0.5, 1.0))
    assert {(job.rung, job.effort) for job in judged} == {(1, 0.5)}


def test_a_promise_that_nothing_keeps_is_said_to_be_missed(analysis):
    structures = structures_with(analysis, Clock(lambda units: 0.99 / Clock().share(units)))
    promise = kept_by(structures, search(structures, 9))
    assert not promise.kept and BEST < len(promise.tried) <= TRIES
    assert any(trial.evaluation.number > 8 for trial in promise.tried.values()), "smaller ones were tried"


def test_a_judgement_that_fails_is_followed_by_another(analysis):
    structures = structures_with(analysis, Clock(lambda units: 1.2))
    found, calls = search(structures), []
    promise = kept_by(structures, found, lambda job: {} if calls.append(job) or len(calls) == 1 else judge(job))
    assert promise.kept and len(calls) == 2 and best_of(promise).structure == calls[1].structure
