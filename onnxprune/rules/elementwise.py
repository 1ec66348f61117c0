"""Element-wise operators, with numpy's broadcasting: axes that meet are one axis."""

from dataclasses import dataclass

from onnxprune.graph import Node
from onnxprune.rules.einop import Einop, broadcast
from onnxprune.trace import Cannot, Trace


@dataclass(frozen=True)
class Elementwise:
    """Every output has the broadcast shape of the first `operands` inputs; what follows are scalars."""

    operands: int = 99

    def read(self, node: Node, trace: Trace) -> None:
        """Tie the operands' axes."""
        forms = first = trace.axes(node.inputs[0])
        for k, name in enumerate(node.inputs[1:], 1):
            if not name:
                continue
            if k < self.operands:
                other = trace.axes(name)
                if other is not forms:
                    forms = tuple(broadcast(list(forms), list(other)))
            elif any(n != 1 for n in trace.shape(name)):
                raise Cannot(f"its input {name!r} is not a scalar")
        set_axes = trace.pass_on if forms is first else trace.give
        for output in node.outputs:
            set_axes(output, forms)


def _per_axis(node: Node, trace: Trace) -> str:
    """Quantization: scale and zero point are scalars or belong to one axis (default 1)."""
    rank, axis = len(trace.axes(node.inputs[0])), node.attribute("axis", 1)
    names = [f"a{k}" for k in range(rank)]
    scale = "*s" if len(trace.axes(node.inputs[1])) == 0 else names[axis % rank] if rank else ""
    return f"{' '.join(names)}, {scale}, {scale} -> {' '.join(names)}"


UNARY = [
    "Abs",
    "Acos",
    "Acosh",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "BitwiseNot",
    "Cast",
    "Ceil",
    "Celu",
    "Cos",
    "Cosh",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "IsInf",
    "IsNaN",
    "LeakyRelu",
    "Log",
    "Mish",
    "Neg",
    "Not",
    "Reciprocal",
    "Relu",
    "Round",
    "Selu",
    "Shrink",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Swish",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
]
BROADCAST = [
    "Add",
    "And",
    "BitShift",
    "BitwiseAnd",
    "BitwiseOr",
    "BitwiseXor",
    "Div",
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "Max",
    "Mean",
    "Min",
    "Mod",
    "Mul",
    "Or",
    "PRelu",
    "Pow",
    "Sub",
    "Sum",
    "Where",
    "Xor",
]

RULES = {
    **dict.fromkeys(UNARY, Elementwise(1)),
    **dict.fromkeys(BROADCAST, Elementwise()),
    "CastLike": Einop("*x -> *x"),
    "Clip": Elementwise(1),
    "Dropout": Elementwise(1),
    "DequantizeLinear": Einop(_per_axis),
    "QuantizeLinear": Einop(_per_axis),
}
