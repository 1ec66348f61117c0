"""`Sampler`: ask for structures, tell their scores."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence

from onnxprune.search.grid import Structure

Steps = Generator[list[Structure], list[float], None]
"""An algorithm: yields structures that may be judged at the same time, and is sent their scores, higher ones better."""


class Sampler:
    """An algorithm, step by step.

    What it proposes depends on its seed and on the scores alone, never on who judges, or in which order.
    """

    def __init__(self, steps: Steps):
        self._steps, self._batch = steps, next(steps, [])

    def ask(self) -> list[Structure]:
        """Structures to judge now; none when nothing new is left."""
        return self._batch

    def tell(self, scores: Sequence[float]) -> None:
        """The scores of what was asked last, in that order; not a number, or -inf, for one that failed."""
        known = [-math.inf if math.isnan(score) else score for score in scores]
        try:
            self._batch = self._steps.send(known)
        except StopIteration:
            self._batch = []
