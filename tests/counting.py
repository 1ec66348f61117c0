"""Parameters and multiply-accumulates counted from a file alone: from the shapes that running it gives."""

from math import prod

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tests import independent

Shapes = dict[str, tuple[int, ...]]


def params(model: onnx.ModelProto) -> int:
    """Elements of all floating-point tensors."""
    return sum(array.size for array in independent.tensors(model).values() if array.dtype.kind == "f")


def macs(model: onnx.ModelProto) -> int:
    """Multiply-accumulates of one run; dimensions without a size are `independent.FREE_SIZE`."""
    shapes = all_shapes(model)
    return sum(_of_node(node, shapes) for node in model.graph.node)


def all_shapes(model: onnx.ModelProto) -> Shapes:
    """The shape of every tensor, from a run whose results are all outputs."""
    seen = onnx.ModelProto()
    seen.CopyFrom(model)
    names = list(dict.fromkeys(name for node in model.graph.node for name in node.output if name))
    del seen.graph.output[:]
    seen.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    feeds = independent.draw_inputs(model, 0)
    results = dict(zip(names, independent.run(seen, feeds), strict=True))
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return {name: np.shape(array) for name, array in (held | feeds | results).items()}


def _of_node(node: onnx.NodeProto, shapes: Shapes) -> int:
    if node.op_type not in COUNTS:
        return 0
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return COUNTS[node.op_type]([shapes[name] for name in node.input if name], shapes[node.output[0]], attributes)


def _einsum(inputs: list[tuple[int, ...]], attributes: dict) -> int:
    terms = attributes["equation"].decode().replace(" ", "").partition("->")[0].split(",")
    sizes = {
        label: size for term, shape in zip(terms, inputs, strict=True) for label, size in zip(term, shape, strict=True)
    }
    return prod(sizes.values())


COUNTS = {
    "Conv": lambda inputs, out, _: prod(out) * prod(inputs[1][1:]),
    "ConvTranspose": lambda inputs, out, _: prod(inputs[0]) * prod(inputs[1][1:]),
    "MatMul": lambda inputs, out, _: prod(out) * inputs[0][-1],
    "Gemm": lambda inputs, out, a: prod(out) * inputs[0][0 if a.get("transA") else 1],
    "Einsum": lambda inputs, out, a: _einsum(inputs, a),
}
