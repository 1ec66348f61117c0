"""Unary and broadcasting operators, quantization."""

import numpy as np

from tests.rules.cases.build import Case, case, drawn, versions

# Where normal values are outside of an operator's domain: bounds of uniform ones.
DOMAIN = {
    "Acos": (-1, 1),
    "Acosh": (1, 3),
    "Asin": (-1, 1),
    "Atanh": (-0.9, 0.9),
    "Log": (0.1, 3),
    "Sqrt": (0, 3),
}
UNARY = [
    *["Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Celu", "Cos", "Cosh", "Elu", "Erf", "Exp"],
    *["Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity", "IsInf", "IsNaN", "LeakyRelu", "Log", "Mish", "Neg"],
    *["Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign"],
    *["Sqrt", "Swish", "Tan", "Tanh", "ThresholdedRelu"],
]
# Operators of two numbers, and the type of their operands.
BINARY = {
    **dict.fromkeys(["Add", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"], np.float32),
    **dict.fromkeys(["Max", "Mean", "Min", "Mul", "PRelu", "Sub", "Sum"], np.float32),
    **dict.fromkeys(["And", "Or", "Xor"], np.bool_),
    **dict.fromkeys(["BitwiseAnd", "BitwiseOr", "BitwiseXor"], np.int32),
    "BitShift": np.uint8,
    "Mod": np.int32,
    "Pow": np.float32,
}
# The first opset in which they broadcast, or take floats.
FIRST = {"Equal": 11, "Max": 8, "Mean": 8, "Min": 8, "Sum": 8}
MORE = {"BitShift": {"direction": "LEFT"}}


def _unary(op: str, opset: int) -> Case:
    low, high = DOMAIN.get(op, (-3, 3))
    return case(op, "x.0 x.1 x.2", {"x": drawn(op, (3, 4, 5), low, high)}, opset=opset)


def _numbers(op: str, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Positive numbers: whole ones for integers, both values for booleans."""
    low, high = (0, 2) if BINARY[op] is np.bool_ else (1, 6)
    return drawn(f"{op}{name}", shape, low, high).astype(BINARY[op])


def _binary(op: str, opset: int, free: str, *shapes: tuple[int, ...], note: str = "") -> Case:
    operands = {name: _numbers(op, name, shape) for name, shape in zip("xyz", shapes, strict=False)}
    return case(op, free, operands, opset=opset, note=note, **MORE.get(op, {}))


def _broadcasts(op: str) -> list[Case]:
    """The first operand is the larger one, so that PRelu can take them too."""
    newest = versions(op)[-1]
    return [
        *(_binary(op, v, "x.0 x.1 x.2 y.0", (3, 4, 5), (4, 1)) for v in versions(op) if v >= FIRST.get(op, 7)),
        _binary(op, newest, "x.0 x.1 x.2 y.1 y.2", (3, 4, 5), (1, 4, 5), note="one in front"),
        _binary(op, newest, "x.0 x.1", (3, 4), (), note="scalar"),
        _binary(op, newest, "x.0 x.1 x.2 y.0", (3, 4, 5), (5,), note="vector"),
    ]


BOTH_WAYS = [op for op in BINARY if op != "PRelu"]
MANY = ["Max", "Mean", "Min", "Sum"]
BOOLS = drawn("bools", (4, 5), 0, 2).astype(bool)
BYTES = drawn("bytes", (4, 3, 2), -100, 100).astype(np.int8)
SCALE = drawn("scale", (4,), 0.1, 1)
ZEROS = np.zeros(4, np.int8)

CASES = [
    *(_unary(op, v) for op in UNARY for v in versions(op)),
    *(c for op in BINARY for c in _broadcasts(op)),
    *(_binary(op, versions(op)[-1], "x.1 y.0 y.2", (1, 4, 1), (3, 1, 5), note="both ways") for op in BOTH_WAYS),
    *(_binary(op, versions(op)[-1], "x.0 x.1 y.0 z.1", (3, 4), (3, 1), (1, 4), note="three") for op in MANY),
    *(_binary(op, versions(op)[-1], "x.0 x.1", (3, 4), note="alone") for op in MANY),
    *(case("Not", "x.0 x.1", {"x": BOOLS}, opset=v) for v in versions("Not")),
    *(case("BitwiseNot", "x.0 x.1 x.2", {"x": BYTES}, opset=v) for v in versions("BitwiseNot")),
    *(case("Cast", "x.0 x.1", {"x": (3, 4)}, opset=v, to=11) for v in versions("Cast")),
    *(
        case("CastLike", "x.0 x.1 like.0 like.1 like.2", {"x": (3, 4), "like": BYTES}, opset=v)
        for v in versions("CastLike")
    ),
    *(case("Where", "c.0 c.1 x.0 x.1 y.0", {"c": BOOLS, "x": (4, 5), "y": (4, 1)}, opset=v) for v in versions("Where")),
    case("Where", "x.0 y.1", {"c": BOOLS[:1, :1], "x": (4, 1), "y": (1, 5)}, note="all broadcast"),
    *(case("Clip", "x.0 x.1", {"x": (3, 4)}, opset=v, min=-0.5, max=0.5) for v in versions("Clip") if v < 11),
    *(
        case("Clip", "x.0 x.1", {"x": (3, 4), "min": np.float32(-0.5), "max": np.float32(0.5)}, opset=v)
        for v in versions("Clip")
        if v >= 11
    ),
    case("Clip", "x.0 x.1", {"x": (3, 4), "min": None, "max": np.float32(0.1)}, note="no minimum"),
    *(case("Dropout", "x.0 x.1", {"x": (3, 4)}, opset=v, outputs=2) for v in versions("Dropout") if v >= 10),
    case("Dropout", "x.0 x.1", {"x": (3, 4)}, opset=7, ratio=0.3),
    *(
        case(op, "x.0 x.1 x.2 s.0 z.0", {"x": _data, "s": SCALE, "z": ZEROS}, opset=v, axis=axis, note=f"axis {axis}")
        for op, _data in (("DequantizeLinear", BYTES), ("QuantizeLinear", drawn("q", (4, 3, 2))))
        for v in versions(op)
        if v >= 13
        for axis in (0, -3)
    ),
    *(
        case(op, "x.0 x.1 x.2", {"x": _data, "s": np.float32(0.1), "z": np.int8(3)}, opset=v, note="scalar")
        for op, _data in (("DequantizeLinear", BYTES), ("QuantizeLinear", drawn("q", (4, 3, 2))))
        for v in versions(op)
    ),
    case("DequantizeLinear", "x.0 x.1 s.0", {"x": BYTES[0].T, "s": SCALE[:3]}, note="no zero point"),
    case("DequantizeLinear", "", {"x": BYTES[..., 0], "s": SCALE[:4, None]}, axis=1, block_size=3, note="blocked"),
]
