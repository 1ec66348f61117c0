"""Segments put together are the model again, also of a pruned one."""

from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxprune
from onnxprune.execution import random_inputs, relative_difference, run
from onnxprune.latency.segments import Cutter, find_segments
from onnxprune.mask import fit_mask
from tests.test_micrographs import CASES, PRUNABLE

ZOO = Path(__file__).parents[2] / "models" / "zoo" / "resnet11_cifar10.onnx"


def put_together(analysis: onnxprune.analysis.Analysis, mask: onnxprune.Mask) -> float:
    """The largest relative difference between the pruned model and its segments, run one after the other."""
    pruned = onnxprune.apply(analysis.original, mask, verify=False, analysis=analysis)
    kept = {atom: int(units.sum()) for atom, units in fit_mask(analysis, mask)[0].items()}
    feeds = random_inputs(pruned, 0, analysis.sizes)
    known, cutter = dict(feeds), Cutter(analysis)
    for segment in find_segments(analysis):
        part = cutter.cut(pruned, segment, kept)
        taken = {value.name: known[value.name] for value in part.proto.graph.input}
        assert [d.dim_value for v in part.proto.graph.input for d in v.type.tensor_type.shape.dim] == [
            size for array in taken.values() for size in array.shape
        ]
        known.update(zip((value.name for value in part.proto.graph.output), run(part, [taken])[0], strict=True))
    whole = run(pruned, [feeds])[0]
    names = [value.name for value in pruned.proto.graph.output]
    both = [(known[name], own) for name, own in zip(names, whole, strict=True) if name in known]
    assert both, "no output comes from a segment"
    return relative_difference([a for a, _ in both], [b for _, b in both])


@pytest.mark.parametrize("name", PRUNABLE)
def test_they_are_the_pruned_model(name, tmp_path):
    onnx.save(CASES[name].model, tmp_path / "m.onnx")
    analysis = onnxprune.analyze(onnxprune.load(tmp_path / "m.onnx"))
    assert put_together(analysis, onnxprune.choose(analysis, keep=0.5)) < 1e-5


def test_of_a_trained_network():
    analysis = onnxprune.analyze(onnxprune.load(ZOO))
    assert put_together(analysis, onnxprune.choose(analysis, target={"macs": 0.4})) < 1e-4


def test_every_node_is_in_one_segment_behind_its_layer():
    analysis = onnxprune.analyze(onnxprune.load(ZOO))
    segments = find_segments(analysis)
    indices = sorted(node.index for segment in segments for node in segment.nodes)
    assert indices == [node.index for node in analysis.trace.graph.nodes]
    layers = [[node.op for node in segment.nodes].count("Conv") for segment in segments]
    assert max(layers) == 1 and sum(layers) == 10
    assert all(node.op != "Conv" for segment in segments for node in segment.nodes[1:])
    assert all(segment.forms for segment in segments if len(segment.nodes) > 1)
    assert np.mean([len(segment.nodes) for segment in segments]) > 1
