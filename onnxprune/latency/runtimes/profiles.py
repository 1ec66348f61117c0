"""Optimization profiles of TensorRT: the shapes of inputs that an engine is built for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from onnxprune.errors import UsageError
from onnxprune.execution import Feeds
from onnxprune.graph import Graph, Model
from onnxprune.latency.runtimes.base import Range

Shape = tuple[int, ...]


class Profile(NamedTuple):
    """Shapes of one input: the smallest, the one that the engine is tuned for, and the largest."""

    low: Shape
    best: Shape
    high: Shape


def profiles(model: Model, feeds: Feeds, ranges: Mapping[str, Range]) -> dict[str, Profile]:
    """The profile of every input that has a symbolic dimension; where no range is given, the size that is run.

    Raises:
        UsageError: a range is of a dimension that no input has, or leaves out the size that is run.
    """
    found: dict[str, Profile] = {}
    used: set[str] = set()
    for value in Graph(model).inputs:
        names = [d.dim_param or "*" if not d.dim_value else "" for d in value.type.tensor_type.shape.dim]
        used.update(names)
        if any(names):
            given = [ranges.get(name) if name else None for name in names]
            found[value.name] = Profile(*zip(*_ends(value.name, feeds[value.name].shape, given), strict=True))
    if unknown := sorted(ranges.keys() - used):
        listed = ", ".join(sorted(used - {""})) or "none"
        raise UsageError(f"no input has the dimension {unknown[0]!r}; symbolic ones: {listed}", "check its name")
    return found


def _ends(name: str, shape: Shape, given: list[Range | None]) -> Iterator[tuple[int, int, int]]:
    for axis, (size, range_) in enumerate(zip(shape, given, strict=True)):
        if range_ is None:
            yield size, size, size
        elif range_.low <= size <= range_.high:
            yield range_.low, range_.best, range_.high
        else:
            raise UsageError(
                f"{name}[{axis}] is run at {size}, and its engine is built for {range_.low} to {range_.high}",
                "widen the range",
            )
