"""What nothing beats (Pareto): points of several costs, each known exactly or to within an interval."""

from __future__ import annotations

import numpy as np


def beaten_by(low: np.ndarray, high: np.ndarray | None = None) -> list[int | None]:
    """For every point the first one that beats it, or None.

    A point beats another if it is surely lower in one cost, and not surely higher in any: surely means that the
    intervals do not overlap. So what was measured is not beaten by noise.

    Args:
        low: the least that the costs may be, lower is better: float `(points, costs)`.
        high: the most, of the same shape; `low` itself for costs that are known exactly.

    >>> beaten_by(np.array([[1, 3], [2, 3], [2, 1]]))
    [None, 0, None]
    """
    high = low if high is None else high
    found: list[int | None] = []
    for own_low, own_high in zip(low, high, strict=True):
        better = (low <= own_high).all(axis=1) & (high < own_low).any(axis=1)
        found.append(int(better.argmax()) if better.any() else None)
    return found
