"""What several limits give together: the structures that nothing beats both in score and in share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxprune.pareto import beaten_by
from onnxprune.search.comparison import Found
from onnxprune.search.promise import SMALLER, Promise
from onnxprune.search.structures import Structures


@dataclass(frozen=True)
class Point:
    """A structure that was judged.

    Attributes:
        sampler: who proposed it; on a frontier all who did, or found one as good.
        share: of the limited resource, by the whole network's.
        score: higher is better.
        widths: kept units by group.
    """

    sampler: str
    share: float
    score: float
    widths: dict[str, int]


def points(structures: Structures, found: Found, resource: str, promise: Promise | None = None) -> list[Point]:
    """All evaluations of a campaign that did not fail, and reached the highest rung.

    Where times were measured for a promise they count, not what was predicted; what was made smaller for it is there.
    """
    flat = [(name, e) for name, seeds in found.items() for evaluations in seeds for e in evaluations if not e.failure]
    measured = {} if promise is None else promise.tried
    proposed = {e.structure for _, e in flat}
    flat += [(SMALLER, trial.evaluation) for structure, trial in measured.items() if structure not in proposed]
    top = max((e.rung for _, e in flat), default=0)
    predicted = {e.structure: structures.shares(e.structure)[resource] for _, e in flat if e.rung == top}
    shares = predicted | {structure: trial.ratio.median for structure, trial in measured.items()}
    return [
        Point(name, shares[e.structure], e.score, structures.named(e.structure)) for name, e in flat if e.rung == top
    ]


def frontier(judged: Iterable[Point]) -> list[Point]:
    """Those that no other one beats in both (Pareto), ascending; of equal ones the first, credited to all."""
    judged = list(judged)
    points = sorted({(p.share, p.score): p for p in reversed(judged)}.values(), key=lambda p: p.share)
    costs = np.array([(p.share, -p.score) for p in points]).reshape(-1, 2)
    best = [point for point, better in zip(points, beaten_by(costs), strict=True) if better is None]
    return [replace(point, sampler=_credit(point, judged)) for point in best]


def _credit(point: Point, judged: Iterable[Point]) -> str:
    """Who proposed the same widths, or others as good."""
    same = [p for p in judged if p.widths == point.widths or (p.share, p.score) == (point.share, point.score)]
    return ", ".join(dict.fromkeys(p.sampler for p in same))


def limits(share: float, count: int) -> Sequence[float]:
    """So many limits, evenly from a share up to, but without, the whole."""
    return [share + (1 - share) * k / count for k in range(count)]
