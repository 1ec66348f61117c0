"""Which groups are up for pruning."""

import pytest

import onnxprune
from onnxprune.selection import Factor, primary_groups, uncoupled_groups
from tests.micrographs import REGISTRY
from tests.micrographs.build import weights
from tests.pruning import model_of


def of_micrograph(name: str) -> onnxprune.Analysis:
    return onnxprune.analyze(onnxprune.Model(REGISTRY[name]().model))


def primary(name: str, factor: Factor) -> set[str]:
    return {group.name for group in primary_groups(of_micrograph(name), factor)}


CHOICES: dict[str, dict[Factor, set[str]]] = {
    # Nothing is a product: whatever is asked for, all of it.
    "residual": {"auto": {"w0"}, "outer": {"w0"}, "inner": {"w0"}},
    # Heads x width of a head.
    "attention_packed": {"auto": {"wqkv:0"}, "outer": {"wqkv:0"}, "inner": {"wqkv:1"}},
    # Groups of a convolution x channels in a group.
    "grouped": {"auto": {"w0:1", "w1"}, "outer": {"w0:0"}, "inner": {"w0:1", "w1"}},
    # The same with a shuffle between two of them, which turns outer into inner.
    "channel_shuffle": {"auto": {"w0:1", "w1:1", "w2"}, "outer": {"w0:0"}, "inner": {"w0:1", "w1:1", "w2"}},
    # Groups of keys x queries that share one x width, of keys or of values.
    "grouped_query": {"auto": {"wq:0"}, "outer": {"wq:0"}, "inner": {"wq:2", "wv"}},
}
PRODUCTS = sorted(name for name in REGISTRY if list(of_micrograph(name).shared_axes()))


@pytest.mark.parametrize(("name", "factor"), [(name, factor) for name, row in CHOICES.items() for factor in row])
def test_one_factor_of_every_product(name: str, factor: Factor) -> None:
    assert primary(name, factor) == CHOICES[name][factor]


@pytest.mark.parametrize("factor", ["auto", "outer", "inner"])
@pytest.mark.parametrize("name", PRODUCTS)
def test_no_axis_loses_two_factors(name: str, factor: Factor) -> None:
    analysis = of_micrograph(name)
    chosen = {group.name for group in primary_groups(analysis, factor)}
    assert chosen
    for axis in analysis.shared_axes():
        assert len([part for part in axis if part & chosen]) <= 1, axis


@pytest.mark.parametrize("name", PRODUCTS)
def test_all_takes_every_group_in_order(name: str) -> None:
    analysis = of_micrograph(name)
    assert primary_groups(analysis, "all") == list(analysis.groups)


@pytest.mark.parametrize(
    ("name", "uncoupled"),
    [
        ("residual", set()),
        ("shared_bias", set()),
        ("flatten_fc", {"w0", "w1"}),
        ("se_gate", {"w1"}),
        ("c2f", {"w0:0", "w1"}),
    ],
)
def test_groups_of_a_single_layer(name: str, uncoupled: set[str]) -> None:
    assert uncoupled_groups(of_micrograph(name)) == uncoupled


def test_what_is_resized_counts_as_coupled() -> None:
    body = """
        a = Conv (x, w0)
        r = Resize <mode = "nearest"> (a, , scales)
        b = Conv (r, w1)
        y = Conv (b, w2)
    """
    arrays = weights(w0=(8, 3, 1, 1), w1=(6, 8, 1, 1), w2=(5, 6, 1, 1), scales=(4,))
    arrays["scales"][:] = 1, 1, 2, 2
    assert uncoupled_groups(onnxprune.analyze(model_of(body, arrays, "float[2, 3, 8, 8] x"))) == {"w1"}


@pytest.mark.parametrize("factor", ["auto", "outer"])
def test_groups_of_one_channel_are_channels(factor: Factor) -> None:
    """A depthwise convolution that makes two channels of each: the channels go, not one of the two."""
    body = """
        a = Conv (x, w0)
        r = Relu (a)
        d = Conv <group = 12> (r, wd)
        s = Relu (d)
        y = Conv (s, w1)
    """
    arrays = weights(w0=(12, 3, 1, 1), wd=(24, 1, 1, 1), w1=(5, 24, 1, 1))
    analysis = onnxprune.analyze(model_of(body, arrays, "float[2, 3, 8, 8] x"))
    assert [group.size for group in primary_groups(analysis, factor)] == [12]
