"""Which of many models to take: what beats what, and which measurements may be put side by side."""

import json
from dataclasses import replace

import pytest

from onnxprune.errors import UsageError
from onnxprune.latency import Interval
from onnxprune.report import choose, render, sheet
from onnxprune.report.choice import choice_table, verdict
from tests.report.samples import timed
from tests.timings import comparison, timing


def model(name, ratio, macs=100, spread=0.01, **more):
    interval = Interval(ratio, ratio * (1 - spread), ratio * (1 + spread))
    return replace(timing(name, ratio, ratio, ratio, ratio), ratio=interval, macs=macs, **more)


FIRST = replace(model("dense", 1.0, 1000), ratio=Interval(1.0, 1.0, 1.0), sha256={"dense": "ab"})


def unbeaten(choice):
    return {each.name: each.beaten_by or each.unbeaten for each in choice.candidates}


def test_time_and_accuracy():
    models = (FIRST, model("a", 0.5), model("b", 0.6), model("c", 0.4), model("d", 0.503))
    accuracy = {"dense": 0.9, "a": 0.8, "b": 0.7, "c": 0.5, "d": 0.75}
    found = choose([comparison(*models)], accuracy)
    assert found.criteria == ("time", "accuracy")
    assert unbeaten(found) == {"dense": True, "a": True, "b": "a", "c": True, "d": "a"}


def test_a_time_that_is_not_surely_longer_beats_nothing():
    models = (FIRST, model("a", 0.50), model("b", 0.505))
    found = choose([comparison(*models)], {"dense": 0.9, "a": 0.8, "b": 0.8})
    assert unbeaten(found) == {"dense": True, "a": True, "b": True}
    surely = (FIRST, model("a", 0.50, spread=0.001), model("b", 0.505, spread=0.001))
    assert unbeaten(choose([comparison(*surely)], {"dense": 0.9, "a": 0.8, "b": 0.8}))["b"] == "a"
    noisy = replace(comparison(*surely), floor=Interval(1.0, 0.95, 1.05))
    assert unbeaten(choose([noisy], {"dense": 0.9, "a": 0.8, "b": 0.8}))["b"] is True


def test_models_without_an_accuracy_are_not_judged():
    found = choose([comparison(FIRST, model("a", 0.5), model("b", 2.0))], {"dense": 0.9, "a": 0.8})
    assert unbeaten(found) == {"dense": True, "a": True, "b": None}
    assert verdict(found) == (
        "Nothing beats, in time and accuracy: dense, a. Not judged, as their accuracy is not known: b."
    )
    (row,) = [row for row in choice_table(found).rows if row[0] == "b"]
    assert row[-2:] == ("-", "not judged")


def test_without_accuracies_models_are_judged_by_their_costs():
    found = choose(
        [comparison(FIRST, model("fewer, slower", 1.2, 500), model("better", 0.5, 400), model("c", 0.6, 300))]
    )
    assert found.criteria == ("time", "macs", "params", "bytes")
    assert unbeaten(found) == {"dense": "better", "fewer, slower": "better", "better": True, "c": True}
    assert "No accuracy is known." in verdict(found)


def test_several_measurements_of_the_same_first_model():
    one, two = comparison(FIRST, model("a", 0.5)), comparison(FIRST, model("b", 0.4))
    found = choose([one, two], {"dense": 0.9, "a": 0.8, "b": 0.85})
    assert [each.name for each in found.candidates] == ["dense", "a", "b"]
    assert unbeaten(found) == {"dense": True, "a": "b", "b": True}
    titles = [table.title for table in sheet(found).tables]
    assert titles.count("Facts of the measurement") == 2


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"models": (replace(FIRST, sha256={"dense": "cd"}), model("b", 0.4))}, "compares with dense, another with"),
        ({"device": "another"}, "device is '' in one and 'another' in another"),
        ({"runtime": "onnxruntime 2.0"}, "runtime is 'onnxruntime 1.0' in one"),
        ({"threads": 4}, "threads is 0 in one and 4 in another"),
        ({"models": (FIRST, model("a", 0.4))}, "two models are called 'a'"),
    ],
)
def test_measurements_that_do_not_belong_together(change, why):
    one = comparison(FIRST, model("a", 0.5))
    two = replace(comparison(FIRST, model("b", 0.4)), **change)
    with pytest.raises(UsageError, match=why):
        choose([one, two])


def test_an_accuracy_of_no_model():
    with pytest.raises(UsageError, match="an accuracy is given of 'x'; the models are dense, a"):
        choose([comparison(FIRST, model("a", 0.5))], {"x": 0.5})


def test_the_table_begins_with_the_fastest_and_says_who_beats_whom():
    found = choose([comparison(FIRST, model("a", 0.5), model("b", 0.6))], {"dense": 0.9, "a": 0.8, "b": 0.7})
    rows = choice_table(found).rows
    assert [row[0] for row in rows] == ["a", "b", "dense"]
    assert [row[-1] for row in rows] == ["yes", "no: a does", "yes"]


@pytest.mark.parametrize("accuracy", [{"m0.onnx": 0.9, "m1.onnx": 0.85, "m2.onnx": 0.8}, {}])
def test_it_is_drawn_with_every_name(accuracy, tmp_path):
    found = choose([timed(0.004, 0.002, 0.003)], accuracy)
    plots = {part.title: part for part in sheet(found).parts if hasattr(part, "drawing")}
    plot = plots["Accuracy and time" if accuracy else "Work and time"]
    assert all(f">{name}</text>" in plot.drawing for name in ("m0.onnx", "m1.onnx", "m2.onnx"))
    assert ('class="frontier"' in plot.drawing) == bool(accuracy)
    content = json.loads(render(found, tmp_path / "r.json"))
    assert (content["format"], content["version"]) == ("onnxprune-compare", 1)
    assert len(content["measurements"][0]["models"][2]["times"]) == 400
