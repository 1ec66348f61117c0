"""Small models with weights of every kind of storage, for the tests of files."""

from pathlib import Path

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from onnxprune.tensors import stored_tensors, tensor_array

WEIGHT = np.arange(24, dtype=np.float32).reshape(4, 6)


def model_of(tensors: list[TensorProto], nodes: list[NodeProto] | None = None) -> ModelProto:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy")
    graph = helper.make_graph(nodes or [helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def inline(array: np.ndarray, name: str = "w") -> TensorProto:
    return numpy_helper.from_array(array, name)


def external(name: str, dims: list[int], location: str, offset: object = None, length: object = None) -> TensorProto:
    tensor = TensorProto(name=name, dims=dims, data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))
    return tensor


def stored(folder: Path, model: ModelProto, name: str = "m.onnx") -> Path:
    path = folder / name
    path.write_bytes(model.SerializeToString())
    return path


def with_data(folder: Path, tensor: TensorProto) -> Path:
    """A model with one external tensor beside w.bin, which holds WEIGHT."""
    (folder / "w.bin").write_bytes(WEIGHT.tobytes())
    return stored(folder, model_of([tensor]))


def values(model: ModelProto, base: Path) -> dict[str, np.ndarray]:
    return {name: tensor_array(tensor, base) for name, tensor in stored_tensors(model)}
