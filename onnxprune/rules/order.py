"""Operators that read the order of elements along an axis: that axis is frozen, the others pass."""

from onnxprune.graph import Node
from onnxprune.rules.einop import Einop, Sizes
from onnxprune.rules.norm import names
from onnxprune.trace import Cannot, Trace


def _cumulative(node: Node, trace: Trace) -> str:
    rank = len(trace.axes(node.inputs[0]))
    axes = {a % rank for a in trace.integers(node, 1) or ()}
    return f"{names(rank, axes)} -> {names(rank, axes)}"


def _triangle(node: Node, trace: Trace) -> str:
    rank = len(trace.axes(node.inputs[0]))
    axes = {rank - 2, rank - 1}
    return f"{names(rank, axes)} -> {names(rank, axes)}"


def _top(node: Node, trace: Trace) -> str:
    rank = len(trace.axes(node.inputs[0]))
    axis = node.attribute("axis", -1) % rank
    # The number is part of the pattern's text: plans are shared by nodes of one text.
    best = " ".join(f"k{_number(node, trace)}" if a == axis else f"a{a}" for a in range(rank))
    return f"{names(rank, {axis})} -> {best}, {best}"


def _top_sizes(node: Node, trace: Trace) -> Sizes:
    k = _number(node, trace)
    return {f"k{k}": [k]}


def _number(node: Node, trace: Trace) -> int:
    """How many elements it takes: an attribute before opset 10."""
    if "k" in node.attributes:
        return int(node.attribute("k"))
    if trace.run_time(node, 1):
        raise Cannot("it takes a number of elements that is only known at run time")
    return (trace.integers(node, 1) or [0])[0]


RULES = {
    "CumSum": Einop(_cumulative, "is summed up along its order"),
    "TopK": Einop(_top, "is searched over", _top_sizes),
    "Trilu": Einop(_triangle, "is cut along a diagonal"),
}
