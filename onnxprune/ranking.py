"""Units by rank: the best ones of a group, and of all groups together those that a budget has room for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil, floor
from typing import Any

import numpy as np

from onnxprune.analysis import Analysis
from onnxprune.errors import UsageError
from onnxprune.forms import Atom
from onnxprune.groups import Group
from onnxprune.mask import Mask, dropped_by, fit_mask, make_mask
from onnxprune.resources import RESOURCES, Resource, Shares

_NOTHING = np.zeros(0, bool)


@dataclass(frozen=True)
class Limits:
    """What a chosen width must satisfy.

    Attributes:
        round_to: kept units are a multiple of this (groups smaller than it stay whole).
        min_keep: kept units are at least this many.
        min_share: and at least this share of the group, in [0, 1].
    """

    round_to: int = 1
    min_keep: int = 1
    min_share: float = 0.0

    def least(self, size: int) -> int:
        """Units of a group that have to stay, before they are rounded."""
        return min(size, max(1, self.min_keep, ceil(round(self.min_share * size, 6))))

    def nearest(self, size: int, wanted: float) -> int:
        """The allowed width nearest to `wanted`; the larger one of two."""
        if (least := self.least(size)) == size or size < self.round_to:
            return size
        step = self.round_to
        width = floor(wanted / step + 0.5) * step
        return min(max(width, -(-least // step) * step), size)

    def floor(self, size: int) -> int:
        """The least allowed width."""
        return self.nearest(size, 0)


def rank(
    analysis: Analysis,
    scores: Mapping[str, np.ndarray],
    target: Mapping[Resource, float],
    limits: Limits = Limits(),
    provenance: Mapping[str, Any] | None = None,
    fix: str | None = None,
) -> Mask:
    """The mask of units with the lowest scores, learnt or computed by whatever means, of all groups together.

    Unlike `choose`, it gives the room that the last step leaves below the target back to the best units that fit.

    Args:
        analysis: from `analyze`.
        scores: float `(size,)` by group name; groups without scores stay whole.
        target: shares of the whole not to be exceeded, such as `{"macs": 0.5}`.
        limits: what every width must satisfy.
        provenance: how the scores were made.
        fix: what helps where no structure meets the target; by default to loosen target and limits.

    Raises:
        UsageError: no structure meets the target; tells the least that can be reached.
    """
    groups = [group for group in analysis.groups if group.name in scores]
    budget = Budget(analysis, groups, scores, target)
    widths = budget.filled(budget.widths(limits, fix or loosened(limits)), limits)
    kept = best_of_each([scores[g.name] for g in groups], [widths[g.name] for g in groups])
    how = {"target": dict(target), **{name: value for name, value in asdict(limits).items() if value}}
    return make_mask(analysis, dict(zip(widths, kept, strict=True)), {**(provenance or {}), **how})


def shares(analysis: Analysis, mask: Mask, resources: Iterable[Resource]) -> dict[Resource, float]:
    """The shares of resources that a mask leaves.

    Raises:
        MaskError: the mask does not fit the model.
    """
    kept, _ = fit_mask(analysis, mask)
    return Shares(analysis, resources, dropped_by(analysis, mask)).of(
        {atom: int(units.sum()) for atom, units in kept.items()}
    )


class Budget:
    """Shares of the whole that are not to be exceeded, and the groups that lose units for it, by their scores.

    Raises:
        UsageError: a target is unknown, or no share.
    """

    def __init__(
        self,
        analysis: Analysis,
        groups: Sequence[Group],
        scores: Mapping[str, np.ndarray],
        target: Mapping[Resource, float],
    ):
        check_target(target)
        self.groups, self.scores, self.target = groups, scores, target
        self._shares = Shares(analysis, target)

    def shares(self, widths: Mapping[str, int]) -> dict[Resource, float]:
        """The shares that these widths take."""
        return self._shares.of(_counts(self.groups, self.scores, widths))

    def holds(self, widths: Mapping[str, int]) -> bool:
        """Whether these widths are within the budget."""
        return all(share <= self.target[name] for name, share in self.shares(widths).items())

    def widths(self, limits: Limits, fix: str) -> dict[str, int]:
        """Widths after removing the lowest-ranked steps of all groups until the cost is within the budget.

        The exact cost falls with every step, so the shortest sufficient prefix of the ranking is found by bisection.

        Raises:
            UsageError: the budget is not met at the limits; tells the least that can be reached, and the fix.
        """
        steps = _ranked_steps(self.groups, self.scores, limits)
        if not self.holds(least := _after(self.groups, steps)):
            raise out_of_reach(self.target, self.shares(least), "with these groups and limits", fix)
        low, high = 0, len(steps)
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self.holds(_after(self.groups, steps[:middle])) else (middle + 1, high)
        return _after(self.groups, steps[:low])

    def filled(self, widths: Mapping[str, int], limits: Limits) -> dict[str, int]:
        """Widths with the removed units back that still fit: of all groups the best-scored one first, as they come."""
        widths, full = dict(widths), set[str]()
        ranked = {g.name: np.sort(self.scores[g.name])[::-1] for g in self.groups}
        while open_groups := [g for g in self.groups if g.name not in full and widths[g.name] < g.size]:
            best = max(open_groups, key=lambda g: float(ranked[g.name][widths[g.name]]))
            wider = {**widths, best.name: min(best.size, widths[best.name] + limits.round_to)}
            if self.holds(wider):
                widths = wider
            else:
                full.add(best.name)
        return widths


def loosened(limits: Limits, *further: str) -> str:
    """What helps where no structure meets a target: to raise it, to lower those limits that bind, or further advice."""
    least = {"--min-keep": limits.min_keep - 1, "--min-share": limits.min_share, "--round-to": limits.round_to - 1}
    binding = " and ".join(name for name, binds in least.items() if binds > 0)
    return ", or ".join(["raise the target", *([f"lower {binding}"] if binding else []), *further])


def out_of_reach(target: Mapping[Any, float], least: Mapping[Any, float], when: str, fix: str) -> UsageError:
    """The error for a target that is not met even where these shares are the least."""
    reach = ", ".join(f"{name}={least[name]:.4f}" for name in target)
    wanted = ", ".join(f"{name}={share}" for name, share in target.items())
    return UsageError(f"no structure meets {wanted}: {when} the least is {reach}", fix)


def check_target(target: Mapping[Resource, float]) -> None:
    """Refuse what is no target.

    Raises:
        UsageError: a resource is unknown, or something is no share of it.
    """
    if unknown := set(target) - set(RESOURCES):
        raise UsageError(f"unknown target {sorted(unknown)}", f"targets are {', '.join(RESOURCES)}")
    check_shares(target)


def check_shares(shares: Mapping[Any, float]) -> None:
    """Refuse what is no share, by name.

    Raises:
        UsageError: one is not in (0, 1].
    """
    for name, share in shares.items():
        if not 0 < share <= 1:
            raise UsageError(f"{name} is {share}, expected a share in (0, 1]", "for example 0.5")


def _best(scores: np.ndarray, width: int) -> np.ndarray:
    """Which units stay: so many of the highest score, of equal ones the first."""
    return best_of_each([scores], [width])[0]


def best_of_each(scores: Sequence[np.ndarray], widths: Sequence[int]) -> list[np.ndarray]:
    """For every group which units stay, as in `_best`; all groups of one size together."""
    found: list[np.ndarray] = [_NOTHING] * len(scores)
    alike: dict[int, list[int]] = {}
    for k, score in enumerate(scores):
        alike.setdefault(len(score), []).append(k)
    for size, places in alike.items():
        table = np.concatenate([scores[k] for k in places]).reshape(-1, size)
        first = np.arange(size) < np.array([widths[k] for k in places])[:, None]
        kept = np.empty(table.shape, bool)
        np.put_along_axis(kept, np.argsort(-table, axis=1, kind="stable"), first, axis=1)
        for k, row in zip(places, kept, strict=True):
            found[k] = row
    return found


def _ranked_steps(
    groups: Sequence[Group], scores: Mapping[str, np.ndarray], limits: Limits
) -> list[tuple[float, int, str, int]]:
    """Every step down from full width, least harm first: (mean score of the units that go, order, group, width)."""
    steps = []
    for order, group in enumerate(groups):
        ranked = np.sort(scores[group.name])
        width, least = group.size, limits.floor(group.size)
        worst = -np.inf
        while width > least:
            less = max(least, (width - 1) // limits.round_to * limits.round_to)
            gone = ranked[group.size - width : group.size - less]
            worst = max(worst, float(gone.mean()))
            steps.append((worst, order, group.name, less))
            width = less
    return sorted(steps, key=lambda s: (s[0], s[1], -s[3]))


def _after(groups: Sequence[Group], steps: list[tuple[float, int, str, int]]) -> dict[str, int]:
    return {g.name: g.size for g in groups} | {name: width for _, _, name, width in steps}


def _counts(groups: Sequence[Group], scores: Mapping[str, np.ndarray], widths: Mapping[str, int]) -> dict[Atom, int]:
    """Kept elements of every atom when each group keeps its best units."""
    counts: dict[Atom, int] = {}
    for group in groups:
        width = widths[group.name]
        if len(group.atoms) == 1:
            counts[group.atoms[0]] = width
            continue
        counts.update(group.counts(_best(scores[group.name], width)))
    return counts
