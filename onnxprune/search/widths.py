"""Which widths every group may have: shares of its size, multiples, or those that are given."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import ceil, floor
from typing import Literal

from onnxprune.errors import UsageError
from onnxprune.groups import Group
from onnxprune.ranking import Limits

Compat = Literal["released"]
LEVELS = 10
"""Widths are tenths of a group's size, as published."""
ANY = Limits()
Given = Mapping[str, Collection[int]]
"""Widths by patterns of groups' names, such as `{"layer1*": (8, 16)}`; groups that fit none stay whole."""


@dataclass(frozen=True)
class Widths:
    """Which widths a group may have.

    Attributes:
        most: the largest share of a group that stays (the published alpha): tenths up to it, and itself, in whole units
            that never exceed it.
        limits: multiples instead of tenths if `round_to` is more than 1; and the least width.
        compat: "released" cuts off tenths instead of rounding them, and keeps at least one unit.

    Raises:
        UsageError: the share is none; or with "released" it is no multiple of a tenth, or there are limits.
    """

    most: float = 1.0
    limits: Limits = ANY
    compat: Compat | None = None

    def __post_init__(self) -> None:
        if not 0 < self.most <= 1:
            raise UsageError(f"the largest share is {self.most}, expected one in (0, 1]", "for example 0.7")
        if self.compat != "released":
            return
        if self.limits != ANY:
            raise UsageError(
                f"compat 'released' with {self.limits}, expected no limits: the released code knows none",
                "leave out --round-to, --min-keep and --min-share, or --compat",
            )
        if not self._tenths or self._tenths[-1] != round(LEVELS * self.most, 6):
            raise UsageError(
                f"compat 'released' with the largest share {self.most}, expected a multiple of a tenth",
                "for example 0.7",
            )

    @property
    def _tenths(self) -> list[int]:
        """Those within the largest share."""
        return [tenth for tenth in range(1, LEVELS + 1) if tenth <= round(LEVELS * self.most, 6)]

    def of(self, group: Group) -> tuple[int, ...]:
        """Ascending widths.

        Raises:
            UsageError: none is allowed; tells the nearest that the limits allow.
        """
        size, limits = group.size, self.limits
        if self.compat == "released":
            return tuple(max(1, tenth * size // LEVELS) for tenth in self._tenths)
        low, high = limits.floor(size), floor(round(self.most * size, 6))
        if low > high:
            raise UsageError(
                f"group {group.name!r}: at least {low} of its {size} units are to stay (min_keep {limits.min_keep}, "
                f"min_share {limits.min_share:g}, round_to {limits.round_to}), and at most {high} "
                f"({self.most:g} of them): the nearest share is {ceil(1e4 * low / size) / 1e4:g}",
                "raise the largest share, or lower the least width or the multiple",
            )
        if limits.round_to > 1:
            return tuple(range(low, high + 1, limits.round_to))
        wanted = [*(tenth * size / LEVELS for tenth in self._tenths), high]
        return tuple(sorted({min(limits.nearest(size, width), high) for width in wanted}))


def given_widths(groups: Iterable[Group], given: Given) -> dict[str, tuple[int, ...]]:
    """Ascending widths, by the names of those groups that a pattern fits.

    Raises:
        UsageError: a pattern fits no group or has no widths, a width is none of the group's, or two patterns disagree.
    """
    found: dict[str, tuple[int, ...]] = {}
    groups = list(groups)
    for pattern, widths in given.items():
        matching = [group for group in groups if fnmatchcase(group.name, pattern)]
        if not matching or not widths:
            raise UsageError(
                f"widths {pattern!r}: {tuple(widths)}, expected at least one width and a pattern of groups",
                f"the groups are {_some([group.name for group in groups])}",
            )
        for group in matching:
            wanted = _checked(group, pattern, widths)
            if found.setdefault(group.name, wanted) != wanted:
                raise UsageError(
                    f"group {group.name!r}: widths {wanted} by {pattern!r}, but {found[group.name]} by another pattern",
                    "let one pattern alone fit it",
                )
    return found


def _checked(group: Group, pattern: str, widths: Collection[int]) -> tuple[int, ...]:
    """Widths of a group, ascending."""
    if wrong := [width for width in widths if width not in range(1, group.size + 1)]:
        raise UsageError(
            f"group {group.name!r}: width {wrong[0]!r} by {pattern!r}, expected whole numbers from 1 to its "
            f"{group.size} units",
            "mend the widths, or the pattern",
        )
    return tuple(sorted({int(width) for width in widths}))


def _some(names: Sequence[str], count: int = 5) -> str:
    """The first names."""
    return ", ".join(names[:count]) + (f", and {len(names) - count} more" if len(names) > count else "")
