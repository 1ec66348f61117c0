"""What the values of options have to be: rules, by name of the field, that dataclasses check themselves by."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

from onnxprune.errors import UsageError

Rule = tuple[str, Callable[[Any], bool]]
"""What is expected, in words, and whether a value is so."""


def check(what: str, options: object, rules: Mapping[str, Rule]) -> None:
    """Refuse the first field that is not as its rule says.

    Raises:
        UsageError: names the field, its value and what is expected.
    """
    for name, (expected, holds) in rules.items():
        if not holds(value := getattr(options, name)):
            raise refused(what, name, value, expected)


def refused(what: str, name: str, value: object, expected: str) -> UsageError:
    """The error for a field of something that is not as expected."""
    return UsageError(f"{what}: {name} is {value!r}, expected {expected}", f"change {name}")


def is_list(value: object) -> bool:
    """Whether it is a list or a tuple."""
    return isinstance(value, list | tuple)


def is_number(value: object, holds: Callable[[float], bool]) -> bool:
    """Whether it is a finite number for which something holds."""
    return type(value) in (int, float) and math.isfinite(value) and holds(value)  # type: ignore[arg-type]


def _whole(value: object, least: int) -> bool:
    return type(value) is int and value >= least


def one_of(choices: Collection[str]) -> Rule:
    """One of some names."""
    return f"one of {', '.join(choices)}", lambda v: v in choices


def or_none(rule: Rule) -> Rule:
    """As by another rule, or None."""
    return f"{rule[0]}, or None", lambda v: v is None or rule[1](v)


YES_OR_NO: Rule = ("True or False", lambda v: type(v) is bool)
COUNT: Rule = ("a whole number of at least 1", lambda v: _whole(v, 1))
FROM_ZERO: Rule = ("a whole number of at least 0", lambda v: _whole(v, 0))
POSITIVE: Rule = ("a number above 0", lambda v: is_number(v, lambda v: v > 0))
NOT_NEGATIVE: Rule = ("a number of at least 0", lambda v: is_number(v, lambda v: v >= 0))
SHARE: Rule = ("a number from 0 to below 1", lambda v: is_number(v, lambda v: 0 <= v < 1))
