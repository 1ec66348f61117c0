"""The first difference between two models, down to the bits."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxprune
from onnxprune.compare import difference
from tests.micrographs.build import weights
from tests.pruning import model_of


def model() -> onnxprune.Model:
    return model_of("a = Conv (x, w0)\ns = Sigmoid (a)\ny = Conv (s, w1)", weights(w0=(8, 3, 1, 1), w1=(5, 8, 1, 1)))


def changed(change: Callable[[onnx.GraphProto], object]) -> onnxprune.Model:
    found = model()
    change(found.proto.graph)
    return found


def one_bit(graph: onnx.GraphProto) -> None:
    data = bytearray(graph.initializer[0].raw_data)
    data[0] ^= 1
    graph.initializer[0].raw_data = bytes(data)


def negative_zero(graph: onnx.GraphProto, value: float = -0.0) -> None:
    graph.initializer[1].CopyFrom(numpy_helper.from_array(np.full((5, 8, 1, 1), value, np.float32), "w1"))


def of_type(graph: onnx.GraphProto) -> None:
    graph.initializer[0].data_type = onnx.TensorProto.INT32


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (one_bit, "tensor 'w0' differs (expected shape [8, 3, 1, 1], got [8, 3, 1, 1])"),
        (of_type, "tensor 'w0' differs (expected shape [8, 3, 1, 1], got [8, 3, 1, 1])"),
        (lambda g: g.initializer.pop(), "tensor 'w1' is missing"),
        (lambda g: g.initializer.add(name="more"), "tensor 'more' is not expected"),
        (lambda g: g.node.pop(), "node 'y' differs"),
        (lambda g: setattr(g.node[1], "op_type", "Tanh"), "node 's' differs"),
        (lambda g: setattr(g.node[1], "name", "named"), "node 's' differs"),
        (lambda g: g.node[2].attribute.add(name="group", i=1, type=onnx.AttributeProto.INT), "node 'y' differs"),
        (lambda g: setattr(g.input[0], "name", "z"), "the graph's inputs differ"),
        (lambda g: g.output.pop(), "the graph's outputs differ"),
    ],
)
def test_differences_are_named(change: Callable[[onnx.GraphProto], object], told: str) -> None:
    assert difference(model(), changed(change)) == told


def test_other_opsets() -> None:
    other = model()
    other.proto.opset_import[0].version = 14
    assert difference(model(), other) == "the opsets differ"


def test_zero_and_minus_zero_are_two_things_and_nan_is_itself() -> None:
    plus, minus = (changed(lambda g, v=value: negative_zero(g, v)) for value in (0.0, -0.0))
    nans = [changed(lambda g: negative_zero(g, np.nan)) for _ in range(2)]
    assert "'w1' differs" in difference(plus, minus) and difference(*nans) == ""


def test_metadata_and_the_place_of_values_do_not_count() -> None:
    other = model()
    other.proto.metadata_props.add(key="a", value="b")
    tensor = other.proto.graph.initializer[0]
    values = numpy_helper.to_array(tensor).ravel().tolist()
    tensor.ClearField("raw_data")
    tensor.float_data.extend(values)
    assert difference(model(), other) == ""
