"""Shape arithmetic: integer tensors whose values are known while the graph is read, and where they come from.

`Shape -> Gather -> Mul -> Concat -> Reshape` and the like are evaluated on concrete sizes. Every element
remembers the *edge* (node, input, position) through which a stored constant entered, as long as it was only
moved: there a size that pruning changes is written anew. The same table evaluates the arithmetic again on
the pruned sizes, which is how a plan is checked before it is carried out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from onnxprune.forms import Fixed, Form, fixed_parts
from onnxprune.graph import Node

# Among an element's sources: a size that is only known at run time.
RUN_TIME = Fixed(0, "a symbolic dimension")
# Larger integer tensors (masks, index grids) are data, not shapes.
LIMIT = 1024


class Edge(NamedTuple):
    """Element `position` of input `operand` of the node with this index."""

    node: int
    operand: int
    position: int


class Value(NamedTuple):
    """A known tensor.

    Attributes:
        array: its values.
        edges: object array of the same shape: the `Edge` an element came through, or None where computed.
        sources: likewise, a tuple of the axes whose sizes an element depends on.
    """

    array: np.ndarray
    edges: np.ndarray | None = None
    sources: np.ndarray | None = None

    @property
    def forms(self) -> list[Form]:
        """All axes whose sizes it depends on."""
        return [] if self.sources is None else list({id(f): f for s in self.sources.flat for f in s}.values())

    @property
    def is_static(self) -> bool:
        """Whether it could be written as a constant for any one structure of the network."""
        return RUN_TIME not in self.forms


Arrays = Sequence[np.ndarray]


def _axes(node: Node, arrays: Arrays) -> tuple[int, ...] | None:
    given = arrays[1] if len(arrays) > 1 else node.attribute("axes")
    return None if given is None else tuple(int(a) for a in np.ravel(given))


def _unsqueeze(node: Node, a: Arrays) -> np.ndarray:
    axes = _axes(node, a) or ()
    return np.expand_dims(a[0], axes)


def _squeeze(node: Node, a: Arrays) -> np.ndarray:
    return np.squeeze(a[0], _axes(node, a))


def _slice(node: Node, a: Arrays) -> np.ndarray:
    named = [node.attribute(name) for name in ("starts", "ends", "axes")]
    starts, ends = (np.ravel(v) for v in (a[1:3] if len(a) > 2 else named[:2]))
    given = a[3] if len(a) > 3 else named[2]
    axes = np.arange(len(starts)) if given is None else np.ravel(given)
    steps = np.ravel(a[4]) if len(a) > 4 else np.ones(len(starts), np.int64)
    index = [slice(None)] * a[0].ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        stop = None if step < 0 and end < -a[0].shape[axis] else int(end)
        index[axis] = slice(int(start), stop, int(step))
    return a[0][tuple(index)]


def _gather(node: Node, a: Arrays) -> np.ndarray:
    # Through a flat index: a scalar one would unwrap the object arrays that carry provenance.
    axis = node.attribute("axis", 0) % a[0].ndim
    picked = np.take(a[0], a[1].astype(np.int64).ravel(), axis)
    return picked.reshape(a[0].shape[:axis] + a[1].shape + a[0].shape[axis + 1 :])


def _reshape(node: Node, a: Arrays) -> np.ndarray:
    target = [a[0].shape[k] if n == 0 else int(n) for k, n in enumerate(a[1])]
    return a[0].reshape(target)


def _cast(node: Node, a: Arrays) -> np.ndarray:
    from onnx.helper import tensor_dtype_to_np_dtype

    return a[0].astype(tensor_dtype_to_np_dtype(node.attribute("to")))


def _divide(node: Node, a: Arrays) -> np.ndarray:
    if a[0].dtype.kind not in "iu":
        return a[0] / a[1]
    quotient = np.abs(a[0]) // np.maximum(np.abs(a[1]), 1)
    return (quotient * np.sign(a[0]) * np.sign(a[1])).astype(a[0].dtype)


def _modulo(node: Node, a: Arrays) -> np.ndarray:
    return np.fmod(a[0], a[1]) if node.attribute("fmod", 0) else np.mod(a[0], a[1])


def _filled(node: Node, a: Arrays) -> np.ndarray:
    tensor = node.attribute("value")
    if tensor is None:
        return np.zeros([int(n) for n in a[0]], np.float32)
    from onnx.numpy_helper import to_array

    return np.full([int(n) for n in a[0]], to_array(tensor).ravel()[0])


def _expand(node: Node, a: Arrays) -> np.ndarray:
    shape = np.broadcast_shapes(a[0].shape, tuple(int(n) for n in a[1]))
    return np.broadcast_to(a[0], shape)


def _reduce(function: Callable[..., np.ndarray]) -> Callable[[Node, Arrays], np.ndarray]:
    def reduced(node: Node, a: Arrays) -> np.ndarray:
        axes = _axes(node, a)
        if not axes and not node.attribute("noop_with_empty_axes", 0):
            axes = None  # all of them
        return function(a[0], axis=axes, keepdims=bool(node.attribute("keepdims", 1)))

    return reduced


def _apply(function: Callable[..., Any]) -> Callable[[Node, Arrays], np.ndarray]:
    return lambda node, a: np.asarray(function(*a))


MOVES: dict[str, Callable[[Node, Arrays], np.ndarray]] = {
    "Cast": _cast,
    "Concat": lambda node, a: np.concatenate(a, axis=node.attribute("axis", 0)),
    "Gather": _gather,
    "Identity": lambda node, a: a[0],
    "Reshape": _reshape,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Transpose": lambda node, a: np.transpose(a[0], node.attribute("perm")),
    "Unsqueeze": _unsqueeze,
}
ARITHMETIC: dict[str, Callable[[Node, Arrays], np.ndarray]] = {
    "Abs": _apply(np.abs),
    "Add": _apply(np.add),
    "And": _apply(np.logical_and),
    "Ceil": _apply(np.ceil),
    "ConstantOfShape": _filled,
    "Div": _divide,
    "Equal": _apply(np.equal),
    "Expand": _expand,
    "Floor": _apply(np.floor),
    "Greater": _apply(np.greater),
    "Less": _apply(np.less),
    "Max": lambda node, a: reduce(np.maximum, a),
    "Min": lambda node, a: reduce(np.minimum, a),
    "Mod": _modulo,
    "Mul": _apply(np.multiply),
    "Neg": _apply(np.negative),
    "Not": _apply(np.logical_not),
    "Or": _apply(np.logical_or),
    "Pow": lambda node, a: np.power(a[0], a[1]).astype(a[0].dtype),
    "Range": lambda node, a: np.arange(a[0].item(), a[1].item(), a[2].item(), dtype=a[0].dtype),
    "ReduceMax": _reduce(np.max),
    "ReduceMin": _reduce(np.min),
    "ReduceProd": _reduce(np.prod),
    "ReduceSum": _reduce(np.sum),
    "Size": lambda node, a: np.asarray(np.prod(a[0], dtype=np.int64)),
    "Sqrt": _apply(np.sqrt),
    "Sub": _apply(np.subtract),
    "Where": _apply(np.where),
}
SIZES = ("Shape", "Size")
OPERATIONS = {**MOVES, **ARITHMETIC, "Shape": lambda node, a: shape_part(node, a[0])}


def shape_part(node: Node, shape: np.ndarray) -> np.ndarray:
    """What a Shape node gives for an input of this shape (`start`, `end`: opset 15)."""
    return shape[node.attribute("start", 0) : node.attribute("end", None)]


def follow(node: Node, values: Sequence[Value], result: np.ndarray) -> Value:
    """A result with its provenance: moved elements bring theirs along, computed ones depend on all operands."""
    if node.op in MOVES:
        edges = _move(node, [v.edges for v in values], values, None)
        sources = _move(node, [v.sources for v in values], values, ())
        if all(p is None or p.shape == result.shape for p in (edges, sources)):
            return Value(result, edges, sources)
    forms = tuple({id(f): f for v in values for f in v.forms}.values())
    return Value(result, None, filled(result.shape, forms) if forms else None)


def _move(
    node: Node, given: Sequence[np.ndarray | None], values: Sequence[Value], default: object
) -> np.ndarray | None:
    data = len(values) if node.op == "Concat" else 1
    if all(p is None for p in given[:data]):
        return None
    if node.op in ("Cast", "Identity"):
        return given[0]
    moved = [p if p is not None else filled(v.array.shape, default) for p, v in zip(given[:data], values, strict=False)]
    return MOVES[node.op](node, [*moved, *(v.array for v in values[data:])])


def filled(shape: tuple[int, ...], item: object) -> np.ndarray:
    """An object array that holds `item` (perhaps a tuple) everywhere."""
    array = np.empty(shape, object)
    flat = array.reshape(-1)
    for k in range(flat.size):
        flat[k] = item
    return array


def of_sizes(forms: Sequence[Form], symbolic: bool) -> Value:
    """The value of Shape for a tensor with these axes; `symbolic`: fixed ones may vary at run time."""
    sources = np.empty(len(forms), object)
    for k, form in enumerate(forms):
        free = () if type(form) is Fixed else (form,)
        sources[k] = (*free, RUN_TIME) if symbolic and next(fixed_parts(form), None) else free
    return Value(np.array([f.size for f in forms], np.int64), None, sources)


def enter(node: Node, operand: int, array: np.ndarray) -> np.ndarray:
    """Edges of a stored constant read by `node`."""
    edges = np.empty(array.shape, object)
    flat = edges.reshape(-1)
    for position in range(flat.size):
        flat[position] = Edge(node.index, operand, position)
    return edges
