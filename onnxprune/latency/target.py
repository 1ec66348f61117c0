"""A share of the time as the target: chosen by curves, then measured, corrected and measured again until it holds.

The choice is a knapsack over scores and times, as in HALP (Shen et al. 2021, arXiv 2110.10811), of which every runtime
and graph has its own, and over whole steps of its staircase alone. What curves say wrongly of a structure is put right
by the structure's own measurement, from which the next choice starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from onnxprune.budget import Candidates
from onnxprune.errors import UsageError
from onnxprune.latency.curves import Curves, Widths
from onnxprune.latency.estimate import Estimate
from onnxprune.latency.knapsack import Item, bargain, pack
from onnxprune.latency.prediction import Latency
from onnxprune.latency.staircase import levels
from onnxprune.latency.statistic import Interval
from onnxprune.mask import Mask, make_mask
from onnxprune.ranking import Budget, check_shares
from onnxprune.resources import Resource

LEAST, NEAR, AIM, LOWEST = 0.93, 0.955, 0.97, 0.5
"""What is to be used of the time that is allowed, what is near enough to stop, as another measurement of the same will
differ, and what is aimed at, at first and at the lowest; by the target."""
TRIES, ANCHORS = 8, 3
"""How many structures are measured at most, and how often a choice is made anew from the structure that it gave."""
EASIER = 0.005
"""By how much less is near enough after every one."""
NUDGES, NUDGE = 6, 0.01
"""How many aims are tried, and by how much they differ, until a choice is a new one."""
PROMISING = 0.05
"""A structure that is so near the aim is measured again."""

Told = Callable[[str, float], None]
"""Is told what is done, and which share of it."""


@dataclass(frozen=True)
class Kept:
    """A structure that keeps its promise.

    Attributes:
        mask: what goes.
        asked: the share of the time that is not to be exceeded.
        ratio: its time by the whole network's, measured.
        predicted: the same from its parts.
        expected: the same, as what was measured of structures before it corrects it; by it this one was chosen.
        tries: how many structures were measured for it.
    """

    mask: Mask
    asked: float
    ratio: Interval
    predicted: float
    expected: float
    tries: int

    def to_json(self) -> dict[str, Any]:
        """Its figures as plain data."""
        found = {"asked": self.asked, "ratio": asdict(self.ratio), "predicted": self.predicted}
        return {**found, "expected": self.expected, "tries": self.tries}


def choose_within(
    latency: Latency,
    share: float,
    candidates: Candidates,
    target: Mapping[Resource, float] | None = None,
    told: Told = lambda what, done: None,
) -> Kept:
    """Choose what to remove so that the rest takes at most a share of the time, and prove it by measuring.

    The upper end of the measured ratio's 95% interval is within the share.

    Args:
        latency: of the network, in some runtime.
        share: of the whole network's time, in (0, 1].
        candidates: what may be removed.
        target: shares of other resources that are not to be exceeded either.
        told: is told of progress.

    Raises:
        UsageError: a share makes no sense, or no structure that was measured is within it; tells the least.
    """
    check_shares({"latency": share, **(target or {})})
    hunt = _Hunt(latency, candidates, target or {}, told)
    tried = list(hunt.tries(share))
    latency.flush()
    fitting = [trial for trial in tried if trial.ratio.high <= share]
    if not fitting:
        least = min(trial.ratio.high for trial in tried)
        raise UsageError(
            f"no structure was measured within latency={share:g}: the least was {least:.4f} of the whole network's",
            "raise the target, or let more go: lower --min-keep, --min-share or --round-to, or leave out --exclude",
        )
    best = max(fitting, key=lambda trial: trial.worth)
    how = {**candidates.provenance, "target": {**(target or {}), "latency": share}}
    how["latency"] = {"runtime": latency.engine, "measured": asdict(best.ratio), "predicted": best.predicted}
    mask = make_mask(latency.analysis, candidates.kept(best.widths), how)
    return Kept(mask, share, best.ratio, best.predicted, best.expected, len(tried))


@dataclass(frozen=True)
class _Trial:
    """A structure that was measured."""

    widths: Widths
    ratio: Interval
    predicted: float
    expected: float
    worth: float


@dataclass(frozen=True)
class _Limits:
    """What structures may cost, the time being estimated."""

    estimate: Estimate
    share: float
    others: Budget | None

    def used(self, widths: Widths) -> float:
        """The largest share of a limit that is used."""
        return max([self.estimate.share(widths) / self.share, *self._others(widths)])

    def along(self, name: str, levels: Sequence[int], widths: Widths) -> np.ndarray:
        """Costs by their limits, all added up."""
        spent = self.estimate.along(name, levels, widths) / self.share
        if self.others is not None:
            spent += [sum(self._others({**widths, name: level})) for level in levels]
        return spent

    def _others(self, widths: Widths) -> list[float]:
        """The shares of the other limits that are used."""
        if self.others is None:
            return []
        return [share / self.others.target[of] for of, share in self.others.shares(widths).items()]


class _Hunt:
    """Structures of one network for limits of the time."""

    def __init__(self, latency: Latency, candidates: Candidates, target: Mapping[Resource, float], told: Told):
        self._latency, self._candidates, self._told = latency, candidates, told
        groups = candidates.groups
        self._whole = {group.name: group.size for group in latency.analysis.groups}
        found = levels(latency, groups, candidates.limits, lambda done: told("timing widths", done))
        self._curves = Curves(latency, found)
        self._curves.measure(lambda done: told("timing layers", done))
        self._items = [_item(name, widths, candidates.scores[name]) for name, widths in found.items()]
        self._others = Budget(latency.analysis, groups, candidates.scores, target) if target else None

    def tries(self, share: float) -> Iterator[_Trial]:
        """Structures as they are measured, each corrected by those before, the last of them good or none better."""
        aim, factor, nudge, seen = AIM * share, 1.0, 0.0, list[Widths]()
        for number in range(TRIES):
            self._told("measuring structures", number / TRIES)
            if (
                widths := self._unseen(seen, [min(aim * (1 + nudge * k), share) for k in range(NUDGES)], factor)
            ) is None:
                return
            seen.append(widths)
            yield (trial := self._measure(widths, factor, share))
            if max(NEAR - EASIER * number, LEAST) * share <= trial.ratio.median and trial.ratio.high <= share:
                return
            factor = trial.ratio.median / trial.predicted
            unknown = max(0.0, min(trial.ratio.high - share, trial.ratio.half_width))
            aim = max(aim - unknown, LOWEST * share)  # what is not known is not promised
            nudge = -NUDGE if trial.ratio.high > share else NUDGE

    def _measure(self, widths: Widths, factor: float, share: float) -> _Trial:
        """A structure's time, measured more than once where it may be the last one."""
        units = self._candidates.kept(widths)
        ratio = self._latency.ratio(units)
        if abs(ratio.median / share - AIM) < PROMISING:
            ratio = self._latency.again(units, ratio)
        worth = sum(float(item.worth[np.searchsorted(item.widths, widths[item.name])]) for item in self._items)
        predicted = self._latency.share(units)
        return _Trial(widths, ratio, predicted, factor * predicted, worth)

    def _unseen(self, seen: Sequence[Widths], aims: Sequence[float], factor: float) -> Widths | None:
        """The choice for the first of some aims that gives one which was not measured yet."""
        choices = (self._choice(aim, factor) for aim in aims)
        return next((widths for widths in choices if widths not in seen), None)

    def _choice(self, aim: float, factor: float) -> Widths:
        """The widths of the most worth within the aim, or the fastest; estimated from ever nearer structures."""
        widths: Widths = self._whole
        for _ in range(ANCHORS):
            estimate = Estimate(self._curves, self._candidates.kept(widths), widths, factor)
            costs = _Limits(estimate, aim, self._others)
            found = pack(self._items, costs, self._whole) or bargain(self._items, costs, self._whole)
            if found == widths:
                break
            widths = found
        return widths


def _item(name: str, widths: Sequence[int], scores: np.ndarray) -> Item:
    """A group's widths, and the sum of the best scores for each."""
    sums = np.cumsum(np.sort(scores)[::-1])
    return Item(name, np.array(widths), sums[np.array(widths) - 1])
