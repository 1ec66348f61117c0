"""The most worth within a budget: a width of every group, of those worth having.

What a group's width costs depends on its neighbours' widths, so that no table of single groups is exact. The budget is
priced instead (Lagrange; Everett 1963): at a price every group takes the width of the best bargain given all others,
in turns until none moves, and the price is found by bisection. What room is left goes to the best bargains that fit.
Prices do not find every structure: where much room is left, one group is given a width more than they say, and the
others are packed anew around it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from onnxprune.latency.curves import Widths

TURNS, HALVINGS = 12, 40
CHEAPEST, DEAREST = 1e-9, 1e9
FULL, WIDENED = 0.98, 6
"""What is used of the budget at least, or so many groups are given a width more, each in turn."""


@dataclass(frozen=True)
class Item:
    """A group.

    Attributes:
        name: its name.
        widths: the widths that it may have, ascending: int `(levels,)`.
        worth: of each: float `(levels,)`, ascending.
    """

    name: str
    widths: np.ndarray
    worth: np.ndarray


class Costs(Protocol):
    """What structures cost, by what they may; costs of several kinds add up."""

    def used(self, widths: Widths) -> float:
        """The largest share of a limit that is used; above 1 it is exceeded."""

    def along(self, name: str, levels: Sequence[int], widths: Widths) -> np.ndarray:
        """What depends on one group at some widths of it, the others being as they are: float `(levels,)`."""


def pack(items: Sequence[Item], costs: Costs, whole: Widths) -> dict[str, int] | None:
    """Widths of the most worth that fit; None if the cheapest ones do not.

    Args:
        items: the groups whose widths are free.
        costs: of widths, by what they may cost.
        whole: the widths of all groups before anything is taken.
    """
    found = _priced(items, costs, whole)
    if found is None or costs.used(found) >= FULL:
        return found
    return max([found, *_widened(items, costs, whole, found)], key=lambda widths: _worth(items, widths))


def _priced(items: Sequence[Item], costs: Costs, whole: Widths) -> dict[str, int] | None:
    """What the best price gives, and what then still fits."""
    low, high = CHEAPEST, DEAREST
    found = bargain(items, costs, whole, low)
    if costs.used(found) > 1:
        return None
    for _ in range(HALVINGS):
        price = float(np.sqrt(low * high))
        widths = bargain(items, costs, whole, price)
        if costs.used(widths) <= 1:
            low, found = price, widths
        else:
            high = price
    return _filled(items, costs, found)


def _widened(items: Sequence[Item], costs: Costs, whole: Widths, widths: Widths) -> Iterator[dict[str, int]]:
    """What fits with one of the groups, the best bargain first, a width wider."""
    for _, name, width in sorted(_offers(items, costs, widths, set()), reverse=True)[:WIDENED]:
        others = [item for item in items if item.name != name]
        if (found := _priced(others, costs, {**whole, name: width})) is not None:
            yield _filled(items, costs, found)


def _worth(items: Sequence[Item], widths: Widths) -> float:
    return sum(float(item.worth[np.searchsorted(item.widths, widths[item.name])]) for item in items)


def bargain(items: Sequence[Item], costs: Costs, whole: Widths, price: float = CHEAPEST) -> dict[str, int]:
    """The widths of least cost less `price` times worth, by turns."""
    widths = dict(whole)
    for _ in range(TURNS):
        before = dict(widths)
        for item in items:
            spent = costs.along(item.name, item.widths.tolist(), widths)
            widths[item.name] = int(item.widths[np.argmin(spent - price * item.worth)])
        if widths == before:
            break
    return widths


def _filled(items: Sequence[Item], costs: Costs, widths: Mapping[str, int]) -> dict[str, int]:
    """More of what still fits, the best bargain first."""
    found, shut = dict(widths), set[str]()
    while offers := sorted(_offers(items, costs, found, shut), reverse=True):
        _, name, width = offers[0]
        if costs.used({**found, name: width}) <= 1:
            found[name] = width
        else:
            shut.add(name)
    return found


def _offers(items: Sequence[Item], costs: Costs, widths: Widths, shut: set[str]) -> Iterator[tuple[float, str, int]]:
    """For every group that is not shut the next width: worth by cost, the group, and the width."""
    for item in items:
        place = int(np.searchsorted(item.widths, widths[item.name]))
        if item.name in shut or place + 1 >= len(item.widths):
            continue
        spent = costs.along(item.name, item.widths[place : place + 2].tolist(), widths)
        worth = item.worth[place + 1] - item.worth[place]
        yield float(worth / max(spent[1] - spent[0], 1e-12)), item.name, int(item.widths[place + 1])
