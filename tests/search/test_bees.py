"""The bees: as published but for the released code's faults, and those faults in `released_bees`."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchmarks.surrogate import DIMENSIONS, LEVELS, surrogate
from onnxprune.errors import UsageError
from onnxprune.search.bees import Colony, Source, attraction, bees, look, onlookers
from onnxprune.search.controls import evolution, random, uniform
from onnxprune.search.evaluation import FAILED
from onnxprune.search.grid import Grid, Space
from onnxprune.search.released import cut_look, released_bees
from onnxprune.search.sampler import Sampler

GRID = Grid((tuple(range(1, LEVELS + 1)),) * DIMENSIONS)


def played(steps, evaluations):
    """Structures in the order in which they were asked for, and their scores."""
    sampler, asked, scores = Sampler(steps), [], []
    while len(asked) < evaluations and (batch := sampler.ask()):
        found = [surrogate(structure) for structure in batch]
        asked, scores = asked + batch, scores + found
        sampler.tell(ranks(found))
    return asked[:evaluations], scores[:evaluations]


def ranks(scores):
    """Of one rung."""
    return [(0, score) for score in scores]


ALGORITHMS = {"bees": bees, "random": random, "evolution": evolution}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_nothing_is_proposed_twice(name):
    asked, _ = played(ALGORITHMS[name](Space(GRID), np.random.default_rng(0)), 1000)
    assert len(asked) == len(set(asked)) == 1000


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_small_grid_is_searched_to_its_end(name):
    for grid in (Grid(((1, 2), (3, 4, 5), (7,))), Grid((tuple(range(1, 8)),) * 3)):
        asked, _ = played(ALGORITHMS[name](Space(grid), np.random.default_rng(0)), 1000)
        assert len(asked) == len(set(asked)) == grid.count


@pytest.mark.parametrize("seed", range(5))
def test_bees_go_on_while_there_is_something_new(seed):
    """A small colony in a large grid is soon alike; scouts go on."""
    space = Space(Grid((tuple(range(1, 11)),) * 3))
    asked, _ = played(bees(space, np.random.default_rng(seed), Colony(2, 5)), 200)
    assert len(asked) == len(set(asked)) == 200


@pytest.mark.parametrize("name", [*ALGORITHMS, "released"])
def test_equal_seeds_give_equal_searches(name):
    algorithm = ALGORITHMS.get(name, released_bees)
    one, two, other = (played(algorithm(Space(GRID), np.random.default_rng(seed)), 100)[0] for seed in (3, 3, 4))
    assert one == two != other


def test_every_dimension_is_mutated_alike():
    rng, space = np.random.default_rng(1), Space(GRID)
    hive = [Source(GRID.random(rng), (0, 0.5)) for _ in range(10)]
    moved = Counter()
    for _ in range(4000):
        own, new = np.array(hive[0].structure), np.array(look(hive, 0, space, rng))
        moved.update(np.flatnonzero(own != new).tolist())
        assert (own != new).sum() <= 2
    able = [d for d in range(DIMENSIONS) if any(s.structure[d] != hive[0].structure[d] for s in hive)]
    assert set(moved) == set(able)
    assert min(moved[d] for d in able) > 40


def test_a_look_is_rounded_to_the_nearest_level():
    rng, space = np.random.default_rng(2), Space(GRID)
    hive = [Source((3,) * DIMENSIONS, (0, 0.5)), Source((5,) * DIMENSIONS, (0, 0.5))]
    steps = np.concatenate([np.array(look(hive, 0, space, rng)) - 3 for _ in range(6000)])
    counts = [int((steps == s).sum()) for s in (-2, -1, 1, 2)]
    # R (3 - 5) is uniform in [-2, 2]: 1 is nearest in a quarter of it, 2 in an eighth.
    assert stats.chisquare(counts, np.array([1, 2, 2, 1]) / 6 * sum(counts)).pvalue > 1e-3
    assert stats.ttest_1samp(steps, 0).pvalue > 1e-3


def test_scouts_are_uniform():
    """With a limit of 1 and scores that never get better every cycle sends a scout."""
    grid = Grid((tuple(range(1, 6)),) * 3)
    counts = np.zeros((3, 5))
    for seed in range(300):
        sampler = Sampler(bees(Space(grid), np.random.default_rng(seed), Colony(2, 1)))
        batch = sampler.ask()
        sampler.tell(ranks([1.0] * len(batch)))
        while len(batch := sampler.ask()) > 1:
            sampler.tell(ranks([0.0] * len(batch)))
        for d, place in enumerate(batch[0]):
            counts[d, place] += 1
    assert counts.sum(1).tolist() == [300, 300, 300]
    assert min(stats.chisquare(row).pvalue for row in counts) > 1e-3


def test_a_source_moves_only_to_what_is_strictly_better():
    steps = bees(Space(GRID), np.random.default_rng(0), Colony(3, 100))
    first = next(steps)
    near = steps.send(ranks([0.5, 0.5, 0.5]))
    onlooking = steps.send(ranks([0.5, 0.6, 0.4]))
    assert len(first) == len(near) == len(onlooking) == 3
    hive = (first[0], near[1], first[2])
    moved = [min(sum(a != b for a, b in zip(new, old, strict=True)) for old in hive) for new in onlooking]
    assert max(moved) <= 2


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_attraction_is_the_released_codes(scores):
    best = max(scores)
    expected = [0.9 * score / best + 0.1 if best else 0.1 for score in scores]
    assert attraction(ranks(scores)) == pytest.approx(expected)


def test_attraction_of_failures_and_of_negative_scores():
    assert attraction([FAILED, (0, 0.5)]) == [0.1, 1.0]
    assert attraction(ranks([-3.0, -1.0, -2.0])) == pytest.approx([0.1, 1.0, 0.55])
    assert attraction([FAILED]) == [0.1]
    assert attraction(ranks([-1.7e308, 1.7e308])) == [0.1, 1.0]


def test_what_went_further_attracts_whatever_its_score():
    assert attraction([(0, 40.0), (1, 30.0), (1, 15.0)]) == pytest.approx([0.1, 1.0, 0.55])


def test_onlookers_go_where_it_is_good():
    hive = [Source((0,), (0, 0.1)), Source((1,), (0, 1.0)), Source((2,), (0, 0.0))]
    rng = np.random.default_rng(0)
    stops = Counter(i for _ in range(2000) for i in onlookers(hive, rng))
    assert sum(stops.values()) == 6000 and stops[1] > 4 * stops[0] and stops[0] > stops[2] > 0


def test_bees_beat_chance_at_equal_evaluations():
    wins = 0
    for seed in range(20):
        rngs = np.random.default_rng(seed), np.random.default_rng(1000 + seed)
        ours = max(played(bees(Space(GRID), rngs[0]), 300)[1])
        wins += ours > max(played(random(Space(GRID), rngs[1]), 300)[1])
    assert wins >= 14


def test_the_released_code_never_moves_the_last_dimension():
    rng, space = np.random.default_rng(0), Space(GRID)
    hive = [Source(GRID.random(rng), (0, 0.5)) for _ in range(10)]
    looks = np.array([cut_look(hive, 0, space, rng) for _ in range(3000)])
    assert (looks[:, -1] == hive[0].structure[-1]).all()
    assert (looks == np.array(hive[0].structure)).all(1).mean() > 0.05  # judged again
    assert (looks - np.array(hive[0].structure))[:, :-1].mean() < 0  # cut off, not rounded


def test_the_released_code_judges_again_what_it_knows():
    asked, _ = played(released_bees(Space(GRID), np.random.default_rng(0)), 500)
    assert len(set(asked)) < len(asked) == 500


def test_uniform_is_one_share_for_all():
    grid = Grid(((1, 2, 3), (10, 20, 30, 40, 50)))
    (batch,) = list(uniform(Space(grid), np.random.default_rng(0)))
    assert batch[0] == (2, 4) and batch[-1] == (0, 0) and (1, 2) in batch
    assert len(batch) == 5


@pytest.mark.parametrize("size", [(1, 5), (3, 0)])
def test_a_colony_too_small(size):
    with pytest.raises(UsageError, match=r"a colony of \d sources with limit \d, expected at least 2 and 1"):
        Colony(*size)
