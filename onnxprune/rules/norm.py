"""Normalisations: per-channel ones pass channels; those over an axis freeze it."""

from collections.abc import Callable

from onnxprune.graph import Node
from onnxprune.rules.einop import Einop
from onnxprune.trace import Cannot, Trace


def names(rank: int, fixed: set[int]) -> str:
    """`a0 a1! a2 ...`, with `!` on the given axes."""
    return " ".join(f"a{k}{'!' * (k in fixed)}" for k in range(rank))


def _batch(node: Node, trace: Trace) -> str:
    if not node.attribute("spatial", 1):
        raise Cannot("it normalises every position apart (spatial=0)")
    if node.attribute("training_mode", 0):
        raise Cannot("it takes its statistics from its input (training_mode=1)")
    return "b c *x, c, c, c, c -> b c *x"


def _layer(node: Node, trace: Trace) -> str:
    rank = len(trace.axes(node.inputs[0]))
    axis = node.attribute("axis", -1) % rank
    all_axes = names(rank, set(range(axis, rank)))
    # Mean and inverse deviation, where they are asked for, keep the normalised axes as ones.
    statistics = " ".join([f"a{k}" for k in range(axis)] + ["1"] * (rank - axis))
    scale = " ".join(f"a{k}" for k in range(axis, rank))
    return f"{all_axes}, {scale}, {scale} -> {all_axes}, {statistics}, {statistics}"


def _group(node: Node, trace: Trace) -> str:
    per_channel = len(node.inputs) > 1 and trace.shape(node.inputs[1])[0] == trace.shape(node.inputs[0])[1]
    scale = "(g c)" if per_channel else "g"
    return f"b (g c!) *x!, {scale}, {scale} -> b (g c) *x"


def _over(default: int, coerced_default: int | None = None) -> Callable[[Node, Trace], str]:
    """A pattern that freezes the operator's axis; before opset 13 softmax flattened all axes from it on."""

    def pattern(node: Node, trace: Trace) -> str:
        rank = len(trace.axes(node.inputs[0]))
        if coerced_default is not None and trace.opset < 13:
            fixed = set(range(node.attribute("axis", coerced_default) % rank, rank))
        else:
            fixed = {node.attribute("axis", default) % rank}
        return f"{names(rank, fixed)} -> {names(rank, fixed)}"

    return pattern


def _mean_variance(node: Node, trace: Trace) -> str:
    rank = len(trace.axes(node.inputs[0]))
    fixed = {a % rank for a in node.attribute("axes", [0, 2, 3])}
    return f"{names(rank, fixed)} -> {names(rank, fixed)}"


NORMALISED = "is normalised over"
SOFTMAX = Einop(_over(-1, 1), NORMALISED)

RULES = {
    "BatchNormalization": Einop(_batch),
    "GroupNormalization": Einop(_group, NORMALISED, attributes={"num_groups": "g"}),
    "InstanceNormalization": Einop("b c *x!, c, c -> b c *x", NORMALISED),
    "LayerNormalization": Einop(_layer, NORMALISED),
    "RMSNormalization": Einop(_layer, NORMALISED),
    "LRN": Einop("b c! *x -> b c *x", "is averaged over by neighbouring channels"),
    "LpNormalization": Einop(_over(-1), NORMALISED),
    "MeanVarianceNormalization": Einop(_mean_variance, NORMALISED),
    "Softmax": SOFTMAX,
    "LogSoftmax": SOFTMAX,
    "Hardmax": SOFTMAX,
}
