"""The least model there is, of one operator: what a runtime takes beside a model's own work shows in it."""

from __future__ import annotations

from onnx import TensorProto, helper

from onnxprune.graph import Model


def least_model() -> Model:
    """One Relu of one number: `x` to `y`."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "least", [x], [y])
    return Model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
