"""What `analyze` tells of groups: costs of units, products of groups, and the fingerprint of a structure."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxprune
from onnxprune.cost import Cost
from onnxprune.mask import make_mask
from tests import counting
from tests.micrographs import REGISTRY
from tests.micrographs.build import batch_norm, weights
from tests.pruning import model_of

BODY = """
    a = Conv <pads = [1, 1, 1, 1]> (x, w0, b0)
    n = BatchNormalization (a, bn_s, bn_b, bn_m, bn_v)
    s = Sigmoid (n)
    y = Conv (s, w1)
"""
ARRAYS = weights(w0=(8, 3, 3, 3), b0=(8,), w1=(5, 8, 1, 1)) | batch_norm("bn", 8)
IMAGE = {"inputs": "float[2, 3, 8, 8] x"}


def of_micrograph(name: str) -> onnxprune.Analysis:
    return onnxprune.analyze(onnxprune.Model(REGISTRY[name]().model))


def cost_without(analysis: onnxprune.Analysis, name: str, gone: slice) -> Cost:
    """The cost of the file from which some units of one group are cut."""
    size = next(group.size for group in analysis.groups if group.name == name)
    kept = np.ones(size, bool)
    kept[gone] = False
    mask = make_mask(analysis, {name: kept}, {})
    proto = onnxprune.apply(analysis.model, mask, verify=False, analysis=analysis).proto
    return Cost(counting.params(proto), counting.macs(proto))


# Costs ----------------------------------------------------------------------------------------------------------


def test_costs_by_hand() -> None:
    analysis = onnxprune.analyze(model_of(BODY, ARRAYS, **IMAGE))
    (group,) = analysis.groups
    unit = Cost(27 + 1 + 4 + 5, 2 * 64 * (27 + 5))
    assert analysis.unit_cost(group) == unit
    assert analysis.removable(group) == Cost(7 * unit.params, 7 * unit.macs)
    assert analysis.cost == Cost(8 * unit.params, 8 * unit.macs)


@pytest.mark.parametrize(
    "name", ["attention_packed", "c2f", "channel_shuffle", "flatten_fc", "grouped", "residual", "shared_head"]
)
def test_costs_are_the_difference_that_a_cut_makes(name: str) -> None:
    analysis = of_micrograph(name)
    for group in analysis.groups:
        one, most = analysis.unit_cost(group), analysis.removable(group)
        for saved, gone in ((one, slice(0, 1)), (most, slice(1, None))):
            left = cost_without(analysis, group.name, gone)
            assert saved == Cost(analysis.cost.params - left.params, analysis.cost.macs - left.macs), group.name


# Products of groups ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "axes"),
    [
        ("residual", set()),
        ("attention_packed", {("wqkv:0", "wqkv:1")}),
        ("grouped", {("w0:0", "w0:1"), ("w0:0", "w1")}),
    ],
)
def test_products_of_groups(name: str, axes: set[tuple[str, ...]]) -> None:
    """Outermost first; every factor here is one group."""
    found = list(of_micrograph(name).shared_axes())
    assert all(len(factor) == 1 for axis in found for factor in axis)
    assert {tuple("".join(factor) for factor in axis) for axis in found} == axes


def test_a_shuffle_turns_outer_into_inner() -> None:
    found = [tuple("".join(factor) for factor in axis) for axis in of_micrograph("channel_shuffle").shared_axes()]
    assert {("w0:0", "w0:1"), ("w1:1", "w0:0"), ("w1:0", "w2")} < set(found)


@pytest.mark.parametrize(("name", "inside"), [("residual", set()), ("grouped", {"w0:0"})])
def test_groups_of_grouped_convolutions(name: str, inside: set[str]) -> None:
    assert of_micrograph(name).convolution_groups == inside


def test_groups_on_a_tensor() -> None:
    analysis = of_micrograph("grouped")
    assert analysis.groups_on("w1") == {"w0:0", "w0:1", "w1"}
    assert analysis.groups_on("x") == analysis.groups_on("no such tensor") == set()


# Fingerprints ---------------------------------------------------------------------------------------------------


def fingerprint(model: onnxprune.Model) -> str:
    return onnxprune.analyze(model).fingerprint


def test_names_and_weights_do_not_count() -> None:
    plain = fingerprint(model_of(BODY, ARRAYS, **IMAGE))
    other = model_of(BODY, {name: array + 1 for name, array in ARRAYS.items()}, **IMAGE).proto
    for node in other.graph.node:
        node.name = f"renamed/{node.op_type}"
        node.input[:] = [f"new.{name}" for name in node.input]
        node.output[:] = [f"new.{name}" for name in node.output]
    for value in (*other.graph.input, *other.graph.output, *other.graph.initializer):
        value.name = f"new.{value.name}"
    onnx.checker.check_model(other)
    assert fingerprint(onnxprune.Model(other)) == plain


def test_where_a_weight_is_kept_does_not_count() -> None:
    """An initializer, or the value of a Constant node."""
    model = model_of(BODY, ARRAYS, **IMAGE)
    moved = onnx.ModelProto()
    moved.CopyFrom(model.proto)
    tensor = moved.graph.initializer[0]
    constant = onnx.helper.make_node("Constant", [], [tensor.name], value=tensor)
    del moved.graph.initializer[0]
    moved.graph.node.insert(0, constant)
    assert fingerprint(onnxprune.Model(moved)) == fingerprint(model)


def wider(proto: onnx.ModelProto) -> None:
    tensor = next(t for t in proto.graph.initializer if t.name == "w1")
    tensor.CopyFrom(numpy_helper.from_array(np.ones((6, 8, 1, 1), np.float32), "w1"))
    proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 6


def another_operator(proto: onnx.ModelProto) -> None:
    proto.graph.node[2].op_type = "Relu"


def other_wiring(proto: onnx.ModelProto) -> None:
    proto.graph.node[2].input[0] = "a"


def one_more_node(proto: onnx.ModelProto) -> None:
    proto.graph.node.insert(3, onnx.helper.make_node("Relu", ["s"], ["r"]))
    proto.graph.node[4].input[0] = "r"


@pytest.mark.parametrize("change", [wider, another_operator, other_wiring, one_more_node])
def test_structure_counts(change: Callable[[onnx.ModelProto], None]) -> None:
    model = model_of(BODY, ARRAYS, **IMAGE)
    before = fingerprint(model)
    change(model.proto)
    assert fingerprint(onnxprune.Model(model.proto)) != before
