"""All that is found out of models in one process."""

import sys

import pytest

import onnxprune
from onnxprune.latency import Plan, Setting
from onnxprune.latency.sweep import measured
from tests.cli.conftest import network


@pytest.fixture
def models(tmp_path):
    dense = onnxprune.Model(network())
    small = onnxprune.apply(dense, onnxprune.choose(onnxprune.analyze(dense), keep=0.5), verify=False)
    for model, name in ((dense, "dense.onnx"), (small, "small.onnx")):
        onnxprune.save(model, tmp_path / name)
    return [onnxprune.load(tmp_path / name) for name in ("dense.onnx", "small.onnx")]


def test_each_model_is_analyzed_once(models, monkeypatch):
    seen, analyze = [], onnxprune.analyze
    monkeypatch.setattr(
        sys.modules["onnxprune.latency.sweep"],
        "analyze",
        lambda model, **how: seen.append(model.path.name) or analyze(model, **how),
    )
    monkeypatch.setattr("onnxprune.latency.paired.analyze", None)
    plan = Plan(rounds=3, warm_up=1, setting=Setting(threads=1), sizes={"batch": 2})
    found = measured(models, plan, False, True, lambda share: None)
    assert seen == ["dense.onnx", "small.onnx"]
    assert found.layers.keys() == {"dense.onnx", "small.onnx"}
    assert [(w.group, w.size, dict(w.kept)) for w in found.widths] == [
        ("conv1.w", 8, {"small.onnx": 4}),
        ("conv2.w", 6, {"small.onnx": 3}),
    ]
    assert measured(models, plan, False, False, lambda share: None).layers == {}
