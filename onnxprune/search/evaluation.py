"""One judgement: what is asked for, and what comes back."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, Self

from onnxprune.search.grid import Structure

SCORE = "score"


@dataclass(frozen=True)
class Job:
    """A structure to judge.

    Attributes:
        number: of the evaluation, counted from 0 in the order in which the sampler asked.
        structure: what to judge.
        seed: of all chance in it; depends on the search's seed and the number alone.
        rung: how far the judging goes, from 0.
        effort: the share of all effort (epochs of training) that it may take there.
    """

    number: int
    structure: Structure
    seed: int
    rung: int = 0
    effort: float = 1.0


@dataclass(frozen=True)
class Evaluation:
    """A judgement.

    Attributes:
        number, structure, seed, rung: of the job.
        figures: what was measured, `score` among it (higher is better); empty for one that failed.
        seconds: that it took.
        failure: what went wrong, or nothing.
    """

    number: int
    structure: Structure
    seed: int = 0
    rung: int = 0
    figures: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    failure: str = ""

    @property
    def score(self) -> float:
        """Higher is better; -inf for a failure."""
        return self.figures.get(SCORE, -math.inf)

    @property
    def rank(self) -> tuple[int, float]:
        """What is better: the higher rung, on the same one the higher score."""
        return self.rung, self.score


Judge = Callable[[Job], Mapping[str, float]]
"""A fitness: figures of a structure, `score` among them. It may raise: then the evaluation has failed."""
Maker = Callable[[], Judge]
"""Makes the fitness where it is needed, once in every worker; it travels there, so it has to be picklable."""


class Executor(Protocol):
    """Judges jobs, wherever that is."""

    def run(self, jobs: Sequence[Job]) -> Iterator[Evaluation]:
        """The judgements, as they come; one for every job."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


def judged(judge: Judge, job: Job) -> Evaluation:
    """The judgement of one job, whatever the fitness does."""
    start = time.perf_counter()
    try:
        figures = {name: float(value) for name, value in judge(job).items()}
        failure = "" if math.isfinite(figures[SCORE]) else f"the fitness is {figures[SCORE]}"
    except Exception as error:  # a fitness is anybody's code; the search goes on without this one
        figures, failure = {}, f"{type(error).__name__}: {error}"
    return Evaluation(
        job.number, job.structure, job.seed, job.rung, {} if failure else figures, time.perf_counter() - start, failure
    )


def seed_of(seed: int, number: int) -> int:
    """The seed of an evaluation."""
    return int.from_bytes(hashlib.sha256(f"{seed} {number}".encode()).digest()[:6], "little")
