"""From scores to a mask: units by a share of every group or by a budget for the whole network, branches by a budget."""

from __future__ import annotations

import fnmatch
from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypedDict, Unpack, get_args

import numpy as np

from onnxprune.analysis import Analysis
from onnxprune.branches import Branch, drop
from onnxprune.collector import no_collection
from onnxprune.errors import UsageError
from onnxprune.groups import Group
from onnxprune.mask import Mask, make_mask
from onnxprune.ranking import Budget, Limits, best_of_each, check_shares, check_target, loosened, out_of_reach
from onnxprune.resources import Resource, Shares
from onnxprune.scores import SCORES
from onnxprune.selection import Factor, primary_groups, uncoupled_groups


class CandidateOptions(TypedDict, total=False):
    """What `candidates` takes beside the analysis."""

    score: str
    round_to: int
    min_keep: int
    min_share: float
    exclude: Collection[str]
    factor: Factor
    uncoupled_only: bool
    seed: int


@dataclass(frozen=True)
class Candidates:
    """What may be removed, and how much it matters.

    Attributes:
        groups: those that may lose units.
        scores: of their units, float `(size,)` by group name.
        limits: what their widths must satisfy.
        provenance: how all that was chosen.
    """

    groups: tuple[Group, ...]
    scores: Mapping[str, np.ndarray]
    limits: Limits
    provenance: Mapping[str, Any]

    def kept(self, widths: Mapping[str, int]) -> dict[str, np.ndarray]:
        """The best units of every group, so many of them: bool `(size,)` by group name."""
        best = best_of_each([self.scores[g.name] for g in self.groups], [widths[g.name] for g in self.groups])
        return dict(zip((g.name for g in self.groups), best, strict=True))


@no_collection()
def candidates(
    analysis: Analysis,
    *,
    score: str = "l1",
    round_to: int = 1,
    min_keep: int = 1,
    min_share: float = 0.0,
    exclude: Collection[str] = (),
    factor: Factor = "auto",
    uncoupled_only: bool = False,
    seed: int = 0,
) -> Candidates:
    """Choose what may be removed.

    Args:
        analysis: from `analyze`.
        score: `l1`, `l2`, `bn` or `random`.
        round_to: keep multiples of this many units.
        min_keep: keep at least this many units of every group.
        min_share: and at least this share of them.
        exclude: patterns (`*` and `?`) of groups, tensors or nodes to leave whole.
        factor: which factor of an axis that is a product of groups: `outer` (heads, convolution groups),
            `inner` (head width, channels in a group), `all`, or `auto` (heads, and channels in a group).
        uncoupled_only: leave out groups that more than one convolution makes, and those that are resized.
        seed: seed of `random`.

    Raises:
        UsageError: an option is out of range, or a pattern matches nothing.
    """
    limits = Limits(round_to, min_keep, min_share)
    _check_limits(limits)
    _check_one_of(score, "score", SCORES)
    _check_one_of(factor, "factor", get_args(Factor))
    _check_patterns(analysis, exclude)
    groups = [g for g in primary_groups(analysis, factor) if not (exclude and _matches(g, exclude))]
    if uncoupled_only:
        free = uncoupled_groups(analysis)
        groups = [g for g in groups if g.name in free]
    scores = SCORES[score](analysis, seed)
    for group in groups:
        if group.name not in scores:
            raise UsageError(f"--score {score} gives no scores for {group.name!r}", "use --score l1")
    options: dict[str, Any] = {"round_to": round_to, "min_keep": min_keep, "exclude": list(exclude) or None}
    options |= {"factor": factor, "min_share": min_share or None, "uncoupled_only": uncoupled_only or None}
    options |= {"fold": bool(analysis.folded) or None}
    how = {"method": score, "seed": seed} | {k: v for k, v in options.items() if v is not None}
    return Candidates(tuple(groups), {g.name: scores[g.name] for g in groups}, limits, how)


@no_collection()
def choose(
    analysis: Analysis,
    *,
    keep: float | None = None,
    target: Mapping[Resource, float] | None = None,
    **selection: Unpack[CandidateOptions],
) -> Mask:
    """Choose what to remove.

    Args:
        analysis: from `analyze`.
        keep: the share of the units of every group that stays, in (0, 1].
        target: instead of `keep`: shares of the whole not to be exceeded, such as `{"macs": 0.5}`, of any of
            `resources.RESOURCES`. Units of all groups are ranked together, and as few go as the budget allows.
        selection: see `candidates`.

    Raises:
        UsageError: an option is out of range, a pattern matches nothing, or no structure meets the target.
    """
    if (keep is None) == (not target):
        raise UsageError("give either a share to keep or a target", "for example keep=0.5, or target={'macs': 0.5}")
    check_shares({"keep": keep} if keep is not None else target or {})
    found = candidates(analysis, **selection)
    limits = found.limits
    if keep is not None:
        widths = {g.name: limits.nearest(g.size, g.size * keep) for g in found.groups}
    else:
        more = () if found.provenance["factor"] == "all" else ("let more factors go with --factor all",)
        budget = Budget(analysis, found.groups, found.scores, target or {})
        widths = budget.widths(limits, loosened(limits, *more))
    asked = {"keep": keep} if keep is not None else {"target": dict(target or {})}
    return make_mask(analysis, found.kept(widths), {**found.provenance, **asked})


@no_collection()
def choose_branches(
    analysis: Analysis,
    scores: Mapping[str, float],
    target: Mapping[Resource, float],
    provenance: Mapping[str, Any] | None = None,
) -> Mask:
    """Choose residual branches to drop whole: the fewest of the lowest scores that meet the target.

    The cost falls with every branch that goes, so that they are found by bisection.

    Args:
        analysis: from `analyze`.
        scores: how much a branch matters, by its name (see `Analysis.branches`); branches without scores stay.
        target: shares of the whole not to be exceeded, as `choose` takes them.
        provenance: how the scores were made.

    Raises:
        UsageError: a score is of no branch, there is no branch to drop, or the target is not met with all of them
            dropped; tells what is reached then.
    """
    check_target(target)
    ranked = _ranked_branches(analysis, scores)

    def after(count: int) -> dict[Resource, float]:
        return Shares(analysis, target, drop(analysis.trace.graph, ranked[:count])).of({})

    def holds(count: int) -> bool:
        return all(share <= target[name] for name, share in after(count).items())

    if not holds(len(ranked)):
        fix = "raise the target, or remove channels as well (--strategy slim)"
        raise out_of_reach(target, after(len(ranked)), f"with all {len(ranked)} residual branches dropped", fix)
    count = bisect_left(range(len(ranked)), True, key=holds)
    how = {**(provenance or {}), "target": dict(target)}
    return make_mask(analysis, {}, how, [branch.name for branch in ranked[:count]])


def _ranked_branches(analysis: Analysis, scores: Mapping[str, float]) -> list[Branch]:
    """The branches that have a score, the lowest first, of equal ones the first."""
    own = {branch.name: branch for branch in analysis.branches}
    if not own:
        raise UsageError(
            "the model has no residual branch to drop: no sum of some x and a layer's f(x), both of one shape",
            "remove channels (`onnxprune mask`); a sum with a projection in its shortcut cannot lose either side",
        )
    if unknown := [name for name in scores if name not in own]:
        raise UsageError(
            f"scores are for branch {unknown[0]!r}, which the model does not have; its branches are "
            f"{', '.join(map(repr, own))}",
            "take the names from `analysis.branches`",
        )
    return sorted((own[name] for name in own if name in scores), key=lambda branch: scores[branch.name])


def _check_limits(limits: Limits) -> None:
    if limits.round_to < 1 or limits.min_keep < 1 or not 0 <= limits.min_share <= 1:
        raise UsageError(
            f"round_to and min_keep are at least 1, min_share is from 0 to 1; got {limits.round_to}, "
            f"{limits.min_keep} and {limits.min_share}",
            "leave them out for no constraint",
        )


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
