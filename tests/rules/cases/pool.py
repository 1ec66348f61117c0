"""Pools and reductions."""

from typing import Any

import numpy as np

from tests.rules.cases.build import Case, case, drawn, versions

X = (3, 4, 7, 8)
BOTH = "x.0 x.1"
TWO = {"kernel_shape": [2, 2]}
WINDOWS: dict[str, dict[str, Any]] = {
    "strided": {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]},
    "same upper": {"kernel_shape": [3, 3], "strides": [2, 3], "auto_pad": "SAME_UPPER"},
    "same lower": {"kernel_shape": [2, 2], "strides": [2, 3], "auto_pad": "SAME_LOWER"},
    "valid": {"kernel_shape": [3, 3], "strides": [2, 3], "auto_pad": "VALID"},
}
CEIL: dict[str, dict[str, Any]] = {
    "ceil": {"kernel_shape": [3, 3], "strides": [2, 3], "ceil_mode": 1},
    "ceil, padded": {"kernel_shape": [2, 3], "strides": [3, 3], "pads": [1, 1, 1, 1], "ceil_mode": 1},
    "ceil, last window outside": {"kernel_shape": [1, 1], "strides": [3, 2], "pads": [0, 0, 0, 0], "ceil_mode": 1},
}
GRID = drawn("grid", (3, 5, 6, 2), -1, 1)
BOXES = np.array([[0, 0, 4, 4], [1, 2, 6, 7], [0, 1, 3, 5]], np.float32)
WITHOUT_KERNEL = {("GlobalLpPool", 22)}
DILATED: dict[str, dict[str, Any]] = {"dilated": {"kernel_shape": [3, 2], "dilations": [2, 3]}}


def pools(op: str, variants: dict[str, dict[str, Any]]) -> list[Case]:
    """A pool in every version, and its variants in the newest."""
    return [
        *(case(op, BOTH, {"x": X}, opset=v, reason="pooled over", **TWO) for v in versions(op)),
        *(case(op, BOTH, {"x": X}, note=note, **more) for note, more in variants.items()),
        case(op, BOTH, {"x": (3, 4, 9)}, kernel_shape=[4], strides=[3], note="1d"),
    ]


REDUCTIONS = ["L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"]


def reductions(op: str) -> list[Case]:
    """Axes as an attribute, then as an input; kept and dropped; all of them; none."""
    moved = 13 if op == "ReduceSum" else 18
    data = drawn(op, (3, 4, 5), 0.5, 2)
    old = [
        *(case(op, "x.0 x.2", {"x": data}, opset=v, axes=[1]) for v in versions(op) if v < moved),
        case(op, "x.1", {"x": data}, opset=11, axes=[-1, 0], keepdims=0, note="dropped"),
        case(op, "", {"x": data}, opset=11, note="all"),
    ]
    new = [
        *(case(op, "x.0 x.2", {"x": data, "axes": [1]}, opset=v) for v in versions(op) if v >= moved),
        case(op, "x.1", {"x": data, "axes": [-1, 0]}, keepdims=0, note="dropped"),
        case(op, "", {"x": data}, keepdims=0, note="all", reason="reduced over"),
        case(op, "x.0 x.1 x.2", {"x": data}, noop_with_empty_axes=1, note="none"),
    ]
    return old + new


CASES = [
    *pools("MaxPool", WINDOWS | CEIL | DILATED),
    *pools("AveragePool", WINDOWS | CEIL | DILATED),
    case("AveragePool", BOTH, {"x": X}, kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1, note="pads count"),
    *pools("LpPool", WINDOWS | CEIL | DILATED),
    *(
        case(op, BOTH, {"x": X}, opset=v, reason="pooled over")
        for op in ("GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool")
        for v in versions(op)
        if (op, v) not in WITHOUT_KERNEL
    ),
    case("GlobalAveragePool", BOTH, {"x": (3, 4, 5)}, note="1d"),
    *(
        case("GridSample", "x.0 x.1 grid.0 grid.1 grid.2", {"x": X, "grid": GRID}, opset=v, reason="by position")
        for v in versions("GridSample")
    ),
    *(
        case("RoiAlign", "x.1 rois.0", {"x": X, "rois": BOXES, "of": [0, 2, 1]}, opset=v, note=note, **more)
        for v in versions("RoiAlign")
        for note, more in {"one bin": {}, "bins": {"output_height": 2, "output_width": 3}}.items()
    ),
    *(case(op, "x.0 x.2", {"x": (3, 4, 5)}, opset=v, axis=1) for op in ("ArgMax", "ArgMin") for v in versions(op)),
    *(
        case(op, "x.0 x.1", {"x": (3, 4, 5)}, axis=-1, keepdims=0, note="dropped", reason="searched over")
        for op in ("ArgMax", "ArgMin")
    ),
    *(c for name in REDUCTIONS for c in reductions(f"Reduce{name}")),
]
