"""Measured speed: onnx models timed side by side."""

from onnxprune.latency.paired import Comparison, Plan, Timing, compare
from onnxprune.latency.statistic import Interval

__all__ = ["Comparison", "Interval", "Plan", "Timing", "compare"]
