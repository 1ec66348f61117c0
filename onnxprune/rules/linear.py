"""Convolutions and matrix products: the operators that make channels and consume them."""

from onnxprune.graph import Node
from onnxprune.rules.einop import Einop, Sizes
from onnxprune.rules.windows import transposed_windows, windows
from onnxprune.trace import Cannot, Trace


def _conv_sizes(node: Node, trace: Trace) -> Sizes:
    return {"y": windows(node, trace.shape(node.inputs[0])[2:], trace.shape(node.inputs[1])[2:])}


def _transposed_sizes(node: Node, trace: Trace) -> Sizes:
    return {"y": transposed_windows(node, trace.shape(node.inputs[0])[2:], trace.shape(node.inputs[1])[2:])}


def _gemm(node: Node, trace: Trace) -> str:
    a = "k b" if node.attribute("transA", 0) else "b k"
    b = "o k" if node.attribute("transB", 0) else "k o"
    rank = len(trace.axes(node.inputs[2])) if node.input(2) else 0
    return f"{a}, {b}, {('', 'o', 'b o')[rank]} -> b o"


def _matmul(node: Node, trace: Trace) -> str:
    vectors = [len(trace.axes(name)) == 1 for name in node.inputs]
    a = "k" if vectors[0] else "*b m k"
    b = "k" if vectors[1] else "*b k n"
    out = "" if all(vectors) else "*b n" if vectors[0] else "*b m" if vectors[1] else "*b m n"
    return f"{a}, {b} -> {out}"


def _einsum(node: Node, trace: Trace) -> str:
    equation = "".join(node.attribute("equation").split())
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    letters = [c for c in left if c.isalpha()]
    if not arrow:
        right = "..." * ("..." in left) + "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    if any(len(set(t.replace(".", ""))) != len(t.replace(".", "")) for t in terms):
        raise Cannot("it takes a diagonal")
    # A letter that one operand alone has and the result lacks is a plain sum, not a product of two channels.
    summed = {c for c in letters if letters.count(c) == 1 and c not in right}
    return f"{', '.join(_spell(t, summed) for t in terms)} -> {_spell(right, set())}"


def _spell(term: str, summed: set[str]) -> str:
    return " ".join("*dots" if c == "." else c + "!" * (c in summed) for c in term.replace("...", "."))


def _einsum_macs(node: Node, trace: Trace) -> str:
    letters = sorted({c for c in node.attribute("equation") if c.isalpha()})
    return " ".join(["dots", *letters])


class Einsum(Einop):
    """Einsum: the equation is the pattern; its multiply-accumulates run over every letter."""

    def read(self, node: Node, trace: Trace) -> None:
        """Read the equation as the pattern."""
        Einop(self.pattern, self.why, macs=_einsum_macs(node, trace)).read(node, trace)


GROUPS = {"group": "g"}
SPATIAL = "is a spatial axis of a convolution"

RULES = {
    "Conv": Einop("b (g i) *x!, (g o) i *k!, (g o) -> b (g o) *y", SPATIAL, _conv_sizes, GROUPS, macs="b g o i y k"),
    "ConvTranspose": Einop(
        "b (g i) *x!, (g i) o *k!, (g o) -> b (g o) *y", SPATIAL, _transposed_sizes, GROUPS, macs="b g i o x k"
    ),
    "Gemm": Einop(_gemm, macs="b k o"),
    "MatMul": Einop(_matmul, macs="b m k n"),
    "Einsum": Einsum(_einsum, "is summed over"),
}
