"""What is known while the graph is read, node by node: forms of every axis, shape values, and what to do later."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from onnxprune.forms import ONE, Atom, Fixed, Form, fix, is_fixed
from onnxprune.graph import Graph, Node
from onnxprune.shapes import (
    ARITHMETIC,
    LIMIT,
    MOVES,
    OPERATIONS,
    RUN_TIME,
    SIZES,
    Value,
    enter,
    filled,
    follow,
    of_sizes,
    shape_part,
)

_SHAPE_ARITHMETIC = frozenset((*SIZES, *MOVES, *ARITHMETIC))


class Cannot(Exception):
    """A rule does not cover this node: its operands are frozen with this text as the reason."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why an axis is frozen: who did it and in what words."""

    op: str
    node: str
    text: str

    def __str__(self) -> str:
        return f"{self.op} {self.node!r}: {self.text}" if self.op else self.text


class Contraction(NamedTuple):
    """Input `operand` of `node` is summed over `axis`: there its channels are consumed."""

    node: Node
    operand: int
    axis: int
    form: Form


class Work(NamedTuple):
    """Multiply-accumulates of a node: the product of the counts of these axes."""

    node: Node
    forms: tuple[Form, ...]


class Production(NamedTuple):
    """A stored weight makes the channels of `form` here."""

    node: Node
    tensor: str
    form: Form


class Repair(NamedTuple):
    """Integers of a node that state sizes: element k becomes the count of `wanted[k]` (None: left as it is).

    `slot` is an attribute's name or an input's position.
    """

    node: Node
    slot: str | int
    wanted: tuple[Form | None, ...]


class Reindex(NamedTuple):
    """Constant indices (input `slot` of `node`) into an axis of which elements go: out follows `out`."""

    node: Node
    slot: int
    source: Form
    out: Form


class Trace:
    """The state of reading one graph.

    Attributes:
        forms: forms of a tensor's axes; None where its shape is not known.
        values: known shape values; `evaluated` lists the nodes that gave them, in order.
        roots: for tensors computed from stored ones alone, the stored tensor they come from.
        current: the node being read.
        read_as_numbers: stored tensors that took part in shape arithmetic or stated sizes, with a reader.
        symbolic: whether some input has dimensions without a size.
        plans: what rules worked out for nodes, by all that it depends on.
        contractions, work, productions, repairs, reindexes: what later steps need.
    """

    def __init__(self, graph: Graph):
        self.graph = graph
        self.opset = graph.opset
        self.current: Node | None = None
        self.read_as_numbers: dict[str, Node] = {}
        self.symbolic = False
        self.forms: dict[str, tuple[Form, ...] | None] = {}
        self.values: dict[str, Value] = {}
        self.evaluated: list[Node] = []
        self.roots: dict[str, str] = {name: name for name in graph.stored}
        self.plans: dict[Hashable, Any] = {}
        self.contractions: list[Contraction] = []
        self.work: list[Work] = []
        self.productions: list[Production] = []
        self.repairs: list[Repair] = []
        self.reindexes: list[Reindex] = []

    @property
    def records(self) -> tuple[list, ...]:
        """What was noted of nodes, in order."""
        return (self.contractions, self.work, self.productions, self.repairs, self.reindexes, self.evaluated)

    @cached_property
    def free_forms(self) -> list[Form]:
        """Forms of all axes, each once, but for those fixed at once; asked for once all is read."""
        distinct = {id(axes): axes for axes in self.forms.values() if axes}
        return list({id(f): f for axes in distinct.values() for f in axes if type(f) is not Fixed}.values())

    def axes(self, name: str) -> tuple[Form, ...]:
        """Forms of the axes of a tensor that is used as data.

        Raises:
            Cannot: its shape is not known.
        """
        try:
            forms = self.forms[name]
        except KeyError:
            forms = self.forms[name] = self._first_axes(name)
        if forms is None:
            raise Cannot(f"the shape of its input {name!r} is not known")
        return forms

    def _first_axes(self, name: str) -> tuple[Form, ...] | None:
        shape = self.graph.shapes.get(name)
        if shape is not None:
            return tuple([ONE if n == 1 else Atom(n) for n in shape])
        value = self.values.get(name)
        if value is None:
            return None
        reader = self.current
        self.escape(value, Reason(reader.op, reader.label, f"reads its size as data ({name!r})") if reader else None)
        reason = Reason("", name, f"{name!r} is computed from shapes")
        return tuple(Fixed(n, reason) for n in value.array.shape)

    def escape(self, value: Value, reason: Reason | None) -> None:
        """A value that depends on sizes is used as data: those sizes may not change."""
        for form in value.forms:
            fix(form, reason)

    @cached_property
    def size_dependent(self) -> frozenset[int]:
        """Evaluated nodes (by index) that depend on a size which pruning may change; asked for once all is read."""
        forms = {n.index: self.values[n.outputs[0]].forms for n in self.evaluated}
        return frozenset(index for index, of in forms.items() if not all(map(is_fixed, of)))

    def shape(self, name: str) -> list[int]:
        """Concrete sizes of a tensor's axes."""
        value, forms = self.values.get(name), self.forms.get(name)
        if value is not None:
            return list(value.array.shape)
        if forms is not None:
            return [f.size for f in forms]
        if name in self.graph.stored and name not in self.forms:
            return list(self.graph.shapes[name])
        return [f.size for f in self.axes(name)]

    def give(self, name: str, forms: Iterable[Form]) -> None:
        """Set the axes of an output. An axis of one element can not lose it."""
        if not name:
            return
        forms = tuple(forms)
        for form in forms:
            if form.size == 1 and type(form) is not Fixed:
                fix(form, Reason("", name, f"the only element of an axis of {name!r}"))
        self.forms[name] = forms

    def pass_on(self, name: str, axes: tuple[Form, ...]) -> None:
        """Set the axes of an output to those of another tensor, just as they are."""
        if name:
            self.forms[name] = axes

    def value(self, name: str) -> Value | None:
        """A tensor's known value: shape arithmetic, or a stored integer or scalar."""
        value = self.values.get(name)
        if value is None and name in self.graph.stored:
            tensor = self.graph.stored[name]
            size = int(np.prod(tensor.dims, dtype=np.int64))
            # 1 float, 16 double, 10 half: weights, unless they are scalars.
            if size <= LIMIT and (size == 1 or tensor.data_type not in (1, 10, 11, 16)):
                value = self.values[name] = Value(self.graph.array(name))
        return value

    def integers(self, node: Node, operand: int, attribute: str = "") -> list[int] | None:
        """Integers given as an attribute (older opsets) or as an input; None where absent.

        Raises:
            Cannot: the input is not known.
        """
        if attribute and attribute in node.attributes:
            return [int(v) for v in node.attributes[attribute]]
        name = node.input(operand)
        if not name:
            return None
        self.read_as_numbers.setdefault(name, node)
        value = self.value(name)
        array = value.array if value is not None else self.graph.small_array(name, 1 << 20)
        if array is None:
            raise Cannot(f"its input {name!r} is computed at run time")
        return [int(v) for v in np.ravel(array)]

    def run_time(self, node: Node, operand: int) -> frozenset[int]:
        """Positions of an integer input whose values are only known at run time."""
        value = self.values.get(node.input(operand))
        if value is None or value.is_static or value.sources is None:
            return frozenset()
        return frozenset(k for k, sources in enumerate(value.sources.flat) if RUN_TIME in sources)

    def known(self, node: Node, operand: int) -> list[int] | None:
        """Indices that are the same in every run and may be written anew; None where they are computed."""
        name = node.input(operand)
        value = self.values.get(name)
        array = self.graph.array(name) if name in self.graph.stored else None
        if array is None and value is not None and value.is_static:
            array = value.array
        return None if array is None else [int(v) for v in array.ravel()]

    def floats(self, node: Node, operand: int, attribute: str = "") -> list[float] | None:
        """Like `integers`, for scales, which may also be computed from constants."""
        if attribute and attribute in node.attributes:
            return [float(v) for v in node.attributes[attribute]]
        name = node.input(operand)
        if not name:
            return None
        array = self._constant(name)
        if array is None:
            raise Cannot(f"its input {name!r} is computed at run time")
        for form in self.axes(name):
            fix(form, Reason(node.op, node.label, f"reads the numbers in {name!r}"))
        return [float(v) for v in np.ravel(array)]

    def _constant(self, name: str) -> np.ndarray | None:
        """A small tensor that stored ones alone determine."""
        if name in self.values:
            return self.values[name].array
        if name in self.graph.stored:
            return self.graph.small_array(name)
        node = self.graph.producers.get(name)
        if node is None or name not in self.roots or node.op not in OPERATIONS:
            return None
        arrays = [self._constant(n) for n in node.inputs]
        known = [a for a in arrays if a is not None]
        return OPERATIONS[node.op](node, known) if len(known) == len(arrays) else None

    def repair(self, node: Node, operand: int, attribute: str, wanted: Sequence[Form | None]) -> None:
        """Ask for sizes to be rewritten where the node states them."""
        slot = attribute if attribute and attribute in node.attributes else operand
        stated = slot is attribute or node.input(operand)
        if stated and any(w is not None and type(w) is not Fixed for w in wanted):
            self.repairs.append(Repair(node, slot, tuple(wanted)))

    def evaluate(self, node: Node) -> bool:
        """Compute a shape value; False where the node is not shape arithmetic on known values."""
        if node.op not in _SHAPE_ARITHMETIC or node.domain not in ("", "ai.onnx"):
            return False
        if node.op in SIZES:
            return self._read_sizes(node)
        values: list[Value] = []
        sizes = 0
        for operand, name in enumerate(node.inputs):
            value = self.value(name) if name else None
            if value is None:
                return False
            sizes += value.array.ndim == 0 or value.array.dtype.itemsize > 1 or name not in self.graph.stored
            if node.op in MOVES and value.edges is None and (name in self.graph.stored or value.is_static):
                value = value._replace(edges=enter(node, operand, value.array))
            values.append(value)
        if not sizes:
            return False  # stored booleans and bytes alone are data
        with np.errstate(all="ignore"):
            array = np.asarray(OPERATIONS[node.op](node, [v.array for v in values]))
        if array.size > LIMIT or (array.dtype.kind == "f" and array.size > 1):
            return False
        self.read_as_numbers.update((n, node) for n in node.inputs if n in self.graph.stored)
        self._know(node, follow(node, values, array))
        return True

    def _read_sizes(self, node: Node) -> bool:
        name = node.inputs[0]
        if name in self.values and name not in self.graph.stored:
            sizes = of_sizes([Fixed(n) for n in self.values[name].array.shape], False)
        elif self.forms.get(name) is None and name not in self.graph.stored:
            return False
        else:
            sizes = of_sizes(self.axes(name), self.symbolic)
        if node.op == "Shape":
            sources = None if sizes.sources is None else shape_part(node, sizes.sources)
            self._know(node, Value(shape_part(node, sizes.array), None, sources))
        else:
            total = np.asarray(sizes.array.prod())
            self._know(node, Value(total, None, filled((), tuple(sizes.forms))))
        return True

    def _know(self, node: Node, value: Value) -> None:
        self.values[node.outputs[0]] = value
        self.evaluated.append(node)
