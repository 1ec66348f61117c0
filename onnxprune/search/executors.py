"""Where structures are judged on this machine: in this process, or in others."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Self

from onnxprune.search.crew import Answer, Crew, Lost, NoPlaceError, Ready, Workers
from onnxprune.search.evaluation import Evaluation, Job, Judge, Maker, judged

LAST_WORDS = 5.0
"""Seconds in which a process whose end of the pipe is closed has to end, to tell how it did."""


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


@dataclass(frozen=True, eq=False)
class _Process:
    """A worker: a process, and the end of its pipe that is here."""

    process: BaseProcess
    pipe: Connection


class Processes(Crew[_Process]):
    """Judges in processes of their own, each with a pipe that nobody else holds: a death is the end of its pipe."""

    def __init__(self, maker: Maker, workers: Workers):
        super().__init__(workers)
        self._maker, self._context = maker, multiprocessing.get_context("spawn")

    def start(self) -> _Process:
        """A new process; the fitness is made there.

        Raises:
            NoPlaceError: it died at once.
        """
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs,))
        try:
            process.start()
        except BrokenPipeError as error:
            raise NoPlaceError("died before it took its first orders") from error
        theirs.close()
        _say(ours, self._maker)
        return _Process(process, ours)

    def greet(self, worker: _Process) -> None:
        """Ask whether it is there."""
        _say(worker.pipe, None)

    def send(self, worker: _Process, job: Job) -> None:
        """Let it judge."""
        _say(worker.pipe, job)

    def answers(self, workers: Sequence[_Process], seconds: float) -> list[tuple[_Process, Answer]]:
        """What came through the pipes."""
        pipes = {worker.pipe: worker for worker in workers}
        return [(pipes[pipe], _heard(pipes[pipe])) for pipe in wait(list(pipes), seconds)]  # type: ignore[index]  # pipes

    def stop(self, worker: _Process) -> None:
        """Kill it: it has nothing to save."""
        worker.process.kill()
        worker.process.join()
        worker.pipe.close()


def _say(pipe: Connection, what: object) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):  # it died: the end of the pipe will tell
        pipe.send(what)


def _heard(worker: _Process) -> Answer:
    try:
        return worker.pipe.recv()
    except (EOFError, ConnectionResetError):
        worker.process.join(LAST_WORDS)
        return Lost(_death(worker.process.exitcode))


def _death(status: int | None) -> str:
    """How a process ended, in words."""
    if status is not None and status < 0:
        return f"died of {signal.Signals(-status).name}"
    return f"died with status {status}"


def _serve(pipe: Connection) -> None:
    """A worker's life: it makes the fitness, and judges until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the search, which then ends this
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        judge = prepared(lambda: pipe.recv()())
        pipe.send(Ready())
        while True:
            job = pipe.recv()
            pipe.send(Ready() if job is None else judged(judge, job))


def prepared(maker: Maker) -> Judge:
    """The fitness; what goes wrong in making it goes wrong in every evaluation, and is told."""
    try:
        return maker()
    except Exception as error:
        return partial(_refuse, error)


def _refuse(error: Exception, job: Job) -> Mapping[str, float]:
    raise error
