"""The benchmarks of latency on small models: their rows are whole, and their checks can fail."""

import argparse
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxprune
from benchmarks import gpu_latency, latency_floor, latency_layers, latency_native, latency_targets
from benchmarks.hollow import LARGE, hollowed, refilled
from benchmarks.latency_targets import Where
from benchmarks.record import Record
from benchmarks.slices import Clock, OutOfTime
from onnxprune.errors import UsageError
from onnxprune.latency import Plan, Setting
from onnxprune.latency.prediction import MOST
from onnxprune.latency.statistic import Interval
from tests.latency.pretended import pretend

ZOO = Path(__file__).parents[2] / "models" / "zoo" / "resnet11_cifar10.onnx"


def verdicts(module, rows):
    """Whether each check of a benchmark holds of such rows."""
    results = Record(module.BENCHMARK, {})
    results.rows = {str(k): row for k, row in enumerate(rows)}
    return [check.passed for check in module.checks(results)]


def test_a_trial_of_the_floor():
    row = latency_floor.trial(onnxprune.load(ZOO), 0.2, 0)
    assert row["rounds"] >= 11 and row["same_low"] <= row["same"] <= row["same_high"] and row["slower"] > 0


def test_the_floor_is_judged():
    good = {
        "same": 1.001,
        "same_low": 0.999,
        "same_high": 1.003,
        "slower": 1.02,
        "slower_low": 1.01,
        "slower_high": 1.03,
    }
    assert verdicts(latency_floor, [good] * 20) == [True] * 4
    assert (
        verdicts(latency_floor, [good] * 18 + [good | {"same": 1.02, "same_low": 1.01, "slower_low": 0.9}] * 2)
        == [False] * 4
    )


def test_a_target_is_measured_anew_and_against_work_alone(tmp_path, monkeypatch):
    pretend(monkeypatch)
    row = latency_targets.measure(ZOO, 0.6, 0.1, Where(table=tmp_path / "table.json"))
    assert row["asked"] == 0.6 and 0 < row["macs"] < 1 and row["low"] <= row["measured"] <= row["high"]
    assert row["by_macs"] > 0 and (tmp_path / "table.json").exists()
    assert (
        "no structure was measured" in latency_targets.measure(ZOO, 0.001, 0.1, Where(table=tmp_path / "t"))["refused"]
    )


@pytest.mark.parametrize(("wide", "times"), [(0.005, 1), (0.02, 2), (0.2, 4)])
def test_structures_are_timed_until_their_ratio_is_known(monkeypatch, wide, times):
    """On other inputs every time; what was measured is one then."""
    seeds = []

    def comparing(models, plan):
        seeds.append(plan.seed)
        ratios = [1.0, 0.5 + 0.001 * len(seeds), 0.7]
        return SimpleNamespace(models=[seen(ratio, wide * ratio) for ratio in ratios[: len(models)]])

    monkeypatch.setattr(latency_targets, "compare", comparing)
    analysis = onnxprune.analyze(onnxprune.load(ZOO))
    mask = onnxprune.choose(analysis, keep=0.5)
    row = latency_targets.against(analysis, (mask, mask), Plan(0.1))
    assert len(seeds) == len({*seeds}) == times and min(seeds) >= MOST
    assert row["low"] < row["measured"] < row["high"]
    assert row["measured"] == pytest.approx(0.5005 + 0.0005 * times, abs=1e-5)
    assert row["by_macs"] == pytest.approx(0.7 / row["measured"], abs=0.001) and row["whole_ms"] == pytest.approx(1e3)


def seen(ratio, wide):
    """A contestant that takes so many seconds."""
    ratio = Interval(ratio, ratio - wide, ratio + wide)
    return SimpleNamespace(ratio=ratio, seconds=ratio)


def test_targets_are_judged():
    good = {"asked": 0.6, "measured": 0.59, "predicted": 0.5, "expected": 0.58, "by_macs": 1.3}
    whole = [good] * 199 + [{"refused": "out of reach"}]
    assert verdicts(latency_targets, whole) == [True] * 5
    assert verdicts(latency_targets, whole[1:]) == verdicts(latency_targets, [*whole[1:], {"failure": "no"}])
    assert verdicts(latency_targets, whole[1:]) == [False] + [True] * 4
    bad = {"asked": 0.6, "measured": 1.01, "predicted": 1.0, "expected": 0.5, "by_macs": 1.0}
    assert verdicts(latency_targets, [bad]) == [False] * 5
    figures = [
        check.figure for check in latency_targets.checks(Record(latency_targets.BENCHMARK, {}, rows={"a": good}))
    ]
    assert figures[-1].endswith("(uncorrected sums: 0 %)")


def test_what_is_wrong_otherwise_is_not_out_of_reach(tmp_path, monkeypatch):
    pretend(monkeypatch)
    where = Where(table=tmp_path / "table.json")
    where.table.write_text("{}")
    with pytest.raises(UsageError, match=r"table\.json"):
        latency_targets.measure(ZOO, 0.6, 0.1, where)


def test_a_pruned_graph_beside_a_narrow_export():
    row = latency_native.measure("resnet11", 0.2, 2)
    assert 0.5 < row["ratio"] < 2 and row["low"] <= row["ratio"] <= row["high"] and row["native"] > 0
    assert row["left_behind"] == 0 and row["nodes"] > row["optimised"] > 5
    assert verdicts(latency_native, [row | {"ratio": 0.995}] * 13) == [True, True]
    assert verdicts(latency_native, [row | {"ratio": 1.02, "left_behind": 1}] * 13) == [False, False]


def test_what_is_left_behind_is_counted():
    """A node more."""
    model = onnxprune.Model(onnx.load(ZOO))
    whole, larger = model.proto.graph, onnx.ModelProto()
    larger.CopyFrom(model.proto)
    node = onnx.helper.make_node("Relu", [whole.output[0].name], ["more"])
    larger.graph.node.append(node)
    larger.graph.output[0].name = "more"
    assert latency_native.structure(model, model)["left_behind"] == 0
    found = latency_native.structure(model, onnxprune.Model(larger))
    assert found["left_behind"] >= 1 and found["nodes"] == len(whole.node) + 1


def test_time_by_nodes():
    row = latency_layers.measure(lambda: onnxprune.load(ZOO), 0.05)
    assert row["told"] > 95 and 0 < row["grouped"] <= 100 and row["nodes"] > row["parts"] > 5
    assert verdicts(latency_layers, [row] * 4) == [True] and verdicts(latency_layers, [row | {"told": 80}] * 4) == [
        False
    ]


def test_weights_stay_behind_and_others_take_their_place():
    model = onnx.load(ZOO)
    small = hollowed(model)
    assert small.ByteSize() < model.ByteSize() / 10
    full = refilled(small)
    shapes = [tuple(t.dims) for t in model.graph.initializer]
    assert [tuple(t.dims) for t in full.graph.initializer] == shapes
    onnx.checker.check_model(full)
    for old, new in zip(model.graph.initializer, full.graph.initializer, strict=True):
        same = np.array_equal(numpy_helper.to_array(old), numpy_helper.to_array(new))
        assert same == (np.prod(old.dims) < LARGE)
    assert refilled(small).SerializeToString() == full.SerializeToString() != refilled(small, 1).SerializeToString()


def test_a_row_of_the_gpus_on_a_stand_in(tmp_path, monkeypatch):
    pretend(monkeypatch)
    monkeypatch.chdir(tmp_path)
    onnx.save(hollowed(onnx.load(ZOO)), tmp_path / "net-1.onnx")
    args = argparse.Namespace(target=0.6, seconds=0.1, runtime="cpu", out=tmp_path)
    row = gpu_latency.row(args, tmp_path / "net-1.onnx", Clock(None))
    assert row["whole_ms"] > row["ms"] > 0 and (tmp_path / "latency.json").exists()
    assert verdicts(gpu_latency, [row | {"by_macs": 1.2}]) == [True, True]
    with pytest.raises(OutOfTime):
        gpu_latency.row(args, tmp_path / "net-1.onnx", Clock(0))


def test_where_says_how(tmp_path):
    assert Where().setting == Setting(threads=1) and Where().engine == "cpu"
