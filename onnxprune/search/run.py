"""`search`: a sampler, a fitness and a journal put together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from onnxprune.errors import TrainingError, UsageError
from onnxprune.search.evaluation import Evaluation, Executor, Job, seed_of
from onnxprune.search.grid import Structure
from onnxprune.search.journal import Journal
from onnxprune.search.sampler import Sampler

Show = Callable[[Sequence[Evaluation]], None]


@dataclass(frozen=True)
class Budget:
    """How long to search.

    Attributes:
        evaluations: at most so many, failures among them.
        seed: of the evaluations.
    """

    evaluations: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.evaluations < 1:
            raise UsageError(f"{self.evaluations} evaluations, expected at least 1", "choose a larger number")


def search(
    sampler: Sampler, executor: Executor, budget: Budget, journal: Journal | None = None, show: Show | None = None
) -> list[Evaluation]:
    """Judge what the sampler asks for until the budget is used up, or nothing new is left.

    What the journal knows is not judged again. The result does not depend on the executor.

    Args:
        sampler: fresh, also to go on with a journal.
        executor: judges.
        budget: how many.
        journal: gets every evaluation as it comes.
        show: told of all evaluations after every new one.

    Raises:
        UsageError: the journal has other structures than the sampler asks for.
        TrainingError: all of the first batch failed; tells the first failure.
    """
    done: list[Evaluation] = []
    while len(done) < budget.evaluations and (batch := sampler.ask()):
        asked = batch[: budget.evaluations - len(done)]
        found = _judge(asked, done, executor, budget.seed, journal, show)
        done += found
        if all(evaluation.failure for evaluation in done):
            raise TrainingError(
                f"all of the first {len(done)} evaluations failed; the first: {done[0].failure}",
                "mend the fitness; `--resume` does not judge these again, so take another folder",
            )
        if len(asked) == len(batch):
            sampler.tell([evaluation.score for evaluation in found])
    return done


def best(evaluations: Sequence[Evaluation]) -> Evaluation:
    """The one of the highest score, of equal ones the first."""
    return max(evaluations, key=lambda evaluation: (evaluation.score, -evaluation.number))


def best_so_far(evaluations: Sequence[Evaluation]) -> list[float]:
    """The highest score after every evaluation, in their order."""
    scores: list[float] = []
    for evaluation in evaluations:
        scores.append(max(scores[-1], evaluation.score) if scores else evaluation.score)
    return scores


def _judge(
    structures: Sequence[Structure],
    done: Sequence[Evaluation],
    executor: Executor,
    seed: int,
    journal: Journal | None,
    show: Show | None,
) -> list[Evaluation]:
    """Judgements of a batch, in its order, after those that are done."""
    known, first = {} if journal is None else journal.known, len(done)
    jobs = [Job(first + k, structure, seed_of(seed, first + k)) for k, structure in enumerate(structures)]
    found = {job.number: known[job.number] for job in jobs if job.number in known}
    for job in jobs:
        if job.number in found and found[job.number].structure != job.structure:
            raise UsageError(
                f"evaluation {job.number} of the journal is of another structure than this search asks for",
                "resume with the version that it was begun with, or take another folder",
            )
    for evaluation in executor.run([job for job in jobs if job.number not in found]):
        if journal is not None:
            journal.add(evaluation)
        found[evaluation.number] = evaluation
        if show is not None:
            show([*done, *(found[job.number] for job in jobs if job.number in found)])
    return [found[job.number] for job in jobs]
