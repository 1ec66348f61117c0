"""What several limits give together: the structures that nothing beats both in score and in share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from onnxprune.search.comparison import Found
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


def points(structures: Structures, found: Found, resource: str) -> list[Point]:
    """All evaluations of a campaign that did not fail, and reached the highest rung."""
    flat = [(name, e) for name, seeds in found.items() for evaluations in seeds for e in evaluations if not e.failure]
    top = max((e.rung for _, e in flat), default=0)
    shares = {e.structure: structures.shares(e.structure)[resource] for _, e in flat if e.rung == top}
    return [
        Point(name, shares[e.structure], e.score, structures.named(e.structure)) for name, e in flat if e.rung == top
    ]


def frontier(judged: Iterable[Point]) -> list[Point]:
    """Those that no other one beats in both (Pareto), ascending; of equal ones the first, credited to all."""
    judged, best = list(judged), list[Point]()
    for point in sorted(judged, key=lambda p: (p.share, -p.score)):
        if not best or point.score > best[-1].score:
            best.append(point)
    return [replace(point, sampler=_credit(point, judged)) for point in best]


def _credit(point: Point, judged: Iterable[Point]) -> str:
    """Who proposed the same widths, or others as good."""
    same = [p for p in judged if p.widths == point.widths or (p.share, p.score) == (point.share, point.score)]
    return ", ".join(dict.fromkeys(p.sampler for p in same))


def limits(share: float, count: int) -> Sequence[float]:
    """So many limits, evenly from a share up to, but without, the whole."""
    return [share + (1 - share) * k / count for k in range(count)]
