"""Widths of pruned forms: those of the mask, or not known."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxprune
from onnxprune.widths import group_widths
from tests.cli.conftest import network
from tests.micrographs import REGISTRY


@pytest.fixture
def dense():
    return onnxprune.analyze(onnxprune.Model(network(width=8, second=6)))


def pruned(analysis, **options):
    return onnxprune.apply(analysis.model, onnxprune.choose(analysis, **options))


def test_widths_of_pruned_models_are_read_off_their_weights(dense):
    half, less = pruned(dense, keep=0.5), pruned(dense, keep=0.25)
    found = {w.group: (w.size, dict(w.kept)) for w in group_widths(dense, {"h": half, "l": less})}
    assert found == {"conv1.w": (8, {"h": 4, "l": 2}), "conv2.w": (6, {"h": 3, "l": 2})}


@pytest.mark.parametrize("name", ["inception", "attention_packed", "grouped", "residual", "dense_concat"])
def test_widths_are_those_of_the_mask_or_not_known(name):
    analysis = onnxprune.analyze(onnxprune.Model(REGISTRY[name]().model))
    mask = onnxprune.choose(analysis, keep=0.5)
    small = onnxprune.apply(analysis.original, mask, verify=False, analysis=analysis)
    kept = {group.name: int(entry.kept.sum()) for group, entry in zip(analysis.groups, mask.groups, strict=True)}
    found = {width.group: width.kept["small"] for width in group_widths(analysis, {"small": small})}
    assert all(count in (None, kept[group]) for group, count in found.items())
    if name not in ("attention_packed", "grouped"):  # whose axes are products of groups
        assert found == kept


def test_another_network_has_no_widths(dense):
    proto = network()
    for tensor in proto.graph.initializer:
        for node in proto.graph.node:
            for k, read in enumerate(node.input):
                if read == tensor.name:
                    node.input[k] = f"other.{read}"
        tensor.name = f"other.{tensor.name}"
    assert group_widths(dense, {"b": onnxprune.Model(proto)}) == ()


def test_tensors_that_disagree_tell_nothing(dense):
    proto = onnx.ModelProto()
    proto.CopyFrom(network())
    (weight,) = [t for t in proto.graph.initializer if t.name == "conv2.w"]
    weight.CopyFrom(numpy_helper.from_array(np.ones((6, 5, 3, 3), np.float32), "conv2.w"))
    found = {width.group: width.kept["b"] for width in group_widths(dense, {"b": onnxprune.Model(proto)})}
    assert found == {"conv1.w": None, "conv2.w": 6}
