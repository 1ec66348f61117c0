"""Paired timing: who is faster, by how much, and how sure that is."""

import hashlib
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from scipy import stats

import onnxprune
from onnxprune.errors import ModelError, UsageError
from onnxprune.latency import Input, Plan, Setting, compare
from onnxprune.latency.disk import disk_bytes, model_files
from onnxprune.latency.paired import names_of, stop_rule, warm_up_rule
from onnxprune.latency.ready import renewed
from onnxprune.latency.statistic import (
    STUDENT,
    covered,
    median_interval,
    quantile_interval,
    ratio_interval,
    spread,
)
from onnxprune.latency.turns import (
    AGAIN,
    LEAST_WARM_UP,
    MAX_ROUNDS,
    MIN_ROUNDS,
    MOST_WARM_UP,
    WINDOW,
    Measured,
    measure,
)

QUICK = Plan(rounds=4, warm_up=1, setting=Setting(threads=1))


def perceptron(width: int, inputs: int = 64, outputs: int = 4) -> onnx.ModelProto:
    """Two layers of `width` units between a symbolic batch of inputs and outputs."""
    rng = np.random.default_rng(0)
    shapes = {"w1": (inputs, width), "w2": (width, outputs)}
    weights = [numpy_helper.from_array(rng.standard_normal(s).astype(np.float32), n) for n, s in shapes.items()]
    nodes = [helper.make_node("MatMul", ["x", "w1"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
    nodes.append(helper.make_node("MatMul", ["b", "w2"], ["y"]))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", inputs])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", outputs])
    graph = helper.make_graph(nodes, "net", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def model(tmp_path):
    """Build, save and load a perceptron."""

    def make(name: str, **sizes: int) -> onnxprune.Model:
        onnx.save(perceptron(**sizes), tmp_path / name)
        return onnxprune.load(tmp_path / name)

    return make


def test_the_larger_model_is_slower(model):
    small, large = model("small.onnx", width=64), model("large.onnx", width=4096)
    found = compare([small, large], replace(QUICK, rounds=15, sizes={"batch": 64}))
    assert found.models[1].ratio.low > 1.5
    assert found.models[1].seconds.median > found.models[0].seconds.median > 0
    assert (found.models[0].ratio.low, found.models[0].ratio.high) == (1, 1)


def test_costs_and_sizes_are_told(model):
    found = compare([model("a.onnx", width=8), model("b.onnx", width=16)], replace(QUICK, sizes={"batch": 3}))
    first, second = found.models
    assert (first.name, first.params, first.macs) == ("a.onnx", 8 * 68, 3 * 8 * 68)
    assert (second.name, second.params, second.macs) == ("b.onnx", 16 * 68, 3 * 16 * 68)
    assert second.bytes > first.bytes > 8 * 68 * 4


def test_files_are_told_by_their_digests(tmp_path):
    onnx.save(perceptron(8), tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    model = onnxprune.load(tmp_path / "m.onnx")
    found = compare([model, model], QUICK).models[0].sha256
    assert found == {n: hashlib.sha256((tmp_path / n).read_bytes()).hexdigest() for n in ("m.onnx", "w.bin")}


def test_memory_is_measured_on_request(model):
    small, large = model("a.onnx", width=8), model("b.onnx", width=20000)
    found = compare([small, large], QUICK, memory=True).models
    assert found[1].memory is not None and found[1].memory > 20000 * 68 * 4 > (found[0].memory or 0)


def test_models_that_are_analyzed_are_not_analyzed_again(model, monkeypatch):
    analyses = [onnxprune.analyze(model(name, width=8), sizes={"batch": 2}) for name in ("a.onnx", "b.onnx")]
    monkeypatch.setattr("onnxprune.latency.paired.analyze", None)
    found = compare(analyses, replace(QUICK, sizes={"batch": 2}))
    assert [t.macs for t in found.models] == [2 * 8 * 68, 2 * 8 * 68]


def test_rules_in_words():
    assert warm_up_rule(Plan()).startswith(
        "until the medians of the last two windows of 5 rounds differ by less than 2%"
    )
    assert stop_rule(Plan(seconds=3)) == "after 3 s (11 to 5000 rounds)"
    assert stop_rule(Plan(tolerance=0.01)).endswith("or once all ratios are known to within 0.01")


def test_equal_models_give_equal_outputs(model):
    a = model("a.onnx", width=8)
    assert compare([a, a, a], QUICK).models[2].difference == 0
    assert compare([a, model("b.onnx", width=9)], QUICK).models[1].difference > 0


def test_outputs_of_other_shapes_have_no_difference(model):
    found = compare([model("a.onnx", width=8), model("b.onnx", width=8, outputs=5)], QUICK)
    assert found.models[1].difference is None


def test_json_holds_everything(model):
    found = compare([model("a.onnx", width=8), model("b.onnx", width=9)], replace(QUICK, sizes={"*": 2}))
    content = json.loads(json.dumps(found.to_json()))
    assert [m["name"] for m in content["models"]] == ["a.onnx", "b.onnx"]
    assert content["models"][0]["seconds"].keys() == {"median", "low", "high"}
    assert (content["rounds"], content["threads"], content["sizes"]) == (4, 1, {"*": 2})
    assert content["noisy"] == found.noisy


def test_models_called_alike_go_by_their_paths(tmp_path, model):
    (tmp_path / "b").mkdir()
    a, b = model("m.onnx", width=8), model("b/m.onnx", width=8)
    assert names_of([a, b]) == [str(a.path), str(b.path)]
    assert names_of([a]) == ["m.onnx"]
    assert len(set(names_of([a, a]))) == 2


def test_one_model_is_refused(model):
    with pytest.raises(UsageError, match="expected two or more models to compare, got 1"):
        compare([model("a.onnx", width=8)], QUICK)


def test_other_inputs_are_refused(model):
    pair = [model("a.onnx", width=8), model("b.onnx", width=8, inputs=65)]
    with pytest.raises(UsageError, match=r"b\.onnx: its inputs are x \['batch', 65\], those of .* x \['batch', 64\]"):
        compare(pair, QUICK)


def test_a_model_that_does_not_run_is_refused(tmp_path, model):
    proto = perceptron(8)
    proto.graph.node[1].op_type = "Mish"  # not in this opset
    onnx.save(proto, tmp_path / "bad.onnx")
    bad = onnxprune.Model(proto, tmp_path / "bad.onnx")
    with pytest.raises(ModelError, match=r"bad\.onnx does not run in onnxruntime: ") as caught:
        compare([model("a.onnx", width=8), bad], QUICK)
    assert "\n" not in caught.value.what


def timed_once(runs: list[Callable[[], object]], plan: Plan) -> Measured:
    """One instance of models."""
    return measure(iter([runs]), plan, lambda share: None)


def test_models_take_turns_and_none_follows_itself():
    order: list[str] = []
    runs = [lambda: order.append("a"), lambda: order.append("b"), lambda: order.append("c")]
    found = timed_once(runs, Plan(rounds=2000, warm_up=1))
    assert found.times.shape == (2000, 3) and (found.times > 0).all()
    assert (found.warm_up, found.why, found.batches) == (1, "after 2000 rounds", (2000,))
    timed = order[3:]
    assert all(sorted(timed[k : k + 3]) == ["a", "b", "c"] for k in range(0, len(timed), 3))
    after = Counter(pairwise(timed))
    assert not any(pair in after for pair in (("a", "a"), ("b", "b"), ("c", "c")))
    assert len(after) == 6 and max(after.values()) < 1.15 * min(after.values()), "all follow all others alike"


def test_one_alone_runs_too():
    assert timed_once([lambda: None], Plan(rounds=5, warm_up=0)).times.shape == (5, 1)


def test_times_belong_to_their_models():
    times = timed_once([lambda: None, lambda: time.sleep(0.002)], Plan(rounds=4, warm_up=0)).times
    assert (times[:, 1] > 0.002).all() and (times[:, 0] < 0.002).all()


def test_time_is_a_budget_and_a_few_rounds_the_least():
    start = time.perf_counter()
    found = timed_once([lambda: time.sleep(0.001)], Plan(seconds=0.2, warm_up=0))
    assert found.why == "after 0.2 s"
    assert len(found.times) > MIN_ROUNDS and 0.2 <= time.perf_counter() - start < 2
    assert len(timed_once([lambda: None], Plan(seconds=0, warm_up=0)).times) == MIN_ROUNDS


def test_it_ends_when_the_ratios_are_known_well_enough():
    runs = [lambda: time.sleep(0.001), lambda: time.sleep(0.002)]
    rough = timed_once(runs, Plan(seconds=5, tolerance=0.2, warm_up=0))
    fine = timed_once(runs, Plan(seconds=5, tolerance=0.02, warm_up=0))
    assert MIN_ROUNDS <= len(rough.times) <= len(fine.times) < 1000
    assert fine.why == "all ratios are known to within 0.02"
    assert fine.ratio(1).half_width <= 0.02


def test_it_warms_up_until_the_times_settle():
    calls = iter(range(1000))
    slower_first = lambda: time.sleep(0.02 if next(calls) < 6 else 0.002)  # noqa: E731
    warm_up = timed_once([slower_first], Plan(rounds=1)).warm_up
    assert 10 < warm_up < MOST_WARM_UP
    noise = np.random.default_rng(0)
    warm_up = timed_once([lambda: time.sleep(noise.choice([0, 0.003]))], Plan(rounds=1)).warm_up
    assert 2 * WINDOW <= warm_up <= MOST_WARM_UP


def test_it_warms_up_no_longer_than_it_times():
    found = timed_once([lambda: time.sleep(0.02)], Plan(seconds=0.05))
    assert found.warm_up == LEAST_WARM_UP
    assert timed_once([lambda: time.sleep(0.02)], Plan(seconds=0.05, warm_up=5)).warm_up == 5


def test_instances_that_are_made_anew_warm_up_shortly():
    found = measure(instances(Made()), Plan(rounds=40), lambda share: None, 8)
    assert 2 * WINDOW + 7 * AGAIN <= found.warm_up <= MOST_WARM_UP + 7 * AGAIN


def test_the_first_model_takes_part_twice(model):
    a, b = model("a.onnx", width=512), model("b.onnx", width=64)
    found = compare([a, b], replace(QUICK, rounds=50, sizes={"batch": 64}))
    assert 0.5 < found.floor.low <= found.floor.median <= found.floor.high < 2
    assert len(found.models) == 2


def test_what_comes_with_the_times(model):
    found = compare([model("a.onnx", width=64), model("b.onnx", width=9)], replace(QUICK, rounds=20))
    for timing in found.models:
        tails = [timing.seconds.median, *(timing.percentiles[p].median for p in ("p90", "p95", "p99")), timing.slowest]
        assert tails == sorted(tails)
        assert timing.build > 0 and timing.first > 0
        assert timing.placement == {"CPUExecutionProvider": sum(timing.placement.values())}
        assert timing.fallback == 0 and timing.opset == 17 and len(timing.times) == 20
        assert set(timing.nodes.values()) == {"CPUExecutionProvider"}
        assert 0.86 < timing.covered < 0.87, "of all runs with 95% confidence: 0.05 ** (1 / 20)"
        assert timing.memory is None and timing.apart is None and timing.cache == "none"
    assert found.machine.keys() >= {"clock_mhz", "clocks", "temperature_c", "affinity"}
    assert (found.binding, found.graph, found.machine["gpu"]) == (None, None, None)
    assert found.again != found.models[0].times and len(found.again) == 20
    assert found.inputs == (Input("x", (1, 64), "float32"),)
    assert found.warm_up_rule == "1 rounds of every instance" and found.stop_rule == "after 20 rounds"
    assert found.stopped == "after 20 rounds" and found.runtime.startswith("onnxruntime")


@pytest.mark.parametrize("plan", [Plan(rounds=9), Plan(seconds=0.05), Plan(seconds=0.2), Plan(seconds=0)])
@pytest.mark.parametrize("count", [1, 5, 8])
@pytest.mark.parametrize("slow", [0.0, 0.002, 0.01])
def test_progress_rises_to_one(plan, count, slow):
    shares: list[float] = []
    found = measure(itertools.repeat([lambda: time.sleep(slow)]), replace(plan, warm_up=0), shares.append, count)
    assert shares == sorted(shares) and 0 <= shares[0] < 0.2 and shares[-1] == 1
    assert len(found.batches) == count and min(found.batches) >= 1
    assert len(found.times) >= (plan.rounds or MIN_ROUNDS)
    assert plan.rounds is None or len(found.times) == plan.rounds


def test_it_tells_why_it_ended():
    fast, plan = itertools.repeat([lambda: None]), Plan(seconds=20, warm_up=0)
    assert measure(fast, plan, lambda share: None, 8).why == f"after {MAX_ROUNDS} rounds"
    slow = itertools.repeat([lambda: time.sleep(0.002)])
    assert measure(slow, Plan(seconds=0.1, warm_up=0), lambda share: None, 8).why == "after 0.1 s"


class Made:
    """Instances of two models, of which the second takes twice as long; instances differ by a tenth and more."""

    def __init__(self):
        self.number, self.alive, self.most = 0, 0, 0
        self.chance = np.random.default_rng(0)

    def __call__(self, slow: float) -> "Runner":
        self.number += 1
        return Runner(self, slow * self.chance.uniform(1, 1.4))


class Runner:
    def __init__(self, made: Made, seconds: float):
        self.made, self.seconds = made, seconds
        made.alive += 1
        made.most = max(made.most, made.alive)

    def __del__(self):
        self.made.alive -= 1

    def run(self) -> None:
        time.sleep(self.seconds)


def instances(made: Made):
    makers = [partial(made, 0.001), partial(made, 0.002)]
    return renewed(makers, {number: make() for number, make in enumerate(makers)})


def test_all_are_made_first_in_turns():
    order = list[str]()

    def maker(name):
        return lambda: (order.append(name), Runner(Made(), 0.0))[1]

    makers = [maker(name) for name in "abc"]
    turns = renewed(makers, {number: make() for number, make in enumerate(makers)})
    for _ in range(6):
        next(turns)
    assert ["".join(order[k : k + 3]) for k in range(0, 18, 3)] == ["abc", "bca", "cab", "cba", "acb", "bac"]


def test_models_are_made_anew_when_those_before_are_gone():
    made, shares = Made(), list[float]()
    found = measure(instances(made), Plan(rounds=40, warm_up=0), shares.append, 8)
    assert found.batches == (5,) * 8 and found.times.shape == (40, 2)
    assert (made.number, made.most) == (16, 2)
    assert shares == sorted(shares) and shares[0] < 0.05 and shares[-1] == 1


def test_what_differs_between_instances_counts_as_noise():
    plan = Plan(seconds=0.5, warm_up=0)
    one, many = (measure(instances(Made()), plan, lambda share: None, count) for count in (1, 8))
    assert sum(many.batches) == len(many.times) and len(many.batches) == 8
    assert many.ratio(1).half_width > 3 * one.ratio(1).half_width


def test_instances_end_when_the_ratios_are_known_well_enough():
    even = iter(lambda: [lambda: time.sleep(0.001), lambda: time.sleep(0.002)], None)
    found = measure(even, Plan(seconds=2, tolerance=0.5, warm_up=0), lambda share: None, 8)
    assert len(found.batches) == 5 and found.why == "all ratios are known to within 0.5"


def test_so_many_instances_as_can_be_afforded():
    assert Plan(seconds=10).affordable(build=0.5, run=0.01) == 8
    assert Plan(seconds=10, instances=6).affordable(build=0.5, run=0.01) == 6
    assert Plan(seconds=10).affordable(build=1.5, run=0.01) == 6, "preparing takes as long as the timing"
    assert Plan(seconds=10).affordable(build=3, run=0.01) == 1, "too few to tell how they differ"
    assert Plan(seconds=10).affordable(build=0.5, run=0.3) == 6, "five rounds for each"
    assert Plan(rounds=30).affordable(build=0.1, run=0.1) == 6
    assert Plan(rounds=30).affordable(build=3, run=0.1) == 1, "preparing takes as long as the timing"
    assert Plan(rounds=20).affordable(build=0.1, run=0.1) == 1
    for count in (0, 2, 4, 9):
        with pytest.raises(UsageError, match=f"{count} instances, expected 1, or 5 to 8"):
            Plan(instances=count)


def test_models_are_compared_by_several_instances(model, monkeypatch):
    monkeypatch.setattr(Plan, "affordable", lambda self, build, run: 8 if build > run > 0 else 1)
    found = compare([model("a.onnx", width=64), model("b.onnx", width=8)], replace(QUICK, rounds=40))
    assert found.batches == (5,) * 8 and found.rounds == 40


def test_intervals_of_ratios_cover_the_truth_though_rounds_in_a_row_are_alike():
    chance, covers = np.random.default_rng(0), []
    for _ in range(300):
        levels = np.repeat(chance.normal(0, 0.01, 8), 20)  # of instances
        first, own = np.exp(chance.normal(0, 0.05, 160)), 1.1 * np.exp(levels + chance.normal(0, 0.05, 160))
        found = ratio_interval(own, first, [20] * 8)
        covers.append(found.low <= 1.1 <= found.high)
    assert 0.92 <= np.mean(covers) <= 0.98


def test_of_one_instance_it_is_the_median():
    chance = np.random.default_rng(0)
    times, first = chance.exponential(1, 31), chance.exponential(1, 31)
    assert ratio_interval(times, first, [31]) == median_interval(times / first)


@pytest.mark.parametrize("count", STUDENT)
def test_quantiles_of_student(count):
    assert STUDENT[count] == pytest.approx(stats.t.ppf(0.975, count - 1), abs=5e-4)


def test_the_interval_holds_the_median_and_narrows():
    rng = np.random.default_rng(0)
    few, many = (median_interval(rng.normal(10, 1, n)) for n in (20, 2000))
    assert few.low < few.median < few.high and many.low < many.median < many.high
    assert many.high - many.low < (few.high - few.low) / 3
    assert median_interval(np.array([1.0, 5.0, 2.0])).median == 2


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(1)
    found = [median_interval(rng.exponential(1, 31)) for _ in range(100)]
    covered = sum(i.low <= np.log(2) <= i.high for i in found)
    assert 88 <= covered <= 100


def test_the_interval_is_the_same_every_time():
    samples = np.random.default_rng(0).normal(size=50)
    assert median_interval(samples) == median_interval(samples)


@pytest.mark.parametrize(("count", "share"), [(30, 0.5), (200, 0.9), (500, 0.99)])
def test_intervals_of_quantiles_cover_the_truth(count, share):
    rng = np.random.default_rng(2)
    found = [quantile_interval(rng.exponential(1, count), share) for _ in range(300)]
    covered = sum(i.low <= -np.log1p(-share) <= i.high for i in found)
    assert 0.93 <= covered / 300 <= 1


def test_tails_that_so_few_cannot_tell_are_open():
    assert quantile_interval(np.arange(60.0), 0.99).high == np.inf
    assert np.isfinite(quantile_interval(np.arange(1000.0), 0.99).high)


def test_the_longest_run_covers_as_much_as_it_says():
    rng = np.random.default_rng(3)
    largest = rng.uniform(size=(4000, 50)).max(1)  # of a uniform distribution a value is its own quantile
    assert 0.94 < np.mean(largest >= covered(50)) < 0.96


def test_spread_is_relative():
    assert spread(np.array([8.0, 10.0, 12.0])) == pytest.approx(0.2)
    assert spread(np.zeros(3)) == 0


def test_data_files_count(tmp_path):
    onnx.save(perceptron(8), tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    assert [path.name for path in model_files(tmp_path / "m.onnx")] == ["m.onnx", "w.bin"]
    assert disk_bytes(tmp_path / "m.onnx") == sum((tmp_path / name).stat().st_size for name in ("m.onnx", "w.bin"))
