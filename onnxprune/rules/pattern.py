"""The notation of rules, parsed: see `einop`."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple


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
