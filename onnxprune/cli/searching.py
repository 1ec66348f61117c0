"""What the options of `search` ask for, in the library's form; and what does not go together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from onnxprune.cli import training
from onnxprune.cli.judging import FileMaker, FileNetwork, Kind, Scope, TaskMaker, TaskNetwork
from onnxprune.cli.options import LATENCY, Limit, other_shares
from onnxprune.cli.output import Output
from onnxprune.errors import UsageError
from onnxprune.ranking import Limits
from onnxprune.search.bees import Colony
from onnxprune.search.campaign import CONTROLS, Plan
from onnxprune.search.crew import Workers
from onnxprune.search.evaluation import Executor
from onnxprune.search.executors import InProcess, Processes
from onnxprune.search.frontier import limits
from onnxprune.search.remote import Cluster, Remote
from onnxprune.search.widths import Compat, Widths

RUNGS = (0.25, 0.5, 1.0)
TABLE = "latency.json"


@dataclass(frozen=True)
class Subject:
    """What is searched, and the folder."""

    task: str | None
    model: Path | None
    samples: Path | None
    weights: Path | None
    folder: Path
    resume: bool

    def check(self) -> None:
        """Refuse what does not go together.

        Raises:
            UsageError: a task and a model, or a model without samples.
        """
        if self.task and self.model:
            raise UsageError("expected --task or --model, got both", "leave one of them out")
        if self.model and not self.samples:
            raise UsageError("--model needs labelled samples to judge by", "give --calibration samples.npz")


@dataclass(frozen=True)
class Grid:
    """The structures."""

    target: Mapping[str, Limit]
    alpha: float
    round_to: int
    min_keep: int
    min_share: float
    score: str
    runtime: str
    threads: int
    frontier: int | None

    @property
    def targets(self) -> Sequence[Mapping[str, Limit]]:
        """The one that is asked for, or those of a frontier, the smallest first.

        Raises:
            UsageError: a frontier is of one resource alone, from a share of it up.
        """
        if self.frontier is None:
            return [self.target]
        if len(self.target) != 1:
            raise UsageError(
                f"a frontier is of one resource, got {len(self.target)} targets", "for example --target latency=0.4"
            )
        ((name, share),) = self.target.items()
        if isinstance(share, timedelta) or not 0 < share < 1:
            got = f"{name}={share:g}" if isinstance(share, float) else "a time"
            raise UsageError(f"a frontier begins at a share below the whole, got {got}", "for example 0.4")
        return [{name: limit} for limit in limits(share, self.frontier)]

    def scope(self, target: Mapping[str, Limit], seed: int, compat: Compat | None, table: Path) -> Scope:
        """The library's form of a target; `table` is a file for times."""
        widths = Widths(self.alpha, Limits(self.round_to, self.min_keep, self.min_share), compat)
        shares, latency = other_shares(target), target.get(LATENCY)
        return Scope(widths, shares, self.score, seed, latency, self.runtime, self.threads, table)


@dataclass(frozen=True)
class Hunt:
    """How to search."""

    evaluations: int
    seeds: int
    seed: int
    sources: int
    limit: int
    controls: bool
    compat: Compat | None
    halving: bool

    def plan(self, fitness: Mapping[str, Any]) -> Plan:
        """The library's form."""
        seeds = tuple(range(self.seed, self.seed + self.seeds))
        names = tuple(CONTROLS) if self.controls else ()
        rungs = RUNGS if self.halving else (1.0,)
        colony, efforts = Colony(self.sources, self.limit), int(fitness.get("epochs", 1))
        return Plan(self.evaluations, seeds, colony, names, self.compat, rungs, fitness, efforts)


@dataclass(frozen=True)
class Judgement:
    """How a structure is judged."""

    fitness: Kind
    fitness_epochs: int
    lr: float
    batch: int
    amp: str | None
    channels_last: bool
    images: int
    measured: int
    device: str

    def task(self, subject: Subject, scope: Scope) -> TaskMaker:
        """Of a torch task."""
        training.require_torch()
        from onnxprune.torch.handover import read_weights
        from onnxprune.torch.recipe import Recipe

        how: dict[str, Any] = {"amp": self.amp, "channels_last": self.channels_last, "device": self.device}
        recipe = Recipe(self.fitness_epochs, self.batch, self.lr, seed=scope.seed, **how)
        weights = read_weights(subject.weights) if subject.weights else None
        task = subject.task or training.DIGITS
        return TaskMaker(task, weights, scope, self.fitness, recipe, self.images, self.measured)


@dataclass(frozen=True)
class Spread:
    """Where structures are judged."""

    jobs: int
    timeout: float | None
    ray: str | None
    gpus: float
    cpus: float

    def executor(self, network: FileNetwork | TaskNetwork, out: Output) -> Executor:
        """The one that is asked for."""
        workers = Workers(self.jobs, self.timeout)
        if self.ray is None:
            alone = self.jobs == 1 and self.timeout is None
            return InProcess(network.judge) if alone else Processes(network.maker, workers)
        remote = Remote(network.maker, workers, Cluster(self.ray, self.gpus, self.cpus))
        if (found := remote.workers.count) < self.jobs:
            out.note(f"{found} of {self.jobs} workers found a place on the cluster; the search goes on with these")
        return remote


@dataclass(frozen=True)
class Wanted:
    """All of it.

    Attributes:
        given: options that are on the command line, by name, as they are written there.
    """

    subject: Subject
    grid: Grid
    hunt: Hunt
    judgement: Judgement
    spread: Spread
    given: Mapping[str, str]

    def check(self) -> None:
        """Refuse what does not go together, or would be passed over in silence.

        Raises:
            UsageError: there is such a thing.
        """
        self.subject.check()
        for idle, names, owner in self._idle():
            for name in names:
                if idle and name in self.given:
                    raise UsageError(f"{self.given[name]} is for {owner} alone", f"leave it out, or give {owner}")
        trained = self.subject.weights is not None or self.subject.model is not None
        if not trained and self.judgement.fitness == "recalibrate":
            raise UsageError(
                "--fitness recalibrate judges a trained network without training it, got no --weights",
                "give --weights best.pt, or --fitness train",
            )

    def _idle(self) -> list[tuple[bool, tuple[str, ...], str]]:
        """Options that do nothing, when that is so, and what they belong to."""
        file, train = self.subject.model is not None, self.judgement.fitness == "train"
        return [
            (file, ("weights", "batch", "amp", "channels_last", "images", "device"), "a --task"),
            (file and train, ("fitness",), "a --task"),
            (not file, ("samples",), "a --model"),
            (not train, ("fitness_epochs", "lr", "halving"), "--fitness train"),
            (self.spread.ray is None, ("gpus", "cpus"), "--ray"),
            (LATENCY not in self.grid.target, ("runtime", "threads"), "--target latency=..."),
        ]

    def network(self, scope: Scope) -> FileNetwork | TaskNetwork:
        """What is searched.

        Raises:
            UsageError, ModelError, TrainingError: its files are not as they should be.
        """
        subject = self.subject
        if subject.model is not None and subject.samples is not None:
            return FileNetwork(FileMaker(subject.model, subject.samples, scope, self.judgement.measured))
        return TaskNetwork(self.judgement.task(subject, scope))
