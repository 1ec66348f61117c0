"""A second opinion that shares no code with the package: is PRUNED the original with the removed parts zeroed?

It reads neither masks nor certificates. What was kept of a weight is recovered from the weight's values: an element
of the original that the pruned model no longer holds was removed. The original with all of these set to zero, in the
weights that make a channel and in those that read it, must give the pruned model's outputs.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from tests.micrographs import Cut

Arrays = dict[str, np.ndarray]
FREE_SIZE = 4
ALIVE = 20  # how many tolerances apart outputs must be that are meant to differ


@dataclass(frozen=True)
class Finding:
    """What the comparison showed.

    Attributes:
        error: largest difference over the largest output, over all outputs.
        alive: the same between the outputs of two inputs, or of the whole and the zeroed original: the smaller one.
        removed: elements removed from weights.
        reason: why the pruned model is no slice of the original; empty if it is.
        rtol: the tolerance.
    """

    error: float = float("inf")
    alive: float = 0.0
    removed: int = 0
    reason: str = ""
    rtol: float = 1e-4

    @property
    def exact(self) -> bool:
        """The pruned model is the zeroed original, and that says something."""
        return not self.reason and self.removed > 0 and self.error <= self.rtol and self.alive > ALIVE * self.rtol


class NotASliceError(Exception):
    """A pruned tensor holds what the original tensor does not, or not in that order."""


def check(
    original: onnx.ModelProto, pruned: onnx.ModelProto, cuts: Iterable[Cut] = (), seed: int = 0, rtol: float = 1e-4
) -> Finding:
    """Compare both models in onnxruntime, optimisations off."""
    try:
        kept = {name: kept_elements(a, b) for name, a, b in _shrunk_weights(original, pruned)}
    except NotASliceError as error:
        return Finding(reason=str(error), rtol=rtol)
    zeroed = _with_cuts(_zeroed(original, kept), cuts, kept)
    feeds = draw_inputs(original, seed)
    dense, reference, small = (run(model, feeds) for model in (original, zeroed, pruned))
    elsewhere = run(original, draw_inputs(original, seed + 1))
    return Finding(
        error=max(map(distance, reference, small)),
        alive=min(max(map(distance, dense, elsewhere)), max(map(distance, dense, reference))),
        removed=sum(int((~mask).sum()) for mask in kept.values()),
        rtol=rtol,
    )


def kept_elements(whole: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Mask over `whole`: which of its elements `part` holds. Their order must be the same.

    Raises:
        NotASliceError: `part` holds other values, or the same in another order.
    """
    if whole.ndim != part.ndim or part.size == 0:
        raise NotASliceError(f"shape {whole.shape} became {part.shape}")
    values, places = np.unique(whole, return_index=True)
    if values.size != whole.size:
        raise NotASliceError(f"a tensor of shape {whole.shape} holds equal values: nothing can be recovered")
    found = np.searchsorted(values, part.ravel()).clip(max=values.size - 1)
    if not np.array_equal(values[found], part.ravel()):
        raise NotASliceError(f"a pruned tensor of shape {part.shape} holds values that the original does not")
    if np.any(np.diff(places[found]) <= 0):
        raise NotASliceError(f"a pruned tensor of shape {part.shape} holds its values in another order")
    mask = np.zeros(whole.size, bool)
    mask[places[found]] = True
    return mask.reshape(whole.shape)


def tensors(model: onnx.ModelProto) -> Arrays:
    """All constants by name: initializers and the values of Constant nodes."""
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    held |= {node.output[0]: node.attribute[0].t for node in _constants(model)}
    return {name: numpy_helper.to_array(tensor) for name, tensor in held.items()}


def run(model: onnx.ModelProto, feeds: Arrays) -> list[np.ndarray]:
    """All outputs, in order, from onnxruntime on the CPU with optimisations off."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def draw_inputs(model: onnx.ModelProto, seed: int) -> Arrays:
    """Gaussian float32 inputs; dimensions without a size get `FREE_SIZE`."""
    rng = np.random.default_rng(seed)
    held = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in held]
    return {value.name: rng.standard_normal(_sizes(value)).astype(np.float32) for value in inputs}


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference, relative to the largest of `a`; infinite where shapes differ or a value is no number."""
    if a.shape != b.shape or not np.isfinite(a).all() or not np.isfinite(b).all():
        return float("inf")
    return float(np.abs(a.astype(np.float64) - b).max() / (np.abs(a).max() + 1e-12))


def _sizes(value: onnx.ValueInfoProto) -> list[int]:
    return [dim.dim_value or FREE_SIZE for dim in value.type.tensor_type.shape.dim]


def _constants(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == "Constant" and node.attribute[0].name == "value"]


def _shrunk_weights(original: onnx.ModelProto, pruned: onnx.ModelProto) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Float tensors whose shape changed; booleans and integers hold no channel's only trace."""
    whole, part = tensors(original), tensors(pruned)
    missing = sorted(set(whole) - set(part))
    if missing:
        raise NotASliceError(f"the pruned model lost {', '.join(missing)}")
    floats = [(name, array, part[name]) for name, array in whole.items() if array.dtype.kind == "f"]
    return [(name, a, b) for name, a, b in floats if a.shape != b.shape]


def _zeroed(original: onnx.ModelProto, kept: dict[str, np.ndarray]) -> onnx.ModelProto:
    """A copy whose removed elements are 0, or 1 where they divide."""
    model = onnx.ModelProto()
    model.CopyFrom(original)
    divisors = {node.input[1] for node in model.graph.node if node.op_type == "Div"}
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    held |= {node.output[0]: node.attribute[0].t for node in _constants(model)}
    for name, mask in kept.items():
        array = numpy_helper.to_array(held[name])
        blank = array.dtype.type(1 if name in divisors else 0)
        held[name].CopyFrom(numpy_helper.from_array(np.where(mask, array, blank), held[name].name))
    return model


def _with_cuts(model: onnx.ModelProto, cuts: Iterable[Cut], kept: dict[str, np.ndarray]) -> onnx.ModelProto:
    """Multiply every cut tensor by the 0/1 vector of what its weight kept."""
    for cut in (cut for cut in cuts if cut.weight in kept):
        mask = np.moveaxis(kept[cut.weight], cut.weight_axis, 0).reshape(kept[cut.weight].shape[cut.weight_axis], -1)
        vector = mask.any(axis=1).astype(np.float32).reshape(-1, *[1] * (-cut.axis - 1))
        for node in model.graph.node:
            node.input[:] = [f"{name}/cut" if name == cut.tensor else name for name in node.input]
        at = next(i for i, node in enumerate(model.graph.node) if cut.tensor in node.output) + 1
        model.graph.initializer.append(numpy_helper.from_array(vector, f"{cut.tensor}/mask"))
        masked = helper.make_node("Mul", [cut.tensor, f"{cut.tensor}/mask"], [f"{cut.tensor}/cut"])
        model.graph.node.insert(at, masked)
    return model
