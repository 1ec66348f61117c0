"""Searching: the journal, resuming, executors, failures."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.surrogate import Surrogate, Unlucky
from onnxprune.errors import TrainingError, UsageError
from onnxprune.search.bees import Colony, bees
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
    assert (
        evaluations[1].failure == "ValueError: will not"
        and evaluations[2].failure == "of the fitness 'score' is nan, expected finite figures"
    )
    assert len(evaluations) == 45 and best(evaluations).failure == ""
    with Journal(tmp_path / "j", WHAT, resume=True) as journal:
        assert plain(journal.known[n, 0] for n in range(45)) == plain(evaluations)


class Careless(Surrogate):
    """Gives figures that are none."""

    def judge(self, job):
        figures = [{"loss": math.inf}, {"loss": math.nan}, {"loss": 0.25}][job.number % 3]
        return super().judge(job) | figures if job.number != 5 else figures


def test_figures_that_are_not_finite_are_failures(tmp_path):
    with Journal(tmp_path / "j", WHAT) as journal:
        evaluations = found(InProcess(Careless()), 12, journal)
    assert [e.failure for e in evaluations[:3]] == [
        "of the fitness 'loss' is inf, expected finite figures",
        "of the fitness 'loss' is nan, expected finite figures",
        "",
    ]
    assert evaluations[5].failure == "the fitness gives ['loss'], expected 'score' among them"
    assert evaluations[2].figures["loss"] == 0.25 and not evaluations[0].figures
    with Journal(tmp_path / "j", WHAT, resume=True) as journal:
        assert plain(journal.known[n, 0] for n in range(12)) == plain(evaluations)


def test_failures_are_not_judged_again(tmp_path):
    with Journal(tmp_path / "j", WHAT) as journal:
        first = found(InProcess(Picky()), 12, journal)
    with Journal(tmp_path / "j", WHAT, resume=True) as journal:
        assert plain(found(InProcess(Surrogate()), 12, journal)) == plain(first)


@pytest.mark.parametrize("scores", [(-3.5, -80.0), (30.25, 99.5), (-1e300, 1e300)])
def test_any_scores_rank_and_failures_rank_last(scores):
    low, high = sorted(scores)
    good = [Evaluation(n, (n,), figures={"score": score}) for n, score in enumerate((low, high))]
    ascending = [Evaluation(9, (0,), rung=2, failure="no"), *good, Evaluation(5, (5,), rung=1, figures={"score": low})]
    assert sorted([ascending[k] for k in (3, 1, 0, 2)], key=lambda e: e.rank) == ascending
    assert best(ascending).number == 5 and best_so_far(ascending)[1:] == [low, high, low]


def test_one_failure_does_not_stop_a_search():
    """Of a colony of two sources both fail at first."""
    with pytest.raises(TrainingError, match="all of the first 2 evaluations failed; the first: RuntimeError: no data"):
        search(Sampler(bees(Space(GRID), np.random.default_rng(0), Colony(2))), InProcess(lambda: _fail), Budget(2))
    few = Sampler(bees(Space(GRID), np.random.default_rng(0), Colony(2)))
    evaluations = search(few, InProcess(lambda: _late), Budget(20))
    assert [bool(e.failure) for e in evaluations] == [True] * 5 + [False] * 15


def _late(job: Job):
    return _fail(job) if job.number < 5 else {"score": float(job.number)}


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


def test_numbers_that_make_no_sense():
    with pytest.raises(UsageError, match="0 workers"):
        Workers(0)
    with pytest.raises(UsageError, match="0 evaluations"):
        Budget(0)
