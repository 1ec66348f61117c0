"""Predicted times: sums over segments, each measured once and kept, for one machine, model and runtime alone."""

import json
from pathlib import Path

import numpy as np
import pytest

import onnxprune
from onnxprune.errors import ModelError, UsageError
from onnxprune.latency import prediction
from onnxprune.latency.parts import part_seconds
from onnxprune.latency.prediction import MOST, Latency
from onnxprune.latency.runtimes import Setting
from onnxprune.latency.runtimes.openvino import OPENVINO
from onnxprune.latency.statistic import Interval

ZOO = Path(__file__).parents[2] / "models" / "zoo" / "resnet11_cifar10.onnx"
FIXED = 100.0


@pytest.fixture(scope="module")
def analysis():
    return onnxprune.analyze(onnxprune.load(ZOO))


@pytest.fixture
def counted(monkeypatch):
    """A runtime in which a layer takes as long as its weights have elements, and a run 100 more."""
    cut = []

    def weights(models, engine, setting):
        cut.append(models[0])
        return [float(sum(np.prod(t.dims) for t in m.proto.graph.initializer if len(t.dims) > 1)) for m in models]

    monkeypatch.setattr(prediction, "part_seconds", weights)
    monkeypatch.setattr(prediction, "in_place", lambda analysis, segments, alone, threads: alone)
    monkeypatch.setattr(Latency, "measured", lambda self, units: elements(self, units) / elements(self, {}))
    return cut


def elements(latency, units):
    pruned = latency.pruned(units).proto.graph
    return FIXED + float(sum(np.prod(t.dims) for t in pruned.initializer if len(t.dims) > 1))


def some(analysis, seed):
    numbers = np.random.default_rng(seed)
    return {g.name: numbers.permutation(g.size) < max(1, g.size * numbers.random()) for g in analysis.groups}


def test_the_sum_of_what_is_left(analysis, counted):
    latency = Latency(analysis)
    assert latency.share({}) == 1
    for seed in range(5):
        units = some(analysis, seed)
        assert latency.share(units) == pytest.approx(latency.measured(units), rel=1e-9)


def test_nothing_is_measured_twice(analysis, counted, tmp_path):
    table = tmp_path / "latency.json"
    units = some(analysis, 0)
    first = Latency(analysis, table=table).share(units)
    measured = len(counted)
    assert Latency(analysis, table=table).share(units) == first
    assert len(counted) == measured
    assert len(json.loads(table.read_text())["rows"]) == measured


def test_layers_of_one_kind_and_size_are_measured_once(counted):
    """Also those of another network: weights do not matter, nor names."""
    analysis = onnxprune.analyze(onnxprune.load(ZOO))
    latency = Latency(analysis)
    seconds = latency.seconds({})
    assert len(counted) < len(seconds)
    kinds = [node.op_type for part in counted for node in part.proto.graph.node]
    assert kinds.count("Conv") == 10, "no two of its convolutions are alike"


def test_tables_of_others_are_refused(analysis, counted, tmp_path):
    table = tmp_path / "latency.json"
    Latency(analysis, "cpu", Setting(threads=1), table).share({})
    with pytest.raises(UsageError, match=r"measured with setting \{'threads': '1'\}, expected \{'threads': '2'\}"):
        Latency(analysis, "cpu", Setting(threads=2), table)
    content = json.loads(table.read_text())
    for changed, message in (
        ({"cpu": "a calculator"}, "measured with cpu 'a calculator'"),
        ({"runtime": "openvino 1"}, "measured with runtime 'openvino 1'"),
        ({"rows": [[1, "x"]]}, "no table of latencies"),
        ({"beside": None}, "no table of latencies"),
        ({"places": {"model": ["long"]}}, "no table of latencies"),
    ):
        table.write_text(json.dumps(content | changed))
        with pytest.raises(UsageError, match=message):
            Latency(analysis, "cpu", Setting(threads=1), table)


def test_a_segment_that_does_not_run_counts_for_nothing_and_is_told(analysis, counted, monkeypatch):
    def fails(models, engine, setting):
        if "Transpose" in {node.op_type for node in models[0].proto.graph.node}:
            raise ModelError("no", "no")
        return [1.0] * len(models)

    monkeypatch.setattr(prediction, "part_seconds", fails)
    latency = Latency(analysis)
    latency.share({})
    assert len(latency.unmeasured) == 1


def test_a_segment_that_fails_when_it_is_pruned_is_taken_to_be_as_fast_as_before(analysis, counted, monkeypatch):
    whole = Latency(analysis).seconds({})

    def fails(models, engine, setting):
        if len(models) > 1:
            raise ModelError("no", "no")
        return [1.0]

    monkeypatch.setattr(prediction, "part_seconds", fails)
    latency = Latency(analysis)
    assert (latency.seconds(some(analysis, 0)) == latency.seconds({})).all() and len(latency.seconds({})) == len(whole)


def test_segments_count_as_they_take_where_they_stand(analysis, counted, monkeypatch):
    """Fusion halves them all: of smaller ones what they take alone, by what the whole one takes alone, is known."""
    monkeypatch.setattr(prediction, "in_place", lambda analysis, segments, alone, threads: alone / 2)
    latency, units = Latency(analysis), some(analysis, 0)
    alone = latency._alone(units, range(len(latency.segments)))
    assert latency.seconds(units) == pytest.approx(alone / 2)


def test_where_nothing_tells_what_they_take_where_they_stand_it_is_what_they_take_alone(analysis, counted, monkeypatch):
    def fails(*about):
        raise ModelError("operator 'Loop' ran 3 times in 2 runs of the model", "time the model as a whole")

    monkeypatch.setattr(prediction, "in_place", fails)
    latency, units = Latency(analysis), some(analysis, 0)
    assert latency.seconds(units) == pytest.approx(latency._alone(units, range(len(latency.segments))))


def test_what_a_run_takes_beside_is_bounded(analysis, counted, monkeypatch):
    """Also where timing is noise: a share is never negative, and never more than the whole's."""
    for ratio in (0.01, 0.9999, 1.2):
        monkeypatch.setattr(Latency, "measured", lambda self, units, ratio=ratio: ratio)
        latency = Latency(analysis)
        least = {g.name: np.arange(g.size) < 1 for g in analysis.groups}
        assert 0 < latency.share(least) <= 1 == latency.share({})


def test_times_are_of_one_size_of_the_input(counted, tmp_path):
    table = tmp_path / "latency.json"
    one, many = (onnxprune.analyze(onnxprune.load(ZOO), sizes={"*": size}) for size in (1, 64))
    Latency(one, table=table).share({})
    measured = len(counted)
    Latency(many, table=table).share({})
    assert len(counted) > 1.8 * measured, "all but what follows the mean over the image, and has one"
    assert len(json.loads(table.read_text())["beside"]) == 2


def test_real_times_fall_with_the_width(analysis):
    latency = Latency(analysis, "cpu", Setting(threads=1))
    half, whole = (latency.seconds(units).sum() for units in (_kept(analysis, 0.25), {}))
    assert 0 < half < 0.7 * whole
    pruned = latency.pruned(_kept(analysis, 0.5))
    for engine in ("cpu", *(["openvino"] if not OPENVINO.missing() else [])):
        narrow, wide = part_seconds([pruned, analysis.original], engine, Setting(threads=1))
        assert 0 < narrow < wide


def _kept(analysis, share):
    return {g.name: np.arange(g.size) < share * g.size for g in analysis.groups}


def ratios(monkeypatch, *found):
    """Measurements that give these, one after the other."""
    seeds, given = [], iter(found)
    monkeypatch.setattr(Latency, "ratio", lambda self, units, seed=0, sure=0: seeds.append(seed) or next(given))
    return seeds


def test_a_ratio_is_measured_until_it_is_known_well(analysis, counted, monkeypatch):
    sure, unsure = Interval(0.5, 0.499, 0.501), Interval(0.5, 0.48, 0.52)
    seeds = ratios(monkeypatch, sure)
    assert Latency(analysis).again({}, sure).median == 0.5 and seeds == [1]
    seeds = ratios(monkeypatch, *[unsure] * 9)
    found = Latency(analysis).again({}, unsure)
    assert seeds == [*range(1, MOST)] and found.half_width == pytest.approx(0.01)
    ratios(monkeypatch, Interval(0.53, 0.529, 0.531), *[sure] * 9)
    assert Latency(analysis).again({}, sure).half_width > 0.01, "what disagrees is not sure, however sure each is"


def test_what_a_search_starts_from_is_kept(analysis, counted, monkeypatch, tmp_path):
    table, units = tmp_path / "latency.json", some(analysis, 0)
    first = Latency(analysis, table=table)
    predicted = first.share(units)
    ratios(monkeypatch, *[Interval(1.1 * predicted, 1.1 * predicted, 1.1 * predicted)] * 4)
    monkeypatch.setattr(Latency, "run", lambda self: 0.25)
    assert first.correction(units) == pytest.approx(1.1) and first.first_run == 0.25
    later = Latency(analysis, table=table)
    ratios(monkeypatch)
    monkeypatch.setattr(Latency, "run", lambda self: 0.5)
    assert later.correction(units) == first.correction(units) and later.first_run == 0.25
    content = json.loads(table.read_text())
    table.write_text(
        json.dumps({name: found for name, found in content.items() if name not in ("corrections", "runs")})
    )
    assert Latency(analysis, table=table).share(units) == predicted, "files of before they were kept are read"
