"""Running models: inputs from a seed, outputs, and how far two runs are apart."""

import numpy as np
import onnx
import pytest

import onnxprune
from onnxprune.errors import ModelError
from onnxprune.execution import observable, random_inputs, relative_difference, run
from tests.micrographs.build import weights
from tests.pruning import model_of

BODY = "a = Conv (x, w0)\ns = Sigmoid (a)\ny = Conv (s, w1)"
ARRAYS = weights(w0=(8, 3, 1, 1), w1=(5, 8, 1, 1))


def array(*values: float, kind: type = np.float32) -> np.ndarray:
    return np.array(values, kind)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([array(1, 2)], [array(1, 2)], 0),
        ([array(1, -4)], [array(1, -3)], 0.25),
        ([array(100, 0), array(1, 0)], [array(99, 0), array(1, 0.5)], 0.5),  # each by its own range
        ([array(1, 2)], [array(1, 2, 3)], np.inf),
        ([array(1, np.nan)], [array(1, np.nan)], np.inf),
        ([array(1, np.inf)], [array(1, np.inf)], np.inf),
        ([array(6e4, kind=np.float16)], [array(-6e4, kind=np.float16)], 2),  # without overflow
        ([array(1, kind=np.int64)], [array(9, kind=np.int64)], 0),  # integers are judged by the floats behind them
        ([array()], [array()], 0),
    ],
)
def test_differences_are_relative_to_the_range(first: list, second: list, expected: float) -> None:
    assert relative_difference(first, second) == pytest.approx(expected, rel=1e-6)


def test_inputs_follow_the_seed_the_type_and_the_sizes() -> None:
    body = "f = Cast <to = 1> (i)\nz = Where (b, f, x)\ny = MatMul (z, w)"
    model = model_of(body, weights(w=(6, 5)), "float[N, 6] x, int64[N, 6] i, bool[1, 6] b", outputs="float[N, 5] y")
    first, again, other = (random_inputs(model, seed, {"N": 4}) for seed in (1, 1, 2))
    assert {name: (v.shape, v.dtype.name) for name, v in first.items()} == {
        "x": ((4, 6), "float32"),
        "i": ((4, 6), "int64"),
        "b": ((1, 6), "bool"),
    }
    assert all((first[name] == again[name]).all() for name in first) and (first["x"] != other["x"]).any()
    assert first["b"].all() and first["i"].min() >= 1


def test_inner_tensors_are_given_after_the_outputs() -> None:
    model = model_of(BODY, ARRAYS)
    feeds = {"x": np.zeros((2, 3, 8, 8), np.float32)}
    ((y, s),) = run(model, [feeds], ["s"])
    assert (s == 0.5).all() and s.shape == (2, 8, 8, 8) and y.shape == (2, 5, 8, 8)
    assert [o.name for o in model.proto.graph.output] == ["y"], "the model itself keeps its outputs"


@pytest.mark.parametrize(
    ("body", "outputs", "found"),
    [
        (BODY, "float y", ()),
        (f"{BODY.replace('y =', 'c =')}\ny = ArgMax <axis = 1> (c)", "int64 y", ("c",)),
        (f"{BODY.replace('y =', 'c =')}\ny = ArgMax <axis = 1> (c)", "int64 y, float c", ()),  # an output already
    ],
)
def test_floats_behind_labels(body: str, outputs: str, found: tuple[str, ...]) -> None:
    analysis = onnxprune.analyze(model_of(body, ARRAYS, outputs=outputs))
    assert observable(analysis.trace) == found


def test_a_model_that_does_not_run() -> None:
    model = model_of(BODY, ARRAYS)
    with pytest.raises(ModelError, match="the model does not run in onnxruntime: ") as caught:
        run(model, [{"x": np.zeros((2, 4, 8, 8), np.float32)}])
    assert "--size" in caught.value.fix
    model.proto.graph.node.append(onnx.helper.make_node("NoSuchOp", ["y"], ["z"]))
    with pytest.raises(ModelError, match=r"does not run in onnxruntime: .*NoSuchOp"):
        run(model, [])
