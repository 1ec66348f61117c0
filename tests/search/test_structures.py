"""Grids of real groups, repair to a budget, and masks of structures."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import onnxprune
from onnxprune.errors import UsageError
from onnxprune.mask import removed_units
from onnxprune.ranking import Limits, shares
from onnxprune.search.structures import Structures, TimeLimit, Widths

MODEL = Path(__file__).parents[2] / "models" / "zoo" / "resnet11_cifar10.onnx"


@pytest.fixture(scope="module")
def analysis():
    return onnxprune.analyze(onnxprune.load(MODEL))


def test_widths_are_tenths(analysis):
    for group in Structures(analysis, Widths(0.7), {}).groups:
        found = Widths(0.7).of(group)
        expected = sorted({max(1, int(np.floor(k * group.size / 10 + 0.5))) for k in range(1, 8)})
        assert list(found) == expected
        cut = Widths(0.7, compat="released").of(group)
        assert list(cut) == [max(1, int(k * group.size / 10)) for k in range(1, 8)]


def test_widths_are_multiples(analysis):
    group = max(analysis.groups, key=lambda g: g.size)
    found = Widths(0.5, Limits(round_to=8, min_keep=16)).of(group)
    assert found == tuple(range(16, group.size // 2 + 1, 8))


def test_grids_that_contradict_themselves(analysis):
    with pytest.raises(UsageError, match="the largest share is 0, expected one in"):
        Widths(0)
    with pytest.raises(UsageError, match=r"at least 64 of its .* units are to stay, and at most 0.1 of them"):
        Structures(analysis, Widths(0.1, Limits(min_keep=64)), {})


def test_a_target_out_of_reach_names_the_nearest(analysis):
    with pytest.raises(UsageError, match=r"no structure meets macs=0\.0001: the least is macs=0\.\d+"):
        Structures(analysis, Widths(), {"macs": 0.0001})


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), target=st.sampled_from([0.2, 0.5, 0.8]))
def test_repaired_structures_just_fit(analysis, seed, target):
    structures = Structures(analysis, Widths(), {"macs": target})
    found = structures.repair(structures.grid.random(np.random.default_rng(seed)))
    assert structures.fits(found) and structures.repair(found) == structures.repair(found)
    mask = structures.mask(found, {"method": "test"})
    left = shares(analysis, mask, ["macs"])["macs"]
    assert 0.75 * target < left <= target


def test_without_a_target_nothing_is_repaired(analysis):
    structures = Structures(analysis, Widths(), {})
    found = structures.grid.random(np.random.default_rng(0))
    assert structures.repair(found) == found


def test_the_mask_keeps_the_widths(analysis):
    structures = Structures(analysis, Widths(), {}, score="random", seed=3)
    found = structures.grid.random(np.random.default_rng(0))
    mask = structures.mask(found, {"method": "test"})
    kept = {g.name: int(g.kept.sum()) for g in mask.groups}
    assert all(kept[name] == width for name, width in structures.named(found).items())
    assert removed_units(mask).any() and mask.provenance["score"] == "random"


def test_groups_can_stay_whole(analysis):
    name = analysis.groups[0].name
    assert name not in [g.name for g in Structures(analysis, Widths(), {}, exclude=[name]).groups]


def test_random_units_are_drawn_for_every_judgement(analysis):
    structures = Structures(analysis, Widths(), {"macs": 0.5}, score="random")
    found = structures.repair(structures.grid.random(np.random.default_rng(0)))
    one, again, other = (structures.mask(found, {}, seed) for seed in (1, 1, 2))
    assert one == again and not np.array_equal(removed_units(one), removed_units(other))
    widths = [{g.name: int(g.kept.sum()) for g in mask.groups} for mask in (one, other)]
    assert widths[0] == widths[1] == structures.named(found)
    fixed = Structures(analysis, Widths(), {"macs": 0.5})
    assert fixed.mask(found, {}, 1) == fixed.mask(found, {}, 2)


class Slow:
    """A clock by which the first group alone takes time, and the same for up to eight units."""

    unmeasured = ()

    def __init__(self, name):
        self.name = name

    def share(self, units):
        stay = units[self.name]
        return -(-int(stay.sum()) // 8) * 8 / stay.size

    measured = share


def test_limits_of_time_are_met_by_repair(analysis):
    first = Structures(analysis, Widths(), {}).groups[0]
    structures = Structures(analysis, Widths(), {"macs": 0.8}, time=TimeLimit(0.5, Slow(first.name)))
    for seed in range(10):
        found = structures.repair(structures.grid.random(np.random.default_rng(seed)))
        shares = structures.shares(found)
        assert structures.fits(found) and shares["latency"] <= 0.5 and shares["macs"] <= 0.8
    assert structures.mask(found, {}).provenance["target"] == {"macs": 0.8, "latency": 0.5}


def test_times_out_of_reach_name_the_nearest(analysis):
    first = Structures(analysis, Widths(), {}).groups[0]
    with pytest.raises(UsageError, match=r"no structure meets latency=0\.01: the least is latency=0\.\d+"):
        Structures(analysis, Widths(), {}, time=TimeLimit(0.01, Slow(first.name)))
    with pytest.raises(UsageError, match="latency is 2, expected a share"):
        TimeLimit(2, Slow(first.name))
