"""The notation of rules: how patterns are read, what they tie, and what they refuse."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from onnxprune.coupling import couple
from onnxprune.forms import Atom, Fixed, Form, atoms, expand, is_fixed
from onnxprune.graph import Graph, Model, Node
from onnxprune.rules.einop import Einop, broadcast
from onnxprune.rules.pattern import Token, parse
from onnxprune.trace import Cannot, Trace
from onnxprune.unify import FormError


def read(
    pattern: str, *shapes: tuple[int, ...], outputs: int = 1, **more: object
) -> tuple[Trace, list[tuple[Form, ...]]]:
    """The forms that a rule gives to the results of a node with stored operands of these shapes."""
    stored = [numpy_helper.from_array(np.zeros(shape, np.float32), f"x{k}") for k, shape in enumerate(shapes)]
    names = [f"y{k}" for k in range(outputs)]
    node = helper.make_node("Any", [t.name for t in stored], names, name="node", groups=2)
    graph = helper.make_graph([node], "g", [], [onnx.ValueInfoProto(name=n) for n in names], stored)
    trace = Trace(Graph(Model(helper.make_model(graph))))
    Einop(pattern, **more).read(Node(0, node), trace)  # type: ignore[arg-type]
    return trace, [tuple(expand(f) for f in trace.axes(name)) for name in names]


def test_patterns_are_read() -> None:
    pattern = parse("b (g i) *x!, (g o) i *k!, (g o) -> b (g o) *y")
    assert pattern.operands[0] == (Token(("b",)), Token(("g", "i")), Token(("x",), True))
    assert pattern.results == ((Token(("b",)), Token(("g", "o")), Token(("y",), True)),)
    assert pattern.fixed == {"x", "k"} and pattern.contracted == {"i"}
    assert parse("k, k -> ").results == ((),)
    assert parse("b (c r! s!) y -> b c").fixed == {"r", "s"}


@pytest.mark.parametrize("text", ["a b", "(a b -> a", "a) -> a", ""])
def test_what_is_no_pattern(text: str) -> None:
    with pytest.raises(ValueError, match="is no pattern"):
        parse(text)


def test_names_on_both_sides_pass() -> None:
    trace, ((rows, columns),) = read("a b -> b a", (3, 4))
    assert [rows, columns] == [trace.axes("x0")[1], trace.axes("x0")[0]]


def test_a_name_twice_is_one_axis() -> None:
    trace, _ = read("a b, b c -> a c", (3, 4), (4, 5))
    assert list(atoms(trace.axes("x0")[1])) == list(atoms(trace.axes("x1")[0]))


def test_what_is_marked_is_fixed_for_the_reason_given() -> None:
    trace, ((a, b),) = read("a b! -> a b", (3, 4), why="is mixed")
    assert not is_fixed(a) and isinstance(b, Fixed) and "Any 'node': is mixed" in str(b.reason)
    assert not is_fixed(trace.axes("x0")[0])


def test_a_product_is_unpacked() -> None:
    trace, ((c, d),) = read("(g c) -> g c", (6,), attributes={"groups": "g"})
    assert repr(expand(trace.axes("x0")[0])) == "Product(Atom(2), Atom(3))"
    assert (c.size, d.size) == (2, 3)
    assert [(r.slot, [w.size for w in r.wanted if w]) for r in trace.repairs] == [("groups", [2])]


def test_made_names_take_the_sizes_given() -> None:
    _, ((a, b, one),) = read("a -> a z 1", (3,), sizes=lambda node, trace: {"z": [7]})
    assert (a.size, b.size, one.size) == (3, 7, 1) and isinstance(b, Fixed) and isinstance(one, Fixed)


def test_runs_broadcast_at_their_last_axes() -> None:
    trace, (out,) = read("*a n, *a n -> *a n", (2, 1, 4, 6), (3, 1, 6))
    assert [f.size for f in out] == [2, 3, 4, 6]
    assert not any(is_fixed(f) for f in out)
    assert list(atoms(trace.axes("x1")[0])) == list(atoms(out[1]))


def test_axes_of_one_element_broadcast() -> None:
    _, ((a,),) = read("a, a -> a", (1,), (4,))
    assert a.size == 4
    _, ((b,),) = read("a, a -> a", (4,), (1,))
    assert b.size == 4


@pytest.mark.parametrize(
    ("pattern", "shapes", "error", "message"),
    [
        ("a b -> a", [(3,)], Cannot, "rank 1, its rule expects 2"),
        ("a -> a", [(3, 4)], Cannot, "rank 2, its rule expects 1"),
        ("a b *c -> a", [(3,)], Cannot, "rank 1, its rule expects 3"),
        ("(a b) -> a", [(6,)], Cannot, "the sizes of a b are not known"),
        ("a, (a b) -> b", [(4,), (6,)], Cannot, "6 elements is not a multiple of 4"),
        ("a, b, (a b) -> a", [(2,), (3,), (12,)], Cannot, "12 elements is not a multiple of 6"),
        ("a, a -> a", [(3,), (4,)], FormError, "3 and 4 elements are not one axis"),
    ],
)
def test_what_a_rule_does_not_cover(
    pattern: str, shapes: list[tuple[int, ...]], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        read(pattern, *shapes)


def test_contractions_name_the_first_operand_that_has_them() -> None:
    trace, _ = read("*b m k, *b k n -> *b m n", (2, 3, 4), (2, 4, 5), macs="b m k n")
    (contraction,) = trace.contractions
    assert (contraction.operand, contraction.axis) == (0, -1)
    assert contraction.form is trace.axes("x0")[2]
    (work,) = trace.work
    assert [f.size for f in work.forms] == [2, 3, 4, 5]


def test_stored_operands_make_what_they_do_not_consume() -> None:
    trace, _ = read("b k, k n -> b n", (3, 4), (4, 5), macs="b k n")
    assert {(p.tensor, p.form.size) for p in trace.productions} == {("x0", 3), ("x1", 5)}


def test_broadcasting_ties_only_what_meets() -> None:
    a, b, c = Atom(3), Atom(4), Atom(4)
    out = broadcast([a, b], [c])
    assert out[0] is a and list(atoms(b)) == list(atoms(c))


def test_a_rule_for_every_opset_in_the_graph() -> None:
    """A node without a name is called by its first output."""
    stored = numpy_helper.from_array(np.zeros((3, 4), np.float32), "w")
    node = helper.make_node("Softmax", ["w"], ["y"])
    graph = helper.make_graph([node], "g", [], [onnx.ValueInfoProto(name="y")], [stored])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    graph_read = Graph(Model(model))
    graph_read.outputs = []
    trace = couple(graph_read)
    assert [is_fixed(f) for f in trace.axes("y")] == [False, True]
    assert "Softmax 'y'" in str(expand(trace.axes("y")[1]).reason)  # type: ignore[union-attr]
