"""Measured speed: models timed side by side in several runtimes, and times predicted from those of their parts."""

from onnxprune.latency.attribution import Attribution, GroupTime, Part, attribute
from onnxprune.latency.condition import Condition, parse_condition
from onnxprune.latency.paired import compare, names_of
from onnxprune.latency.results import Comparison, Input, Timing, read_comparison
from onnxprune.latency.runtimes import RUNTIMES, Setting
from onnxprune.latency.statistic import Interval
from onnxprune.latency.sweep import Part as SweepPart
from onnxprune.latency.sweep import sweep
from onnxprune.latency.turns import Plan

__all__ = [
    "RUNTIMES",
    "Attribution",
    "Comparison",
    "Condition",
    "GroupTime",
    "Input",
    "Interval",
    "Part",
    "Plan",
    "Setting",
    "SweepPart",
    "Timing",
    "attribute",
    "compare",
    "names_of",
    "parse_condition",
    "read_comparison",
    "sweep",
]
