"""Grids: their arithmetic, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxprune.errors import UsageError
from onnxprune.search.grid import Grid, Space

GRID = Grid(((1, 3, 5), (2, 4)))


def test_widths_and_counts():
    assert GRID.count == 6 and GRID.levels.tolist() == [3, 2]
    assert GRID.widths_of((2, 0)) == [5, 2]


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=2))
def test_nearest_is_nearest_and_inside(places):
    found = GRID.nearest(places)
    for place, wanted, levels in zip(found, places, GRID.levels, strict=True):
        assert abs(place - wanted) == pytest.approx(min(abs(k - wanted) for k in range(levels)), abs=1e-9)


def test_of_two_as_near_the_wider():
    assert GRID.nearest([0.5, 0.5]) == (1, 1)


def test_a_space_gives_new_structures_within_its_limits():
    rng = np.random.default_rng(0)
    space = Space(GRID, lambda structure: (min(structure[0], 1), structure[1]))
    found = [space.fresh(lambda: GRID.random(rng)) for _ in range(5)]
    assert found.count(None) == 1 and set(found) - {None} == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_what_chance_does_not_find_is_found_one_by_one():
    """Repaired, all but two of 1,024 structures are the same."""
    rare = {(0,) * 10, (1,) * 10}
    space = Space(Grid(((1, 2),) * 10), lambda structure: structure if structure in rare else (0,) * 9 + (1,))
    found = space.batch(np.random.default_rng(0), 5)
    assert len(found) == 3 and set(found) == {*rare, (0,) * 9 + (1,)}


def test_a_large_grid_that_is_exhausted():
    space = Space(Grid((tuple(range(1, 11)),) * 30), lambda structure: (structure[0] % 2,) * 30)
    assert sorted(space.batch(np.random.default_rng(0), 5)) == [(0,) * 30, (1,) * 30]


def test_an_empty_grid():
    with pytest.raises(UsageError, match="the grid has no group"):
        Grid(())


@pytest.mark.parametrize("widths", [(), (0, 1), (2, 1)])
def test_a_group_that_cannot_be(widths):
    with pytest.raises(UsageError, match=r"group 1 of the grid has widths .*, expected ascending"):
        Grid(((1,), widths))
