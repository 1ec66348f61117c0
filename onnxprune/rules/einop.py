"""Rules written as patterns: which axes of an operator's operands and results are one axis.

    "b (g i) *x!, (g o) i *k!, (g o) -> b (g o) *y"        a grouped convolution

A name is an axis; `(g i)` an axis that is a row-major product; `*x` any number of axes (right-aligned, so
that they broadcast); `!` marks a name whose axes are never removed; `1` is an axis of one element.
A name on both sides *passes*; on the left alone it is *contracted* (its channels are consumed there); on the
right alone it is *made*, with sizes that the row's `sizes` function gives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from math import prod
from typing import NamedTuple

from onnxprune.forms import ONE, Fixed, Form, factor, fix, multiply, tie
from onnxprune.graph import Node
from onnxprune.trace import Cannot, Contraction, Production, Reason, Repair, Trace, Work

Sizes = dict[str, list[int]]
Bound = dict[str, list[Form]]


class Token(NamedTuple):
    """One axis of a pattern (`many`: a run of axes); several names are a product."""

    names: tuple[str, ...]
    many: bool = False


class Pattern(NamedTuple):
    """A parsed pattern: tokens per operand, tokens per result, and the names that never lose elements."""

    operands: tuple[tuple[Token, ...], ...]
    results: tuple[tuple[Token, ...], ...]
    fixed: frozenset[str]
    contracted: frozenset[str]


@lru_cache(maxsize=4096)
def parse(text: str) -> Pattern:
    """Parse a pattern.

    Raises:
        ValueError: no arrow, or unbalanced parentheses.
    """
    left, arrow, right = text.partition("->")
    if not arrow or text.count("(") != text.count(")"):
        raise ValueError(f"{text!r} is no pattern: expected 'a b, c -> a c'")
    fixed: set[str] = set()
    operands = tuple(_parse_axes(part, fixed) for part in left.split(","))
    results = tuple(_parse_axes(part, fixed) for part in right.split(","))
    names = [{n for axes in side for t in axes for n in t.names} for side in (operands, results)]
    return Pattern(operands, results, frozenset(fixed), frozenset(names[0] - names[1] - fixed))


def _parse_axes(text: str, fixed: set[str]) -> tuple[Token, ...]:
    tokens = []
    for word in text.replace("(", " ( ").replace(")", " ) ").split():
        if word == "(":
            tokens.append(Token(()))
            packed = True
            continue
        if word == ")":
            packed = False
            continue
        name = word.strip("*!")
        if word.endswith("!"):
            fixed.add(name)
        if tokens and packed:
            tokens[-1] = Token((*tokens[-1].names, name))
        else:
            tokens.append(Token((name,), word.startswith("*")))
            packed = False
    return tuple(tokens)


@dataclass(frozen=True)
class Einop:
    """A rule given by a pattern.

    Attributes:
        pattern: the pattern, or a function of the node that gives it where it depends on rank or attributes.
        why: the reason told for axes that the pattern marks as never removed.
        sizes: gives the sizes of names that only results have, and of names inside products.
        attributes: attributes that state the size of a name (`group` of Conv), with their default.
        macs: names whose sizes multiply to the operator's multiply-accumulates; none for most operators.
    """

    pattern: str | Callable[[Node, Trace], str]
    why: str = "its elements are mixed"
    sizes: Callable[[Node, Trace], Sizes] | None = None
    attributes: dict[str, str] = field(default_factory=dict)
    macs: str = ""

    def read(self, node: Node, trace: Trace) -> None:
        """Tie the operands' axes as the pattern says and set the results' axes."""
        pattern = parse(self.pattern if isinstance(self.pattern, str) else self.pattern(node, trace))
        sizes = self.sizes(node, trace) if self.sizes else {}
        sizes |= {name: [node.attribute(a, 1)] for a, name in self.attributes.items()}
        bound: Bound = {}
        for operand, tokens in enumerate(pattern.operands):
            if node.input(operand):
                _bind_operand(trace.axes(node.inputs[operand]), tokens, bound, sizes)
        self._fix(node, pattern, bound)
        for output, tokens in zip(node.outputs, pattern.results, strict=False):
            trace.give(output, _result(tokens, bound, sizes))
        self._record(node, trace, pattern, bound)

    def _fix(self, node: Node, pattern: Pattern, bound: Bound) -> None:
        for name in pattern.fixed:
            for form in bound.get(name, ()):
                if type(form) is not Fixed:
                    fix(form, Reason(node.op, node.label, self.why))

    def _record(self, node: Node, trace: Trace, pattern: Pattern, bound: Bound) -> None:
        for attribute, name in self.attributes.items():
            if bound.get(name, [ONE])[0].size > 1:
                trace.repairs.append(Repair(node, attribute, (bound[name][0],)))
        if not self.macs:
            return
        forms = tuple(f for name in self.macs.split() for f in bound.get(name, ()) if f.size > 1)
        trace.work.append(Work(node, forms))
        for name in pattern.contracted:
            operand, axis = _place(pattern, name, len(trace.axes(node.inputs[0])))
            if node.input(operand):
                form = trace.axes(node.inputs[operand])[axis]
                trace.contractions.append(Contraction(node, operand, axis, form))
        for operand, tokens in enumerate(pattern.operands):
            root = trace.roots.get(node.input(operand), "")
            for token in tokens if root else ():
                if not token.many and not pattern.contracted.intersection(token.names) and bound[token.names[0]]:
                    made = multiply(f for n in token.names for f in bound[n])
                    trace.productions.append(Production(node, root, made))


def _place(pattern: Pattern, name: str, rank: int) -> tuple[int, int]:
    """The first operand and axis that a contracted name stands for (a run of axes never is contracted)."""
    for operand, tokens in enumerate(pattern.operands):
        for axis, token in enumerate(tokens):
            if name in token.names:
                before_run = not any(t.many for t in tokens[:axis])
                return operand, axis if before_run else axis - len(tokens)
    raise KeyError(name)


def _bind_operand(forms: tuple[Form, ...], tokens: tuple[Token, ...], bound: Bound, sizes: Sizes) -> None:
    run = len(forms) - len(tokens) + 1
    if run < 0 or (run != 1 and not any(t.many for t in tokens)):
        raise Cannot(f"its operand has rank {len(forms)}, its rule expects {len(tokens)}")
    at = 0
    for token in tokens:
        if token.many:
            _bind_run(token.names[0], list(forms[at : at + run]), bound)
            at += run
        elif len(token.names) == 1:
            _bind(token.names[0], forms[at], bound)
            at += 1
        else:
            for name, form in zip(token.names, _unpack(forms[at], token.names, bound, sizes), strict=True):
                _bind(name, form, bound)
            at += 1


def _bind(name: str, form: Form, bound: Bound) -> None:
    have = bound.get(name)
    if have is None or (have[0].size == 1 and form.size != 1):
        bound[name] = [form]
    elif have[0] is not form and not (form.size == 1 and have[0].size != 1):
        tie(have[0], form)


def _bind_run(name: str, forms: list[Form], bound: Bound) -> None:
    have = bound.get(name)
    bound[name] = forms if have is None else broadcast(have, forms)


def broadcast(a: list[Form], b: list[Form]) -> list[Form]:
    """Tie two shapes, aligned at their last axes; axes of one element broadcast."""
    longer, shorter = (a, b) if len(a) >= len(b) else (b, a)
    lead = len(longer) - len(shorter)
    out = longer[:lead]
    for x, y in zip(longer[lead:], shorter, strict=True):
        if x is not y and x.size != 1 and y.size != 1:
            tie(x, y)
        out.append(y if x.size == 1 else x)
    return out


def _unpack(form: Form, names: tuple[str, ...], bound: Bound, sizes: Sizes) -> list[Form]:
    known = [sizes[n][0] if n in sizes else bound[n][0].size if n in bound else 0 for n in names]
    if known.count(0) > 1:
        raise Cannot(f"the sizes of {' '.join(names)} are not known")
    rest = prod(n for n in known if n)
    if form.size % rest or (0 not in known and form.size != rest):
        raise Cannot(f"an axis of {form.size} elements is not a multiple of {rest}")
    return factor(form, [n or form.size // rest for n in known])


def _result(tokens: tuple[Token, ...], bound: Bound, sizes: Sizes) -> list[Form]:
    out: list[Form] = []
    for token in tokens:
        forms = [f for n in token.names for f in _made(n, bound, sizes)]
        out.extend(forms if token.many else [multiply(forms)])
    return out


def _made(name: str, bound: Bound, sizes: Sizes) -> list[Form]:
    if name == "1":
        return [ONE]
    if name not in bound:
        bound[name] = [Fixed(n) for n in sizes[name]]
    return bound[name]
