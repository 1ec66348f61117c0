"""Stored tensors are told by name and value: as they are, in another layout, merged, or with a BatchNorm folded in."""

from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxprune.torch.matching import Place, match
from onnxprune.torch.norms import Norm


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def norm(name: str, size: int, seed: int = 0) -> Norm:
    names = tuple(f"{name}.{part}" for part in ("weight", "bias", "running_mean", "running_var"))
    factor, shift = np.random.default_rng(seed).random((2, size)) + 0.5
    return Norm(names, factor, shift)


def names(places: tuple[Place, ...]) -> list[str]:
    return [place.parameter for place in places]


# Equal values ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "layout", "axes"),
    [
        ((4, 3, 2, 2), lambda a: a, (0, 1, 2, 3)),
        ((4, 3), lambda a: a.T, (1, 0)),
        ((4, 1), lambda a: a.T, (1, None)),
        ((4, 3, 1, 1), lambda a: a[:, :, 0, 0], (0, 1, None, None)),
        ((4,), lambda a: a[:, None, None], (0,)),
        ((4,), lambda a: a[None, :, None], (1,)),
        ((1,), lambda a: a, (None,)),
    ],
)
def test_layouts(shape: tuple[int, ...], layout, axes: tuple[int | None, ...]) -> None:
    array = drawn(*shape)
    assert match({"onnx::1": layout(array)}, {"w": array}, []) == {"onnx::1": (Place("w", axes),)}


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.data())
def test_axes_lead_back_to_the_parameter(shape: list[int], data: st.DataObject) -> None:
    """Whatever axes of one element come or go, and if a matrix is transposed."""
    array = np.arange(prod(shape), dtype=np.float32).reshape(shape)
    turned = array.T if array.ndim == 2 and data.draw(st.booleans()) else array
    stored = turned.reshape([n for size in turned.shape for n in data.draw(st.sampled_from([[size], [1, size]]))])
    (place,) = match({"t": stored}, {"w": array}, [])["t"]
    for axis, at in enumerate(place.axes):
        assert (at is None) == (array.shape[axis] == 1)
    order = [at for at in place.axes if at is not None]
    back = stored.transpose(*order, *(k for k in range(stored.ndim) if k not in order)).reshape(array.shape)
    np.testing.assert_array_equal(back, array)


def test_equal_bytes_in_another_shape_or_type_are_something_else() -> None:
    array = drawn(4, 6)
    others = {"a": array.reshape(6, 4), "b": array.reshape(24), "c": array.view(np.int32), "d": array + 1}
    assert match(others, {"w": array}, []) == {}


def test_a_symmetric_matrix_has_one_place() -> None:
    assert match({"t": np.eye(3)}, {"w": np.eye(3)}, []) == {"t": (Place("w", (0, 1)),)}


def test_a_tensor_that_stands_for_equal_parameters_holds_all_of_them() -> None:
    state = {name: np.ones(4, np.float32) for name in ("a.weight", "b.weight", "c.running_var")}
    assert names(match({"a.weight": state["a.weight"]}, state, [])["a.weight"]) == list(state)
    assert names(match({"onnx::1": state["a.weight"]}, state, [])["onnx::1"]) == list(state)


def test_a_parameter_may_be_stored_many_times() -> None:
    array = drawn(4, 3)
    found = match({"w": array, "onnx::1": array, "onnx::2": array.T}, {"w": array}, [])
    straight, turned = (Place("w", (0, 1)),), (Place("w", (1, 0)),)
    assert found == {"w": straight, "onnx::1": straight, "onnx::2": turned}


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (["c", "a", "b"], {"c": ["c"], "a": ["a"], "b": ["b"]}),  # by name, whatever the order
        (["t2", "t1", "t3"], {"t2": ["a"], "t1": ["b"], "t3": ["c"]}),  # in the graph's order
        (["t1", "b", "t2"], {"t1": ["a"], "b": ["b"], "t2": ["c"]}),  # those without a name fill the gaps
        (["b", "t"], {"b": ["b"], "t": ["a", "c"]}),
        (["t1", "t2"], {}),  # one of them stands for two, but which one?
        (["t1", "t2", "b", "t3"], {"b": ["b"]}),
    ],
)
@pytest.mark.parametrize("shape", [(4,), (4, 3)])
def test_equal_tensors_are_told_by_name_or_else_order(
    stored: list[str], expected: dict[str, list[str]], shape: tuple[int, ...]
) -> None:
    array = drawn(*shape)
    found = match(dict.fromkeys(stored, array), dict.fromkeys("abc", array), [])
    assert {name: names(places) for name, places in found.items()} == expected


def test_equal_values_of_other_sizes_do_not_count() -> None:
    state = {"a": np.zeros(4), "b": np.zeros((2, 2)), "c": np.zeros(2)}
    assert names(match({"t": np.zeros(4)}, state, [])["t"]) == ["a"]


# Folded BatchNorms ----------------------------------------------------------------------------------------------


def folded(weight: np.ndarray, norm: Norm, axis: int = 0) -> np.ndarray:
    shape = [1] * weight.ndim
    shape[axis] = -1
    return (weight * norm.factor.reshape(shape)).astype(np.float32)


def places_of(norm: Norm, axis: int = 0) -> tuple[Place, ...]:
    return tuple(Place(name, (axis,), False) for name in norm.tensors)


@pytest.mark.parametrize(
    ("shape", "axis", "axes"),
    [((4, 3, 2, 2), 0, (0, 1, 2, 3)), ((3, 4, 2, 2), 1, (0, 1, 2, 3)), ((4, 3), 0, (0, 1))],
)
@pytest.mark.parametrize("bias", [True, False])
def test_folds(shape: tuple[int, ...], axis: int, axes: tuple[int, ...], bias: bool) -> None:
    weight, own, bn = drawn(*shape), drawn(4), norm("bn", 4)
    state = {"x.weight": weight} | ({"x.bias": own} if bias else {})
    shift = bn.shift + (own * bn.factor if bias else 0)
    found = match({"w": folded(weight, bn, axis), "b": shift.astype(np.float32)}, state, [norm("no", 4, 1), bn])
    assert found["w"] == (Place("x.weight", axes, False), *places_of(bn, axis))
    assert found["b"] == ((Place("x.bias", (0,), False),) if bias else ()) + places_of(bn)


def test_a_fold_into_a_transposed_matrix() -> None:
    weight, bn = drawn(4, 3), norm("bn", 4)
    found = match({"w": folded(weight.T, bn, 1)}, {"x.weight": weight}, [bn])
    assert found["w"] == (Place("x.weight", (1, 0), False), *places_of(bn, 1))


def test_filters_of_zeros_do_not_hide_a_fold() -> None:
    weight, bn = drawn(4, 3, 2, 2), norm("bn", 4)
    weight[0] = 0
    found = match({"w": folded(weight, bn)}, {"y.weight": drawn(4, 3, 2, 2, seed=1), "x.weight": weight}, [bn])
    assert found["w"] == (Place("x.weight", (0, 1, 2, 3), False), *places_of(bn))


def test_folds_of_equal_norms_are_told_by_order() -> None:
    weights, bns = [drawn(4, 3, 1, 2, seed=k) for k in range(2)], [norm("a", 4), norm("b", 4)]
    state = {"x.weight": weights[0], "y.weight": weights[1]}
    shift = bns[0].shift.astype(np.float32)
    found = match(
        {"v": folded(weights[1], bns[1]), "w": folded(weights[0], bns[0]), "b": shift, "c": shift}, state, bns
    )
    assert found["v"][1:] == found["b"] == places_of(bns[0])
    assert found["w"][1:] == found["c"] == places_of(bns[1])


def test_a_layer_that_is_used_twice_is_folded_twice() -> None:
    weight, bn = drawn(4, 3, 1, 2), norm("bn", 4)
    found = match({"v": folded(weight, bn), "w": folded(weight, bn)}, {"x.weight": weight}, [bn])
    assert found["v"] == found["w"] == (Place("x.weight", (0, 1, None, 3), False), *places_of(bn))


def test_a_merged_bias_holds_those_of_both_layers() -> None:
    weights, bns = [drawn(4, 3, 1, 2, seed=k) for k in range(2)], [norm("a", 4), norm("b", 4)]
    stored = {"v": folded(weights[0], bns[0]), "w": folded(weights[1], bns[1]), "b": bns[0].shift.astype(np.float32)}
    found = match(stored, {"x.weight": weights[0], "y.weight": weights[1]}, bns)
    assert found["b"] == places_of(bns[0]) + places_of(bns[1])


@pytest.mark.parametrize("shape", [(4, 1), (1, 4), (4, 1, 1, 1)])
def test_any_vector_is_a_multiple_of_any_other_and_that_proves_nothing(shape: tuple[int, ...]) -> None:
    assert match({"t": drawn(*shape)}, {"w": drawn(*shape, seed=1)}, []) == {}


@pytest.mark.parametrize("other", [drawn(4, 3, 2, 2, seed=1), np.zeros((4, 3, 2, 2), np.float32)])
def test_what_is_no_multiple_is_not_found(other: np.ndarray) -> None:
    assert match({"t": drawn(4, 3, 2, 2)}, {"w": other}, [norm("bn", 4)]) == {}


def test_zeros_are_no_fold_of_zeros() -> None:
    assert match({"t": np.zeros((4, 3))}, {"w": np.zeros((4, 3), np.float32)}, [norm("bn", 4)]) == {}
