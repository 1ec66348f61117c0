"""Where structures are judged: in this process, in others on this machine, or on a Ray cluster.

A worker that dies, or takes longer than the timeout, is replaced, and its evaluation is done once more; if that fails,
too, the evaluation has failed.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass
from functools import partial
from typing import Self

from onnxprune.errors import UsageError
from onnxprune.search.evaluation import Evaluation, Job, Judge, Maker, judged

ATTEMPTS = 2


@dataclass(frozen=True)
class Workers:
    """How many judge at the same time, and for how long.

    Attributes:
        count: of workers.
        timeout: seconds for one evaluation; None for no end.
    """

    count: int = 1
    timeout: float | None = None

    def __post_init__(self) -> None:
        if self.count < 1 or (self.timeout is not None and self.timeout <= 0):
            raise UsageError(
                f"{self.count} workers with a timeout of {self.timeout}, expected at least 1 and more than 0 seconds",
                "choose larger numbers",
            )


class InProcess:
    """Judges one after the other, here."""

    def __init__(self, maker: Maker):
        self._judge = maker()

    def run(self, jobs: Sequence[Job]) -> Iterator[Evaluation]:
        """The judgements."""
        return (judged(self._judge, job) for job in jobs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        return None


def lost(job: Job, why: str) -> Evaluation:
    """The judgement of a job whose workers were lost."""
    return Evaluation(job.number, job.structure, job.seed, job.rung, failure=f"the worker {why}, {ATTEMPTS} times")


class Processes:
    """Judges in processes of their own; needs pebble.

    Raises:
        UsageError: pebble is not installed.
    """

    def __init__(self, maker: Maker, workers: Workers):
        try:
            from pebble import ProcessPool
        except ImportError as error:
            raise UsageError("worker processes need pebble", "pip install 'onnxprune[search]'") from error
        self._timeout = workers.timeout
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPool(workers.count, initializer=_prepare, initargs=[maker], context=context)

    def run(self, jobs: Sequence[Job]) -> Iterator[Evaluation]:
        """The judgements, as they come."""
        from pebble import ProcessExpired

        pending = {self._submit(job): (job, 1) for job in jobs}
        while pending:
            done, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                job, attempt = pending.pop(future)
                try:
                    yield future.result()
                except (ProcessExpired, TimeoutError) as error:
                    why = "died" if isinstance(error, ProcessExpired) else f"took more than {self._timeout} seconds"
                    if attempt == ATTEMPTS:
                        yield lost(job, why)
                    else:
                        pending[self._submit(job)] = (job, attempt + 1)

    def _submit(self, job: Job):  # type: ignore[no-untyped-def]  # pebble has no types
        return self._pool.schedule(_judge_here, args=[job], timeout=self._timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.stop()
        self._pool.join()


_here: list[Judge] = []
"""A worker's fitness."""


def prepared(maker: Maker) -> Judge:
    """The fitness; what goes wrong in making it goes wrong in every evaluation, and is told."""
    try:
        return maker()
    except Exception as error:
        return partial(_refuse, error)


def _prepare(maker: Maker) -> None:
    _here[:] = [prepared(maker)]


def _refuse(error: Exception, job: Job) -> Mapping[str, float]:
    raise error


def _judge_here(job: Job) -> Evaluation:
    return judged(_here[0], job)
