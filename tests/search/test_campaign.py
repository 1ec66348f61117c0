"""Campaigns: streams of the samplers' own, equal evaluations, failing controls, and what the journals tell."""

import json
from pathlib import Path

import pytest

import onnxprune
from benchmarks.surrogate import Surrogate, surrogate
from onnxprune.errors import TrainingError, UsageError
from onnxprune.search.bees import Colony
from onnxprune.search.campaign import BEES, CONTROLS, Plan, campaign, told
from onnxprune.search.comparison import compared, winner
from onnxprune.search.executors import InProcess, Processes, Workers
from onnxprune.search.structures import Structures, Widths

MODEL = Path(__file__).parents[2] / "models" / "zoo" / "resnet11_cifar10.onnx"
SAMPLERS = (BEES, *CONTROLS)


@pytest.fixture(scope="module")
def structures():
    return Structures(onnxprune.analyze(onnxprune.load(MODEL)), Widths(), {"macs": 0.5})


def structures_of(evaluations):
    return [e.structure for e in evaluations]


def test_no_two_samplers_begin_alike(structures):
    first = {name: Plan().sampler(name, structures, 0).ask() for name in SAMPLERS}
    for name in SAMPLERS:
        assert first[name] == Plan().sampler(name, structures, 0).ask()
        if name != "uniform":
            assert first[name] != Plan().sampler(name, structures, 1).ask()
            shared = {s for other in SAMPLERS if other != name for s in first[other]} & set(first[name])
            assert len(shared) <= 1


def test_the_same_in_processes(structures):
    plan = Plan(14, controls=("random",))
    with Processes(Surrogate(), Workers(2)) as executor:
        spread = campaign(structures, executor, plan)
    alone = campaign(structures, InProcess(Surrogate()), plan)
    for name in (BEES, "random"):
        assert structures_of(spread[name][0]) == structures_of(alone[name][0])


def test_all_but_uniform_have_equal_evaluations(structures):
    found = campaign(structures, InProcess(Surrogate()), Plan(60, colony=Colony(2, 5)))
    assert {name: len(seeds[0]) for name, seeds in found.items() if name != "uniform"} == {
        name: 60 for name in SAMPLERS if name != "uniform"
    }


def test_uniform_widths_are_not_filled(structures):
    (first, *_) = Plan().sampler("uniform", structures, 0).ask()
    levels = structures.grid.levels.tolist()
    for count in set(levels):
        assert len({place for place, own in zip(first, levels, strict=True) if own == count}) == 1


class Refusing:
    """Fails in some structures."""

    def __init__(self, refused):
        self.refused = refused

    def __call__(self):
        return self.judge

    def judge(self, job):
        if self.refused(job.structure):
            raise ValueError("will not")
        return {"score": surrogate(job.structure)}


def test_a_failing_control_is_told_and_the_others_go_on(structures):
    even = set(Plan().sampler("uniform", structures, 0).ask())
    found = campaign(structures, InProcess(Refusing(lambda s: s in even)), Plan(12))
    assert len(found[BEES][0]) == 12 and set(found) == set(SAMPLERS)
    row = next(row for row in compared(found) if row.sampler == "uniform")
    assert row.scores == (None,) and row.mean is row.margin is row.lead is None
    assert row.text == "nothing was judged to the end; the first failure: ValueError: will not"
    content = told(found, structures, winner(found))
    assert content["failures"]["uniform"] == {"count": [len(found["uniform"][0])], "first": "ValueError: will not"}
    json.dumps(content, allow_nan=False)


def test_failing_bees_do_not_stop_their_controls(structures):
    begun = set(Plan(colony=Colony(2)).sampler(BEES, structures, 0).ask())
    found = campaign(structures, InProcess(Refusing(lambda s: s in begun)), Plan(2, colony=Colony(2)))
    assert all(e.failure for e in found[BEES][0]) and not winner(found).failure
    texts = {row.sampler: row.text for row in compared(found)}
    assert texts[BEES].startswith("nothing was judged") and texts["random"] == "in no seed both were judged to the end"
    assert BEES not in told(found, structures, winner(found))["winner"]["proposed_by"]


@pytest.mark.parametrize(("evaluations", "failed"), [(30, 10), (2, 2 * 3 + 1)])
def test_where_everything_fails_it_stops_with_the_first_error(structures, evaluations, failed):
    with pytest.raises(TrainingError, match=f"all of the first {failed} evaluations failed; the first: ValueError: wi"):
        campaign(structures, InProcess(Refusing(lambda s: True)), Plan(evaluations))


def test_halving_in_a_campaign(structures, tmp_path):
    plan = Plan(20, controls=("random",), rungs=(0.25, 0.5, 1.0), efforts=4)
    found = campaign(structures, InProcess(Surrogate()), plan, tmp_path)
    assert winner(found).rung == 2
    head = json.loads((tmp_path / "bees-0.jsonl").read_text().splitlines()[0])
    assert head["rungs"] == [0.25, 0.5, 1.0]
    assert Plan(rungs=(0.25, 0.5, 1.0), efforts=3).budget(0).rungs == pytest.approx((1 / 3, 2 / 3, 1))
    with pytest.raises(UsageError, match="a fitness that knows no less"):
        Plan(rungs=(0.25, 0.5, 1.0))


@pytest.mark.parametrize("seeds", [(), (1, 1), (-1,)])
def test_seeds_that_are_none(seeds):
    with pytest.raises(UsageError, match="expected at least one, all different, none below 0"):
        Plan(seeds=seeds)


def test_a_control_that_is_unknown():
    with pytest.raises(UsageError, match="unknown control 'luck'"):
        Plan(controls=("luck",))
