"""Measured speed: models timed side by side in several runtimes, and times predicted from those of their parts."""

from onnxprune.latency.condition import Condition, parse_condition
from onnxprune.latency.paired import Comparison, Plan, Timing, compare
from onnxprune.latency.runtimes import RUNTIMES, Setting
from onnxprune.latency.statistic import Interval

__all__ = [
    "RUNTIMES",
    "Comparison",
    "Condition",
    "Interval",
    "Plan",
    "Setting",
    "Timing",
    "compare",
    "parse_condition",
]
