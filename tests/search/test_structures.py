"""Grids of real groups, repair to a budget, and masks of structures."""

import re
from dataclasses import dataclass
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
        most = int(0.7 * group.size + 1e-9)
        expected = {min(most, max(1, int(np.floor(k * group.size / 10 + 0.5)))) for k in range(1, 8)}
        assert list(found) == sorted(expected)
        cut = Widths(0.7, compat="released").of(group)
        assert list(cut) == [max(1, int(k * group.size / 10)) for k in range(1, 8)]


def test_widths_are_multiples(analysis):
    group = max(analysis.groups, key=lambda g: g.size)
    found = Widths(0.5, Limits(round_to=8, min_keep=16)).of(group)
    assert found == tuple(range(16, group.size // 2 + 1, 8))


def test_grids_that_contradict_themselves(analysis):
    with pytest.raises(UsageError, match="the largest share is 0, expected one in"):
        Widths(0)
    first = Structures(analysis, Widths(), {}).groups[0]
    with pytest.raises(
        UsageError, match=rf"group '{first.name}': at least {first.size} of its .* the nearest share is 1"
    ):
        Structures(analysis, Widths(0.1, Limits(min_keep=64)), {})


@dataclass
class Size:
    """All that widths ask of a group."""

    size: int
    name: str = "conv.out"


@given(size=st.integers(1, 300), most=st.floats(0.01, 1), step=st.sampled_from([1, 4, 8]), least=st.integers(1, 20))
def test_widths_never_exceed_the_largest_share(size, most, step, least):
    try:
        found = Widths(most, Limits(step, least)).of(Size(size))
    except UsageError as error:
        nearest = float(re.search("the nearest share is (.*)", error.what)[1])
        assert nearest > most and Widths(min(nearest, 1.0), Limits(step, least)).of(Size(size))
        return
    assert found == tuple(sorted(set(found))) and found[0] >= min(size, least)
    assert found[-1] <= most * size + 1e-5
    if step == least == 1:
        assert found[-1] == int(most * size + 1e-6), "the share itself is among them"


@pytest.mark.parametrize(
    ("most", "limits", "size", "nearest"),
    [(0.3, Limits(8), 24, "0.3334"), (0.04, Limits(), 24, "0.0417"), (0.5, Limits(8), 6, "1")],
)
def test_a_contradictory_grid_names_the_group_and_the_nearest(most, limits, size, nearest):
    with pytest.raises(UsageError, match=rf"group 'conv.out': at least .* the nearest share is {nearest}\n") as error:
        Widths(most, limits).of(Size(size))
    assert "raise the largest share" in error.value.fix


def test_three_quarters_are_three_quarters():
    assert Widths(0.75).of(Size(100)) == (10, 20, 30, 40, 50, 60, 70, 75)


@pytest.mark.parametrize("limits", [Limits(round_to=8), Limits(min_keep=2), Limits(min_share=0.2)])
def test_the_released_code_has_no_limits(limits):
    with pytest.raises(UsageError, match="expected no limits: the released code knows none"):
        Widths(0.7, limits, "released")
    with pytest.raises(UsageError, match="expected a multiple of a tenth"):
        Widths(0.75, compat="released")


def test_widths_by_patterns(analysis):
    names = [group.name for group in Structures(analysis, Widths(), {}).groups]
    structures = Structures(analysis, {names[0]: (8, 4), names[1][:-1] + "?": [3]}, {})
    assert [g.name for g in structures.groups] == names[:2] and structures.grid.widths == ((4, 8), (3,))
    kept = {g.name: int(g.kept.sum()) for g in structures.mask((1, 0), {}).groups}
    assert kept[names[0]] == 8 and kept[names[1]] == 3
    sizes = {group.name: group.size for group in analysis.groups}
    assert all(kept[name] == sizes[name] for name in names[2:]), "the others stay whole"


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        ({}, "the grid has no group"),
        ({"nothing*": (8,)}, r"widths 'nothing\*': \(8,\), expected at least one width and a pattern of groups"),
        ({"*": ()}, r"widths '\*': \(\), expected at least one width"),
        ({"*": (0, 4)}, "width 0 by .*, expected whole numbers from 1 to its"),
        ({"*": (4, 10_000)}, "width 10000 by .*, expected whole numbers from 1 to its"),
        ({"*": (2.5,)}, r"width 2\.5 by .*, expected whole numbers"),
        ({"*": (2, 4), "*?": (2,)}, r"group '.*': widths \(2,\) by '\*\?', but \(2, 4\) by another pattern"),
    ],
)
def test_widths_that_contradict_themselves(analysis, widths, message):
    with pytest.raises(UsageError, match=message):
        Structures(analysis, widths, {})


def test_scaled_structures_stay_alike(analysis):
    structures = Structures(analysis, Widths(), {"macs": 0.5})
    levels = structures.grid.levels
    scaled = structures.scaled(tuple(int(level) - 1 for level in levels))
    for count in set(levels.tolist()):
        assert len({place for place, own in zip(scaled, levels, strict=True) if own == count}) == 1
    filled = structures.repair(tuple(int(level) - 1 for level in levels))
    assert structures.fits(scaled) and all(a <= b for a, b in zip(scaled, filled, strict=True)) and scaled != filled


def test_a_target_out_of_reach_names_the_nearest(analysis):
    with pytest.raises(
        UsageError, match=r"no structure meets macs=0\.0001: with these widths the least is macs=0\.\d+"
    ):
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

    unmeasured, engine = (), "slow"

    def __init__(self, name):
        self.name = name

    def share(self, units):
        stay = units[self.name]
        return -(-int(stay.sum()) // 8) * 8 / stay.size

    def correction(self, units):
        return 1.0


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
    with pytest.raises(
        UsageError, match=r"no structure meets latency=0\.01: with these widths the least is latency=0\.\d+"
    ):
        Structures(analysis, Widths(), {}, time=TimeLimit(0.01, Slow(first.name)))
    with pytest.raises(UsageError, match="latency is 2, expected a share"):
        TimeLimit(2, Slow(first.name))
