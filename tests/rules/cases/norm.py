"""Normalisations and softmaxes."""

from tests.rules.cases.build import Case, case, drawn, versions

X = (3, 4, 5, 5)
FOUR = {"s": (4,), "b": (4,)}
VARIANCE = drawn("variance", (4,), 0.5, 2)
BATCH = {"x": X, **FOUR, "m": (4,), "v": VARIANCE}
PASSES = "x.0 x.1 x.2 x.3 s.0 b.0 m.0 v.0"
SIX = (3, 6, 4, 4)


def over(op: str, opset: int, axis: int | None, free: str) -> Case:
    """A softmax over one axis (before opset 13: from it on)."""
    more = {} if axis is None else {"axis": axis}
    return case(op, free, {"x": (3, 4, 5)}, opset=opset, note=f"axis {axis}", reason="normalised", **more)


def softmax(op: str) -> list[Case]:
    """Explicit axes in the newest version, default and first axis in all."""
    old = [v for v in versions(op) if v < 13]
    return [
        *(over(op, v, None, "x.0") for v in old),
        *(over(op, v, 2, "x.0 x.1") for v in old),
        *(over(op, v, -2, "x.0") for v in old),
        over(op, 13, None, "x.0 x.1"),
        over(op, 13, 1, "x.0 x.2"),
        over(op, 13, -3, "x.1 x.2"),
    ]


CASES = [
    *(case("BatchNormalization", PASSES, BATCH, opset=v) for v in versions("BatchNormalization")),
    case("BatchNormalization", "x.0 x.1 s.0 b.0 m.0 v.0", BATCH | {"x": (3, 4)}, note="rank 2"),
    case(
        "BatchNormalization",
        "",
        BATCH,
        opset=15,
        outputs=3,
        training_mode=1,
        note="training",
        reason="(?i)training|output",
    ),
    *(
        case("InstanceNormalization", "x.0 x.1 s.0 b.0", {"x": X, **FOUR}, opset=v)
        for v in versions("InstanceNormalization")
    ),
    case("GroupNormalization", "x.0 x.1 s.0 b.0", {"x": SIX, "s": (3,), "b": (3,)}, opset=18, num_groups=3),
    case("GroupNormalization", "x.0 x.1 s.0 b.0", {"x": SIX, "s": (6,), "b": (6,)}, opset=21, num_groups=3),
    case("GroupNormalization", "x.0", {"x": SIX, "s": (6,), "b": (6,)}, opset=21, num_groups=1, note="one group"),
    case(
        "GroupNormalization", "x.0 x.1 s.0 b.0", {"x": SIX, "s": (6,), "b": (6,)}, opset=21, num_groups=6, note="each"
    ),
    case("LayerNormalization", "x.0 x.1", {"x": (3, 4, 5), "s": (5,), "b": (5,)}, opset=17, reason="normalised over"),
    case("LayerNormalization", "x.0", {"x": (3, 4, 5), "s": (4, 5)}, opset=17, axis=1, note="two axes"),
    case("LayerNormalization", "x.0 x.1", {"x": (3, 4, 5), "s": (5,)}, opset=17, outputs=3, axis=-1, note="statistics"),
    case("RMSNormalization", "x.0 x.1", {"x": (3, 4, 5), "s": (5,)}, opset=23, reason="normalised over"),
    *(case("LRN", "x.0 x.2 x.3", {"x": X}, opset=v, size=3, reason="neighbouring") for v in versions("LRN")),
    *(case("LpNormalization", "x.0 x.2", {"x": (3, 4, 5)}, opset=v, axis=1, p=2) for v in versions("LpNormalization")),
    case("LpNormalization", "x.0 x.1", {"x": (3, 4, 5)}, note="default axis"),
    *(case("MeanVarianceNormalization", "x.1", {"x": X}, opset=v) for v in versions("MeanVarianceNormalization")),
    case("MeanVarianceNormalization", "x.0 x.2", {"x": X}, axes=[-1, 1], note="axes"),
    *(c for op in ("Softmax", "LogSoftmax", "Hardmax") for c in softmax(op)),
]
