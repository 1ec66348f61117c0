"""Early pruning by forecast: which units will have the smallest scales in the end, told before the end.

During sparse training the scale of every prunable unit (|gamma| of its BatchNorm, or its gate) is recorded once an
epoch. A forecaster continues every unit's series on its own, as if units had nothing to do with each other; a trigger
says when the forecast is good enough. Then the network is pruned, once, and trained on without the penalty.

A forecast is worth something only if it finds more of the units that are removed in the end than `last`, the
scales as they are, does: `agreement` measures that, `chance_agreement` what guessing gives.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Protocol, Self

import numpy as np

from onnxprune.errors import TrainingError, UsageError

Array = np.ndarray
Forecaster = Callable[[Array, int], Array]
"""From scales `(epochs, units)`, of an epoch at least, to those, `(units,)`, so many epochs later, maybe none."""
Selection = Callable[[Array], Array]
"""From scales `(units,)` to the units that are removed, bool `(units,)`; groups and budgets are its business."""


class History:
    """The scales of all prunable units after every epoch."""

    def __init__(self) -> None:
        self._rows: list[Array] = []

    def __len__(self) -> int:
        return len(self._rows)

    def append(self, scales: Array) -> None:
        """Adds an epoch, `(units,)`.

        Raises:
            UsageError: there are other units than before.
            TrainingError: a scale is not finite.
        """
        row = np.asarray(scales, np.float32).copy()
        if self._rows and row.shape != self._rows[0].shape:
            raise UsageError(
                f"epoch {len(self) + 1}: expected scales of {len(self._rows[0])} units, got shape {row.shape}",
                "begin a new history when units are removed",
            )
        if not np.isfinite(row).all():
            bad = int(np.flatnonzero(~np.isfinite(row))[0])
            raise TrainingError(
                f"epoch {len(self) + 1}: the scale of unit {bad} is {row[bad]}", "lower the learning rate"
            )
        self._rows.append(row)

    @property
    def array(self) -> Array:
        """float32 `(epochs, units)`."""
        return np.stack(self._rows) if self._rows else np.empty((0, 0), np.float32)

    def to_list(self) -> list[list[float]]:
        """For a checkpoint."""
        return [row.tolist() for row in self._rows]

    @classmethod
    def from_list(cls, rows: Sequence[Sequence[float]]) -> Self:
        """The history that `to_list` was called on."""
        history = cls()
        for row in rows:
            history.append(np.array(row))
        return history


@dataclass(frozen=True)
class Last:
    """Nothing changes any more: what every other forecaster has to beat."""

    def __call__(self, history: Array, horizon: int) -> Array:
        return history[-1]


last = Last()


@dataclass(frozen=True)
class MovingAverage:
    """The mean of the last epochs: flat, so it takes noise away, and lags (window - 1) / 2 epochs behind a trend."""

    window: int = 5

    def __call__(self, history: Array, horizon: int) -> Array:
        return history[-self.window :].mean(0, dtype=np.float64)


@dataclass(frozen=True)
class Exponential:
    """Simple exponential smoothing: flat, an epoch counts (1 - weight) times as much as the next."""

    weight: float = 0.3

    def __call__(self, history: Array, horizon: int) -> Array:
        level = history[0].astype(np.float64)
        for scales in history[1:]:
            level += self.weight * (scales - level)
        return level


@dataclass(frozen=True)
class Holt:
    """Level and trend, each smoothed (Holt 1957), the trend damped (Gardner & McKenzie 1985), absorbed at zero.

    After h epochs the forecast is level + (damping + ... + damping^h) * trend. That never turns round, so to stop
    it where it meets zero, below which there are no scales, is to cut it off at zero.
    """

    level: float = 0.5
    trend: float = 0.3
    damping: float = 0.9

    def __call__(self, history: Array, horizon: int) -> Array:
        level = history[0].astype(np.float64)
        trend = np.zeros_like(level) if len(history) < 2 else history[1] - level
        for scales in history[1:]:
            ahead = level + self.damping * trend
            before, level = level, ahead + self.level * (scales - ahead)
            trend = self.trend * (level - before) + (1 - self.trend) * self.damping * trend
        return np.maximum(level + trend * (self.damping ** np.arange(1, horizon + 1)).sum(), 0)


FORECASTERS: dict[str, Forecaster] = {
    "last": last,
    "sma": MovingAverage(),
    "ema": Exponential(),
    "holt": Holt(),
}


def scores(forecaster: Forecaster, history: Array, horizon: int) -> Array:
    """A forecast to select by: with a millionth of the last scales, so that units at zero keep their order."""
    return forecaster(history, horizon) + 1e-6 * history[-1].astype(np.float64)


class Trigger(Protocol):
    """Says after every epoch whether to prune now."""

    def __call__(self, history: Array, select: Selection) -> bool:
        """For scales `(epochs, units)` up to now."""


@dataclass(frozen=True)
class FixedEpoch:
    """After so many epochs."""

    epoch: int

    def __call__(self, history: Array, select: Selection) -> bool:
        return len(history) >= self.epoch


@dataclass(frozen=True)
class EarlyBird:
    """As soon as the selection hardly changes (You et al. 2020, arXiv 1909.11957).

    That is, when the share of units on which it differs from the selection after each of the last `lookback` epochs
    is at most `distance`. Where few units are removed it is small anyway: two random selections of a share p differ
    on 2p(1 - p) of the units.
    """

    distance: float = 0.1
    lookback: int = 4

    def __call__(self, history: Array, select: Selection) -> bool:
        if len(history) <= self.lookback:
            return False
        *before, now = (select(scales) for scales in history[-self.lookback - 1 :])
        return all(float(np.mean(now != mask)) <= self.distance for mask in before)


@dataclass(frozen=True)
class ForecastConfidence:
    """As soon as the forecast for the end is expected to decide rightly about nearly all units.

    The sign of a unit's margin, its scale less the selection's threshold, decides about it. (Scales themselves err
    more, but what all of them have in common moves the threshold, too.) A forecast margin m that errs by s, normally
    distributed, decides rightly with probability Phi(|m| / s); the mean of these over all units is what counts.

    s is taken from the forecaster's own past: the root mean square error of what it would have said h epochs before
    each of the last `recent` epochs, where h is what is left until the end, but at most half of the epochs so far.
    Where more is left, s is scaled by the square root of the ratio, as for a random walk.

    Attributes:
        end: number of epochs after which one would prune without a forecast; then this is always true.
        share: of the units, on which the forecast is to be right.
        recent: how many of its errors are looked at, the latest.
        least: epochs that are needed for an estimate.
    """

    end: int
    forecaster: Forecaster = field(default_factory=MovingAverage)
    share: float = 0.9
    recent: int = 5
    least: int = 6

    def __call__(self, history: Array, select: Selection) -> bool:
        left = self.end - len(history)
        if left <= 0 or len(history) < self.least:
            return left <= 0
        return self.expected(history, select) >= self.share

    def expected(self, history: Array, select: Selection) -> float:
        """The share of units on which the forecast for the end is expected to be right; at least 2 epochs."""
        left = self.end - len(history)
        ahead = min(left, len(history) // 2)
        ends = range(1, len(history) - ahead + 1)[-self.recent :]
        errors = [self._margins(history[:k], ahead, select) - margins(history[k + ahead - 1], select) for k in ends]
        spread = np.sqrt(np.mean(np.square(errors), 0) * left / ahead)
        return float(np.mean(_normal(np.abs(self._margins(history, left, select)) / np.maximum(spread, 1e-12))))

    def _margins(self, history: Array, horizon: int, select: Selection) -> Array:
        return margins(scores(self.forecaster, history, horizon), select)


_normal = np.vectorize(NormalDist().cdf, otypes=[float])


def margins(scales: Array, select: Selection) -> Array:
    """Scales less the threshold: halfway between the two, in order of size, below which as many lie as are removed."""
    ordered, count = np.sort(scales), int(select(scales).sum())
    around = ordered[max(count - 1, 0) : count + 1]
    return scales - around.mean(dtype=np.float64)


TRIGGERS: dict[str, Callable[..., Trigger]] = {
    "epoch": FixedEpoch,
    "early-bird": EarlyBird,
    "confidence": ForecastConfidence,
}


def agreement(removed: Array, late: Array) -> float:
    """How far an early selection removes what the late one does, both bool `(units,)`: Jaccard, 0 to 1.

    The number of units that both remove over that of those that any removes; 1 where none does. The plain share of
    equal decisions flatters: where a tenth is removed, two random selections agree on 82 % of the units.
    """
    either = int(np.sum(removed | late))
    return int(np.sum(removed & late)) / either if either else 1.0


def chance_agreement(removed: Array, late: Array) -> float:
    """The agreement of two random selections of these sizes.

    By the expected overlap; the exact expectation differs by less than 1 / units.
    """
    a, b = int(removed.sum()), int(late.sum())
    overlap = a * b / len(removed)
    return overlap / (a + b - overlap) if a + b else 1.0


def macs_saved(before: float, after: float, epoch: int, epochs: int) -> float:
    """Share of the training's multiply-accumulates that is saved by pruning after `epoch` of `epochs`.

    Against training on unpruned to the end, `before` MACs an epoch; the pruned network needs `after`.
    """
    return (epochs - epoch) * (before - after) / (epochs * before)
