"""`Sampler`: ask for structures, tell their ranks."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from onnxprune.search.evaluation import Rank
from onnxprune.search.grid import Structure

Steps = Generator[list[Structure], list[Rank], None]
"""An algorithm: yields structures that may be judged at the same time, and is sent their ranks."""


class Sampler:
    """An algorithm, step by step.

    What it proposes depends on its seed and on the ranks alone, never on who judges, or in which order.
    """

    def __init__(self, steps: Steps):
        self._steps, self._batch = steps, next(steps, [])

    def ask(self) -> list[Structure]:
        """Structures to judge now; none when nothing new is left."""
        return self._batch

    def tell(self, ranks: Sequence[Rank]) -> None:
        """The ranks of what was asked last, in that order."""
        try:
            self._batch = self._steps.send(list(ranks))
        except StopIteration:
            self._batch = []
