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
Rank = tuple[int, float]
"""How good a structure is: the rung that it reached and its score there. The greater is better, whatever the scores."""
FAILED: Rank = (-1, -math.inf)
"""The rank of all that failed: below every success, on whatever rung."""


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
    def rank(self) -> Rank:
        """What is better: the higher rung, on the same one the higher score; a failure is worse than all else."""
        return FAILED if self.failure else (self.rung, self.score)


Judge = Callable[[Job], Mapping[str, float]]
"""A fitness: finite figures of a structure, `score` among them. Where it raises, or gives others, the evaluation has
failed."""
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
        figures = {str(name): float(value) for name, value in judge(job).items()}
        failure = _fault(figures)
    except Exception as error:  # a fitness is anybody's code; the search goes on without this one
        figures, failure = {}, f"{type(error).__name__}: {error}"
    return Evaluation(
        job.number, job.structure, job.seed, job.rung, {} if failure else figures, time.perf_counter() - start, failure
    )


def _fault(figures: Mapping[str, float]) -> str:
    """What is wrong with a fitness's figures, or nothing."""
    if SCORE not in figures:
        return f"the fitness gives {sorted(figures)}, expected {SCORE!r} among them"
    wrong = [f"{name!r} is {value}" for name, value in figures.items() if not math.isfinite(value)]
    return f"of the fitness {', '.join(wrong)}, expected finite figures" if wrong else ""


def seed_of(seed: int, number: int) -> int:
    """The seed of an evaluation."""
    return int.from_bytes(hashlib.sha256(f"{seed} {number}".encode()).digest()[:6], "little")
