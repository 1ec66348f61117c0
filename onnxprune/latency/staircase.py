"""Which widths a runtime likes: whole steps of the staircase by which its kernels fill vectors, tiles and blocks.

A kernel that pads channels to a block of 16 takes as long for 17 as for 32, and one that wants multiples of four has a
slower one take the rest. So each group is timed at a few widths that are odd multiples of 1, 2, 4 ... above a rounder
one: a multiple is worth having if a width with no more factors of two does not cost what the next rounder one does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import lcm

import numpy as np

from onnxprune.groups import Group
from onnxprune.latency.prediction import Latency, evenly
from onnxprune.ranking import Limits

LARGEST = 32
"""The largest multiple that is looked for."""
LOOKED_AT = 4
"""Segments of a group that are timed at most: of what concatenations make, all layers after them may read."""
BETWEEN = 1.5
"""A width is worth having below this many times its share of the next block's time; at twice it is padded."""
NOISE = 0.015
"""Differences below this share of the time mean nothing."""


def steps(latency: Latency, group: Group) -> int:
    """The multiple of units that is worth having in a group, by measuring the segments that it lies on."""
    block = min(LARGEST, 1 << max(0, (group.size // 2).bit_length() - 1))
    high = group.size // block * block
    low = high - block
    if block == 1 or low < 1:
        return 1
    touched = _telling(latency, group)
    whole, base = (_time(latency, group, width, touched) for width in (high, low))
    found, multiple = block, block // 2
    while multiple >= 1:
        allowed = max(BETWEEN * multiple / block * (whole - base), NOISE * whole)
        if _time(latency, group, low + multiple, touched) - base > allowed:
            break
        found, multiple = multiple, multiple // 2
    return found


def _telling(latency: Latency, group: Group) -> list[int]:
    """Segments that a group's width matters most to: by the share of an axis that it is, and by their time."""
    touched = latency.touching[group.name]
    if len(touched) <= LOOKED_AT:
        return touched
    whole, without = (latency.counts(units) for units in ({}, {group.name: np.zeros(group.size, bool)}))
    weights = dict(zip(touched, latency.seconds({}, touched), strict=True))
    for number in touched:
        pairs = zip(*(latency.segments[number].sizes(kept) for kept in (whole, without)), strict=True)
        weights[number] *= max(1 - less / size for size, less in pairs)
    return sorted(sorted(touched, key=lambda number: -weights[number])[:LOOKED_AT])


def _time(latency: Latency, group: Group, width: int, touched: Sequence[int]) -> float:
    return float(latency.seconds({group.name: evenly(group.size, width)}, touched).sum())


def levels(
    latency: Latency, groups: Sequence[Group], limits: Limits, progress: Callable[[float], None]
) -> dict[str, tuple[int, ...]]:
    """The widths worth having of every group, ascending; full width is always one."""
    found = {}
    for number, group in enumerate(groups):
        progress(number / len(groups))
        found[group.name] = multiples(group.size, steps(latency, group), limits)
    return found


def multiples(size: int, step: int, limits: Limits) -> tuple[int, ...]:
    """Multiples of a step, and of what the limits want, from the least on, and the size itself."""
    both = lcm(step, limits.round_to)
    step = both if both <= size else limits.round_to
    least = limits.floor(size)
    return tuple(sorted({width for width in range(step, size, step) if width >= least} | {size}))
