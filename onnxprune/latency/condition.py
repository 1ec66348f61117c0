"""Conditions on measured times, for scripts that are to fail: `p50 > 0.95x`, `p99 > 8ms`."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterator
from dataclasses import dataclass

from onnxprune.errors import UsageError
from onnxprune.latency.results import PERCENTILES, Comparison, Timing

FORM = re.compile(r"\s*(\w+)\s*(>=|<=|>|<)\s*([0-9.]+)\s*(x|ms)\s*")
SIGNS = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}
STATISTICS = ("p50", *PERCENTILES, "max")


@dataclass(frozen=True)
class Condition:
    """A statistic of a model's times against a limit.

    Attributes:
        statistic: one of `STATISTICS`.
        sign: one of `SIGNS`.
        limit: in milliseconds, or in times of the first model's.
        relative: which of both.
    """

    statistic: str
    sign: str
    limit: float
    relative: bool

    def __str__(self) -> str:
        return f"{self.statistic} {self.sign} {self.limit:g}{self._unit}"

    @property
    def _unit(self) -> str:
        return "x" if self.relative else "ms"

    def met_by(self, comparison: Comparison) -> Iterator[str]:
        """In words, of which models it holds; relative ones are not about the first."""
        first, *others = comparison.models
        for timing in others if self.relative else comparison.models:
            value = self._value(timing, first)
            if SIGNS[self.sign](value, self.limit):
                yield f"{timing.name}: {self.statistic} is {value:.4g}{self._unit}, and {self} was to fail"

    def _value(self, timing: Timing, first: Timing) -> float:
        if self.relative and self.statistic == "p50":
            return timing.ratio.median  # within rounds, which is surer than the ratio of the medians
        own = statistic(timing, self.statistic)
        return own / statistic(first, self.statistic) if self.relative else 1e3 * own


def statistic(timing: Timing, name: str) -> float:
    """One of `STATISTICS`, in seconds."""
    if name == "max":
        return timing.slowest
    return (timing.seconds if name == "p50" else timing.percentiles[name]).median


def parse_condition(text: str) -> Condition:
    """The condition that a text says.

    Raises:
        UsageError: it says none.
    """
    found = FORM.fullmatch(text)
    if not found or found[1] not in STATISTICS:
        raise UsageError(
            f"--fail-if {text!r}: expected a statistic ({', '.join(STATISTICS)}), one of {', '.join(SIGNS)}, and a "
            "number of ms or x",
            "for example 'p50 > 0.95x', or 'p99 > 8ms'",
        )
    try:
        limit = float(found[3])
    except ValueError as error:
        raise UsageError(f"--fail-if {text!r}: {found[3]!r} is no number", "for example 'p50 > 0.95x'") from error
    return Condition(found[1], found[2], limit, found[4] == "x")
