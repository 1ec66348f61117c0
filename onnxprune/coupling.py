"""Read a graph with the op table: one pass over the nodes ties every axis to those it is one with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import onnx
from onnx import TypeProto, ValueInfoProto

from onnxprune.forms import Fixed, fix
from onnxprune.graph import Graph, Node
from onnxprune.rules import rule_for
from onnxprune.trace import Cannot, Reason, Trace
from onnxprune.unify import FormError

ONNX_ERRORS = (
    onnx.defs.SchemaError,
    onnx.checker.ValidationError,
    onnx.shape_inference.InferenceError,
    KeyError,
    RuntimeError,
    TypeError,
    ValueError,
)
# Symbolic dimensions stand for these sizes while the graph is read, unless the user names others.
FIRST_SIZE, OTHER_SIZE = 1, 256


def couple(graph: Graph, sizes: Mapping[str, int] | None = None) -> Trace:
    """The trace of a graph: forms of every axis, tied as the operators tie them.

    Args:
        graph: the graph to read; its nodes are in topological order.
        sizes: sizes of symbolic dimensions by name; `*` is for all others.
    """
    trace = Trace(graph)
    trace.symbolic = any(not d.dim_value for v in graph.inputs for d in v.type.tensor_type.shape.dim)
    for value in graph.inputs:
        reason = Reason("", value.name, f"{value.name!r} is an input of the graph")
        trace.forms[value.name] = tuple(Fixed(n, reason) for n in input_shape(value, sizes or {}))
    for node in graph.nodes:
        trace.current = node
        _read(node, trace)
    trace.current = None
    for name, node in trace.read_as_numbers.items():
        # Also used as data it would be sliced, and the numbers with it.
        if name in graph.stored and trace.forms.get(name):
            _freeze([name], trace, Reason(node.op, node.label, f"reads the numbers in {name!r}"))
    for name in graph.outputs:
        _freeze([name], trace, Reason("", name, f"{name!r} is an output of the graph"))
    return trace


def input_shape(value: ValueInfoProto, sizes: Mapping[str, int]) -> list[int]:
    """Concrete sizes of a graph input."""
    if not value.type.HasField("tensor_type"):
        return []
    dims = value.type.tensor_type.shape.dim
    return [
        d.dim_value or sizes.get(d.dim_param) or sizes.get("*") or (OTHER_SIZE if k else FIRST_SIZE)
        for k, d in enumerate(dims)
    ]


def _read(node: Node, trace: Trace) -> None:
    rule = rule_for(node.domain, node.op)
    try:
        if trace.evaluate(node):
            return
        if rule is None:
            raise Cannot("no rule for this operator")
        rule.read(node, trace)
        for name in node.outputs:
            if name and name not in trace.forms:
                raise Cannot("it has more outputs than its rule covers")
    except (Cannot, FormError) as error:
        _freeze_node(node, trace, str(error))
    except (ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        # Attributes or shapes that no valid node has; the node is frozen like one that is not known.
        _freeze_node(node, trace, f"is not understood ({type(error).__name__}: {error})")
    _follow_roots(node, trace)


def _follow_roots(node: Node, trace: Trace) -> None:
    for name in node.inputs:
        if name and name not in trace.roots:
            return
    if node.inputs:
        root = max((trace.roots[n] for n in node.inputs if n), key=lambda n: len(trace.graph.shapes[n]), default="")
        trace.roots.update(dict.fromkeys(node.outputs, root))


def _freeze_node(node: Node, trace: Trace, text: str) -> None:
    reason = Reason(node.op, node.label, text)
    _freeze([*node.inputs, *node.captured()], trace, reason)
    shapes = _branch_shapes(node, trace) if node.op == "If" else _infer(node, trace)
    for name in filter(None, node.outputs):
        shape = shapes.get(name)
        trace.forms[name] = None if shape is None else tuple(Fixed(n, reason) for n in shape)


def _branch_shapes(node: Node, trace: Trace) -> dict[str, list[int]]:
    """Shapes that the taken branch of an If gives, where its condition is known; its own tensors are frozen."""
    condition = trace.value(node.inputs[0])
    if condition is None:
        return {}
    branch = node.attribute("then_branch" if condition.array.ravel()[0] else "else_branch")
    for tensor in branch.initializer:
        trace.forms[tensor.name] = tuple(Fixed(n) for n in tensor.dims)
    before = [len(records) for records in trace.records]
    names = {name for proto in branch.node for name in proto.output}
    for proto in branch.node:
        _read(Node(-1, proto), trace)
    for records, length in zip(trace.records, before, strict=True):
        del records[length:]
    reason = Reason(node.op, node.label, "computes it in a branch")
    _freeze(names, trace, reason)
    pairs = zip(node.outputs, [v.name for v in branch.output], strict=True)
    return {outer: trace.shape(inner) for outer, inner in pairs if trace.forms.get(inner) or inner in trace.values}


def _freeze(names: Iterable[str], trace: Trace, reason: Reason) -> None:
    for name in names:
        value = trace.values.get(name)
        if value is not None:
            trace.escape(value, reason)
        if trace.forms.get(name) is not None or name in trace.graph.stored:
            for form in trace.axes(name):
                fix(form, reason)


def _infer(node: Node, trace: Trace) -> dict[str, list[int]]:
    """Shapes of the results as onnx infers them, for operators without a rule."""
    try:
        schema = onnx.defs.get_schema(node.op, trace.opset, node.domain)
        types = {name: _type(name, trace) for name in node.inputs if name}
        data = {name: trace.graph.stored[name] for name in node.inputs if name in trace.graph.stored}
        opset = [onnx.helper.make_opsetid(node.domain, trace.opset)]
        inferred = onnx.shape_inference.infer_node_outputs(schema, node.proto, types, data, opset_imports=opset)
    except (Cannot, *ONNX_ERRORS):
        return {}
    return {name: shape for name, t in inferred.items() if (shape := _concrete(t)) is not None}


def _type(name: str, trace: Trace) -> TypeProto:
    stored, value = trace.graph.stored.get(name), trace.values.get(name)
    kind = stored.data_type if stored is not None else 7 if value is not None else 1
    return onnx.helper.make_tensor_type_proto(kind, trace.shape(name))


def _concrete(kind: TypeProto) -> list[int] | None:
    if not kind.tensor_type.HasField("shape"):
        return None
    dims = kind.tensor_type.shape.dim
    return [d.dim_value for d in dims] if all(d.HasField("dim_value") for d in dims) else None
