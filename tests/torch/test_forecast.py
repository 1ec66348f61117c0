"""Forecasts of scales, what they are good for, and when to prune."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from onnxprune.errors import TrainingError, UsageError
from onnxprune.torch.forecast import (
    FORECASTERS,
    TRIGGERS,
    EarlyBird,
    Exponential,
    FixedEpoch,
    ForecastConfidence,
    History,
    Holt,
    MovingAverage,
    agreement,
    chance_agreement,
    last,
    macs_saved,
    margins,
    scores,
)

SCALES = st.floats(0, 2, width=32)
HISTORIES = st.tuples(st.integers(1, 12), st.integers(1, 5)).flatmap(
    lambda shape: arrays(np.float32, shape, elements=SCALES)
)
HORIZONS = st.integers(1, 100)


def smallest(share: float):
    """Selects this share of the units, those of the smallest scales."""

    def select(scales: np.ndarray) -> np.ndarray:
        removed = np.zeros(len(scales), bool)
        removed[np.argsort(scales, kind="stable")[: round(share * len(scales))]] = True
        return removed

    return select


@given(HISTORIES)
def test_history_is_what_was_appended_also_from_a_checkpoint(scales):
    history = History()
    for row in scales:
        history.append(row)
    again = History.from_list(history.to_list())
    assert len(again) == len(scales) and np.array_equal(again.array, scales) and again.array.dtype == np.float32
    assert all(type(value) is float for row in history.to_list() for value in row)


def test_history_keeps_a_copy():
    history, scales = History(), np.ones(3, np.float32)
    history.append(scales)
    scales[:] = 0
    assert history.array.tolist() == [[1, 1, 1]] and History().array.shape == (0, 0)


def test_history_of_other_units_is_refused():
    history = History()
    history.append(np.ones(3))
    with pytest.raises(UsageError, match=r"epoch 2: expected scales of 3 units, got shape \(2,\)\n  fix: begin a new"):
        history.append(np.ones(2))


def test_history_of_a_diverged_training_is_refused():
    with pytest.raises(TrainingError, match=r"epoch 1: the scale of unit 1 is nan\n  fix: lower the learning rate"):
        History().append(np.array([1, np.nan]))


@pytest.mark.parametrize("name", FORECASTERS)
@given(value=SCALES, epochs=st.integers(1, 20), horizon=HORIZONS)
def test_what_never_changes_is_forecast_to_stay(name, value, epochs, horizon):
    got = FORECASTERS[name](np.full((epochs, 3), value, np.float32), horizon)
    np.testing.assert_allclose(got, np.full(3, value), rtol=1e-6)


@pytest.mark.parametrize("name", FORECASTERS)
@given(history=HISTORIES, horizon=HORIZONS)
def test_units_are_forecast_each_on_its_own(name, history, horizon):
    together = FORECASTERS[name](history, horizon)
    alone = [FORECASTERS[name](history[:, k : k + 1], horizon)[0] for k in range(history.shape[1])]
    assert together.shape == (history.shape[1],) and (together >= 0).all()
    np.testing.assert_allclose(together, alone, rtol=1e-6)


@given(HISTORIES, HORIZONS)
def test_last_is_the_last(history, horizon):
    assert np.array_equal(last(history, horizon), history[-1])


@given(HISTORIES, HORIZONS, st.integers(1, 8))
def test_moving_average_is_the_mean_of_the_window(history, horizon, window):
    want = np.mean([history[k] for k in range(max(0, len(history) - window), len(history))], 0, np.float64)
    np.testing.assert_allclose(MovingAverage(window)(history, horizon), want, rtol=1e-6)


@given(HISTORIES, HORIZONS, st.floats(0.1, 1))
def test_exponential_smoothing_is_a_weighted_mean(history, horizon, weight):
    ages = np.arange(len(history))[::-1]
    weights = np.where(ages == len(history) - 1, 1, weight) * (1 - weight) ** ages
    assert weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(Exponential(weight)(history, horizon), weights @ history, rtol=1e-5, atol=1e-7)


@given(st.floats(0.5, 2), st.floats(0.02, 0.2), st.integers(3, 6))
def test_holt_lets_a_line_run_into_zero_and_stay_there(start, slope, epochs):
    history = np.maximum(start - slope * np.arange(epochs), 0)[:, None]
    near, far = (Holt(level=1, trend=1, damping=1)(history, horizon)[0] for horizon in (2, 200))
    assert near == pytest.approx(max(start - slope * (epochs + 1), 0), abs=1e-9) or history[-1] == 0
    assert far == 0


@given(st.floats(0.5, 0.99), HORIZONS)
def test_holt_damps_the_trend(damping, horizon):
    got = Holt(level=1, trend=1, damping=damping)(np.array([[1.0], [1.01]]), horizon)[0]
    # The second scale is not the expected 1 + 0.01 * damping, but its level and trend are taken as they are.
    assert got == pytest.approx(1.01 + 0.01 * sum(damping**k for k in range(1, horizon + 1)))


def test_holt_sees_what_flat_forecasts_miss():
    """Of two units one falls, from above: the truth after 20 more epochs."""
    history = np.stack([1 - 0.06 * np.arange(10), np.full(10, 0.4)], 1)
    assert [name for name in FORECASTERS if np.argmin(FORECASTERS[name](history, 20)) == 0] == ["holt"]


def test_units_absorbed_at_zero_keep_their_order():
    history = np.array([[0.9, 0.8, 0.7], [0.5, 0.4, 0.3], [0.1, 0.05, 0.2]])
    assert Holt()(history, 50).tolist() == [0, 0, 0]
    assert np.argsort(scores(Holt(), history, 50)).tolist() == [1, 0, 2]


def test_fixed_epoch():
    assert [FixedEpoch(3)(np.ones((n, 2)), smallest(0.5)) for n in (2, 3, 4)] == [False, True, True]


@pytest.mark.parametrize(("distance", "first"), [(0.2, 5), (0.19, 8)])
def test_early_bird_waits_until_masks_are_this_close(distance, first):
    """Ten units, five of them removed; only in the third epoch one of the others took the place of one of these."""
    history = np.tile(np.arange(10.0), (9, 1))
    history[2, [4, 5]] = history[2, [5, 4]]
    trigger = EarlyBird(distance, lookback=4)
    assert [trigger(history[:n], smallest(0.5)) for n in range(1, 10)] == [n >= first for n in range(1, 10)]


def test_margins_are_to_the_middle_of_the_gap():
    assert margins(np.array([4.0, 1.0, 2.0]), smallest(2 / 3)).tolist() == [1, -2, -1]
    assert margins(np.array([4.0, 1.0]), smallest(0)).tolist() == [3, 0]
    assert margins(np.array([4.0, 1.0]), smallest(1)).tolist() == [0, -3]


def walks(steps: float, epochs: int = 40, units: int = 400) -> np.ndarray:
    """Scales that start 0.2 to 1.2 and take random steps."""
    random = np.random.RandomState(0)
    return np.abs(np.linspace(0.2, 1.2, units) + np.cumsum(random.normal(0, steps, (epochs, units)), 0))


def test_confidence_estimates_how_many_decisions_are_right():
    """A random walk is what the estimate supposes, and its last value the best forecast."""
    history, select = walks(0.03), smallest(0.5)
    for epochs in (12, 20, 30, 36):
        expected = ForecastConfidence(40, last).expected(history[:epochs], select)
        right = np.mean(select(history[epochs - 1]) == select(history[-1]))
        assert expected == pytest.approx(right, abs=0.04)


def test_confidence_comes_the_later_the_more_scales_move():
    trigger, select = ForecastConfidence(40), smallest(0.5)
    first = []
    for steps in (0.0, 0.03, 0.06, 0.1, 0.3):
        history = walks(steps)
        first.append(next(n for n in range(1, 41) if trigger(history[:n], select)))
    assert first == sorted(first) and first[0] == trigger.least and first[1] < 30 < first[2] < first[4]


def test_confidence_is_complete_at_the_end():
    history = np.random.RandomState(0).rand(40, 50)
    assert [ForecastConfidence(n)(history[:n], smallest(0.5)) for n in (3, 40)] == [True, True]
    assert not ForecastConfidence(41)(history, smallest(0.5))


def test_what_all_scales_have_in_common_does_not_matter():
    still = np.tile(np.linspace(0.5, 1.5, 50), (12, 1))
    falling = still - 0.04 * np.arange(12)[:, None]
    expected = [ForecastConfidence(24).expected(history, smallest(0.5)) for history in (still, falling)]
    assert expected == pytest.approx([1, 1])


@pytest.mark.parametrize(("name", "options"), [("epoch", {"epoch": 2}), ("early-bird", {}), ("confidence", {"end": 9})])
def test_every_trigger_is_in_the_table(name, options):
    assert TRIGGERS[name](**options)(np.ones((9, 4)), smallest(0.5)) is True
    assert len(TRIGGERS) == 3


MASKS = st.integers(1, 60).flatmap(lambda n: st.tuples(*[arrays(bool, n)] * 2))


@given(MASKS)
def test_agreement_is_symmetric_and_full_only_with_itself(masks):
    a, b = masks
    assert agreement(a, b) == agreement(b, a) and 0 <= agreement(a, b) <= 1
    assert (agreement(a, b) == 1) == np.array_equal(a, b)


def test_agreement_counts_removed_units_alone():
    a, b = np.zeros(100, bool), np.zeros(100, bool)
    a[:10], b[5:15] = True, True
    assert agreement(a, b) == 5 / 15


@pytest.mark.parametrize(("first", "second"), [(0.1, 0.1), (0.5, 0.5), (0.9, 0.2)])
def test_chance_agreement_is_what_random_selections_have(first, second):
    random, units = np.random.RandomState(0), 200
    a, b = (np.arange(units) < share * units for share in (first, second))
    mean = np.mean([agreement(a, random.permutation(b)) for _ in range(400)])
    assert chance_agreement(a, b) == pytest.approx(mean, abs=0.01)


def test_nothing_removed_agrees():
    none = np.zeros(3, bool)
    assert agreement(none, none) == chance_agreement(none, none) == 1


@pytest.mark.parametrize(("epoch", "saved"), [(0, 0.75), (5, 0.375), (10, 0)])
def test_macs_saved(epoch, saved):
    assert macs_saved(before=8e9, after=2e9, epoch=epoch, epochs=10) == saved
