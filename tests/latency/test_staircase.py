"""Which multiples a runtime likes, on clocks that are made up."""

from pathlib import Path

import numpy as np
import pytest

import onnxprune
from onnxprune.latency.prediction import Latency
from onnxprune.latency.staircase import LOOKED_AT, levels, multiples, steps
from onnxprune.ranking import Limits

ZOO = Path(__file__).parents[2] / "models" / "zoo" / "resnet11_cifar10.onnx"


@pytest.fixture
def latency(monkeypatch):
    """Its time is a function of the one width that differs from the whole."""
    made = Latency(onnxprune.analyze(onnxprune.load(ZOO)))

    def timed(kernel, noise=0.0):
        numbers = np.random.default_rng(0)

        def seconds(units, segments):
            for kept in units.values():
                time = kernel(int(kept.sum())) * (1 + noise * numbers.uniform(-1, 1))
                return np.full(len(segments), time / len(segments))
            return np.ones(len(segments))

        monkeypatch.setattr(made, "seconds", seconds)
        return made

    return timed


def group_of(latency, size):
    return next(group for group in latency.analysis.groups if group.size == size)


def padded(block):
    return lambda width: 10.0 + -(-width // block) * block


@pytest.mark.parametrize("block", [4, 8, 16, 32])
def test_blocks_are_found(latency, block):
    made = latency(padded(block))
    assert steps(made, group_of(made, 192)) == block


@pytest.mark.parametrize("block", [1, 2])
def test_what_is_lost_in_noise_does_not_matter(latency, block):
    made = latency(padded(block))
    assert steps(made, group_of(made, 192)) in (1, 2)


@pytest.mark.parametrize("block", [8, 16])
def test_also_in_noise(latency, block):
    made = latency(padded(block), noise=0.004)
    assert steps(made, group_of(made, 192)) == block


def test_of_many_segments_those_are_timed_that_a_group_matters_most_to(latency, monkeypatch):
    made = latency(padded(8))
    group = max(made.analysis.groups, key=lambda one: len(made.touching[one.name]))
    touched, asked = made.touching[group.name], list[tuple[int, ...]]()
    assert len(touched) > LOOKED_AT
    slowest = dict(zip(touched, range(len(touched)), strict=True))

    def seconds(units, segments):
        if units:
            asked.append(tuple(segments))
        return np.array([float(slowest[number]) for number in segments])

    monkeypatch.setattr(made, "seconds", seconds)
    monkeypatch.setattr("onnxprune.latency.segments.Segment.sizes", lambda self, kept: (sum(kept.values()),))
    steps(made, group)
    assert set(asked) == {tuple(touched[-LOOKED_AT:])}


def test_a_slower_kernel_for_odd_widths(latency):
    made = latency(lambda width: width * (1.26 if width % 4 else 1.0))
    assert steps(made, group_of(made, 192)) == 4


def test_where_time_does_not_depend_on_the_width_all_widths_are_as_good(latency):
    made = latency(lambda width: 1.0)
    assert steps(made, group_of(made, 192)) == 1


def test_small_groups(latency):
    made = latency(padded(8))
    assert steps(made, group_of(made, 24)) == 8


def test_widths_are_multiples_and_the_whole():
    assert multiples(24, 8, Limits()) == (8, 16, 24)
    assert multiples(20, 8, Limits()) == (8, 16, 20)
    assert multiples(24, 8, Limits(min_keep=9)) == (16, 24)
    assert multiples(24, 8, Limits(round_to=6)) == (24,)
    assert multiples(10, 8, Limits(round_to=3)) == (3, 6, 9, 10)
    assert multiples(3, 1, Limits(min_share=0.5)) == (2, 3)


def test_of_all_groups(latency):
    made, told = latency(padded(16)), []
    found = levels(made, made.analysis.groups, Limits(), told.append)
    assert found.keys() == {group.name for group in made.analysis.groups} and told == sorted(told)
    assert all(widths[-1] == group.size for group, widths in zip(made.analysis.groups, found.values(), strict=True))
