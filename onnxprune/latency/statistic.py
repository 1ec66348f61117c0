"""Quantiles and how far they can be trusted.

The bootstrap is used for medians alone. Its resamples hold no value beyond the largest that was seen, and repeat the
few that make up a tail: intervals of p99 from it miss far more often than they say, and that of the longest run is no
interval at all. Tails get order statistics instead; of the longest run it is told which share of all runs it covers.
Both take runs for independent: where a machine drifts, intervals of times are too narrow, and only the ratios within
rounds, from which the drift is gone, can be relied on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
CONFIDENCE = 0.95
BLOCK = 1 << 20  # samples


@dataclass(frozen=True)
class Interval:
    """An estimate, mostly a median, and the ends of its 95% confidence interval, in the unit of what was measured."""

    median: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """By how much it may be wrong."""
        return (self.high - self.low) / 2


def median_interval(samples: np.ndarray, seed: int = 0) -> Interval:
    """The median of `samples`, shape `(n,)`, with its percentile bootstrap interval.

    >>> median_interval(np.array([1.0, 1.0, 1.0]))
    Interval(median=1.0, low=1.0, high=1.0)
    """
    chance = np.random.default_rng(seed)
    medians = [m for n in _blocks(len(samples)) for m in np.median(chance.choice(samples, (n, len(samples))), axis=1)]
    low, high = np.quantile(medians, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(np.median(samples)), float(low), float(high))


def quantile_interval(samples: np.ndarray, share: float) -> Interval:
    """The quantile below which `share` of the samples lie, with an interval between order statistics.

    How many samples lie below the true quantile is binomially distributed, whatever their distribution; the bootstrap
    would be far too sure of tails. Where there are too few samples for an end, it is infinite.

    >>> quantile_interval(np.arange(11.0), 0.99).high
    inf
    """
    size = len(samples)
    below = np.cumsum([_binomial(size, k, share) for k in range(size + 1)])
    first = int(np.searchsorted(below, (1 - CONFIDENCE) / 2, "right"))
    last = min(int(np.searchsorted(below, (1 + CONFIDENCE) / 2)) + 1, size + 1)
    ordered = np.concatenate([[-np.inf], np.sort(samples), [np.inf]])
    return Interval(float(np.quantile(samples, share)), float(ordered[first]), float(ordered[last]))


def covered(size: int) -> float:
    """The share of all runs that take no longer than the longest of `size`, at least, with 95% confidence.

    The longest of n lies above the quantile of p with probability 1 - p^n, whatever the distribution.

    >>> round(covered(299), 3)
    0.99
    """
    return float((1 - CONFIDENCE) ** (1 / size))


def _binomial(size: int, successes: int, share: float) -> float:
    """The probability of so many successes."""
    ways = math.lgamma(size + 1) - math.lgamma(successes + 1) - math.lgamma(size - successes + 1)
    return math.exp(ways + successes * math.log(share) + (size - successes) * math.log1p(-share))


def _blocks(size: int) -> Iterator[int]:
    """How many resamples to draw at once, so that long measurements do not fill the memory."""
    block = max(1, BLOCK // size)
    yield from (min(block, RESAMPLES - start) for start in range(0, RESAMPLES, block))


def spread(samples: np.ndarray) -> float:
    """The interquartile range as a share of the median: how noisy a measurement was."""
    first, middle, third = np.quantile(samples, [0.25, 0.5, 0.75])
    return float((third - first) / middle) if middle else 0.0
