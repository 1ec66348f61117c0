"""A pattern made into steps for operands of given sizes, so that nodes alike are read at little cost.

Which axes meet, broadcast or are cut depends on sizes alone, never on what the axes are made of: it is worked out
once, with *places* in a list of forms instead of the forms themselves. Place 0 is an axis of one element; the axes
of the operands follow, then what the steps add.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from math import prod
from typing import Any, NamedTuple

from onnxprune.forms import Fixed, Form, multiply
from onnxprune.rules.pattern import Pattern, Token, parse
from onnxprune.trace import Cannot
from onnxprune.unify import factor, tie

Step = tuple[Callable[[list[Form], Any], None], object]
Shape = tuple[int, ...]


class Plan(NamedTuple):
    """What to do with the forms of a node's operands.

    Attributes:
        bind: steps that tie and cut the operands' axes.
        fixed: places that never lose elements.
        make: steps that put the results' axes together.
        results: places of every result's axes.
        stated: attributes that state a size above one, each with the place of what has that size.
        work: places whose sizes multiply to the multiply-accumulates.
        contracted: (operand, axis, place of the axis) of every contracted name.
        productions: (operand, place) of what a stored operand makes.
    """

    bind: tuple[Step, ...]
    fixed: tuple[int, ...]
    make: tuple[Step, ...]
    results: tuple[tuple[int, ...], ...]
    stated: tuple[tuple[str, int], ...]
    work: tuple[int, ...]
    contracted: tuple[tuple[int, int, int], ...]
    productions: tuple[tuple[int, int], ...]


def compiled(
    text: str,
    sizes: Mapping[str, Sequence[int]],
    shapes: Sequence[Shape | None],
    attributes: Mapping[str, str],
    macs: str,
) -> Plan:
    """The plan of a pattern.

    Args:
        text: the pattern.
        sizes: sizes of names that only results have, and of names inside products.
        shapes: of every operand; None where it is left out.
        attributes: attributes that state the size of a name.
        macs: names whose sizes multiply to the multiply-accumulates, separated by spaces.

    Raises:
        Cannot: the operands do not fit the pattern.
    """
    return _Compiler(parse(text), sizes, shapes).plan(attributes, macs.split())


class _Compiler:
    def __init__(self, pattern: Pattern, sizes: Mapping[str, Sequence[int]], shapes: Sequence[Shape | None]):
        self.pattern = pattern
        self.sizes = sizes
        self.size = [1, *[n for shape in shapes for n in shape or ()]]
        self.steps: list[Step] = []
        self.bound: dict[str, list[int]] = {}
        self.joined: dict[tuple[int, ...], int] = {}
        starts = accumulate((len(shape or ()) for shape in shapes), initial=1)
        self.axes = [None if s is None else list(range(k, k + len(s))) for k, s in zip(starts, shapes, strict=False)]

    def plan(self, attributes: Mapping[str, str], macs: Sequence[str]) -> Plan:
        for axes, tokens in zip(self.axes, self.pattern.operands, strict=False):
            if axes is not None:
                self._bind_operand(axes, tokens)
        bind, self.steps = tuple(self.steps), []
        fixed = tuple(p for name in sorted(self.pattern.fixed) for p in self.bound.get(name, ()))
        results = tuple(tuple(self._result(tokens)) for tokens in self.pattern.results)
        firsts = [(a, self.bound.get(name, [0])[0]) for a, name in attributes.items()]
        stated = tuple((a, place) for a, place in firsts if self.size[place] > 1)
        work = tuple(p for name in macs for p in self.bound.get(name, ()) if self.size[p] > 1)
        contracted = tuple(self._contracted()) if macs else ()
        productions = tuple(self._productions()) if macs else ()
        return Plan(bind, fixed, tuple(self.steps), results, stated, work, contracted, productions)

    def _bind_operand(self, axes: list[int], tokens: Sequence[Token]) -> None:
        run = len(axes) - len(tokens) + 1
        if run < 0 or (run != 1 and not any(t.many for t in tokens)):
            raise Cannot(f"its operand has rank {len(axes)}, its rule expects {len(tokens)}")
        at = 0
        for token in tokens:
            if token.many:
                self._bind_run(token.names[0], axes[at : at + run])
                at += run
            else:
                for name, place in zip(token.names, self._unpack(axes[at], token.names), strict=True):
                    self._bind(name, place)
                at += 1

    def _bind(self, name: str, place: int) -> None:
        have = self.bound.get(name)
        if have is None or (self.size[have[0]] == 1 and self.size[place] != 1):
            self.bound[name] = [place]
        elif have[0] != place and not (self.size[place] == 1 and self.size[have[0]] != 1):
            self.steps.append((_tie, (have[0], place)))

    def _bind_run(self, name: str, places: list[int]) -> None:
        """Tie a run of axes to an earlier one of its name, aligned at the last axes; axes of one element broadcast."""
        have = self.bound.get(name, places)
        longer, shorter = (have, places) if len(have) >= len(places) else (places, have)
        lead = len(longer) - len(shorter)
        for x, y in zip(longer[lead:], shorter, strict=True):
            if x != y and self.size[x] != 1 and self.size[y] != 1:
                self.steps.append((_tie, (x, y)))
        met = [y if self.size[x] == 1 else x for x, y in zip(longer[lead:], shorter, strict=True)]
        self.bound[name] = longer[:lead] + met

    def _unpack(self, place: int, names: tuple[str, ...]) -> list[int]:
        if len(names) == 1:
            return [place]
        bound, size = self.bound, self.size[place]
        known = [self.sizes[n][0] if n in self.sizes else self.size[bound[n][0]] if n in bound else 0 for n in names]
        if known.count(0) > 1:
            raise Cannot(f"the sizes of {' '.join(names)} are not known")
        rest = prod(n for n in known if n)
        if size % rest or (0 not in known and size != rest):
            raise Cannot(f"an axis of {size} elements is not a multiple of {rest}")
        sizes = [n or size // rest for n in known]
        if sizes.count(1) >= len(sizes) - 1:
            whole = next((k for k, n in enumerate(sizes) if n != 1), 0)
            return [place if k == whole else 0 for k in range(len(sizes))]
        self.steps.append((_factor, (place, sizes)))
        return self._added(*sizes)

    def _added(self, *sizes: int) -> list[int]:
        start = len(self.size)
        self.size.extend(sizes)
        return list(range(start, len(self.size)))

    def _result(self, tokens: Sequence[Token]) -> list[int]:
        out: list[int] = []
        for token in tokens:
            places = [p for name in token.names for p in self._made(name)]
            out.extend(places if token.many else [self._join(places)])
        return out

    def _made(self, name: str) -> list[int]:
        if name == "1":
            return [0]
        if name not in self.bound:
            self.steps.extend((list.append, Fixed(n)) for n in self.sizes[name])
            self.bound[name] = self._added(*self.sizes[name])
        return self.bound[name]

    def _join(self, places: Sequence[int]) -> int:
        """The place of the product of forms."""
        factors = tuple(p for p in places if p)
        if len(factors) < 2:
            return factors[0] if factors else 0
        if factors not in self.joined:
            self.steps.append((_multiply, factors))
            (self.joined[factors],) = self._added(prod(self.size[p] for p in factors))
        return self.joined[factors]

    def _contracted(self) -> list[tuple[int, int, int]]:
        found = []
        for name in sorted(self.pattern.contracted):
            operand, axis = _place(self.pattern, name)
            axes = self.axes[operand] if operand < len(self.axes) else None
            if axes is not None:
                found.append((operand, axis, axes[axis]))
        return found

    def _productions(self) -> list[tuple[int, int]]:
        found = []
        for operand, (axes, tokens) in enumerate(zip(self.axes, self.pattern.operands, strict=False)):
            for token in tokens if axes is not None else ():
                if not token.many and not self.pattern.contracted.intersection(token.names):
                    found.append((operand, self._join([p for n in token.names for p in self.bound[n]])))
        return found


def _place(pattern: Pattern, name: str) -> tuple[int, int]:
    """The first operand and axis that a contracted name stands for (a run of axes never is contracted)."""
    for operand, tokens in enumerate(pattern.operands):
        for axis, token in enumerate(tokens):
            if name in token.names:
                before_run = not any(t.many for t in tokens[:axis])
                return operand, axis if before_run else axis - len(tokens)
    raise KeyError(name)


def _tie(forms: list[Form], places: tuple[int, int]) -> None:
    a, b = forms[places[0]], forms[places[1]]
    if a is not b:
        tie(a, b)


def _factor(forms: list[Form], given: tuple[int, Sequence[int]]) -> None:
    place, sizes = given
    forms.extend(factor(forms[place], sizes))


def _multiply(forms: list[Form], places: Sequence[int]) -> None:
    forms.append(multiply([forms[p] for p in places]))
