"""Shape arithmetic, operator by operator, against onnxruntime; and where its elements come from."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from onnxprune.forms import Atom, Fixed, concatenate
from onnxprune.graph import Node
from onnxprune.shapes import MOVES, OPERATIONS, RUN_TIME, Value, enter, filled, follow, of_sizes
from tests.rules.cases.build import Case
from tests.rules.one_node import run

TWO_BY_THREE = np.array([[3, -1, 4], [1, 5, -9]])
SIX = np.array([2, 6, -5, 3, 5, 8])
BOOLS = np.array([True, False, True])
FLOAT = np.float32(6.25)

Operands = list[Any]


def cases() -> dict[str, tuple[str, Operands, dict[str, Any]]]:
    """By name: operator, operands (int64 unless they are arrays already), attributes."""
    table: dict[str, list[tuple[Any, ...]]] = {
        "Cast": [(SIX, {"to": 1}), (FLOAT, {"to": 7}), (np.float32(-1.7), {"to": 6}), (SIX, {"to": 9})],
        "Concat": [(SIX, [7], [8, 9], {"axis": 0}), (TWO_BY_THREE, TWO_BY_THREE, {"axis": -1}), ([1], {"axis": 0})],
        "Gather": [
            *((SIX, index) for index in (2, -1, [0, -6, 3], [[1, 2], [3, 4]], [])),
            (TWO_BY_THREE, 1, {"axis": 1}),
            (TWO_BY_THREE, [2, 0], {"axis": -1}),
        ],
        "Identity": [(SIX,), (7,)],
        "Reshape": [(SIX, [2, 3]), (SIX, [3, -1]), (TWO_BY_THREE, [0, -1, 1]), ([4], []), (TWO_BY_THREE, [-1])],
        "Slice": [
            *((SIX, [a], [b]) for a, b in ((1, 4), (-3, 2**63 - 1), (0, -1), (4, 2), (-100, 100))),
            *((SIX, [a], [b], [0], [s]) for a, b, s in ((0, 6, 2), (-1, -(2**63), -1), (5, 0, -2), (100, -100, -3))),
            (TWO_BY_THREE, [0, 1], [1, 3]),
            (TWO_BY_THREE, [1], [3], [-1]),
        ],
        "Squeeze": [([7],), ([[7], [8]], [1]), ([[7, 8]], [-2]), ([[[5]]],)],
        "Transpose": [(TWO_BY_THREE,), ([[[1, 2], [3, 4]]], {"perm": [2, 0, 1]})],
        "Unsqueeze": [(7, [0]), (SIX, [-1]), (TWO_BY_THREE, [0, 2]), (SIX, [0, -1])],
        "Abs": [(SIX,)],
        "Add": [(SIX, 3), (TWO_BY_THREE, [[1], [2]])],
        "And": [(BOOLS, ~BOOLS)],
        "Ceil": [(FLOAT,), (np.float32(-1.5),)],
        "ConstantOfShape": [([2, 3], {"value": helper.make_tensor("", 7, [1], [5])}), ([3],), ([],)],
        "Div": [([7, -7, 7, -7, 0], [2, 2, -2, -2, 3]), (FLOAT, np.float32(2))],
        "Equal": [(SIX, 5)],
        "Expand": [([[1], [2]], [2, 3]), (4, [2, 2]), (SIX, [1, 1])],
        "Floor": [(FLOAT,), (np.float32(-1.5),)],
        "Greater": [(SIX, 4)],
        "Less": [(SIX, 4)],
        "Max": [(SIX, [4], 0), (SIX,)],
        "Min": [(SIX, [4], 0)],
        "Mod": [([7, -7, 7, -7], [3, 3, -3, -3]), (np.float32(7.5), np.float32(-2), {"fmod": 1})],
        "Mul": [(SIX, [2])],
        "Neg": [(SIX,)],
        "Not": [(BOOLS,)],
        "Or": [(BOOLS, ~BOOLS)],
        "Pow": [([2, 3], 3), (FLOAT, np.float32(0.5))],
        "Range": [(0, 5, 1), (5, 0, -2), (3, 3, 1), (np.float32(0), np.float32(1), np.float32(0.25))],
        "ReduceMax": [(TWO_BY_THREE, [1]), (TWO_BY_THREE, {"keepdims": 0})],
        "ReduceMin": [(TWO_BY_THREE, [-1, 0])],
        "ReduceProd": [(SIX,), (SIX, [0], {"keepdims": 0}), (TWO_BY_THREE, [0]), (SIX, [])],
        "ReduceSum": [(TWO_BY_THREE, [0], {"keepdims": 0}), (SIX, [], {"noop_with_empty_axes": 1}), (SIX, [])],
        "Size": [(TWO_BY_THREE,)],
        "Sqrt": [(FLOAT,)],
        "Sub": [(SIX, [1])],
        "Where": [([[True], [False]] @ np.ones((1, 3)) > 0, TWO_BY_THREE, 0), (BOOLS, [1, 2, 3], [4, 5, 6])],
        "Shape": [(TWO_BY_THREE,), (np.zeros((2, 3, 4, 5), np.float32), {"start": 1, "end": -1})],
    }
    named = {}
    for op, calls in table.items():
        for k, call in enumerate(calls):
            more = call[-1] if isinstance(call[-1], dict) else {}
            operands = [_array(a) for a in (call[:-1] if more else call)]
            named[f"{op}-{k}"] = (op, operands, more)
    return named


def _array(given: Any) -> np.ndarray:
    return np.asarray(given, None if isinstance(given, np.ndarray | np.generic) else np.int64)


CASES = cases()


def node_and_model(op: str, operands: Operands, attributes: dict[str, Any]) -> tuple[Node, onnx.ModelProto]:
    """The call as the package reads it, and as onnxruntime runs it."""
    case = Case(op, {f"x{k}": array for k, array in enumerate(operands)}, "", attributes, opset=18)
    model = case.model()
    return Node(0, model.graph.node[-1]), model


def given_sizes(op: str, operands: Operands) -> Operands:
    """Shape and Size take the sizes of their operand."""
    return [np.array(operands[0].shape, np.int64)] if op in ("Shape", "Size") else operands


def test_every_operation_has_a_case() -> None:
    assert {op for op, _, _ in CASES.values()} == set(OPERATIONS)


@pytest.mark.parametrize("name", CASES)
def test_operations_compute_what_the_runtime_computes(name: str) -> None:
    op, operands, attributes = CASES[name]
    node, model = node_and_model(op, operands, attributes)
    with np.errstate(all="ignore"):
        got = np.asarray(OPERATIONS[op](node, given_sizes(op, operands)))
    (expected,) = run(model)
    assert got.shape == expected.shape and got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("name", [name for name, (op, _, _) in CASES.items() if op in MOVES])
def test_moved_elements_bring_their_place_along(name: str) -> None:
    op, operands, attributes = CASES[name]
    node, _ = node_and_model(op, operands, attributes)
    values = [Value(array, enter(node, k, array)) for k, array in enumerate(operands)]
    result = follow(node, values, np.asarray(OPERATIONS[op](node, operands)))
    assert result.edges is not None and result.edges.shape == result.array.shape
    for element, edge in zip(result.array.flat, result.edges.flat, strict=True):
        source = operands[edge.operand].reshape(-1)[edge.position]
        assert element == source.astype(result.array.dtype)


@pytest.mark.parametrize("name", [name for name, (op, _, _) in CASES.items() if op not in MOVES])
def test_computed_elements_depend_on_all_that_goes_in(name: str) -> None:
    op, operands, attributes = CASES[name]
    node, _ = node_and_model(op, operands, attributes)
    sizes = [Atom(2) for _ in operands]
    values = [Value(a, enter(node, k, a), filled(a.shape, (sizes[k],))) for k, a in enumerate(operands)]
    with np.errstate(all="ignore"):
        result = follow(node, values, np.asarray(OPERATIONS[op](node, given_sizes(op, operands))))
    assert result.edges is None
    used = {size for size, array in zip(sizes, operands, strict=True) if array.size}
    assert result.array.size == 0 or set(result.forms) == used


def test_a_mixture_of_constants_and_sizes() -> None:
    """Shape -> Gather -> Concat with a constant: each element knows where it is from."""
    channels = Atom(8)
    shape = of_sizes([Fixed(2), channels, Fixed(5)], symbolic=False)
    assert shape.sources is not None and list(shape.sources) == [(), (channels,), ()]
    node, _ = node_and_model("Concat", [shape.array, np.array([-1])], {"axis": 0})
    constant = np.array([-1])
    both = follow(node, [shape, Value(constant, enter(node, 1, constant))], np.array([2, 8, 5, -1]))
    assert both.edges is not None and [e is None for e in both.edges] == [True, True, True, False]
    assert both.forms == [channels] and both.is_static


def test_what_is_only_known_at_run_time() -> None:
    free, half_fixed = Atom(8), concatenate([Fixed(3), Atom(5)])
    sizes = of_sizes([Fixed(2), free, half_fixed], symbolic=True)
    assert sizes.sources is not None
    assert [RUN_TIME in sources for sources in sizes.sources] == [True, False, True]
    assert not sizes.is_static
    assert of_sizes([Fixed(2), free], symbolic=False).is_static
