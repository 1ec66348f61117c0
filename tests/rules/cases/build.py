"""One operator call whose operands are stored tensors: the smallest graph in which a rule shows what it ties."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

Arrays = dict[str, np.ndarray | None]
NEWEST = 24


@dataclass(frozen=True)
class Case:
    """An operator call and what may be removed around it.

    Attributes:
        op: the operator.
        inputs: its operands by name; None where one is left out. Floating-point and int64 tensors are stored as
            they are (int64: sizes and indices), all others as float32 that is cast: data that depends on axes.
        free: "x.1 w.0": the operands' axes that may lose elements; all others are frozen.
        attributes, opset, outputs: of the node.
        reason: regex that the reasons of the frozen axes match.
        note: what the case is about, where the operator's name does not say it.
    """

    op: str
    inputs: Arrays
    free: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)
    opset: int = NEWEST
    outputs: int = 1
    reason: str = ""
    note: str = ""

    def __str__(self) -> str:
        return "-".join(filter(None, [self.op, str(self.opset), self.note.replace(" ", "_")]))

    @property
    def free_axes(self) -> set[tuple[str, int]]:
        """(operand, axis) of all axes that may lose elements."""
        return {(name, int(axis)) for name, _, axis in (word.partition(".") for word in self.free.split())}

    @property
    def results(self) -> list[str]:
        """Names of the outputs."""
        return [f"y{k}" for k in range(self.outputs)]

    def model(self) -> onnx.ModelProto:
        """The graph: casts where operands are neither floats nor int64, then the node."""
        given = {name: array for name, array in self.inputs.items() if array is not None}
        cast = {name: array for name, array in given.items() if not _stored_as_is(array)}
        names = [f"{n}/cast" if n in cast else n if n in given else "" for n in self.inputs]
        nodes = [helper.make_node("Cast", [n], [f"{n}/cast"], to=_kind(array)) for n, array in cast.items()]
        nodes.append(helper.make_node(self.op, names, self.results, name="node", **self.attributes))
        stored = [numpy_helper.from_array(a.astype(np.float32) if n in cast else a, n) for n, a in given.items()]
        outputs = [onnx.ValueInfoProto(name=name) for name in self.results]
        graph = helper.make_graph(nodes, "case", [], outputs, stored)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=10)


def _stored_as_is(array: np.ndarray) -> bool:
    return array.dtype.kind == "f" or array.dtype == np.int64


def _kind(array: np.ndarray) -> int:
    return helper.np_dtype_to_tensor_dtype(array.dtype)


def case(op: str, free: str, inputs: dict[str, Any], *, opset: int = NEWEST, outputs: int = 1, **more: Any) -> Case:
    """A `Case`; a tuple among the inputs is a shape, filled with normal values, a list is int64.

    `reason` and `note` are the case's, all further keywords are the node's attributes.
    """
    arrays = {name: _array(f"{op}/{name}", given) for name, given in inputs.items()}
    facts = {key: more.pop(key) for key in ("reason", "note") if key in more}
    return Case(op, arrays, free, more, opset, outputs, **facts)


def _array(name: str, given: Any) -> np.ndarray | None:
    if isinstance(given, tuple):
        return drawn(name, given)
    return np.array(given, np.int64) if isinstance(given, list | int) else given


def drawn(name: str, shape: tuple[int, ...], low: float | None = None, high: float = 1.0) -> np.ndarray:
    """float32 seeded by `name`: normal, or uniform between `low` and `high`."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape) if low is None else rng.uniform(low, high, shape)
    return np.asarray(values, np.float32)


def versions(op: str) -> list[int]:
    """The opsets from 7 on in which the operator changed; 7 itself for what is older."""
    history = [s for s in onnx.defs.get_all_schemas_with_history() if s.name == op and s.domain == ""]
    return sorted({max(7, s.since_version) for s in history if s.since_version <= NEWEST and not s.deprecated})
