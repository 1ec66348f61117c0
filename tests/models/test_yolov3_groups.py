"""YOLOv3's channel groups, against the published counts (METHODS: 72 / 26,304; 42 / 13,376; 2, 3, 9, 9, 5)."""

import pytest
import torch

import onnxprune
from models.export import export
from models.yolov3 import yolov3
from onnxprune.selection import uncoupled_groups


@pytest.fixture(scope="module")
def analysis(tmp_path_factory):
    path = tmp_path_factory.mktemp("yolov3") / "yolov3.onnx"
    export(yolov3(), torch.zeros(1, 3, 64, 64), path, ["image"], ["stride32", "stride16", "stride8"])
    return onnxprune.analyze(onnxprune.load(path))


def test_every_normalized_channel_is_in_a_group(analysis):
    scales = [n.inputs[1] for n in analysis.trace.graph.nodes if n.op == "BatchNormalization"]
    sizes = [analysis.trace.shape(name)[0] for name in scales]
    grouped = {m.tensor for g in analysis.groups for m in g.members}
    assert (len(sizes), sum(sizes)) == (72, 26_304) and grouped.issuperset(scales)


def test_uncoupled_selection(analysis):
    names = uncoupled_groups(analysis)
    groups = [g for g in analysis.groups if g.name in names]
    assert len(groups) == 42 and sum(g.size for g in groups) == 13_376
    assert all(len(g.producers) == 1 for g in groups)


def test_coupled_groups(analysis):
    coupled = sorted((g.size, len(g.producers)) for g in analysis.groups if len(g.producers) > 1)
    assert coupled == [(64, 2), (128, 3), (256, 9), (512, 9), (1024, 5)]


def test_uncoupled_mask_leaves_the_rest_whole(analysis):
    mask = onnxprune.choose(analysis, keep=0.5, uncoupled_only=True, score="bn")
    touched = {g.name for g in mask.groups if g.removed}
    assert touched == uncoupled_groups(analysis)


def test_every_shortcut_can_be_dropped(analysis):
    """Darknet-53 has 23; the branch's last convolution is the one just before the shortcut."""
    assert len(analysis.branches) == 23
    assert [branch.name for branch in analysis.branches][:2] == ["layers.3.conv", "layers.7.conv"]
