"""Sizes and inputs: nothing is guessed, and what does not fit is told."""

import numpy as np
import onnx
import pytest

import onnxprune
from onnxprune.errors import UsageError
from onnxprune.latency import Plan
from onnxprune.latency.inputs import check_inputs, read_inputs, refuse_open, sizes_of
from onnxprune.latency.ready import described, feeds_for, items
from tests.latency.test_paired import perceptron


@pytest.fixture
def model(tmp_path):
    onnx.save(perceptron(8), tmp_path / "m.onnx")
    return onnxprune.load(tmp_path / "m.onnx")


@pytest.fixture
def nameless(model):
    model.proto.graph.input[0].type.tensor_type.shape.dim[0].Clear()
    return model


def test_a_size_that_is_not_known_is_asked_for(model):
    with pytest.raises(UsageError, match=r"m\.onnx: what is the size of x\[0\] \(batch\)\?") as caught:
        refuse_open(model, {})
    assert caught.value.fix == "give --size batch=N, --shape or --inputs"
    refuse_open(model, {"batch": 2})
    refuse_open(model, {"*": 2})


def test_a_dimension_without_a_name_is_asked_for_by_the_star(nameless):
    with pytest.raises(UsageError, match=r"x\[0\] \(no name\)") as caught:
        refuse_open(nameless, {"batch": 2})
    assert "--size *=N" in caught.value.fix


def test_sizes_come_from_shapes(model):
    assert sizes_of(model, {"x": (5, 64)}) == {"batch": 5}
    assert sizes_of(model, {}) == {}


def test_sizes_without_a_name_are_the_star(nameless):
    assert sizes_of(nameless, {"x": (5, 64)}) == {"*": 5}


@pytest.mark.parametrize("shape", [(5, 63), (5,), (5, 64, 1)])
def test_a_shape_that_does_not_fit_is_refused(model, shape):
    with pytest.raises(UsageError, match=f"input 'x': shape {'x'.join(map(str, shape))} does not fit batchx64"):
        sizes_of(model, {"x": shape})


def test_a_shape_for_no_input_is_refused(model):
    with pytest.raises(UsageError, match="has no input 'z'; it has x"):
        sizes_of(model, {"z": (1, 2)})


def test_one_dimension_has_one_size(model):
    model.proto.graph.input.append(onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, ["batch"]))
    with pytest.raises(UsageError, match=r"z\[0\] \(batch\) is 3, and 2 elsewhere"):
        sizes_of(model, {"x": (2, 64), "z": (3,)})


def test_inputs_are_read_and_run(model, tmp_path):
    array = np.ones((3, 64), np.float32)
    np.savez(tmp_path / "i.npz", x=array)
    inputs = read_inputs(tmp_path / "i.npz")
    assert check_inputs(model, inputs) == {"batch": 3}
    plan = Plan(inputs=inputs)
    assert (feeds_for(model, plan)["x"] == array).all() and items(model, plan) == 3
    assert described(plan) == "the user's own" and described(Plan()).startswith("random")


@pytest.mark.parametrize(
    ("arrays", "what"),
    [
        ({"z": np.zeros((1, 64), np.float32)}, "the inputs lack 'x'; there are z"),
        ({"x": np.zeros((1, 64))}, "input 'x' is float64, expected float32"),
        ({"x": np.zeros((1, 65), np.float32)}, "input 'x': shape 1x65 does not fit"),
        ({"x": np.zeros((1, 64), np.float32), "z": np.zeros(1)}, "has no input 'z'"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(model, arrays, what):
    with pytest.raises(UsageError, match=what):
        feeds_for(model, Plan(inputs=arrays))


@pytest.mark.parametrize("kind", ["missing", "text", "one array", "objects", "torn", "damaged"])
def test_files_without_arrays_by_name_are_refused(tmp_path, kind):
    path = tmp_path / "i.npz"
    if kind == "text":
        path.write_text("x = 1")
    elif kind == "one array":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    elif kind == "objects":
        np.savez(path, x=np.array([{}], dtype=object))
    elif kind == "torn":
        np.savez(path, x=np.zeros(1000))
        path.write_bytes(path.read_bytes()[:500])
    elif kind == "damaged":
        np.savez_compressed(path, x=np.zeros(1000))
        content = bytearray(path.read_bytes())
        content[40:60] = bytes(20)
        path.write_bytes(content)
    with pytest.raises(UsageError, match=r"i\.npz: no inputs by name"):
        read_inputs(path)


def test_items_of_a_run(model):
    assert items(model, Plan(sizes={"batch": 1 << 40})) == 1 << 40, "nothing is made for it"
    model.proto.graph.input[0].type.tensor_type.shape.Clear()
    assert items(model, Plan()) == 1
