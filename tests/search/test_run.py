"""Searching: the journal, resuming, executors, failures."""

import json
import math
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from benchmarks.surrogate import Surrogate, Unlucky
from onnxprune.errors import TrainingError, UsageError
from onnxprune.search.bees import bees
from onnxprune.search.crew import Workers
from onnxprune.search.evaluation import Evaluation, Job
from onnxprune.search.executors import InProcess, Processes
from onnxprune.search.grid import Grid, Space
from onnxprune.search.journal import Journal
from onnxprune.search.run import Budget, best, best_so_far, search
from onnxprune.search.sampler import Sampler

ROOT = Path(__file__).parents[2]
GRID = Grid((tuple(range(1, 8)),) * 6)
WHAT = {"grid": GRID.widths, "seed": 0}


def sampler(seed=0):
    return Sampler(bees(Space(GRID), np.random.default_rng(seed)))


def found(executor, evaluations=45, journal=None, **how):
    with executor:
        return search(sampler(), executor, Budget(evaluations), journal, **how)


def plain(evaluations):
    """All but the time that they took."""
    return [(e.number, e.structure, e.seed, e.figures, e.failure) for e in evaluations]


def test_as_many_as_the_budget_has():
    evaluations = found(InProcess(Surrogate()))
    assert [e.number for e in evaluations] == list(range(45)) and len({e.structure for e in evaluations}) == 45
    top = best(evaluations)
    assert top.score == max(e.score for e in evaluations) == best_so_far(evaluations)[-1]
    assert best_so_far(evaluations) == sorted(best_so_far(evaluations))


def test_processes_find_the_same_bit_for_bit():
    alone = found(InProcess(Surrogate(noise=0.1)))
    assert plain(found(Processes(Surrogate(noise=0.1), Workers(3)))) == plain(alone)


def test_a_search_that_goes_on_is_as_if_it_had_never_stopped(tmp_path):
    whole = found(InProcess(Surrogate(noise=0.1)))
    with Journal(tmp_path / "j", WHAT) as journal:
        found(InProcess(Surrogate(noise=0.1)), 17, journal)
    judged = Surrogate(noise=0.1)
    with Journal(tmp_path / "j", WHAT, resume=True) as journal:
        assert len(journal.known) == 17
        assert plain(found(InProcess(judged), 45, journal)) == plain(whole)
    lines = (tmp_path / "j").read_text().splitlines()
    assert sorted(json.loads(line)["number"] for line in lines[1:]) == list(range(45))


def test_a_line_cut_short_is_dropped(tmp_path):
    with Journal(tmp_path / "j", WHAT) as journal:
        found(InProcess(Surrogate()), 12, journal)
    content = (tmp_path / "j").read_bytes()
    (tmp_path / "j").write_bytes(content[:-9])
    with Journal(tmp_path / "j", WHAT, resume=True) as journal:
        assert sorted(journal.known) == [(n, 0) for n in range(11)]
        found(InProcess(Surrogate()), 12, journal)
    assert [json.loads(a) | {"seconds": 0} for a in (tmp_path / "j").read_text().splitlines()] == [
        json.loads(a) | {"seconds": 0} for a in content.decode().splitlines()
    ]


def test_a_killed_driver_loses_and_repeats_nothing(tmp_path):
    script = (
        "import sys; from pathlib import Path; from tests.search.test_run import *;"
        "folder = Path(sys.argv[1]); journal = Journal(folder / 'j', WHAT, resume=True);"
        "found(InProcess(Unlucky(folder, killed=(5, 23, 24))), 45, journal)"
    )
    for _ in range(4):
        last = subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, check=False)
    assert last.returncode == 0
    assert (tmp_path / "finished").read_text().split() == [str(n) for n in range(45)]
    with Journal(tmp_path / "j", WHAT, resume=True) as journal:
        assert plain(journal.known[n, 0] for n in range(45)) == plain(found(InProcess(Surrogate())))


@pytest.mark.parametrize("hang", [False, True])
def test_a_lost_worker_is_replaced_and_its_evaluation_redone(tmp_path, hang):
    maker = Unlucky(tmp_path, killed=(3, 11), hang=hang)
    evaluations = found(Processes(maker, Workers(2, timeout=3.0 if hang else None)), 14)
    assert plain(evaluations) == plain(found(InProcess(Surrogate()), 14))
    assert sorted(map(int, (tmp_path / "finished").read_text().split())) == list(range(14))


def test_what_loses_its_worker_twice_has_failed(tmp_path):
    evaluations = found(Processes(Unlucky(tmp_path, killed=(3,), always=True), Workers(2)), 12)
    assert evaluations[3].failure == "the worker died of SIGKILL, 2 times" and evaluations[3].score == -math.inf
    assert not any(e.failure for e in evaluations if e.number != 3)


class Picky(Surrogate):
    """Fails, or is not a number, at some numbers."""

    def judge(self, job):
        if job.number % 5 == 1:
            raise ValueError("will not")
        return {"score": math.nan} if job.number % 5 == 2 else super().judge(job)


def test_failures_are_recorded_and_the_search_goes_on(tmp_path):
    with Journal(tmp_path / "j", WHAT) as journal:
        evaluations = found(InProcess(Picky()), journal=journal)
    assert evaluations[1].failure == "ValueError: will not" and evaluations[2].failure == "the fitness is nan"
    assert len(evaluations) == 45 and best(evaluations).failure == ""
    with Journal(tmp_path / "j", WHAT, resume=True) as journal:
        assert plain(journal.known[n, 0] for n in range(45)) == plain(evaluations)


@pytest.mark.parametrize("executor", [lambda: Processes(broken, Workers(1)), lambda: InProcess(lambda: _fail)])
def test_where_everything_fails_the_first_failure_is_told(executor):
    with pytest.raises(TrainingError, match="all of the first 10 evaluations failed; the first: RuntimeError: no data"):
        found(executor())


def broken():
    """A maker that fails."""
    raise RuntimeError("no data here")


def _fail(job: Job):
    raise RuntimeError("no data")


def test_progress_is_told_of_everything_so_far():
    seen = []
    found(InProcess(Surrogate()), 25, show=lambda done: seen.append(len(done)))
    assert seen == list(range(1, 26))


def test_journals_that_do_not_fit(tmp_path):
    with Journal(tmp_path / "j", WHAT) as journal:
        found(InProcess(Surrogate()), 12, journal)
    with pytest.raises(UsageError, match="has a search already"):
        Journal(tmp_path / "j", WHAT)
    with pytest.raises(UsageError, match="a journal of another search: its seed is 0, expected 1"):
        Journal(tmp_path / "j", WHAT | {"seed": 1}, resume=True)
    (tmp_path / "j").write_text((tmp_path / "j").read_text().replace('"version":1', '"version":0'))
    with pytest.raises(UsageError, match="its version is 0, expected 1"):
        Journal(tmp_path / "j", WHAT, resume=True)
    (tmp_path / "j").write_text("nothing\n")
    with pytest.raises(UsageError, match="a damaged journal: line 1"):
        Journal(tmp_path / "j", WHAT, resume=True)


def test_another_version_is_told_before_its_lines_are_read(tmp_path):
    (tmp_path / "j").write_text('{"format":"onnxprune-search","version":0}\n{"id":7}\n')
    with pytest.raises(UsageError, match="its version is 0, expected 1"):
        Journal(tmp_path / "j", WHAT, resume=True)


@pytest.mark.parametrize("line", ['{"number":0}', "[]", "7", '{"number":0,"structure":[0],"figures":null}', "{"])
def test_a_damaged_line_is_told_by_its_number(tmp_path, line):
    with Journal(tmp_path / "j", WHAT) as journal:
        journal.add(Evaluation(0, (0,) * 6, 1, 0, {"score": 0.5}))
    with (tmp_path / "j").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(UsageError, match="a damaged journal: line 3: "):
        Journal(tmp_path / "j", WHAT, resume=True)


def test_what_differs_in_a_field_is_told_alone(tmp_path):
    with Journal(tmp_path / "j", {"fitness": {"lr": 0.1, "seed": 0}}):
        pass
    with pytest.raises(UsageError, match=r"its fitness is {'lr': 0.1}, expected {'lr': 0.2}"):
        Journal(tmp_path / "j", {"fitness": {"lr": 0.2, "seed": 0}}, resume=True)


def test_a_new_journal_is_known_to_its_folder_on_the_disk(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(
        "onnxprune.search.journal.sync_folder", lambda path: synced.append((path, (path / "j").exists()))
    )
    with Journal(tmp_path / "j", WHAT):
        assert synced == [(tmp_path, True)]


def test_a_journal_of_other_structures_is_refused(tmp_path):
    with Journal(tmp_path / "j", WHAT) as journal:
        journal.add(Evaluation(0, (0,) * 6, 1, 0, {"score": 0.5}))
    with (
        Journal(tmp_path / "j", WHAT, resume=True) as journal,
        pytest.raises(UsageError, match="evaluation 0 of the journal is of another structure"),
    ):
        found(InProcess(Surrogate()), journal=journal)


class Patient(Surrogate):
    """What more effort makes surer; counts the judgements of every rung."""

    def __call__(self):
        self.__dict__["efforts"] = []
        return self.judge

    def judge(self, job):
        self.efforts.append((job.rung, job.effort))
        error = 0.1 * (1 - job.effort) * np.random.default_rng(job.seed).standard_normal()
        return {"score": super().judge(job)["score"] + error}


def test_halving_spends_effort_on_the_better_ones(tmp_path):
    maker, budget = Patient(), Budget(20, rungs=(0.25, 0.5, 1.0))
    with Journal(tmp_path / "j", WHAT) as journal:
        evaluations = search(sampler(), InProcess(maker), budget, journal)
    assert Counter(maker.efforts) == {(0, 0.25): 20, (1, 0.5): 10, (2, 1.0): 6}
    batch = evaluations[:10]
    reached = [[e for e in batch if e.rung >= rung] for rung in (0, 1, 2)]
    assert [len(r) for r in reached] == [10, 5, 3]
    first = {n: journal.known[n, 0].score for n in range(10)}
    assert min(first[e.number] for e in reached[1]) >= max(first[e.number] for e in batch if e.rung == 0)
    assert best(evaluations).rung == 2 and best_so_far(evaluations)[-1] == best(evaluations).score
    with Journal(tmp_path / "j", WHAT, resume=True) as journal:
        again = search(sampler(), InProcess(maker), budget, journal)
    assert plain(again) == plain(evaluations) and not maker.efforts


@pytest.mark.parametrize("rungs", [(), (0.5,), (0.5, 0.5, 1.0), (0.0, 1.0)])
def test_rungs_that_do_not_ascend_to_one(rungs):
    with pytest.raises(UsageError, match="expected shares that ascend to 1"):
        Budget(10, rungs=rungs)


def test_numbers_that_make_no_sense():
    with pytest.raises(UsageError, match="0 workers"):
        Workers(0)
    with pytest.raises(UsageError, match="0 evaluations"):
        Budget(0)
