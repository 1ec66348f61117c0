"""Successive halving: little effort for all structures, more for those that did well with little.

Structures come one by one or in small batches, so it is done as they come (ASHA: Li et al. 2018, arXiv 1810.05934): one
goes on to the next rung if it is in the better half of all that were judged on its rung so far, and not more than half
of these have gone on. On rung k are therefore at most n / 2^k of n structures (one, if there are fewer). A judgement on
a higher rung starts anew, so all effort together is at most sum(effort_k / 2^k) of that without halving: 0.75 with a
quarter, a half and all of it.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass, field

from onnxprune.errors import UsageError
from onnxprune.search.evaluation import Evaluation

WHOLE = (1.0,)
"""The rungs of no halving."""
ENOUGH = "judge by more epochs of training"


def ladder(rungs: Sequence[float], efforts: int) -> tuple[float, ...]:
    """Rungs as a fitness tells them apart: those that would ask it for the same twice are one.

    Args:
        rungs: shares of a judgement's effort, ascending to 1.
        efforts: how many of them the fitness knows, all of the same size, such as epochs; 1 if it ignores the share.

    Raises:
        UsageError: they do not ascend to 1, or spare nothing, with any fitness or this one.
    """
    check_rungs(rungs)
    if efforts < 1:
        raise UsageError(f"a fitness of {efforts} efforts, expected at least 1", "1 if it ignores the share of effort")
    merged = tuple(sorted({max(1, round(rung * efforts)) / efforts for rung in rungs}))
    if len(merged) == 1 < len(rungs):
        raise UsageError(
            f"halving over {told(rungs)} of all effort, and a fitness that knows no less than all of it: it would do "
            f"the same {len(rungs)} times",
            f"{ENOUGH} (--fitness train --fitness-epochs 4), or leave halving out",
        )
    check_rungs(merged)
    return merged


def check_rungs(rungs: Sequence[float]) -> None:
    """Refuse what are no rungs.

    Raises:
        UsageError: they do not ascend to 1, or spare nothing.
    """
    if not rungs or rungs[-1] != 1 or list(rungs) != sorted(set(rungs)) or rungs[0] <= 0:
        raise UsageError(f"rungs {list(rungs)}, expected shares that ascend to 1", "for example 0.25, 0.5, 1")
    if len(rungs) > 1 and most_effort(rungs) >= 1:
        raise UsageError(
            f"halving over {told(rungs)} of all effort takes up to {most_effort(rungs):.2f} of that without halving, "
            "expected less than 1",
            f"{ENOUGH} (--fitness-epochs 4), or leave halving out",
        )


def most_effort(rungs: Sequence[float]) -> float:
    """All effort at most, by that without halving, where there are many structures."""
    return sum(effort / 2**rung for rung, effort in enumerate(rungs))


def told(rungs: Sequence[float]) -> str:
    """Rungs in words."""
    return ", ".join(f"{rung:.3g}" for rung in rungs)


@dataclass
class _Rung:
    """Scores of all that did not fail on it, ascending, and how many of these went on."""

    scores: list[float] = field(default_factory=list)
    promoted: int = 0

    @property
    def half(self) -> int:
        """How many are the better half, at least one."""
        return max(1, len(self.scores) // 2)


class Halving:
    """Who goes on, by all that was judged so far."""

    def __init__(self, rungs: int):
        self._rungs = [_Rung() for _ in range(rungs)]

    def promoted(self, rung: int, judged: Sequence[Evaluation]) -> set[int]:
        """The numbers of those in a batch that go on from a rung; what failed never does."""
        here, alive = self._rungs[rung], [evaluation for evaluation in judged if not evaluation.failure]
        for evaluation in alive:
            insort(here.scores, evaluation.score)
        room = here.half - here.promoted
        best = sorted(alive, key=lambda evaluation: (-evaluation.score, evaluation.number))[:room]
        chosen = [evaluation for evaluation in best if evaluation.score >= here.scores[-here.half]]
        here.promoted += len(chosen)
        return {evaluation.number for evaluation in chosen}
