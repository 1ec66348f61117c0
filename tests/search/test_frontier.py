"""Frontiers: nothing on them is beaten, and what beats everything else is on them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxprune.search.frontier import Point, frontier, limits

PLACES = st.integers(0, 8).map(lambda n: n / 8)


@given(st.lists(st.builds(Point, st.just("bees"), PLACES, PLACES, st.just({})), min_size=1))
def test_what_nothing_beats(judged):
    best = frontier(judged)
    for point in judged:
        beaten = any(
            other.share <= point.share
            and other.score >= point.score
            and (other.share, other.score) != (point.share, point.score)
            for other in judged
        )
        assert ((point.share, point.score) in {(p.share, p.score) for p in best}) == (not beaten)
    assert [p.share for p in best] == sorted({p.share for p in best})


def test_ties_are_credited_to_all():
    same = [Point(name, 0.5, 0.9, {"a": 1}) for name in ("bees", "random", "bees")]
    equal = Point("uniform", 0.5, 0.9, {"a": 2})
    noisy = Point("evolution", 0.5, 0.8, {"a": 1})
    wide = Point("random", 0.7, 0.95, {"a": 3})
    assert [p.sampler for p in frontier([*same, equal, noisy, wide])] == ["bees, random, uniform, evolution", "random"]


def test_limits_go_up_to_the_whole():
    assert limits(0.4, 3) == pytest.approx([0.4, 0.6, 0.8])
