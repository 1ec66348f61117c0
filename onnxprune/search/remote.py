"""Judging on a Ray cluster (Moritz et al. 2018, arXiv 1712.05889)."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from onnxprune.errors import UsageError
from onnxprune.search.answering import no_answer, require_grpc
from onnxprune.search.crew import START, Answer, Crew, Lost, NoPlaceError, Ready, Workers
from onnxprune.search.evaluation import Evaluation, Job, Judge, Maker, judged
from onnxprune.search.executors import prepared

PLACE = 10.0
"""Seconds in which a cluster has to find places for workers."""


@dataclass(frozen=True)
class Cluster:
    """Where Ray runs, and what a worker gets of it.

    Attributes:
        address: `host:port` or `ray://host:port` of an existing one; or "local" for the session that this process has
            open, or else one that is started here.
        gpus: of every worker, also parts of one.
        cpus: of every worker.
    """

    address: str = "local"
    gpus: float = 0.0
    cpus: float = 1.0

    def __post_init__(self) -> None:
        if not (self.cpus > 0 and self.gpus >= 0) or any(n > 1 and n % 1 for n in (self.cpus, self.gpus)):
            raise UsageError(
                f"a worker with {self.cpus:g} CPUs and {self.gpus:g} GPUs, expected more than 0 CPUs and whole numbers "
                "above 1",
                "for example 0.5 CPUs and 1 GPU",
            )

    @property
    def share(self) -> dict[str, float]:
        """A worker's, by Ray's names."""
        return {name: count for name, count in (("CPU", self.cpus), ("GPU", self.gpus)) if count}


class Worker:
    """What lives on the cluster: a fitness."""

    def __init__(self, maker: Maker):
        self._judge: Judge = prepared(maker)

    def ready(self) -> Ready:
        """Answers once the fitness is made."""
        return Ready()

    def judge(self, job: Job) -> Evaluation:
        """One judgement."""
        return judged(self._judge, job)


@dataclass(eq=False)
class _Actor:
    """A worker, its place (a placement group), and what it was asked last."""

    actor: Any
    place: Any
    asked: Any


class Remote(Crew[_Actor]):
    """Judges by actors of a Ray cluster; what the fitness is made from is stored there once.

    Every worker has a place of its own, found before anything is judged; of those that were asked for, only so many
    work as find one: `workers.count`. A session that was open before stays open.

    Raises:
        UsageError: ray is not installed, no cluster answers, or it has no place for a single worker.
    """

    def __init__(self, maker: Maker, workers: Workers, cluster: Cluster):
        try:
            import ray
        except ImportError as error:
            raise UsageError("a Ray cluster needs ray", "pip install 'onnxprune[ray]'") from error
        self._ray, self._places = ray, list[Any]()
        self._opened = _connect(ray, cluster)
        try:
            self._places = _places(ray, cluster, workers.count)
            super().__init__(replace(workers, count=len(self._places)))
            self._maker = ray.put(maker)
        except BaseException:
            self._close()
            raise
        self._class: Any = ray.remote(num_cpus=cluster.cpus, num_gpus=cluster.gpus, max_restarts=0)(Worker)
        self._free = list(self._places)

    def start(self) -> _Actor:
        """A new actor in a free place.

        Raises:
            NoPlaceError: the place's machine is gone, and there is no other.
        """
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        if not self._free[0].wait(PLACE):
            raise NoPlaceError("lost its place on the cluster")
        place = self._free.pop(0)
        here = PlacementGroupSchedulingStrategy(placement_group=place)
        actor = self._class.options(scheduling_strategy=here).remote(self._maker)
        return _Actor(actor, place, actor.ready.remote())

    def greet(self, worker: _Actor) -> None:
        """Ask whether it is there."""
        worker.asked = worker.actor.ready.remote()

    def send(self, worker: _Actor, job: Job) -> None:
        """Let it judge."""
        worker.asked = worker.actor.judge.remote(job)

    def answers(self, workers: Sequence[_Actor], seconds: float) -> list[tuple[_Actor, Answer]]:
        """What the actors have answered."""
        asked = {worker.asked: worker for worker in workers}
        done, _ = self._ray.wait(list(asked), timeout=seconds)
        return [(asked[ref], self._heard(ref)) for ref in done]

    def stop(self, worker: _Actor) -> None:
        """Kill it; its place is free."""
        self._ray.kill(worker.actor)
        self._free.append(worker.place)

    def _heard(self, ref: Any) -> Answer:
        try:
            return self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            return Lost(f"died: {_cause(error)}")

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self._close()

    def _close(self) -> None:
        _release(self._places)
        if self._opened:
            self._ray.shutdown()


def _places(ray: Any, cluster: Cluster, count: int) -> list[Any]:
    """A place for as many workers as find one now.

    Raises:
        UsageError: there is none.
    """
    from ray.util.placement_group import placement_group

    asked, end = [placement_group([cluster.share]) for _ in range(count)], time.monotonic() + PLACE
    found = [place for place in asked if place.wait(max(0.1, end - time.monotonic()))]
    _release(place for place in asked if place not in found)
    if not found:
        has, free = (_told(what()) for what in (ray.cluster_resources, ray.available_resources))
        raise UsageError(
            f"the Ray cluster has no place for a worker of {_told(cluster.share)}: it has {has}, of which {free} free",
            "let a worker take less (--cpus, --gpus), or wait until the cluster has more",
        )
    return found


def _release(places: Any) -> None:
    from ray.util.placement_group import remove_placement_group

    for place in places:
        remove_placement_group(place)


def _told(resources: dict[str, float]) -> str:
    return " and ".join(f"{resources.get(name, 0):g} {name}s" for name in ("CPU", "GPU"))


def _cause(error: Exception) -> str:
    """The last line of what Ray tells, that of the exception, or else the first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    raised = [line for line in lines if line.partition(":")[0].endswith(("Error", "Exception"))]
    return (raised or lines or [type(error).__name__])[-1 if raised else 0]


def _connect(ray: Any, cluster: Cluster) -> bool:
    """Connect to the cluster; whether that opened a session.

    Raises:
        UsageError: the cluster does not answer, or this process has a session with another one.
    """
    if ray.is_initialized():
        here = ray.get_runtime_context().gcs_address
        if cluster.address not in ("local", here):
            raise UsageError(
                f"this process is connected to the Ray cluster {here} already, expected {cluster.address}",
                "end that session (ray.shutdown()), or name its address",
            )
        return False
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if cluster.address == "local":
        os.environ.setdefault("RAY_raylet_start_wait_time_s", f"{START:.0f}")  # 30 are too few beside other work
        ray.init(include_dashboard=False, **quiet)
        return True
    require_grpc(cluster.address)
    try:
        ray.init(address=cluster.address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise no_answer(cluster.address, str(error).splitlines()[0]) from error
    return True
