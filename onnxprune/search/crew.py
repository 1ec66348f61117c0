"""`Crew`: the one way in which jobs are spread over workers that may die or hang, wherever these live.

Jobs go to workers that are ready. A worker that dies, or takes longer than the timeout, is replaced, and its evaluation
is done once more; if that fails, too, the evaluation has failed. A worker that dies with nothing to do is replaced
alone. Workers that keep dying before they are ready end the search.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, Self, TypeVar

from onnxprune.errors import TrainingError, UsageError
from onnxprune.search.evaluation import Evaluation, Job

W = TypeVar("W")

ATTEMPTS = 2
"""Times that an evaluation is tried where workers are lost."""
STARTS = 10
"""Workers in a row that may be lost before they are ready."""
START = 300.0
"""Seconds that a worker may take to start, where evaluations have a timeout; theirs begins after that."""
LOOK = 1.0
"""Seconds between looks for what takes too long."""


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
        if self.count < 1 or (self.timeout is not None and not self.timeout > 0):
            raise UsageError(
                f"{self.count} workers with a timeout of {self.timeout}, expected at least 1 and more than 0 seconds",
                "choose larger numbers",
            )


@dataclass(frozen=True)
class Ready:
    """A worker's answer: it can be given a job."""


@dataclass(frozen=True)
class Lost:
    """What stands for the answer of a worker that is no more: why, after "the worker"."""

    why: str


Answer = Ready | Evaluation | Lost


class NoPlaceError(Exception):
    """There is no place where a worker could start; the text says why, after "the worker"."""


@dataclass
class _Task:
    """A job, and why its workers were lost so far."""

    job: Job
    lost: list[str] = field(default_factory=list)

    def failed(self) -> Evaluation:
        """The judgement of a job whose workers were all lost."""
        why = ", then ".join(dict.fromkeys(self.lost))
        job = self.job
        return Evaluation(job.number, job.structure, job.seed, job.rung, failure=f"the worker {why}, {ATTEMPTS} times")


@dataclass(eq=False)
class _Member(Generic[W]):
    """A worker, what it does, and since when it does that."""

    worker: W
    since: float
    ready: bool = False
    task: _Task | None = None


class Crew(ABC, Generic[W]):
    """An executor of several workers; what they are, is for those that are made of it to say."""

    def __init__(self, workers: Workers):
        self.workers = workers
        self._members: list[_Member[W]] = []
        self._unready: list[str] = []  # why workers were lost before they were ready, one after the other

    @abstractmethod
    def start(self) -> W:
        """A new worker, which answers once it is ready.

        Raises:
            NoPlaceError: it cannot be started now.
        """

    @abstractmethod
    def greet(self, worker: W) -> None:
        """Ask a worker that has nothing to do whether it is ready."""

    @abstractmethod
    def send(self, worker: W, job: Job) -> None:
        """Let a worker that is ready judge a job."""

    @abstractmethod
    def answers(self, workers: Sequence[W], seconds: float) -> list[tuple[W, Answer]]:
        """Answers of workers that are awaited, after so many seconds at most."""

    @abstractmethod
    def stop(self, worker: W) -> None:
        """End a worker, whatever it does."""

    def run(self, jobs: Sequence[Job]) -> Iterator[Evaluation]:
        """The judgements, as they come.

        Raises:
            TrainingError: workers keep dying before they are ready.
        """
        queue = deque(_Task(job) for job in jobs)
        if queue:
            self._muster()
        while queue or any(member.task for member in self._members):
            self._hand_out(queue)
            for member, answer in self._answered():
                yield from self._take(member, answer, queue)
            for member, why in self._late():
                yield from self._replace(member, why, queue)

    def _muster(self) -> None:
        """As many workers as are wanted; those that are there may have died since the last batch."""
        for member in self._members[:]:
            if member.task:  # of a batch that nobody waited for
                self._dismiss(member)
            elif member.ready:
                self.greet(member.worker)
                member.ready, member.since = False, time.monotonic()
        for _ in range(self.workers.count - len(self._members)):
            self._enlist()

    def _enlist(self) -> None:
        """A new worker, unless too many were lost.

        Raises:
            TrainingError: and none is left.
        """
        while len(self._unready) < STARTS:
            try:
                self._members.append(_Member(self.start(), time.monotonic()))
                return
            except NoPlaceError as error:
                self._unready.append(str(error))
        if not self._members:
            lost, first = len(self._unready), self._unready[0]
            raise TrainingError(
                f"{lost} workers in a row were lost before they could judge; the first {first}",
                "mend what that says; if memory runs out, take fewer workers",
            )

    def _dismiss(self, member: _Member[W]) -> None:
        self._members.remove(member)
        self.stop(member.worker)

    def _hand_out(self, queue: deque[_Task]) -> None:
        """Give jobs to the workers that are ready."""
        for member in self._members:
            if queue and member.ready and not member.task:
                member.task, member.since = queue.popleft(), time.monotonic()
                self.send(member.worker, member.task.job)

    def _answered(self) -> list[tuple[_Member[W], Answer]]:
        awaited = {id(m.worker): m for m in self._awaited}
        found = self.answers([m.worker for m in awaited.values()], LOOK)
        return [(awaited[id(worker)], answer) for worker, answer in found]

    @property
    def _awaited(self) -> list[_Member[W]]:
        """Those that are to answer."""
        return [m for m in self._members if m.task or not m.ready]

    def _late(self) -> list[tuple[_Member[W], str]]:
        """What takes too long, and why it is lost."""
        if (timeout := self.workers.timeout) is None:
            return []
        now = time.monotonic()
        limits = [(m, timeout if m.task else max(START, timeout)) for m in self._awaited]
        return [(m, f"took more than {limit} seconds") for m, limit in limits if now - m.since > limit]

    def _take(self, member: _Member[W], answer: Answer, queue: deque[_Task]) -> Iterator[Evaluation]:
        """Go on after an answer."""
        if isinstance(answer, Ready):
            member.ready = True
            self._unready.clear()
        elif isinstance(answer, Evaluation):
            member.task = None
            yield answer
        else:
            yield from self._replace(member, answer.why, queue)

    def _replace(self, member: _Member[W], why: str, queue: deque[_Task]) -> Iterator[Evaluation]:
        """Start another worker, and do the job once more or give it up."""
        self._dismiss(member)
        if not member.ready:
            self._unready.append(why)
        if task := member.task:
            task.lost.append(why)
            if len(task.lost) < ATTEMPTS:
                queue.append(task)
            else:
                yield task.failed()
        self._enlist()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for member in self._members[:]:
            self._dismiss(member)
