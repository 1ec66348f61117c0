"""Latency as a target, in a runtime that is made up."""

from pathlib import Path

import pytest

import onnxprune
from onnxprune.budget import candidates
from onnxprune.errors import UsageError
from onnxprune.latency.prediction import Latency
from onnxprune.latency.target import LEAST, choose_within
from onnxprune.ranking import shares
from tests.latency.pretended import BLOCK, pretend

ZOO = Path(__file__).parents[2] / "models" / "zoo" / "resnet11_cifar10.onnx"


@pytest.fixture(scope="module")
def analysis():
    return onnxprune.analyze(onnxprune.load(ZOO))


@pytest.fixture
def runtime(monkeypatch):
    pretend(monkeypatch)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_the_promise_holds_and_the_time_is_used(analysis, runtime, share):
    latency = Latency(analysis)
    kept = choose_within(latency, share, candidates(analysis))
    assert LEAST * share <= kept.ratio.high <= share
    assert kept.mask.provenance["target"] == {"latency": share}
    once = latency.ratio({g.name: m.kept for g, m in zip(analysis.groups, kept.mask.groups, strict=True)})
    assert kept.ratio.median == pytest.approx(once.median)
    assert kept.ratio.half_width < once.half_width, "what may be the last is measured twice"


def test_widths_are_whole_steps_or_whole(analysis, runtime):
    kept = choose_within(Latency(analysis), 0.5, candidates(analysis)).mask
    for group in kept.groups:
        assert group.kept.sum() % BLOCK == 0 or group.kept.all() or group.size < 2 * BLOCK
    assert not kept.removes_nothing


def test_other_resources_are_limited_as_well(analysis, runtime):
    kept = choose_within(Latency(analysis), 0.6, candidates(analysis), {"params": 0.4})
    assert kept.ratio.high <= 0.6 and shares(analysis, kept.mask, ["params"])["params"] <= 0.4
    assert kept.mask.provenance["target"] == {"params": 0.4, "latency": 0.6}


def test_limits_and_exclusions_hold(analysis, runtime):
    first = analysis.groups[2].name
    kept = choose_within(Latency(analysis), 0.5, candidates(analysis, exclude=[first], min_share=0.3)).mask
    for group in kept.groups:
        assert group.kept.mean() >= 0.3 and (group.name != first or group.kept.all())


def test_what_no_structure_reaches_is_refused_with_the_least(analysis, runtime):
    with pytest.raises(UsageError, match=r"no structure was measured within latency=0.001: the least was 0\.0\d+"):
        choose_within(Latency(analysis), 0.001, candidates(analysis))


@pytest.mark.parametrize("share", [0, 1.5, -1])
def test_what_is_no_share_is_refused(analysis, runtime, share):
    with pytest.raises(UsageError, match="expected a share"):
        choose_within(Latency(analysis), share, candidates(analysis))


def test_all_of_the_time_is_all_of_the_network(analysis, runtime):
    """Nothing is faster than a network that is whole steps already, and it may take all of its time."""
    kept = choose_within(Latency(analysis), 1.0, candidates(analysis))
    assert kept.ratio.high <= 1.0


def test_progress_is_told(analysis, runtime):
    told = []
    choose_within(Latency(analysis), 0.5, candidates(analysis), told=lambda what, done: told.append((what, done)))
    assert list(dict.fromkeys(what for what, _ in told)) == ["timing widths", "timing layers", "measuring structures"]
    assert all(0 <= done <= 1 for _, done in told)
