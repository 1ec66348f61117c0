"""Operators that cut, join, repeat and pick."""

from typing import Any

import numpy as np

from tests.rules.cases.build import Case, case, versions

ALL = "x.0 x.1 x.2"
X = (3, 8, 5)
LAST, FIRST = 2**63 - 1, -(2**63)


def split(note: str, free: str, sizes: list[int] | None, n: int = 2, **more: Any) -> list[Case]:
    """Axis 1 in pieces: sizes as an attribute, then as an input."""
    named = {} if sizes is None else {"split": sizes}
    return [
        *(
            case("Split", free, {"x": X}, opset=v, outputs=n, axis=1, note=note, **named)
            for v in versions("Split")
            if v < 13
        ),
        *(
            case("Split", free, {"x": X} | named, opset=v, outputs=n, axis=1, note=note)
            for v in (13, 18)
            if sizes or v < 18
        ),
    ]


def cut(note: str, free: str, start: int, end: int, step: int = 1, **more: Any) -> Case:
    """A Slice of axis 1."""
    bounds = {"starts": [start], "ends": [end], "axes": [1], "steps": [step]}
    return case("Slice", free, {"x": X} | bounds, note=note, **more)


def pick(note: str, free: str, index: Any, **more: Any) -> Case:
    """A Gather along axis 1."""
    return case("Gather", free, {"x": X, "index": index}, axis=1, note=note, **more)


def pad(note: str, free: str, pads: list[int], **more: Any) -> Case:
    """A Pad of all axes: two numbers each."""
    return case("Pad", free, {"x": X, "pads": pads}, note=note, **more)


def expand(note: str, free: str, x: tuple[int, ...], shape: list[int], **more: Any) -> Case:
    """An Expand to constant sizes."""
    return case("Expand", free, {"x": x, "shape": shape}, note=note, **more)


def scale(*factors: float) -> np.ndarray:
    """Scales of a Resize."""
    return np.array(factors, np.float32)


IMAGE = (3, 4, 5, 6)
BOTH = "x.0 x.1"
UPDATES = {"index": [[2], [0]], "u": (2, 8, 5)}
SCATTER: dict[str, Any] = {"x": (3, 4), "i": [[0, 2], [1, 1]], "u": (2, 2)}

CASES = [
    *(case("Concat", "x.0 x.1 y.0 y.1", {"x": (3, 4), "y": (3, 5)}, opset=v, axis=1) for v in versions("Concat")),
    case("Concat", "x.0 x.1 y.0 y.1", {"x": (3, 4), "y": (2, 4)}, axis=-2, note="first axis"),
    case("Concat", "x.0 x.1", {"x": (3, 4)}, axis=0, note="alone"),
    *split("", ALL, [3, 5]),
    *split("three", ALL, [2, 5, 1], 3),
    *split("evenly", ALL, None),
    case("Split", ALL, {"x": X}, outputs=4, axis=-2, num_outputs=4, note="num_outputs"),
    case("Split", "", {"x": X}, outputs=3, axis=1, num_outputs=3, note="unevenly", reason="unevenly"),
    *(
        case("Slice", ALL, {"x": X}, opset=v, starts=[1, 2], ends=[3, 6], axes=[0, 1], note="attributes")
        for v in versions("Slice")
        if v < 10
    ),
    case("Slice", ALL, {"x": X}, opset=7, starts=[1, 2], ends=[3, 6], note="attributes, no axes"),
    *(
        case("Slice", ALL, {"x": X, "s": [1, 2], "e": [3, 6], "a": [0, 1]}, opset=v, note="inputs")
        for v in versions("Slice")
        if v >= 10
    ),
    case("Slice", ALL, {"x": X, "s": [1], "e": [3]}, note="no axes"),
    cut("to the end", ALL, 3, LAST),
    cut("beyond the end", ALL, 3, 100),
    cut("negative start", ALL, -3, LAST),
    cut("negative bounds", ALL, -6, -2),
    cut("from far below", ALL, FIRST, 4),
    cut("whole", ALL, 0, 8),
    cut("every second", ALL, 0, LAST, 2),
    cut("every second from one", ALL, 1, 8, 2),
    cut("every second from four", "", 4, 8, 2, reason="step 2"),
    cut("every third", "", 0, 8, 3, reason="step 3"),
    cut("backwards", ALL, -1, FIRST, -1),
    cut("backwards from beyond the end", ALL, 100, FIRST, -1),
    cut("backwards from a number", "", 7, FIRST, -1, reason="step -1"),
    cut("backwards to a number", "", -1, 2, -1, reason="step -1"),
    *(pick("", ALL, [1, 4, 6], opset=v) for v in versions("Gather")),
    pick("permutation", ALL, [7, 6, 5, 4, 0, 1, 2, 3]),
    pick("negative and twice", ALL, [-1, 2, 2, 3, -8]),
    pick("one", ALL, 3),
    pick("one from the end", ALL, -3),
    pick("one in a list", ALL, [3]),
    pick("a grid", "x.0 x.2", [[1, 2], [3, 4]], reason="looks up"),
    pick("computed", "x.0 x.2 index.0", np.array([1, 4, 6], np.int32), reason="looks up"),
    case("Gather", ALL, {"x": X, "index": [4, 0]}, axis=-1, note="last axis"),
    case("Pad", ALL, {"x": X}, opset=7, pads=[0, 1, 0, 0, 2, 0]),
    *(pad("", ALL, [0, 1, 0, 0, 2, 0], opset=v) for v in versions("Pad") if v >= 11),
    pad("before", ALL, [0, 3, 0, 0, 0, 0]),
    pad("nothing", ALL, [0] * 6),
    pad("negative", "x.0 x.2", [0, -1, 0, 0, 2, 0], reason="crops"),
    pad("reflected", "x.0 x.1", [0, 0, 2, 0, 0, 1], mode="reflect", reason="reflect"),
    pad("edge", "x.0 x.2", [0, 1, 0, 0, 1, 0], mode="edge"),
    case("Pad", ALL, {"x": X, "pads": [1, 2], "value": np.float32(3), "axes": [-2]}, note="axes and value"),
    case("Pad", ALL, {"x": X, "pads": [1, 2, 3, 0], "value": None, "axes": [0, 1]}, note="axes, no value"),
    *(expand("", "x.1", (1, 4, 1), [3, 4, 5], opset=v) for v in versions("Expand")),
    expand("ones stay", "x.1", (1, 4), [1, 1]),
    expand("longer", "x.0", (4,), [3, 4]),
    expand("shorter", "x.0 x.1", (4, 5), [5]),
    expand("both ways", "x.0", (4, 1), [3, 1, 5]),
    *(case("ConstantOfShape", "", {"shape": [40, 30]}, opset=v) for v in versions("ConstantOfShape")),
    *(case("Tile", "x.0 x.1", {"x": (3, 4), "n": [1, 3]}, opset=v) for v in versions("Tile")),
    case("Tile", "x.0 x.1", {"x": (3, 4), "n": [2, 1]}, note="rows"),
    case("Upsample", BOTH, {"x": IMAGE}, opset=7, scales=[1.0, 1.0, 2.0, 2.0]),
    case("Upsample", BOTH, {"x": IMAGE, "s": scale(1, 1, 2, 3)}, opset=9),
    case("Resize", BOTH, {"x": IMAGE, "s": scale(1, 1, 2, 0.5)}, opset=10),
    *(case("Resize", BOTH, {"x": IMAGE, "r": None, "s": scale(1, 1, 2, 2)}, opset=v) for v in (13, 18, 19)),
    *(
        case("Resize", BOTH, {"x": IMAGE, "r": None, "s": None, "n": [3, 4, 8, 9]}, opset=v, note="sizes")
        for v in (13, 18, 19)
    ),
    case("Resize", BOTH, {"x": IMAGE, "r": scale(), "s": scale(1, 1, 2, 2)}, opset=11, note="empty roi"),
    case("Resize", BOTH, {"x": IMAGE, "r": None, "s": scale(2, 1.5)}, axes=[-2, 3], note="axes"),
    case("Resize", BOTH, {"x": IMAGE, "r": None, "s": None, "n": [7, 12]}, axes=[2, 3], note="axes and sizes"),
    case("Resize", "x.0 x.2 x.3", {"x": IMAGE, "r": None, "s": scale(1, 2, 1, 1)}, note="channels", reason="resampled"),
    case("Resize", "x.0", {"x": (3, 8, 5, 6), "r": None, "s": scale(1, 1.12, 2, 2)}, note="channels, by little"),
    case("Resize", BOTH, {"x": (3, 4, 10, 10), "r": None, "s": scale(1, 1, 0.7, 0.7)}, note="rounding"),
    case(
        "Resize",
        "",
        {"x": IMAGE, "r": None, "s": None, "n": [8, 9]},
        axes=[2, 3],
        keep_aspect_ratio_policy="not_larger",
        note="aspect ratio",
    ),
    *(case("ScatterND", "x.0 x.1 x.2 u.0 u.1 u.2", {"x": X, **UPDATES}, opset=v) for v in versions("ScatterND")),
    case("ScatterND", "", {"x": X, **UPDATES}, reduction="add", note="sum", reason="computed places"),
    *(case("ScatterElements", "", SCATTER, opset=v, reason="computed places") for v in versions("ScatterElements")),
]
