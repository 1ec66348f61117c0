"""How strongly scales are pulled to zero, in the course of a training."""

from collections.abc import Callable

import numpy as np

Pull = Callable[[float, np.ndarray], np.ndarray]
"""From the training's progress, 0 to 1, and the scales `(units,)` to factors of the strength, `(units,)`."""

WEAK = 0.01
TOP = 0.15


def _constant(progress: float, scales: np.ndarray) -> np.ndarray:
    return np.ones_like(scales)


def _late(progress: float, scales: np.ndarray) -> np.ndarray:
    return np.full_like(scales, WEAK if progress > 0.5 else 1)


def _top(progress: float, scales: np.ndarray) -> np.ndarray:
    strong = scales >= np.quantile(scales, 1 - TOP)
    return np.where(strong & (progress > 0.5), WEAK, 1).astype(scales.dtype)


PULLS: dict[str, Pull] = {"constant": _constant, "late": _late, "top": _top}
"""The published schedules: as it is; a hundredth after half of the epochs; that only for the top 15 % of the scales."""
