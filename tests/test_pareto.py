"""What nothing beats: against the definition, and with costs that are known only roughly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxprune.pareto import beaten_by

COSTS = st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3), min_size=1, max_size=12)


def surely_beats(a, b):
    """`a` and `b` as pairs of low and high ends, cost by cost."""
    worse = any(low_a > high_b for (low_a, _), (_, high_b) in zip(a, b, strict=True))
    better = any(high_a < low_b for (_, high_a), (low_b, _) in zip(a, b, strict=True))
    return better and not worse


@given(COSTS, st.data())
def test_beaten_by_the_definition(costs, data):
    widths = data.draw(st.lists(st.integers(0, 2), min_size=len(costs), max_size=len(costs)))
    low = np.array(costs, float)
    high = low + np.array([[width, 0, 0] for width in widths], float)
    points = [list(zip(a, b, strict=True)) for a, b in zip(low.tolist(), high.tolist(), strict=True)]
    for point, found in zip(points, beaten_by(low, high), strict=True):
        beating = [k for k, other in enumerate(points) if surely_beats(other, point)]
        assert found == (beating[0] if beating else None)
    assert None in beaten_by(low, high), "something is always left, with one cost that is known roughly"


@pytest.mark.parametrize(
    ("low", "high", "found"),
    [
        ([[1.0, 5], [2.0, 5]], None, [None, 0]),
        ([[1.0, 5], [1.0, 5]], None, [None, None]),
        ([[1.0, 5], [1.1, 5]], [[1.2, 5], [1.3, 5]], [None, None]),
        ([[1.0, 5], [1.1, 4]], [[1.2, 5], [1.3, 4]], [1, None]),
    ],
)
def test_intervals_that_overlap_are_equal(low, high, found):
    assert beaten_by(np.array(low), None if high is None else np.array(high)) == found
