"""`search`: a sampler, a fitness and a journal put together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from onnxprune.errors import TrainingError, UsageError
from onnxprune.search.evaluation import Evaluation, Executor, Job, seed_of
from onnxprune.search.grid import Structure
from onnxprune.search.halving import WHOLE, Halving, check_rungs
from onnxprune.search.journal import Journal
from onnxprune.search.sampler import Sampler

HOPELESS = 10
"""Failures after which a search ends that has nothing else."""

Show = Callable[[Sequence[Evaluation]], None]


@dataclass(frozen=True)
class Budget:
    """How long to search.

    Attributes:
        evaluations: at most so many structures, failures among them.
        seed: of the evaluations.
        rungs: shares of a judgement's effort, ascending to 1: see `halving`. Of a fitness that does not tell all of
            them apart, `ladder` says what is left.

    Raises:
        UsageError: there are no evaluations, or the rungs do not ascend to 1, or spare nothing.
    """

    evaluations: int
    seed: int = 0
    rungs: tuple[float, ...] = WHOLE

    def __post_init__(self) -> None:
        if self.evaluations < 1:
            raise UsageError(f"{self.evaluations} evaluations, expected at least 1", "choose a larger number")
        check_rungs(self.rungs)


def search(
    sampler: Sampler, executor: Executor, budget: Budget, journal: Journal | None = None, show: Show | None = None
) -> list[Evaluation]:
    """Judge what the sampler asks for until the budget is used up, or nothing new is left.

    What the journal knows is not judged again, failures neither: the sampler has gone on from them. The result does not
    depend on the executor.

    Args:
        sampler: fresh, also to go on with a journal.
        executor: judges.
        budget: how many.
        journal: gets every evaluation as it comes.
        show: told of all evaluations after every new one.

    Raises:
        UsageError: the journal has other structures than the sampler asks for.
        TrainingError: all failed, at least `HOPELESS` or as many as there are; tells the first failure.
    """
    done = attempt(sampler, executor, budget, journal, show)
    if done and hopeless(done):
        raise all_failed(done)
    return done


def attempt(
    sampler: Sampler, executor: Executor, budget: Budget, journal: Journal | None = None, show: Show | None = None
) -> list[Evaluation]:
    """As `search`, but where all failed these failures are given back."""
    done: list[Evaluation] = []
    judging = _Judging(executor, budget, journal, show)
    while len(done) < budget.evaluations and (batch := sampler.ask()):
        asked = batch[: budget.evaluations - len(done)]
        done += judging.batch(asked, done)
        if len(done) >= HOPELESS and hopeless(done):
            break
        if len(asked) == len(batch):
            sampler.tell([evaluation.rank for evaluation in done[-len(batch) :]])
    return done


def hopeless(evaluations: Iterable[Evaluation]) -> bool:
    """Whether all failed."""
    return all(evaluation.failure for evaluation in evaluations)


def all_failed(evaluations: Sequence[Evaluation]) -> TrainingError:
    """The error for that."""
    return TrainingError(
        f"all of the first {len(evaluations)} evaluations failed; the first: {evaluations[0].failure}",
        "mend the fitness; `--resume` does not judge these again, so take another folder",
    )


def best(evaluations: Sequence[Evaluation]) -> Evaluation:
    """The one of the highest rank, of equal ones the first."""
    return max(evaluations, key=lambda evaluation: (*evaluation.rank, -evaluation.number))


def best_so_far(evaluations: Sequence[Evaluation]) -> list[float]:
    """The score of the best one after every evaluation, in their order."""
    tops: list[Evaluation] = []
    for evaluation in evaluations:
        tops.append(tops[-1] if tops and tops[-1].rank >= evaluation.rank else evaluation)
    return [top.score for top in tops]


@dataclass
class _Judging:
    """How batches are judged."""

    executor: Executor
    budget: Budget
    journal: Journal | None
    show: Show | None
    halving: Halving = field(init=False)

    def __post_init__(self) -> None:
        self.halving = Halving(len(self.budget.rungs))

    def batch(self, structures: Sequence[Structure], done: Sequence[Evaluation]) -> list[Evaluation]:
        """Judgements of a batch, in its order, after those that are done; each on the rung that it reached."""
        first, last = len(done), dict[int, Evaluation]()
        alive = [Job(first + k, s, seed_of(self.budget.seed, first + k)) for k, s in enumerate(structures)]
        for rung, effort in enumerate(self.budget.rungs):
            for evaluation in self._run([replace(job, rung=rung, effort=effort) for job in alive]):
                last[evaluation.number] = evaluation
                if self.show is not None:
                    self.show([*done, *(last[number] for number in sorted(last))])
            better = self.halving.promoted(rung, [last[job.number] for job in alive])
            alive = [job for job in alive if job.number in better]
        return [last[first + k] for k in range(len(structures))]

    def _run(self, jobs: Sequence[Job]) -> Iterator[Evaluation]:
        """The judgements of jobs, from the journal where it knows them."""
        known = {} if self.journal is None else self.journal.known
        for job in jobs:
            if found := known.get((job.number, job.rung)):
                if found.structure != job.structure:
                    raise UsageError(
                        f"evaluation {job.number} of the journal is of another structure than this search asks for",
                        "resume with the version that it was begun with, or take another folder",
                    )
                yield found
        for evaluation in self.executor.run([job for job in jobs if (job.number, job.rung) not in known]):
            if self.journal is not None:
                self.journal.add(evaluation)
            yield evaluation
