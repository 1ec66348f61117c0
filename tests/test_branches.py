"""Residual branches: which sums have one, and what goes with it."""

import pytest

import onnxprune
from onnxprune.branches import bypassed, drop
from tests.micrographs import REGISTRY
from tests.micrographs.build import Arrays, batch_norm, ints, scalars, weights
from tests.pruning import model_of

STEM = "a = Conv (x, w0)\ns = Sigmoid (a)\n"
HEAD = "\ny = Conv (r, w9)"
ENDS = weights(w0=(8, 3, 1, 1), w9=(5, 8, 1, 1))
CONVS = ENDS | weights(w1=(4, 8, 1, 1), w2=(8, 4, 1, 1), w3=(8, 8, 1, 1), w4=(8, 8, 1, 1))


def analyzed(body: str, arrays: Arrays = CONVS, inputs: str = "float[N, 3, 8, 8] x") -> onnxprune.Analysis:
    """Of a body between the stem, whose output is `s`, and the head, which reads `r`."""
    return onnxprune.analyze(model_of(STEM + body + HEAD, arrays, inputs))


def names(analysis: onnxprune.Analysis) -> list[str]:
    return [branch.name for branch in analysis.branches]


def gone(analysis: onnxprune.Analysis, *wanted: str) -> tuple[set[str], set[str]]:
    """Outputs of the nodes and names of the tensors that go with these branches, or with all."""
    chosen = [b for b in analysis.branches if not wanted or b.name in wanted]
    dropped = drop(analysis.trace.graph, chosen)
    nodes = analysis.trace.graph.nodes_by_index
    return {nodes[k].outputs[0] for k in dropped.nodes}, set(dropped.tensors)


TWO_LAYERS = "b = Conv (s, w1)\nc = Relu (b)\nd = Conv (c, w2)\n"
BRANCHES: dict[str, tuple[str, Arrays, list[str]]] = {
    "two layers": (TWO_LAYERS + "r = Add (s, d)", CONVS, ["w2"]),
    "the other operand": (TWO_LAYERS + "r = Add (d, s)", CONVS, ["w2"]),
    "a norm and an activation behind the layer": (
        "b = Conv (s, w3)\nn = BatchNormalization (b, bn_s, bn_b, bn_m, bn_v)\nd = Relu (n)\nr = Add (s, d)",
        CONVS | batch_norm("bn", 8),
        ["w3"],
    ),
    "constants beside x": (
        "b = Conv (s, w3)\nm = Mul (b, half)\nk = Sqrt (two)\nd = Mul (m, k)\nr = Add (d, s)",
        CONVS | scalars(half=0.5, two=2),
        ["w3"],
    ),
    "sizes of the model's input": (
        "z = Shape (x)\nn = Gather (z, zero)\nu = Unsqueeze (n, zero1)\nk = Concat <axis = 0> (u, rest)\n"
        "b = Conv (s, w3)\nd = Reshape (b, k)\nr = Add (s, d)",
        CONVS | ints(zero=0, zero1=[0], rest=[8, 8, 8]),
        ["w3"],
    ),
    "a squeeze and excitation": (
        "b = Conv (s, w3)\ng = GlobalAveragePool (b)\nh = Conv (g, w4)\ni = Tanh (h)\nd = Mul (b, i)\nr = Add (s, d)",
        CONVS,
        ["w4"],
    ),
    "one in another": ("b = Conv (s, w3)\nc = Conv (b, w4)\nd = Add (b, c)\nr = Add (s, d)", CONVS, ["w4:0", "w4:1"]),
    "one after another": (
        "b = Conv (s, w3)\nc = Add (s, b)\nd = Conv (c, w4)\nr = Add (d, c)",
        CONVS,
        ["w3", "w4"],
    ),
    # Neither operand is computed from the other.
    "a projection": ("b = Conv (s, w3)\nd = Conv (s, w4)\nr = Add (b, d)", CONVS, []),
    "something from before x": ("b = Conv (s, w3)\nc = Mul (b, a)\nd = Conv (c, w4)\nr = Add (s, d)", CONVS, []),
    "nothing but arithmetic": ("b = Mul (s, s)\nc = Mul (b, half)\nr = Add (s, c)", ENDS | scalars(half=0.5), []),
    "twice the same": ("r = Add (s, s)", ENDS, []),
    "a stored bias": ("b = Conv (s, w3)\nr = Add (b, bias)", CONVS | weights(bias=(1, 8, 8, 8)), []),
    "a branch that is broadcast": (
        "b = GlobalAveragePool (s)\nd = Conv (b, w3)\nr = Add (s, d)",
        CONVS,
        [],
    ),
    "layers that something else reads, too": (
        "b = Conv (s, w3)\nd = Relu (b)\nq = Add (s, d)\nr = Mul (q, b)",
        CONVS,
        [],
    ),
}


@pytest.mark.parametrize("kind", BRANCHES)
def test_which_sums_have_a_branch(kind: str) -> None:
    body, arrays, expected = BRANCHES[kind]
    assert names(analyzed(body, arrays)) == expected


def test_another_input_is_not_x() -> None:
    body = "b = Mul (s, z)\nd = Conv (b, w3)\nr = Add (s, d)"
    assert names(analyzed(body, CONVS, "float[N, 3, 8, 8] x, float[N, 8, 8, 8] z")) == []


def test_x_may_be_the_input() -> None:
    model = model_of("b = Conv (x, w)\ny = Add (x, b)", weights(w=(3, 3, 1, 1)))
    assert names(onnxprune.analyze(model)) == ["w"]


@pytest.mark.parametrize(("name", "expected"), [("residual", ["w1"]), ("concat_of_residuals", ["w1", "w3"])])
def test_branches_of_micrographs(name: str, expected: list[str]) -> None:
    assert names(onnxprune.analyze(onnxprune.Model(REGISTRY[name]().model))) == expected


def test_all_that_only_the_branch_reads_goes() -> None:
    analysis = analyzed(TWO_LAYERS + "r = Add (s, d)")
    assert gone(analysis) == ({"b", "c", "d"}, {"w1", "w2"})


def test_what_something_else_reads_stays() -> None:
    """The first layer feeds the head, too; the second goes."""
    analysis = analyzed(
        TWO_LAYERS + "q = Add (s, d)\nu = Conv (c, w2b)\nr = Mul (q, u)", CONVS | weights(w2b=(8, 4, 1, 1))
    )
    assert names(analysis) == ["w2"] and gone(analysis) == ({"d"}, {"w2"})


def test_a_weight_of_two_branches_goes_with_both() -> None:
    analysis = analyzed("b = Conv (s, w3)\nc = Add (s, b)\nd = Conv (c, w3)\nr = Add (c, d)")
    assert names(analysis) == ["w3:0", "w3:1"]
    assert gone(analysis, "w3:0") == ({"b"}, set()) and gone(analysis, "w3:1") == ({"d"}, set())
    assert gone(analysis) == ({"b", "d"}, {"w3"})


def test_a_branch_takes_those_inside_of_it_along() -> None:
    body, arrays, _ = BRANCHES["one in another"]
    analysis = analyzed(body, arrays)
    assert gone(analysis, "w4:0") == ({"c"}, {"w4"})
    assert gone(analysis, "w4:1") == gone(analysis) == ({"b", "c", "d"}, {"w3", "w4"})


def test_sums_in_a_row_are_passed_by_together() -> None:
    body, arrays, _ = BRANCHES["one after another"]
    analysis = analyzed(body, arrays)
    assert bypassed(analysis.trace.graph, drop(analysis.trace.graph, analysis.branches)) == {"c": "s", "r": "s"}


def test_a_long_chain_is_found_in_linear_time() -> None:
    """Every sum looks no further back than its own x."""
    blocks = "".join(f"b{k} = Conv (s{k}, w)\ns{k + 1} = Add (s{k}, b{k})\n" for k in range(2000))
    model = model_of(f"s0 = Conv (x, v)\n{blocks}y = Relu (s2000)", weights(w=(2, 2, 1, 1), v=(2, 3, 1, 1)))
    analysis = onnxprune.analyze(model)
    assert len(analysis.branches) == 2000 and len(drop(analysis.trace.graph, analysis.branches).nodes) == 2000
