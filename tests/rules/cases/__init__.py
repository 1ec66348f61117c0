"""One or more calls for every row of the op table, by room, in the opsets where their form changed."""

from tests.rules.cases import elementwise, layout, linear, movement, norm, order, pool

CASES = [case for room in (elementwise, linear, norm, pool, order, layout, movement) for case in room.CASES]
