"""Latency as a target, in a runtime that is made up: it pads channels to blocks, and likes no odd ones."""

from pathlib import Path

import numpy as np
import pytest

import onnxprune
from onnxprune.budget import candidates
from onnxprune.latency import prediction
from onnxprune.latency.prediction import Latency
from onnxprune.latency.statistic import Interval
from onnxprune.latency.target import LEAST, choose_within

ZOO = Path(__file__).parents[2] / "models" / "zoo" / "resnet11_cifar10.onnx"
BLOCK, UNIT = 16, 1e-8


@pytest.fixture(scope="module")
def analysis():
    return onnxprune.analyze(onnxprune.load(ZOO))


def padded(channels):
    return -(-channels // BLOCK) * BLOCK


def seconds(model, *about):
    """Of every convolution the padded work, and a quarter more where channels are not multiples of four."""
    spent = 1e-5
    for node in model.proto.graph.node:
        weight = next(
            (t for t in model.proto.graph.initializer if node.op_type == "Conv" and t.name == node.input[1]), None
        )
        if weight is not None:
            out, read, *kernel = weight.dims
            odd = 1.0 + 0.25 * bool(out % 4 or read % 4)
            spent += UNIT * odd * padded(out) * padded(read) * float(np.prod(kernel))
    return spent


@pytest.fixture
def runtime(monkeypatch):
    """Parts take their time; whole models what all their convolutions take, a tenth less for being together."""

    def ratio(self, units, *about):
        both = [1e-4 + 0.9 * seconds(model) ** 1.02 for model in (self.pruned({}), self.pruned(units))]
        middle = both[1] / both[0]
        return Interval(middle, middle - 0.002, middle + 0.002)

    monkeypatch.setattr(prediction, "part_seconds", seconds)
    monkeypatch.setattr(Latency, "ratio", ratio)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_the_promise_holds_and_the_time_is_used(analysis, runtime, share):
    latency = Latency(analysis)
    kept = choose_within(latency, share, candidates(analysis))
    assert LEAST * share <= kept.ratio.high <= share
    assert kept.mask.provenance["target"] == {"latency": share}
    assert latency.ratio({g.name: m.kept for g, m in zip(analysis.groups, kept.mask.groups, strict=True)}) == kept.ratio


def test_widths_are_whole_steps_or_whole(analysis, runtime):
    kept = choose_within(Latency(analysis), 0.5, candidates(analysis)).mask
    for group in kept.groups:
        assert group.kept.sum() % BLOCK == 0 or group.kept.all() or group.size < 2 * BLOCK
    assert not kept.removes_nothing
