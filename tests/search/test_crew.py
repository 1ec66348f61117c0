"""Workers that die when they start, or with nothing to do; what is told of those that never start."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.surrogate import Surrogate, Unlucky
from onnxprune.errors import TrainingError, UsageError
from onnxprune.search.crew import Workers
from onnxprune.search.evaluation import Evaluation, Job
from onnxprune.search.executors import InProcess, Processes
from tests.search.test_run import found, plain


@dataclass(frozen=True)
class Stillborn:
    """A fitness whose first workers die when it is made there."""

    folder: Path
    deaths: int

    def __call__(self):
        mark = self.folder / f"start-{os.getpid()}"
        mark.touch()
        if len(list(self.folder.glob("start-*"))) <= self.deaths:
            os.kill(os.getpid(), signal.SIGKILL)
        return Surrogate()()


def in_order(executor, jobs):
    return sorted(executor.run(jobs), key=lambda evaluation: evaluation.number)


def jobs(numbers):
    return [Job(n, (n % 7,) * 6, n) for n in numbers]


def test_workers_that_die_when_they_start_are_replaced(tmp_path):
    evaluations = found(Processes(Stillborn(tmp_path, 3), Workers(2)), 12)
    assert plain(evaluations) == plain(found(InProcess(Surrogate()), 12))


def test_workers_that_never_start_end_the_search(tmp_path):
    with pytest.raises(TrainingError, match=r"1\d workers in a row .* the first died of SIGKILL"):
        found(Processes(Stillborn(tmp_path, 100), Workers(2)), 12)


def test_workers_that_die_between_batches_cost_nothing(tmp_path):
    alone = [InProcess(Surrogate())._judge(job)["score"] for job in jobs(range(6))]
    with Processes(Unlucky(tmp_path), Workers(2)) as executor:
        first = in_order(executor, jobs(range(3)))
        for member in executor._members:
            os.kill(member.worker.process.pid, signal.SIGKILL)
            member.worker.process.join()
        second = in_order(executor, jobs(range(3, 6)))
    assert [e.score for e in first + second] == alone
    assert sorted(map(int, (tmp_path / "finished").read_text().split())) == list(range(6))


def test_a_batch_that_was_left_does_not_come_back(tmp_path):
    with Processes(Surrogate(), Workers(2)) as executor:
        next(executor.run(jobs(range(6))))
        assert [e.number for e in in_order(executor, jobs([7, 8]))] == [7, 8]


class Broody(Surrogate):
    """Takes its time."""

    def judge(self, job):
        time.sleep(0.5)
        return super().judge(job)


def test_no_process_outlives_the_executor():
    executor = Processes(Broody(), Workers(2))
    with executor:
        next(executor.run(jobs(range(4))))
        workers = [member.worker.process for member in executor._members]
    assert len(workers) == 2 and not any(worker.is_alive() for worker in workers)


@dataclass(frozen=True)
class Quitter:
    """Its worker ends with a status, always in evaluation 1."""

    def __call__(self):
        return self.judge

    def judge(self, job):
        if job.number == 1:
            os._exit(7)
        return {"score": 0.5}


def test_how_a_worker_died_is_told():
    with Processes(Quitter(), Workers(1)) as executor:
        one, two = in_order(executor, jobs([0, 1]))
    assert isinstance(one, Evaluation) and not one.failure
    assert two.failure == "the worker died with status 7, 2 times"


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_timeout_that_makes_no_sense(timeout):
    with pytest.raises(UsageError, match="expected at least 1 and more than 0 seconds"):
        Workers(1, timeout)
