"""Quantiles and how far they can be trusted.

The bootstrap is used for medians alone. Its resamples hold no value beyond the largest that was seen, and repeat the
few that make up a tail: intervals of p99 from it miss far more often than they say, and that of the longest run is no
interval at all. Tails get order statistics instead; of the longest run it is told which share of all runs it covers.
Both take runs for independent: where a machine drifts, intervals of tails are too narrow. Where models are prepared
anew, medians and ratios get the interval of batches, one for each instance, whose differences hold whatever rounds in
a row have in common; and from ratios within rounds the drift is gone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
CONFIDENCE = 0.95
DIGITS = 9
"""Decimal places that mean anything."""
BLOCK = 1 << 20  # samples
STUDENT = {5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365}
"""Quantiles of 0.975 of Student's t, by the number of values whose mean it is of. With fewer than these, intervals are
so wide that they say nothing."""
NORMAL = 1.96
"""The quantile of 0.975 of the normal distribution."""
TINY = 1e-3
"""No estimate is surer than to this share of it."""
FEWEST, BATCHES = min(STUDENT), max(STUDENT)


@dataclass(frozen=True)
class Interval:
    """An estimate, a median or a robust mean, and the ends of its 95% confidence interval, in the unit of samples."""

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


def ratio_interval(times: np.ndarray, first: np.ndarray, batches: Sequence[int]) -> Interval:
    """By how much longer runs take than others of the same rounds.

    Every batch of rounds gives one value, the mean of the middle half of the ratios' logarithms: as robust against
    outliers as need be, and less noisy than their median. The interval is that of the mean of these (Student's t). Of a
    single batch it is the median of the ratios, with its bootstrap interval.

    Args:
        times, first: seconds of both, float `(rounds,)`.
        batches: how many rounds in a row belong together; one, or `FEWEST` to `BATCHES`.

    >>> ratio_interval(np.full(20, 3.0), np.full(20, 2.0), [4] * 5)
    Interval(median=1.5, low=1.5, high=1.5)
    """
    if len(batches) == 1:
        return median_interval(times / first)
    ends = np.cumsum(batches)[:-1]
    values = np.array([middle(part) for part in np.split(np.log(times / first), ends)])
    mean, wide = values.mean(), _half_width(values)
    return Interval(*(round(float(each), DIGITS) for each in np.exp([mean, mean - wide, mean + wide])))


def pooled(estimates: Sequence[Interval]) -> Interval:
    """The mean of independent estimates of one thing, the surer ones counting for more (by the inverse of variances).

    Where they differ by more than their intervals let one expect, the interval grows by as much (Birge 1932, "The
    calculation of errors by the method of least squares"); of few it is no more than about right then.

    >>> pooled([Interval(1.0, 0.7, 1.3), Interval(1.1, 0.8, 1.4)])
    Interval(median=1.05, low=0.837867966, high=1.262132034)
    >>> pooled([Interval(1.0, 0.9, 1.1), Interval(2.0, 1.9, 2.1)]).half_width > 0.9
    True
    >>> pooled([Interval(1.0, 0.99, 1.01), Interval(1.1, 0.9, 1.3)]).half_width < 0.01
    True
    """
    middles = np.array([each.median for each in estimates])
    widths = np.array([max(each.half_width, TINY * each.median) for each in estimates])
    weights = widths**-2.0
    mean = float(np.average(middles, weights=weights))
    apart = float(np.sum(weights * (NORMAL * (middles - mean)) ** 2)) / max(len(estimates) - 1, 1)
    wide = float(weights.sum()) ** -0.5 * math.sqrt(max(1.0, apart))
    return Interval(*(round(each, DIGITS) for each in (mean, mean - wide, mean + wide)))


def times_interval(times: np.ndarray, batches: Sequence[int]) -> Interval:
    """The median of times, `(rounds,)`, and its interval: by bootstrap, or by the medians of several batches."""
    if len(batches) == 1:
        return median_interval(times)
    medians = np.array([np.median(part) for part in np.split(times, np.cumsum(batches)[:-1])])
    median, wide = float(np.median(times)), _half_width(medians)
    return Interval(median, max(median - wide, 0.0), median + wide)


def _half_width(values: np.ndarray) -> float:
    """Half of the 95% interval of the mean of some values (Student's t)."""
    return float(STUDENT[len(values)] * values.std(ddof=1) / math.sqrt(len(values)))


def middle(samples: np.ndarray) -> float:
    """The mean of the middle half."""
    ordered = np.sort(samples)
    quarter = len(ordered) // 4
    return float(np.mean(ordered[quarter : len(ordered) - quarter]))


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
