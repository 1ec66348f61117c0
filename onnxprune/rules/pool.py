"""Pools, samplers and reductions: channels pass, what is pooled, sampled or reduced over is frozen."""

from onnxprune.graph import Node
from onnxprune.rules.einop import Einop, Sizes
from onnxprune.rules.norm import names
from onnxprune.rules.windows import windows
from onnxprune.trace import Trace


def _pool_sizes(node: Node, trace: Trace) -> Sizes:
    return {"y": windows(node, trace.shape(node.inputs[0])[2:], node.attribute("kernel_shape"))}


def _max_pool(node: Node, trace: Trace) -> str:
    # Indices count through the whole tensor: with them in use, nothing can go.
    indices = len(node.outputs) > 1 and node.outputs[1] in trace.graph.readers
    return "b! c! *x! -> b c *y, b c *y" if indices else "b c *x! -> b c *y, b c *y"


def _global(node: Node, trace: Trace) -> str:
    ones = " ".join("1" for _ in trace.axes(node.inputs[0])[2:])
    return f"b c *x! -> b c {ones}"


def _region_sizes(node: Node, trace: Trace) -> Sizes:
    return {"h": [node.attribute("output_height", 1)], "w": [node.attribute("output_width", 1)]}


def _reduction(node: Node, trace: Trace) -> str:
    rank = len(trace.axes(node.inputs[0]))
    axes = trace.integers(node, 1, "axes")
    if not axes:
        axes = [] if node.attribute("noop_with_empty_axes", 0) else list(range(rank))
    return _reduced(rank, {a % rank for a in axes}, node)


def _arg(node: Node, trace: Trace) -> str:
    rank = len(trace.axes(node.inputs[0]))
    return _reduced(rank, {node.attribute("axis", 0) % rank}, node)


def _reduced(rank: int, axes: set[int], node: Node) -> str:
    keep = node.attribute("keepdims", 1)
    out = " ".join("1" if k in axes else f"a{k}" for k in range(rank) if keep or k not in axes)
    return f"{names(rank, axes)} -> {out}"


POOLED = "is pooled over"
SAMPLED = "is sampled by position"
GLOBAL = Einop(_global, POOLED)
REDUCTION = Einop(_reduction, "is reduced over")
ARG = Einop(_arg, "is searched over")

RULES = {
    "AveragePool": Einop("b c *x! -> b c *y", POOLED, _pool_sizes),
    "LpPool": Einop("b c *x! -> b c *y", POOLED, _pool_sizes),
    "MaxPool": Einop(_max_pool, POOLED, _pool_sizes),
    "GlobalAveragePool": GLOBAL,
    "GlobalLpPool": GLOBAL,
    "GlobalMaxPool": GLOBAL,
    "GridSample": Einop("b c *x!, b *y p! -> b c *y", SAMPLED),
    "RoiAlign": Einop("b! c y! x!, r p!, r -> r c h w", SAMPLED, _region_sizes),
    "ArgMax": ARG,
    "ArgMin": ARG,
    **{
        f"Reduce{name}": REDUCTION
        for name in ["L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"]
    },
}
