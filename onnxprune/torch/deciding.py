"""What a training prunes by its scales: units of channels, or whole residual branches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from onnxprune.analysis import Analysis
from onnxprune.budget import choose_branches
from onnxprune.mask import Mask, removed_units
from onnxprune.ranking import Limits, loosened, rank
from onnxprune.resources import Resource
from onnxprune.selection import STRATEGIES
from onnxprune.torch.ends import BranchScales
from onnxprune.torch.scales import Scales


class Decision(Protocol):
    """Reads scales `(n,)` of what may go, and makes masks of them."""

    def read(self) -> np.ndarray:
        """The scales now: float32 `(n,)`."""

    def select(self, values: np.ndarray, tighter: float = 1.0) -> Mask:
        """The mask by scales `(n,)`; the target's shares are multiplied by `tighter`.

        Raises:
            UsageError: no structure meets the target.
        """

    def removed(self, mask: Mask) -> np.ndarray:
        """What a mask removes: bool `(n,)`."""


@dataclass(frozen=True)
class ByUnit:
    """Units that have scales are ranked together (see `ranking.rank`); the others stay.

    Attributes:
        analysis: of the network.
        scales: of the units.
        target, limits, how: see `rank`; `how` is the provenance.
    """

    analysis: Analysis
    scales: Scales
    target: Mapping[Resource, float]
    limits: Limits
    how: Mapping[str, Any]

    def read(self) -> np.ndarray:
        """The scale of every unit that has one."""
        return self.scales.read()[self.scales.own]

    def select(self, values: np.ndarray, tighter: float = 1.0) -> Mask:
        """The mask of the lowest units."""
        target = {name: share * tighter for name, share in self.target.items()}
        scores = self.scales.by_group(self.scales.whole(values))
        return rank(self.analysis, scores, target, self.limits, self.how, self._advice())

    def removed(self, mask: Mask) -> np.ndarray:
        """Which of these units go."""
        return removed_units(mask)[self.scales.own]

    def _advice(self) -> str:
        """What helps where the target is out of reach; the multiples are the strategy's, which leaves groups whole."""
        limits = replace(self.limits, round_to=1)
        strategy = STRATEGIES.get(self.how.get("strategy", ""))
        more = ("take all groups with --strategy slim",) if strategy and strategy.uncoupled_only else ()
        return loosened(limits, *more)


@dataclass(frozen=True)
class ByBranch:
    """Whole residual branches are ranked (see `budget.choose_branches`).

    Attributes:
        analysis: of the network.
        scales: of the branches.
        target, how: see `choose_branches`; `how` is the provenance.
    """

    analysis: Analysis
    scales: BranchScales
    target: Mapping[Resource, float]
    how: Mapping[str, Any]

    def read(self) -> np.ndarray:
        """The scale of every branch."""
        return self.scales.read()

    def select(self, values: np.ndarray, tighter: float = 1.0) -> Mask:
        """The mask of the lowest branches."""
        target = {name: share * tighter for name, share in self.target.items()}
        scores = dict(zip(self.scales.names, values.tolist(), strict=True))
        return choose_branches(self.analysis, scores, target, self.how)

    def removed(self, mask: Mask) -> np.ndarray:
        """The branches that go."""
        return np.array([name in mask.branches for name in self.scales.names], bool)
