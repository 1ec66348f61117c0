"""Operators that read the order along an axis."""

from tests.rules.cases.build import case, versions

X = (3, 4, 5)

CASES = [
    *(case("CumSum", "x.0 x.2", {"x": X, "axis": 1}, opset=v, reason="summed up") for v in versions("CumSum")),
    case("CumSum", "x.0 x.1", {"x": X, "axis": -1}, exclusive=1, reverse=1, note="from the end"),
    case("Trilu", "x.0", {"x": X}, reason="diagonal"),
    case("Trilu", "x.0", {"x": X, "k": 1}, upper=0, note="lower"),
    *(case("TopK", "x.0 x.2", {"x": X}, opset=v, outputs=2, axis=1, k=2) for v in versions("TopK") if v < 10),
    *(
        case("TopK", "x.0 x.2", {"x": X, "k": [2]}, opset=v, outputs=2, axis=1, reason="searched over")
        for v in versions("TopK")
        if v >= 10
    ),
    case("TopK", "x.0 x.1", {"x": X, "k": [3]}, outputs=2, largest=0, note="smallest, last axis"),
]
