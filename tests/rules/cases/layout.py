"""Reshapes, transposes, and blocks between channels and space."""

from tests.rules.cases.build import Case, case, versions


def reshape(note: str, free: str, x: tuple[int, ...], shape: list[int], **more: object) -> Case:
    """A Reshape to constant sizes."""
    return case("Reshape", free, {"x": x, "shape": shape}, note=note, **more)


def squeeze(op: str, note: str, free: str, x: tuple[int, ...], axes: list[int]) -> list[Case]:
    """Axes as an attribute and as an input."""
    return [
        *(case(op, free, {"x": x}, opset=v, axes=axes, note=note) for v in versions(op) if v < 13),
        *(case(op, free, {"x": x, "axes": axes}, opset=v, note=note) for v in versions(op) if v >= 13),
    ]


CASES = [
    *(reshape("", "x.0 x.1", (4, 6), [4, 2, 3], opset=v) for v in versions("Reshape")),
    reshape("merge", "x.0 x.1 x.2", (4, 2, 3), [4, 6], opset=13),
    reshape("all into one", "x.0 x.1 x.2", (4, 2, 3), [-1], opset=13),
    reshape("other factors", "x.0 x.1", (4, 6), [2, 4, 3], opset=13),
    reshape("crosswise", "x.0 x.1", (4, 6), [8, 3], opset=13),
    reshape("no common refinement", "", (4, 6), [3, 8], opset=13, reason="cuts across"),
    reshape("zero and minus one", "x.0 x.1 x.2", (4, 6, 5), [0, 3, -1], opset=13),
    reshape("zero of another axis", "x.0 x.1 x.2", (4, 8, 6), [8, 0, 3], opset=13),
    reshape("zero of another axis, minus one", "x.0 x.1 x.2", (4, 8, 6), [-1, 0, 3], opset=13),
    reshape("ones", "x.1 x.3", (1, 4, 1, 6), [4, 1, 1, 6, 1], opset=13),
    reshape("to nothing", "", (1, 1), [], opset=13),
    reshape("same", "x.0 x.1", (4, 6), [4, 6], opset=13),
    reshape("allowzero", "x.0 x.1", (4, 6), [24], opset=14, allowzero=1),
    *(case("Flatten", "x.0 x.1 x.2", {"x": (2, 3, 4)}, opset=v) for v in versions("Flatten")),
    *(case("Flatten", "x.0 x.1 x.2", {"x": (2, 3, 4)}, axis=a, note=f"axis {a}") for a in (0, 2, 3, -1, -3)),
    *(case("Transpose", "x.0 x.1 x.2", {"x": (2, 3, 4)}, opset=v, perm=[1, 2, 0]) for v in versions("Transpose")),
    case("Transpose", "x.0 x.1 x.2", {"x": (2, 3, 4)}, note="reversed"),
    *squeeze("Squeeze", "", "x.0 x.2", (2, 1, 3, 1), [1, -1]),
    case("Squeeze", "", {"x": (2, 1, 3)}, note="all", reason="would vanish"),
    case("Squeeze", "", {"x": (2, 1, 3)}, opset=11, note="all", reason="would vanish"),
    *squeeze("Unsqueeze", "", "x.0 x.1", (2, 3), [1, -1]),
    *(case("DepthToSpace", "x.0 x.1", {"x": (2, 8, 3, 4)}, opset=v, blocksize=2) for v in versions("DepthToSpace")),
    *(
        case("DepthToSpace", "x.0 x.1", {"x": (2, 18, 3, 4)}, opset=13, blocksize=3, mode=mode, note=mode)
        for mode in ("CRD", "DCR")
    ),
    *(case("SpaceToDepth", "x.0 x.1", {"x": (2, 3, 4, 6)}, opset=v, blocksize=2) for v in versions("SpaceToDepth")),
]
