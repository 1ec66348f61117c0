"""The op table: one row an operator, what its axes have to do with each other.

A row is an `Einop` (a pattern), an `Elementwise` or a `Movement` (a function of forms). To teach the
package an operator, add a row to the room it belongs to. What has no row is frozen, and named.
"""

from onnxprune.rules import elementwise, layout, linear, movement, norm, order, pool
from onnxprune.rules.rule import Rule

ROOMS = (elementwise, linear, norm, pool, order, layout, movement)
TABLE: dict[str, Rule] = {op: rule for room in ROOMS for op, rule in room.RULES.items()}

MIXING = frozenset(op for room in (norm, order, pool) for op in room.RULES)
"""What mixes the elements along an axis, or depends on their places, without consuming channels."""


def rule_for(domain: str, op: str) -> Rule | None:
    """The row of an operator, or None where there is none."""
    return TABLE.get(op) if domain in ("", "ai.onnx") else None
