"""Judging on a Ray cluster (Moritz et al. 2018, arXiv 1712.05889)."""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

from onnxprune.errors import UsageError
from onnxprune.search.evaluation import Evaluation, Job, Judge, Maker, judged
from onnxprune.search.executors import ATTEMPTS, Workers, lost, prepared

ANSWER = 5.0
"""Seconds in which a cluster has to answer."""
START = 300.0
"""Seconds that a worker may take to start; the timeout of its first evaluation begins after that."""
LOOK = 1.0
"""Seconds between looks for evaluations that take too long."""


@dataclass(frozen=True)
class Cluster:
    """Where Ray runs, and what a worker gets of it.

    Attributes:
        address: `host:port` or `ray://host:port` of an existing one, or "local" to start one here.
        gpus: of every worker, also parts of one.
        cpus: of every worker.
    """

    address: str = "local"
    gpus: float = 0.0
    cpus: float = 1.0


class Worker:
    """What lives on the cluster: a fitness."""

    def ready(self) -> bool:
        """Answers once the fitness is made."""
        return True

    def __init__(self, maker: Maker):
        self._judge: Judge = prepared(maker)

    def judge(self, job: Job) -> Evaluation:
        """One judgement."""
        return judged(self._judge, job)


@dataclass
class _Running:
    """A job under way: where, since when, which attempt it is, and what is there once the worker is ready."""

    job: Job
    attempt: int
    actor: Any
    start: float
    ready: Any = None


class Remote:
    """Judges by actors of a Ray cluster; what the fitness is made from is stored there once.

    Raises:
        UsageError: ray is not installed, or no cluster answers.
    """

    def __init__(self, maker: Maker, workers: Workers, cluster: Cluster):
        try:
            import ray
        except ImportError as error:
            raise UsageError("a Ray cluster needs ray", "pip install 'onnxprune[ray]'") from error
        self._ray, self._timeout = ray, workers.timeout
        _connect(ray, cluster)
        self._maker = ray.put(maker)
        self._class = ray.remote(num_cpus=cluster.cpus, num_gpus=cluster.gpus, max_restarts=0)(Worker)
        self._idle = deque(self._new() for _ in range(workers.count))

    def _new(self) -> tuple[Any, Any]:
        """A worker, and what is there once it is ready."""
        actor: Any = self._class.remote(self._maker)
        return actor, actor.ready.remote()

    def run(self, jobs: Sequence[Job]) -> Iterator[Evaluation]:
        """The judgements, as they come."""
        queue, running = deque((job, 1) for job in jobs), dict[Any, _Running]()
        while queue or running:
            while queue and self._idle:
                job, attempt = queue.popleft()
                actor, ready = self._idle.popleft()
                running[actor.judge.remote(job)] = _Running(job, attempt, actor, time.monotonic(), ready)
            done, _ = self._ray.wait(list(running), timeout=LOOK)
            for ref in done:
                one = running.pop(ref)
                try:
                    found = self._ray.get(ref)
                except self._ray.exceptions.RayActorError:
                    yield from self._again(one, "died", queue)
                else:
                    self._idle.append((one.actor, None))
                    yield found
            for ref in self._late(running):
                yield from self._again(running.pop(ref), f"took more than {self._timeout} seconds", queue)

    def _late(self, running: dict[Any, _Running]) -> list[Any]:
        """What takes too long."""
        if self._timeout is None:
            return []
        now = time.monotonic()
        for one in running.values():
            if one.ready is not None and self._ray.wait([one.ready], timeout=0)[0]:
                one.start, one.ready = now, None
        limits = {ref: self._timeout if one.ready is None else START for ref, one in running.items()}
        return [ref for ref, one in running.items() if now - one.start > limits[ref]]

    def _again(self, one: _Running, why: str, queue: deque[tuple[Job, int]]) -> Iterator[Evaluation]:
        """Replace a worker and do its job once more, or give it up."""
        self._ray.kill(one.actor)
        self._idle.append(self._new())
        if one.attempt == ATTEMPTS:
            yield lost(one.job, why)
        else:
            queue.append((one.job, one.attempt + 1))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._ray.shutdown()


def _connect(ray: Any, cluster: Cluster) -> None:
    if ray.is_initialized():
        return
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "include_dashboard": False}
    if cluster.address == "local":
        os.environ.setdefault("RAY_raylet_start_wait_time_s", str(START))  # 30 are too few beside other work
        ray.init(**quiet)
        return
    _require_answer(cluster.address)
    try:
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise _no_answer(cluster.address, str(error).splitlines()[0]) from error


def _require_answer(address: str) -> None:
    """Refuse an address where nothing listens, at once; Ray itself tries for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(f"Ray address {address!r}, expected host:port, ray://host:port or local", "see `ray status`")
    try:
        socket.create_connection((host, int(port)), ANSWER).close()
    except (OSError, OverflowError) as error:
        raise _no_answer(address, str(error)) from error


def _no_answer(address: str, why: str) -> UsageError:
    return UsageError(
        f"no Ray cluster answers at {address}: {why}", "check the address with `ray status`, or start one"
    )
