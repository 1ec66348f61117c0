"""What samplers found, side by side: the best of all, who proposed it, and whether the bees are better."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from onnxprune.search.evaluation import Evaluation
from onnxprune.search.run import best

BEES = "bees"
Found = dict[str, list[list[Evaluation]]]
"""By sampler, the evaluations of every seed."""


def winner(found: Found, name: str | None = None) -> Evaluation:
    """The best evaluation of all samplers and seeds, or of one sampler."""
    searches = found[name] if name is not None else [search for seeds in found.values() for search in seeds]
    return best([best(evaluations) for evaluations in searches if evaluations])


def proposers(found: Found, first: Evaluation) -> list[str]:
    """All samplers that proposed the structure of an evaluation, or have one as good; nobody where none proposed it."""
    judged = [(name, e) for name, seeds in found.items() for evaluations in seeds for e in evaluations]
    if all(e.structure != first.structure for _, e in judged):
        return []
    return list(dict.fromkeys(n for n, e in judged if e.structure == first.structure or e.rank == first.rank))


def failures(found: Found) -> dict[str, dict[str, Any]]:
    """By sampler how many evaluations of every seed failed, and why the first one did; nothing of one without any."""
    told = {}
    for name, seeds in found.items():
        failed = [[e.failure for e in evaluations if e.failure] for evaluations in seeds]
        if any(failed):
            told[name] = {"count": list(map(len, failed)), "first": next(why for whys in failed for why in whys)}
    return told


@dataclass(frozen=True)
class Comparison:
    """A sampler's best scores against the bees', seed by seed.

    Attributes:
        sampler: its name.
        scores: the best of every seed; None where nothing was judged on the highest rung.
        mean, margin: of these, and half of their 95 % interval (Student's t); no margin with one seed, none of both
            without scores.
        lead: of the bees over it, the mean over seeds in which both have scores, and half of its interval; or None.
        failure: of its first evaluation that failed, or nothing.
    """

    sampler: str
    scores: tuple[float | None, ...]
    mean: float | None
    margin: float | None
    lead: tuple[float, float | None] | None
    failure: str = ""

    @property
    def text(self) -> str:
        """In words whether the bees are better."""
        if self.mean is None:
            return f"nothing was judged to the end; the first failure: {self.failure}"
        if self.sampler == BEES:
            return ""
        if self.lead is None:
            return "in no seed both were judged to the end"
        lead, margin = self.lead
        if margin is None:
            who = "bees lead" if lead > 0 else "bees do not win" if lead < 0 else "a tie"
            return f"{who} ({lead:+.4f}, one seed)"
        sure = abs(lead) > margin
        who = "bees win" if sure and lead > 0 else "bees lose" if sure else "no difference can be told"
        return f"{who} ({lead:+.4f} ± {margin:.4f})"


def compared(found: Found) -> list[Comparison]:
    """All samplers against the bees, by paired seeds."""
    top, failed, rows = winner(found).rung, failures(found), []
    ours = [_score(evaluations, top) for evaluations in found[BEES]]
    for name, seeds in found.items():
        scores = [_score(evaluations, top) for evaluations in seeds]
        pairs = zip(ours, scores, strict=True)
        lead = interval([own - other for own, other in pairs if own is not None and other is not None])
        mean, margin = interval([score for score in scores if score is not None]) or (None, None)
        rows.append(Comparison(name, tuple(scores), mean, margin, lead, failed.get(name, {}).get("first", "")))
    return rows


def _score(evaluations: Sequence[Evaluation], rung: int) -> float | None:
    """The best score on a rung; None if there is none."""
    return max((e.score for e in evaluations if e.rung == rung and not e.failure), default=None)


def interval(values: Sequence[float]) -> tuple[float, float | None] | None:
    """Mean and half of the 95 % interval (Student's t), which one value has not; of nothing None."""
    if len(values) < 2:
        return (values[0], None) if values else None
    from scipy import stats

    wide = float(stats.t.ppf(0.975, len(values) - 1))
    return statistics.mean(values), wide * statistics.stdev(values) / len(values) ** 0.5
