"""Medians and how far they can be trusted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A median and the ends of its 95% confidence interval, in the unit of what was measured."""

    median: float
    low: float
    high: float


def median_interval(samples: np.ndarray, seed: int = 0) -> Interval:
    """The median of `samples`, shape `(n,)`, with its percentile bootstrap interval.

    >>> median_interval(np.array([1.0, 1.0, 1.0]))
    Interval(median=1.0, low=1.0, high=1.0)
    """
    chance = np.random.default_rng(seed)
    # One resample at a time: a matrix of all of them would be large for long measurements.
    medians = [np.median(chance.choice(samples, len(samples))) for _ in range(RESAMPLES)]
    low, high = np.quantile(medians, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(np.median(samples)), float(low), float(high))


def spread(samples: np.ndarray) -> float:
    """The interquartile range as a share of the median: how noisy a measurement was."""
    first, middle, third = np.quantile(samples, [0.25, 0.5, 0.75])
    return float((third - first) / middle) if middle else 0.0
