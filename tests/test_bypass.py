"""Dropped branches in the file: what is left of it, and that it computes what the original does with zeros there."""

from collections.abc import Collection

import numpy as np
import onnx
import pytest

import onnxprune
from onnxprune.bypass import without_zero_sums
from onnxprune.cost import Cost
from onnxprune.execution import random_inputs, run
from onnxprune.mask import Mask, make_mask, masked_cost
from tests import counting
from tests.micrographs.build import Arrays, scalars, weights
from tests.pruning import model_of, random_mask
from tests.test_branches import BRANCHES, CONVS, ENDS, HEAD, STEM

FOUND = [kind for kind, (_, _, names) in BRANCHES.items() if names]


def masked(analysis: onnxprune.Analysis, branches: Collection[str], seed: int | None = None) -> Mask:
    """A mask that drops branches and, given a seed, units at random, too."""
    units = {} if seed is None else {g.name: g.kept for g in random_mask(analysis, seed).groups}
    return make_mask(analysis, units, {}, branches)


def dropped(model: onnxprune.Model, *names: str) -> onnx.ModelProto:
    """The certified model without some branches, or without all."""
    analysis = onnxprune.analyze(model)
    mask = masked(analysis, names or [b.name for b in analysis.branches])
    assert mask.branches
    pruned = onnxprune.apply(model, mask, analysis=analysis).proto
    onnx.checker.check_model(pruned, full_check=True)
    return pruned


def operators(proto: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in proto.graph.node]


@pytest.mark.parametrize("seed", [None, 0])
@pytest.mark.parametrize("kind", FOUND)
def test_dropped_branches_are_proven(kind: str, seed: int | None) -> None:
    """Each one, and all at once, alone and along with random units; the cost is that of the file."""
    body, arrays, names = BRANCHES[kind]
    model = model_of(STEM + body + HEAD, CONVS | arrays, outputs="float[N, 5, 8, 8] y")
    analysis = onnxprune.analyze(model)
    for chosen in [names, *([n] for n in names)]:
        mask = masked(analysis, chosen, seed)
        pruned = onnxprune.apply(model, mask, verify=False, analysis=analysis)
        certificate = onnxprune.verify(model, pruned, mask, analysis=analysis)
        assert certificate.exact and certificate.corruption, certificate
        onnx.checker.check_model(pruned.proto, full_check=True)
        cost = onnxprune.analyze(pruned).cost
        assert masked_cost(analysis, mask) == cost == Cost(counting.params(pruned.proto), cost.macs)


def test_the_sum_disappears_and_all_else_keeps_its_name_and_place() -> None:
    body, arrays, _ = BRANCHES["two layers"]
    model = model_of(STEM + body + HEAD, arrays)
    pruned = dropped(model)
    old = {node.output[0]: node for node in model.proto.graph.node}
    assert [n.output[0] for n in pruned.graph.node] == ["a", "s", "y"]
    assert pruned.graph.node[0] == old["a"] and pruned.graph.node[1] == old["s"]
    assert list(pruned.graph.node[2].input) == ["s", "w9"]
    before = [t for t in model.proto.graph.initializer if t.name not in ("w1", "w2")]
    assert list(pruned.graph.initializer) == before
    assert (pruned.graph.input, pruned.graph.output) == (model.proto.graph.input, model.proto.graph.output)


def test_what_is_said_of_tensors_goes_with_them() -> None:
    body, arrays, _ = BRANCHES["two layers"]
    model = onnxprune.Model(onnx.shape_inference.infer_shapes(model_of(STEM + body + HEAD, arrays).proto))
    model.proto.graph.quantization_annotation.extend(
        onnx.TensorAnnotation(tensor_name=name) for name in ("s", "c", "w1")
    )
    pruned = dropped(model)
    assert {v.name for v in model.proto.graph.value_info} >= {"a", "s", "b", "c", "d", "r"}
    assert {v.name for v in pruned.graph.value_info} == {"a", "s"}
    assert [a.tensor_name for a in pruned.graph.quantization_annotation] == ["s"]


def test_stored_tensors_that_are_inputs_go_from_both_lists() -> None:
    """Up to IR version 3 every initializer is an input."""
    arrays: Arrays = weights(w=(3, 3, 1, 1), v=(5, 3, 1, 1))
    inputs = "float[2, 3, 8, 8] x, float[3, 3, 1, 1] w, float[5, 3, 1, 1] v"
    model = model_of("b = Conv (x, w)\nr = Add (x, b)\ny = Conv (r, v)", arrays, inputs, opset=8, ir=3)
    pruned = dropped(model)
    assert [v.name for v in pruned.graph.input] == ["x", "v"] and [t.name for t in pruned.graph.initializer] == ["v"]


def test_an_output_of_the_model_keeps_its_name() -> None:
    body, arrays, _ = BRANCHES["two layers"]
    model = model_of(STEM + body.replace("r =", "y ="), arrays)
    pruned = dropped(model)
    assert operators(pruned) == ["Conv", "Sigmoid", "Identity"]
    assert (list(pruned.graph.node[-1].input), list(pruned.graph.node[-1].output)) == (["s"], ["y"])


def test_what_a_subgraph_reads_keeps_its_name() -> None:
    body = """
        d = Conv (s, w3)
        r = Add (s, d)
        y = If (flag) <
            then_branch = t () => (float[N, 8, 8, 8] p) { p = Relu (r) },
            else_branch = e () => (float[N, 8, 8, 8] q) { q = Neg (r) }
        >
    """
    model = model_of(STEM + body, CONVS, "float[N, 3, 8, 8] x, bool flag", outputs="float[N, 8, 8, 8] y")
    assert operators(dropped(model)) == ["Conv", "Sigmoid", "Identity", "If"]


def test_constant_nodes_of_a_branch_go_with_it() -> None:
    body = "k = Constant <value_float = 0.5> ()\nb = Mul (s, k)\nd = Conv (b, w3)\nr = Add (s, d)"
    pruned = dropped(model_of(STEM + body + HEAD, CONVS))
    assert operators(pruned) == ["Conv", "Sigmoid", "Conv"]


def test_a_constant_of_a_branch_and_of_others_stays() -> None:
    body = "b = Mul (s, half)\nd = Conv (b, w3)\nq = Add (s, d)\nr = Mul (q, half)"
    pruned = dropped(model_of(STEM + body + HEAD, ENDS | weights(w3=(8, 8, 1, 1)) | scalars(half=0.5)))
    assert {t.name for t in pruned.graph.initializer} == {"w0", "w9", "half"}


def test_labels_behind_a_dropped_branch_are_judged_by_what_goes_on() -> None:
    """The last tensor of floats before the labels is the sum that is passed by."""
    body = "b = Conv (x, w)\nr = Add (x, b)\nm = ArgMax <axis = 1> (r)\ny = Cast <to = 6> (m)"
    model = model_of(body, weights(w=(3, 3, 1, 1)), outputs="int32 y")
    analysis = onnxprune.analyze(model)
    mask = masked(analysis, ["w"])
    certificate = onnxprune.verify(model, onnxprune.apply(model, mask, verify=False), mask)
    assert certificate.exact and certificate.inner == ("r",)


def test_sizes_in_a_dropped_branch_do_not_hinder() -> None:
    """The branch's Reshape states the channels of which some go; with the branch it goes itself, and its sizes."""
    body, arrays, names = BRANCHES["sizes of the model's input"]
    model = model_of(STEM + body + HEAD, CONVS | arrays, outputs="float[N, 5, 8, 8] y")
    analysis = onnxprune.analyze(model)
    pruned = onnxprune.apply(model, masked(analysis, names, 0), analysis=analysis).proto
    assert operators(pruned) == ["Conv", "Sigmoid", "Conv"]
    assert {t.name for t in pruned.graph.initializer} >= {"w0", "w9"}
    assert not {t.name for t in pruned.graph.initializer} & {"rest", "zero", "zero1"}


ZERO = scalars(zero=0.0)


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ("b = Mul (s, zero)\nr = Add (s, b)", ["Conv", "Sigmoid", "Conv"]),
        ("b = Conv (s, w3)\nc = Mul (zero, b)\nd = Relu (c)\nr = Add (d, s)", ["Conv", "Sigmoid", "Conv"]),
        # Not zero, or not of the sum's shape: left alone.
        ("b = Mul (s, zero)\nc = Sigmoid (b)\nr = Add (s, c)", None),
        ("b = Mul (s, one)\nr = Add (s, b)", None),
        ("b = GlobalAveragePool (s)\nc = Mul (b, zero)\nr = Add (s, c)", None),
    ],
)
def test_sums_with_zeros_are_taken_out(body: str, left: list[str] | None) -> None:
    model = model_of(STEM + body + HEAD, CONVS | ZERO | scalars(one=1.0))
    smaller = without_zero_sums(onnxprune.analyze(model))
    assert (smaller is model) == (left is None)
    if left is not None:
        assert operators(smaller.proto) == left
        assert "zero" not in {t.name for t in smaller.proto.graph.initializer}
        feeds = [random_inputs(model, 0)]
        np.testing.assert_array_equal(run(model, feeds)[0][0], run(smaller, feeds)[0][0])
