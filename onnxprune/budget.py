"""`choose`: from scores to a mask, by a share of every group or by a budget for the whole network."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import floor
from typing import Any, get_args

import numpy as np

from onnxprune.analysis import Analysis
from onnxprune.collector import no_collection
from onnxprune.errors import UsageError
from onnxprune.forms import Atom
from onnxprune.groups import Group
from onnxprune.mask import Mask, fit_mask, make_mask
from onnxprune.resources import RESOURCES, Resource, resource_terms, usage
from onnxprune.scores import SCORES
from onnxprune.selection import Factor, primary_groups, uncoupled_groups

_NOTHING = np.zeros(0, bool)


@dataclass(frozen=True)
class Limits:
    """What a chosen width must satisfy.

    Attributes:
        round_to: kept units are a multiple of this (groups smaller than it stay whole).
        min_keep: kept units are at least this many.
    """

    round_to: int = 1
    min_keep: int = 1

    def nearest(self, size: int, wanted: float) -> int:
        """The allowed width nearest to `wanted`; the larger one of two."""
        if size <= max(self.min_keep, 1) or size < self.round_to:
            return size
        step = self.round_to
        width = floor(wanted / step + 0.5) * step
        least = -(-max(self.min_keep, 1) // step) * step
        return min(max(width, least), size)

    def floor(self, size: int) -> int:
        """The least allowed width."""
        return self.nearest(size, 0)


@no_collection()
def choose(
    analysis: Analysis,
    *,
    keep: float | None = None,
    target: Mapping[Resource, float] | None = None,
    score: str = "l1",
    round_to: int = 1,
    min_keep: int = 1,
    exclude: Collection[str] = (),
    factor: Factor = "auto",
    uncoupled_only: bool = False,
    seed: int = 0,
) -> Mask:
    """Choose what to remove.

    Args:
        analysis: from `analyze`.
        keep: the share of the units of every group that stays, in (0, 1].
        target: instead of `keep`: shares of the whole not to be exceeded, such as `{"macs": 0.5}`, of any of
            `resources.RESOURCES`. Units of all groups are ranked together, and as few go as the budget allows.
        score: `l1`, `l2`, `bn` or `random`.
        round_to: keep multiples of this many units.
        min_keep: keep at least this many units of every group.
        exclude: patterns (`*` and `?`) of groups, tensors or nodes to leave whole.
        factor: which factor of an axis that is a product of groups: `outer` (heads, convolution groups),
            `inner` (head width, channels in a group), `all`, or `auto` (heads, and channels in a group).
        uncoupled_only: leave out groups that more than one convolution makes, and those that are resized.
        seed: seed of `random`.

    Raises:
        UsageError: an option is out of range, a pattern matches nothing, or no structure meets the target.
    """
    _check(keep, target, round_to, min_keep)
    _check_one_of(score, "score", SCORES)
    _check_one_of(factor, "factor", get_args(Factor))
    _check_patterns(analysis, exclude)
    limits = Limits(round_to, min_keep)
    groups = [g for g in primary_groups(analysis, factor) if not (exclude and _matches(g, exclude))]
    if uncoupled_only:
        free = uncoupled_groups(analysis)
        groups = [g for g in groups if g.name in free]
    scores = SCORES[score](analysis, seed)
    for group in groups:
        if group.name not in scores:
            raise UsageError(f"--score {score} gives no scores for {group.name!r}", "use --score l1")
    if keep is not None:
        widths = {g.name: limits.nearest(g.size, g.size * keep) for g in groups}
    else:
        widths = Budget(analysis, groups, scores, target or {}).widths(limits)
    kept = _best_of_each([scores[g.name] for g in groups], [widths[g.name] for g in groups])
    options: dict[str, Any] = {"keep": keep, "target": dict(target or {}) or None, "round_to": round_to}
    options |= {"min_keep": min_keep, "exclude": list(exclude) or None, "factor": factor}
    options |= {"uncoupled_only": uncoupled_only or None, "fold": bool(analysis.folded) or None}
    provenance = {"method": score, "seed": seed} | {k: v for k, v in options.items() if v is not None}
    return make_mask(analysis, dict(zip((g.name for g in groups), kept, strict=True)), provenance)


def _check(keep: float | None, target: Mapping[Resource, float] | None, step: int, least: int) -> None:
    if (keep is None) == (not target):
        raise UsageError("give either a share to keep or a target", "for example keep=0.5, or target={'macs': 0.5}")
    _check_shares({"keep": keep} if keep is not None else target or {})
    if step < 1 or least < 1:
        raise UsageError("round_to and min_keep are at least 1", "leave them out for no constraint")


def _check_shares(shares: Mapping[Any, float]) -> None:
    for name, share in shares.items():
        if not 0 < share <= 1:
            raise UsageError(f"{name} is {share}, expected a share in (0, 1]", "for example 0.5")


def _check_one_of(value: str, what: str, known: Collection[str]) -> None:
    if value not in known:
        raise UsageError(f"unknown {what} {value!r}, expected one of {', '.join(known)}", "check its spelling")


def _check_patterns(analysis: Analysis, patterns: Iterable[str]) -> None:
    """Refuse a pattern that protects nothing: a misspelt one would prune the very layer it was to protect."""
    graph = analysis.trace.graph
    for pattern in patterns:
        known = chain((g.name for g in analysis.groups), graph.stored, (n.label for n in graph.nodes))
        if not any(fnmatch.fnmatchcase(name, pattern) for name in known):
            raise UsageError(
                f"--exclude {pattern}: no group, node or stored tensor has such a name",
                "see the names with `onnxprune analyze`, and use * for the rest of a name",
            )


def _matches(group: Group, patterns: Iterable[str]) -> bool:
    names = {group.name, *group.producers, *(m.tensor for m in group.members if m.makes)}
    return any(fnmatch.fnmatchcase(name, p) for p in patterns for name in names)


def _best(scores: np.ndarray, width: int) -> np.ndarray:
    """Which units stay: so many of the highest score, of equal ones the first."""
    return _best_of_each([scores], [width])[0]


def _best_of_each(scores: Sequence[np.ndarray], widths: Sequence[int]) -> list[np.ndarray]:
    """`_best` of every group, for all groups of one size together."""
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


def rank(
    analysis: Analysis,
    scores: Mapping[str, np.ndarray],
    target: Mapping[Resource, float],
    limits: Limits = Limits(),
    provenance: Mapping[str, Any] | None = None,
) -> Mask:
    """The mask of units with the lowest scores, learnt or computed by whatever means, of all groups together.

    Unlike `choose`, it gives the room that the last step leaves below the target back to the best units that fit.

    Args:
        analysis: from `analyze`.
        scores: float `(size,)` by group name; groups without scores stay whole.
        target: shares of the whole not to be exceeded, such as `{"macs": 0.5}`.
        limits: what every width must satisfy.
        provenance: how the scores were made.

    Raises:
        UsageError: no structure meets the target; tells the least that can be reached.
    """
    groups = [group for group in analysis.groups if group.name in scores]
    budget = Budget(analysis, groups, scores, target)
    widths = budget.filled(budget.widths(limits), limits)
    kept = _best_of_each([scores[g.name] for g in groups], [widths[g.name] for g in groups])
    how = {"target": dict(target), "round_to": limits.round_to, "min_keep": limits.min_keep}
    return make_mask(analysis, dict(zip(widths, kept, strict=True)), {**(provenance or {}), **how})


def shares(analysis: Analysis, mask: Mask, resources: Iterable[Resource]) -> dict[Resource, float]:
    """The shares of resources that a mask leaves.

    Raises:
        MaskError: the mask does not fit the model.
    """
    kept, _ = fit_mask(analysis, mask)
    counts = {atom: int(units.sum()) for atom, units in kept.items()}
    terms = {name: resource_terms(analysis, name) for name in resources}
    return {name: usage(of, counts) / max(usage(of, {}), 1) for name, of in terms.items()}


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
        if unknown := set(target) - set(RESOURCES):
            raise UsageError(f"unknown target {sorted(unknown)}", f"targets are {', '.join(RESOURCES)}")
        _check_shares(target)
        self.groups, self.scores, self.target = groups, scores, target
        self._terms = {name: resource_terms(analysis, name) for name in target}
        self._whole = {name: max(usage(terms, {}), 1) for name, terms in self._terms.items()}

    def shares(self, widths: Mapping[str, int]) -> dict[Resource, float]:
        """The shares that these widths take."""
        counts = _counts(self.groups, self.scores, widths)
        return {name: usage(terms, counts) / self._whole[name] for name, terms in self._terms.items()}

    def holds(self, widths: Mapping[str, int]) -> bool:
        """Whether these widths are within the budget."""
        return all(share <= self.target[name] for name, share in self.shares(widths).items())

    def widths(self, limits: Limits) -> dict[str, int]:
        """Widths after removing the lowest-ranked steps of all groups until the cost is within the budget.

        The exact cost falls with every step, so the shortest sufficient prefix of the ranking is found by bisection.
        """
        steps = _ranked_steps(self.groups, self.scores, limits)
        if not self.holds(least := _after(self.groups, steps)):
            raise self._unreachable(least)
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

    def _unreachable(self, widths: Mapping[str, int]) -> UsageError:
        least = self.shares(widths)
        reach = ", ".join(f"{name}={least[name]:.4f}" for name in self.target)
        wanted = ", ".join(f"{name}={share}" for name, share in self.target.items())
        return UsageError(
            f"no structure meets {wanted}: with these groups and limits the least is {reach}",
            "raise the target, lower --min-keep and --round-to, or let more factors go with --factor all",
        )


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
        kept = _best(scores[group.name], width)
        counts.update((atom, int(kept[start : start + atom.size].sum())) for atom, start in group.first_units.items())
    return counts
