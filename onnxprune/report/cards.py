"""Times to be seen first: by the first model's, and whether a difference means anything."""

from __future__ import annotations

from onnxprune.latency import Comparison, Timing
from onnxprune.report.sheet import Card

CARDS = 6
"""Models that have one; of more, the best."""


def resolved(t: Timing, c: Comparison) -> int:
    """-1 if a model is faster than the first, 1 if it is slower, 0 if the difference is no larger than the A/A's."""
    low, high = min(c.floor.low, 1.0), max(c.floor.high, 1.0)
    return -1 if t.ratio.high < low else 1 if t.ratio.low > high else 0


def faster(t: Timing, c: Comparison) -> str:
    """Whether it is, in words that follow its name."""
    speed = 1 / t.ratio.median
    return {
        -1: f"is {speed:.2f} times as fast as {c.models[0].name}",
        0: f"is as fast as {c.models[0].name}, as far as can be told",
        1: f"is slower than {c.models[0].name}: it takes {t.ratio.median:.2f} times as long",
    }[resolved(t, c)]


def timing_card(t: Timing, c: Comparison) -> Card:
    """A model's time by the first's."""
    kind = {-1: "good", 0: "", 1: "bad"}[resolved(t, c)]
    interval = f"95%: {t.ratio.low:.3f} to {t.ratio.high:.3f}"
    return Card(f"{t.ratio.median:.3f}x", f"the time of {t.name}: {1e3 * t.seconds.median:.4g} ms ({interval})", kind)


def floor_card(c: Comparison) -> Card:
    """The first model, and what it differs from itself by."""
    first, least = c.models[0], max(abs(c.floor.low - 1), abs(c.floor.high - 1))
    words = f"{first.name}, what others are compared with; differences below {least:.1%} mean nothing (A/A)"
    return Card(f"{1e3 * first.seconds.median:.4g} ms", words, "")
