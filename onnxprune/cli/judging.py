"""What makes a search's fitness, here or in a worker: of a torch task, or of an ONNX file with labelled samples.

A maker is small and travels; what it makes, a network with its structures and its fitness, is made once in every
process, this one among them, whose fitness also makes the winner's weights.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from onnxprune.analysis import Analysis, analyze
from onnxprune.cli.options import Limit
from onnxprune.cli.work import load, share_of
from onnxprune.environment import own_version
from onnxprune.external import data_file, is_outside, location
from onnxprune.latency import Setting
from onnxprune.latency.prediction import Latency
from onnxprune.resources import Resource
from onnxprune.search.calibration import Calibrated, has_statistics
from onnxprune.search.evaluation import Judge
from onnxprune.search.samples import fitting, read_samples
from onnxprune.search.structures import Structures, TimeLimit, Widths
from onnxprune.tensors import stored_tensors

if TYPE_CHECKING:
    from onnxprune.torch.fitness import Recalibrated
    from onnxprune.torch.recipe import Recipe

Kind = Literal["recalibrate", "train"]


@dataclass(frozen=True)
class Scope:
    """Which structures are searched: see `Structures`.

    Attributes:
        latency: the time that is not to be exceeded, or the share of it, or None.
        runtime, threads: in which it is measured.
        table: file of what is measured.
    """

    widths: Widths
    target: Mapping[Resource, float]
    score: str
    seed: int
    latency: Limit | None = None
    runtime: str = "cpu"
    threads: int = 0
    table: Path | None = None

    def structures(self, analysis: Analysis, exclude: tuple[str, ...] = ()) -> Structures:
        """Those of a network."""
        how: dict[str, Any] = {"score": self.score, "seed": self.seed, "exclude": exclude}
        if (limit := self.latency) is not None:
            clock = Latency(analysis, self.runtime, Setting(threads=self.threads), self.table)
            how["time"] = TimeLimit(share_of(limit, clock.first_run) if isinstance(limit, timedelta) else limit, clock)
        return Structures(analysis, self.widths, self.target, **how)

    @property
    def unlimited(self) -> Scope:
        """The same widths, without a target: for workers, who only make masks of what is asked."""
        return replace(self, target={}, latency=None)


@dataclass(frozen=True)
class FileMaker:
    """Makes the fitness of an ONNX file.

    Attributes:
        model, samples: files.
        scope: which structures.
        calibration: samples to measure statistics on.
    """

    model: Path
    samples: Path
    scope: Scope
    calibration: int

    def __call__(self) -> Judge:
        return FileNetwork(self).judge()


class FileNetwork:
    """An ONNX file that is searched.

    Attributes:
        maker: says which, and how.
        fitness: judges its masks.
    """

    def __init__(self, maker: FileMaker):
        """Reads the files.

        Raises:
            ModelError: the model cannot be read, holds NaN, or is no classifier of one input and batches of any size.
            UsageError: the samples cannot be read, or do not fit the model.
        """
        model = load(maker.model, {})
        samples = fitting(model, read_samples(maker.samples))
        self.maker, self.fitness = maker, Calibrated(analyze(model), samples, maker.calibration)

    def structures(self, scope: Scope) -> Structures:
        """Those of a scope."""
        return scope.structures(self.fitness.analysis)

    def judge(self) -> Judge:
        """Judges structures."""
        return self.structures(self.maker.scope.unlimited).judge(self.fitness)

    @cached_property
    def note(self) -> str:
        """What is worth knowing before the search, or nothing."""
        if has_statistics(self.fitness.analysis.original):
            return ""
        return (
            f"{self.maker.model}: no BatchNormalization is left, so no statistics are measured anew: structures are "
            "judged as they are cut, and there will be no recalibrated.onnx; an export that keeps them is judged better"
        )

    def told(self) -> dict[str, Any]:
        """What tells this fitness from others."""
        model = self.fitness.analysis.original
        outside = {location(tensor) for _, tensor in stored_tensors(model.proto) if is_outside(tensor)}
        files = [self.maker.model, *(data_file(name, self.maker.model.parent) for name in sorted(outside))]
        read = {"weights": _digest(files), "samples": _digest([self.maker.samples])}
        return {**read, "calibration": self.maker.calibration, "onnxprune": own_version()}


@dataclass(frozen=True)
class TaskMaker:
    """Makes the fitness of a torch task; the weights travel with it.

    Attributes:
        task: as on the command line.
        weights: the trained network's state, or None for a fresh one.
        scope: which structures.
        kind: how a structure is judged.
        recipe: of its training; of a judgement without one, its batch, precision and memory format.
        images, calibration: validation samples to look at, training samples to measure on.
    """

    task: str
    weights: Mapping[str, np.ndarray] | None
    scope: Scope
    kind: Kind
    recipe: Recipe
    images: int
    calibration: int

    def __call__(self) -> Judge:
        return TaskNetwork(self).judge()


class TaskNetwork:
    """A torch task's network that is searched.

    Attributes:
        maker: says which, and how.
        network, binding: the trained network, and its binding.
        note: none.
    """

    note = ""

    def __init__(self, maker: TaskMaker):
        """Loads the task, and binds its network. From here on this process computes on one thread, as workers do.

        Raises:
            UsageError: the task, or the weights, are not as they should be.
            ModelError: the network cannot be exported.
        """
        from onnxprune.torch.fitness import begun, one_thread

        one_thread()
        self.maker = maker
        self.network, self.binding = begun(maker.task, maker.weights, maker.recipe.seed)

    def structures(self, scope: Scope) -> Structures:
        """Those of a scope that a module can lose: what no parameter consumes stays."""
        from onnxprune.torch.consumers import consumption

        return scope.structures(self.binding.analysis, tuple(consumption(self.binding).open))

    @cached_property
    def fitness(self) -> Recalibrated:
        """Judges masks."""
        from onnxprune.torch.fitness import Recalibrated, Trained
        from onnxprune.torch.task import load_task

        maker, made = self.maker, {"recalibrate": Recalibrated, "train": Trained}[self.maker.kind]
        sizes = {"images": maker.images, "calibration": maker.calibration}
        return made(load_task(maker.task), self.network, self.binding, maker.recipe, **sizes)

    def judge(self) -> Judge:
        """Judges structures."""
        return self.structures(self.maker.scope.unlimited).judge(self.fitness)

    def told(self) -> dict[str, Any]:
        """What tells this fitness from others."""
        from onnxprune.torch.run import device

        maker, recipe = self.maker, asdict(self.maker.recipe)
        if maker.kind != "train":
            recipe = {name: recipe[name] for name in ("batch", "amp", "channels_last", "seed")}
        recipe |= {"device": device(maker.recipe).type}
        how = {"kind": maker.kind, "task": maker.task, "source": _digest([_source(maker.task)])}
        sizes = {"images": maker.images, "calibration": maker.calibration}
        return {**how, "weights": _weights_digest(maker.weights), **sizes, **recipe, "onnxprune": own_version()}


def _source(task: str) -> Path:
    """The file of a task that was loaded."""
    place = task.rpartition(":")[0]
    spec = None if place.endswith(".py") else find_spec(place)
    return Path(spec.origin if spec and spec.origin else place)


def _digest(files: Iterable[Path]) -> str:
    """A short hash of what files hold."""
    found = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()[:16]


def _weights_digest(weights: Mapping[str, np.ndarray] | None) -> str | None:
    if weights is None:
        return None
    found = hashlib.sha256()
    for name, array in weights.items():
        found.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    return found.hexdigest()[:16]
