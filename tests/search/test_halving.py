"""Successive halving: who goes on, what it spares, what it finds, and rungs that make no sense."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.surrogate import DIMENSIONS, LEVELS, surrogate
from onnxprune.errors import UsageError
from onnxprune.search.bees import bees
from onnxprune.search.controls import random
from onnxprune.search.evaluation import Evaluation
from onnxprune.search.executors import InProcess
from onnxprune.search.grid import Grid, Space
from onnxprune.search.halving import Halving, ladder, most_effort
from onnxprune.search.journal import Journal
from onnxprune.search.released import released_bees
from onnxprune.search.run import Budget, best, best_so_far, search
from onnxprune.search.sampler import Sampler

GRID = Grid((tuple(range(1, LEVELS + 1)),) * DIMENSIONS)
RUNGS = (0.25, 0.5, 1.0)


@dataclass
class Patient:
    """What more effort makes surer; counts the judgements of every rung."""

    efforts: list = field(default_factory=list)

    def __call__(self):
        return self.judge

    def judge(self, job):
        self.efforts.append((job.rung, job.effort))
        error = 0.05 * (1 - job.effort) * np.random.default_rng(job.seed).standard_normal()
        return {"score": surrogate(job.structure) + error}


def searched(algorithm, seed, budget, maker=None, journal=None):
    sampler = Sampler(algorithm(Space(GRID), np.random.default_rng(seed)))
    return search(sampler, InProcess(maker or Patient()), budget, journal)


def test_the_better_ones_of_a_batch_go_on(tmp_path):
    maker, budget = Patient(), Budget(20, rungs=RUNGS)
    with Journal(tmp_path / "j", {}) as journal:
        evaluations = searched(random, 0, budget, maker, journal)
    assert Counter(maker.efforts) == {(0, 0.25): 20, (1, 0.5): 10, (2, 1.0): 5}
    batch = evaluations[:10]
    reached = [[e for e in batch if e.rung >= rung] for rung in (0, 1, 2)]
    assert [len(r) for r in reached] == [10, 5, 2]
    first = {n: journal.known[n, 0].score for n in range(10)}
    assert min(first[e.number] for e in reached[1]) >= max(first[e.number] for e in batch if e.rung == 0)
    assert best(evaluations).rung == 2 and best_so_far(evaluations)[-1] == best(evaluations).score
    again = Patient()
    with Journal(tmp_path / "j", {}, resume=True) as journal:
        assert searched(random, 0, budget, again, journal) == evaluations and not again.efforts


@pytest.mark.parametrize("algorithm", [bees, random, released_bees])
def test_halving_spares_effort_and_finds_about_as_much(algorithm):
    """At equal evaluations, over seeds: three quarters of the effort at most, little of the score lost."""
    effort, halved, whole = 0.0, [], []
    for seed in range(8):
        maker = Patient()
        halved.append(surrogate(best(searched(algorithm, seed, Budget(200, rungs=RUNGS), maker)).structure))
        whole.append(surrogate(best(searched(algorithm, seed, Budget(200))).structure))
        effort = max(effort, sum(share for _, share in maker.efforts) / 200)
    assert effort <= most_effort(RUNGS) == 0.75
    assert np.mean(halved) > np.mean(whole) - 0.01


@given(st.lists(st.lists(st.floats(-100, 100), min_size=1, max_size=10), min_size=1, max_size=40))
def test_no_more_than_half_ever_goes_on(batches):
    halving, judged, went = Halving(2), [], 0
    for batch in batches:
        new = [Evaluation(len(judged) + k, (k,), figures={"score": s}) for k, s in enumerate(batch)]
        judged += new
        on = halving.promoted(0, new)
        went += len(on)
        half = max(1, len(judged) // 2)
        bar = sorted((e.score for e in judged), reverse=True)[half - 1]
        assert went <= half and all(e.score >= bar for e in new if e.number in on)


def test_a_single_one_has_to_be_better_than_half_of_all_so_far():
    halving = Halving(2)
    batch = [Evaluation(n, (n,), figures={"score": n / 10}) for n in range(10)]
    assert halving.promoted(0, batch) == {5, 6, 7, 8, 9}
    bad, fair = (Evaluation(n, (n,), figures={"score": s}) for n, s in ((10, 0.05), (11, 0.15)))
    assert halving.promoted(0, [bad]) == halving.promoted(0, [fair]) == set()
    good = Evaluation(12, (12,), figures={"score": 0.95})
    assert halving.promoted(0, [good]) == {12}


def test_scouts_do_not_go_on_for_being_alone():
    evaluations = searched(released_bees, 0, Budget(200, rungs=RUNGS))
    rungs = Counter(e.rung for e in evaluations[10:])  # one at a time
    assert rungs[0] >= 90 and rungs[2] <= 50


def test_failures_never_go_on():
    halving = Halving(2)
    failed = [Evaluation(n, (n,), failure="no") for n in range(3)]
    assert halving.promoted(0, failed) == set()
    fine = Evaluation(3, (3,), figures={"score": -5.0})
    assert halving.promoted(0, [*failed, fine]) == {3}


class Fragile(Patient):
    """Fails on the highest rung, but for two."""

    def judge(self, job):
        if job.rung == 2 and job.number % 7:
            raise ValueError("out of memory")
        return super().judge(job)


def test_what_fails_at_last_does_not_win():
    evaluations = searched(bees, 0, Budget(60, rungs=RUNGS), Fragile())
    assert {e.rung for e in evaluations if e.failure} == {2}
    assert not best(evaluations).failure
    broken = searched(bees, 0, Budget(60, rungs=RUNGS), type("Broken", (Patient,), {"judge": _fails_at_last})())
    assert not best(broken).failure and best(broken).rung == 1


def _fails_at_last(self, job):
    if job.rung == 2:
        raise ValueError("out of memory")
    return Patient.judge(self, job)


@pytest.mark.parametrize(
    ("efforts", "left"), [(4, RUNGS), (3, (1 / 3, 2 / 3, 1.0)), (10, (0.2, 0.5, 1.0)), (1000, RUNGS)]
)
def test_rungs_as_a_fitness_tells_them_apart(efforts, left):
    found = ladder(RUNGS, efforts)
    assert found == pytest.approx(left) and most_effort(found) < 1
    asked = [max(1, round(rung * efforts)) for rung in found]
    assert len(set(asked)) == len(asked), "no two are the same training"


def test_a_fitness_that_ignores_effort_cannot_be_halved():
    assert ladder((1.0,), 1) == (1.0,)
    with pytest.raises(UsageError, match="a fitness that knows no less than all of it: it would do the same 3 times"):
        ladder(RUNGS, 1)


def test_halving_that_spares_nothing():
    with pytest.raises(UsageError, match="a fitness of 0 efforts, expected at least 1"):
        ladder(RUNGS, 0)
    with pytest.raises(UsageError, match=r"halving over 0.5, 1 of all effort takes up to 1.00 of that without"):
        ladder(RUNGS, 2)
    with pytest.raises(UsageError, match=r"halving over 0.8, 1 of all effort takes up to 1.30"):
        Budget(10, rungs=(0.8, 1.0))


@pytest.mark.parametrize("rungs", [(), (0.5,), (0.5, 0.5, 1.0), (0.0, 1.0)])
def test_rungs_that_do_not_ascend_to_one(rungs):
    with pytest.raises(UsageError, match="expected shares that ascend to 1"):
        Budget(10, rungs=rungs)
