"""What one small graph must show, and the few words that build it."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import numpy_helper, parser, shape_inference

Arrays = dict[str, np.ndarray]
Axes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Cut:
    """Where the reference needs a mask on a tensor, because zeroed weights do not zero what is contracted.

    Attributes:
        tensor: name of the activation that two activations' contraction reads.
        axis: its masked axis, negative.
        weight: the initializer whose kept indices are the mask.
        weight_axis: the axis of that initializer.
    """

    tensor: str
    axis: int
    weight: str
    weight_axis: int


@dataclass(frozen=True)
class Case:
    """One graph and what pruning it at keep 0.5 must do.

    Attributes:
        model: the graph, weights inside.
        removable: initializer -> axes that must shrink.
        frozen: initializer -> axes that must keep their size.
        opset: version of the default domain.
        halved: every removable axis loses exactly half of its elements.
        reason: regex that the analysis's reasons for frozen axes must match.
        runnable: onnxruntime has kernels for every node.
        deprecated: onnx's checker refuses an op of that opset, though runtimes run it.
        cuts: masks that the reference needs beside zeroed weights.
        alone: axes, as `w[1]`, that make and consume their channels all by themselves: another index there is
            another pruning, as exact as the first.
    """

    model: onnx.ModelProto
    removable: Axes = field(default_factory=dict)
    frozen: Axes = field(default_factory=dict)
    opset: int = 13
    halved: bool = True
    reason: str = ""
    runnable: bool = True
    deprecated: bool = False
    cuts: tuple[Cut, ...] = ()
    alone: tuple[str, ...] = ()


@dataclass(frozen=True)
class Signature:
    """The head of a graph in onnx's text form: typed inputs and outputs, versions, further domains."""

    inputs: str = "float[2, 3, 8, 8] x"
    outputs: str = "float y"
    opset: int = 13
    ir: int = 8
    domains: str = ""

    def text(self, body: str) -> str:
        """The whole model in onnx's text form."""
        head = f'<ir_version: {self.ir}, opset_import: ["": {self.opset}{self.domains}]>'
        return f"{head} micro ({self.inputs}) => ({self.outputs}) {{ {body} }}"


IMAGE = Signature()
TOKENS = Signature(inputs="float[2, 6, 16] x")

REGISTRY: dict[str, Callable[[], Case]] = {}


def micrograph(builder: Callable[[], Case]) -> Callable[[], Case]:
    """Enter a builder into the registry under its own name."""
    REGISTRY[builder.__name__] = builder
    return builder


def axes(**names: int | tuple[int, ...]) -> Axes:
    """`axes(w=1, v=(0, 1))` -> {"w": (1,), "v": (0, 1)}."""
    return {name: axis if isinstance(axis, tuple) else (axis,) for name, axis in names.items()}


def weights(**shapes: tuple[int, ...]) -> Arrays:
    """Seeded float32 tensors: vectors of spread 0.5, larger ones scaled so that a signal keeps its size."""
    rng = np.random.default_rng(zlib.crc32(repr(sorted(shapes.items())).encode()))
    return {name: _drawn(rng, shape) for name, shape in shapes.items()}


def _drawn(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    spread = 0.5 if len(shape) < 2 else 1.5 * (shape[0] / np.prod(shape)) ** 0.5
    return (spread * rng.standard_normal(shape)).astype(np.float32)


def batch_norm(name: str, channels: int) -> Arrays:
    """Scale, bias, mean and variance, none of them trivial, as NAME_s, NAME_b, NAME_m, NAME_v."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    drawn = {"s": rng.uniform(0.5, 1.5, channels), "b": rng.normal(0, 0.5, channels)}
    drawn |= {"m": rng.normal(0, 0.3, channels), "v": rng.uniform(0.5, 2, channels)}
    return {f"{name}_{key}": value.astype(np.float32) for key, value in drawn.items()}


def ints(**values: int | list[int]) -> Arrays:
    """Named int64 constants: shapes, sizes, bounds, indices."""
    return {name: np.array(value, np.int64) for name, value in values.items()}


def scalars(**values: float) -> Arrays:
    """Named float32 constants of rank 0."""
    return {name: np.array(value, np.float32) for name, value in values.items()}


def build(body: str, arrays: Arrays, signature: Signature = IMAGE) -> onnx.ModelProto:
    """The model of a body in onnx's text form; output shapes are inferred, inner ones left out."""
    model = parser.parse_model(signature.text(body))
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    for output in model.graph.output:
        if not output.type.tensor_type.shape.dim:  # "float y" parses as a scalar; its shape is to be inferred
            output.type.tensor_type.ClearField("shape")
    typed = shape_inference.infer_shapes(model, data_prop=True)
    for output, known in zip(model.graph.output, typed.graph.output, strict=True):
        output.CopyFrom(known)
    return model


def case(body: str, arrays: Arrays, signature: Signature = IMAGE, **facts: object) -> Case:
    """A `Case` from a body, its tensors and its expectations."""
    return Case(build(body, arrays, signature), opset=signature.opset, **facts)  # type: ignore[arg-type]
