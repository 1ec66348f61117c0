"""What makes a search's fitness, here or in a worker: of a torch task, or of an ONNX file with labelled samples."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from onnxprune import api
from onnxprune.analysis import Analysis, analyze
from onnxprune.latency import Setting
from onnxprune.latency.prediction import Latency
from onnxprune.resources import Resource
from onnxprune.search.calibration import Calibrated, read_samples
from onnxprune.search.evaluation import Judge
from onnxprune.search.structures import Structures, TimeLimit, Widths

if TYPE_CHECKING:
    from onnxprune.torch.binding import Binding
    from onnxprune.torch.fitness import Recalibrated
    from onnxprune.torch.recipe import Recipe

Kind = Literal["recalibrate", "train"]


@dataclass(frozen=True)
class Scope:
    """Which structures are searched: see `Structures`.

    Attributes:
        latency: the share of the time that is not to be exceeded, or None.
        runtime, threads: in which it is measured.
        table: file of what is measured.
    """

    widths: Widths
    target: Mapping[Resource, float]
    score: str
    seed: int
    latency: float | None = None
    runtime: str = "cpu"
    threads: int = 0
    table: Path | None = None

    def structures(self, analysis: Analysis, exclude: tuple[str, ...] = ()) -> Structures:
        """Those of a network."""
        how: dict[str, Any] = {"score": self.score, "seed": self.seed, "exclude": exclude}
        if self.latency is not None:
            how["time"] = TimeLimit(
                self.latency, Latency(analysis, self.runtime, Setting(threads=self.threads), self.table)
            )
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

    def scoped(self) -> Structures:
        """The structures."""
        return self.scope.structures(analyze(api.load(self.model)))

    def __call__(self) -> Judge:
        structures = replace(self, scope=self.scope.unlimited).scoped()
        return structures.judge(self.fitness(structures))

    def fitness(self, structures: Structures) -> Calibrated:
        """Judges masks."""
        return Calibrated(structures.analysis, read_samples(self.samples), self.calibration)

    def told(self) -> dict[str, Any]:
        """What tells this fitness from others."""
        read = {"weights": self.model.read_bytes(), "samples": self.samples.read_bytes()}
        return {name: _digest(content) for name, content in read.items()} | {"calibration": self.calibration}


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

    def network(self) -> tuple[Any, Binding]:
        """The trained network and its binding."""
        from onnxprune.torch.fitness import begun

        return begun(self.task, self.weights, self.recipe.seed)

    def scoped(self) -> Structures:
        """The structures."""
        return self.structures(self.network()[1])

    def structures(self, binding: Binding) -> Structures:
        """Those that a module can lose: what no parameter consumes stays."""
        from onnxprune.torch.consumers import consumption

        return self.scope.structures(binding.analysis, tuple(consumption(binding).open))

    def fitness(self, network: Any, binding: Binding) -> Recalibrated:
        """Judges masks."""
        from onnxprune.torch.fitness import Recalibrated, Trained
        from onnxprune.torch.task import load_task

        made = {"recalibrate": Recalibrated, "train": Trained}[self.kind]
        sizes = {"images": self.images, "calibration": self.calibration}
        return made(load_task(self.task), network, binding, self.recipe, **sizes)

    def __call__(self) -> Judge:
        from onnxprune.torch.fitness import one_thread

        one_thread()
        network, binding = self.network()
        structures = replace(self, scope=self.scope.unlimited).structures(binding)
        return structures.judge(self.fitness(network, binding))

    def told(self) -> dict[str, Any]:
        """What tells this fitness from others."""
        recipe = asdict(self.recipe) if self.kind == "train" else {"batch": self.recipe.batch, "amp": self.recipe.amp}
        begun = b"".join(name.encode() + array.tobytes() for name, array in (self.weights or {}).items())
        how = {"kind": self.kind, "task": self.task, "weights": _digest(begun)}
        return {**how, "images": self.images, "calibration": self.calibration, **recipe}


def _digest(content: bytes) -> str:
    """A short hash."""
    return hashlib.sha256(content).hexdigest()[:16]
