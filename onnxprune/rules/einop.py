"""Rules written as patterns: which axes of an operator's operands and results are one axis.

    "b (g i) *x!, (g o) i *k!, (g o) -> b (g o) *y"        a grouped convolution

A name is an axis; `(g i)` an axis that is a row-major product; `*x` any number of axes (right-aligned, so
that they broadcast); `!` marks a name whose axes are never removed; `1` is an axis of one element.
A name on both sides *passes*; on the left alone it is *contracted* (its channels are consumed there); on the
right alone it is *made*, with sizes that the row's `sizes` function gives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from onnxprune.forms import ONE, Fixed, Form, fix
from onnxprune.graph import Node
from onnxprune.rules.pattern import parse
from onnxprune.rules.plan import Plan, compiled
from onnxprune.trace import Contraction, Production, Reason, Repair, Trace, Work
from onnxprune.unify import tie

Sizes = dict[str, list[int]]


@dataclass(frozen=True)
class Einop:
    """A rule given by a pattern.

    Attributes:
        pattern: the pattern, or a function of the node that gives it where it depends on rank or attributes.
        why: the reason told for axes that the pattern marks as never removed.
        sizes: gives the sizes of names that only results have, and of names inside products; they depend on
            the node's attributes and on its operands' sizes alone.
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
        text = self.pattern if isinstance(self.pattern, str) else self.pattern(node, trace)
        names = node.inputs[: len(parse(text).operands)]
        stored = trace.graph.shapes
        forms: list[Form] = [ONE]
        shapes: list[tuple[int, ...] | None] = []
        for name in names:
            axes = trace.axes(name) if name else ()
            forms += axes
            shapes.append((stored.get(name) or tuple([form.size for form in axes])) if name else None)
        key = (node.op, text, node.signature, *shapes)
        plan: Plan | None = trace.plans.get(key)
        if plan is None:
            plan = trace.plans[key] = self._plan(node, trace, text, shapes)
        for step, argument in plan.bind:
            step(forms, argument)
        for place in plan.fixed:
            if type(forms[place]) is not Fixed:
                fix(forms[place], Reason(node.op, node.label, self.why))
        for step, argument in plan.make:
            step(forms, argument)
        for output, result in zip(node.outputs, plan.results, strict=False):
            trace.give(output, [forms[place] for place in result])
        self._record(node, trace, plan, forms)

    def _plan(self, node: Node, trace: Trace, text: str, shapes: Sequence[tuple[int, ...] | None]) -> Plan:
        sizes = self.sizes(node, trace) if self.sizes else {}
        sizes |= {name: [node.attribute(a, 1)] for a, name in self.attributes.items()}
        return compiled(text, sizes, shapes, self.attributes, self.macs)

    def _record(self, node: Node, trace: Trace, plan: Plan, forms: list[Form]) -> None:
        for attribute, place in plan.stated:
            trace.repairs.append(Repair(node, attribute, (forms[place],)))
        if not self.macs:
            return
        trace.work.append(Work(node, tuple([forms[place] for place in plan.work])))
        for operand, axis, place in plan.contracted:
            trace.contractions.append(Contraction(node, operand, axis, forms[place]))
        for operand, place in plan.productions:
            if root := trace.roots.get(node.inputs[operand]):
                trace.productions.append(Production(node, root, forms[place]))


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
