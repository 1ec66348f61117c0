"""A fitness without a network, for benchmarks and tests of the search; worker processes can import it."""

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onnxprune.search.evaluation import Job, Judge

DIMENSIONS, LEVELS = 27, 7


def surrogate(structure: tuple[int, ...], seed: int = 0) -> float:
    """A rugged function with a best level for every group and neighbours that should be alike."""
    rng = np.random.default_rng([seed, 2001])  # not a search's own numbers: it would draw the answer
    size = len(structure)
    wanted, weight = rng.integers(0, LEVELS, size), rng.uniform(0.5, 1.5, size)
    places = np.array(structure)
    far = float((weight * np.abs(places - wanted)).sum()) / (size * LEVELS)
    rough = float(np.abs(np.diff(places)).mean()) / LEVELS if size > 1 else 0.0
    return 1 - 0.7 * far - 0.3 * rough


@dataclass(frozen=True)
class Surrogate:
    """Makes the surrogate's judge, with some chance by the job's seed."""

    noise: float = 0.0

    def __call__(self) -> Judge:
        return self.judge

    def judge(self, job: Job) -> Mapping[str, float]:
        return {"score": surrogate(job.structure) + self.noise * np.random.default_rng(job.seed).standard_normal()}


@dataclass(frozen=True)
class Unlucky:
    """Loses its worker in some evaluations: the first time only, or always; counts all in a folder."""

    folder: Path
    killed: tuple[int, ...] = ()
    always: bool = False
    hang: bool = False
    noise: float = 0.0

    def __call__(self) -> Judge:
        return self.judge

    def judge(self, job: Job) -> Mapping[str, float]:
        mark = self.folder / f"begun-{job.number}"
        first = not mark.exists()
        mark.touch()
        if job.number in self.killed and (first or self.always):
            if self.hang:
                time.sleep(600)
            os.kill(os.getpid(), signal.SIGKILL)
        with (self.folder / "finished").open("a") as file:
            file.write(f"{job.number}\n")
        return Surrogate(self.noise).judge(job)
