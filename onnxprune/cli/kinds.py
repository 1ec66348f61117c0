"""Kinds of values that options take: sweeps, shapes, ranges and lists of processors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import click

from onnxprune.latency import Plan
from onnxprune.latency.runtimes.base import Range

PRECISIONS = ("fp32", "fp16", "bf16")


class Axis(NamedTuple):
    """What a sweep varies: sizes of dimensions, `precision` or `threads`, and its values."""

    names: tuple[str, ...]
    values: tuple[Any, ...]

    def at(self, plan: Plan, value: Any) -> Plan:
        """The plan with one of the values."""
        if self.names[0] in KINDS:
            return replace(plan, setting=replace(plan.setting, **{self.names[0]: value}))
        return replace(plan, sizes={**plan.sizes, **dict.fromkeys(self.names, value)})


SIZE: click.ParamType = click.IntRange(min=1)
NUMBER: click.ParamType = click.IntRange(min=0)
KINDS: Mapping[str, click.ParamType] = {"precision": click.Choice(PRECISIONS), "threads": NUMBER}


class Sweep(click.ParamType):
    """`NAME=VALUE,VALUE,...`; `NAME+NAME=...` for dimensions that change together."""

    name = "sweep"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Axis:
        """What is varied."""
        left, sign, right = str(value).partition("=")
        names, values = tuple(left.split("+")), right.split(",")
        if not sign or not all(names) or not all(values) or len({*values}) < len(values):
            self.fail(f"{value!r} is not of the form NAME=VALUE,VALUE,... with values that differ.", param, ctx)
        if len(names) > 1 and any(name in KINDS for name in names):
            self.fail(f"{value!r}: only sizes change together.", param, ctx)
        kind = KINDS.get(names[0], SIZE)
        return Axis(names, tuple(kind.convert(each, param, ctx) for each in values))


class Shape(click.ParamType):
    """Sizes like 1x3x224x224."""

    name = "shape"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """The sizes."""
        return tuple(SIZE.convert(each, param, ctx) for each in str(value).split("x"))


class Sizes(click.ParamType):
    """A range like 1:8:64, or one size."""

    name = "range"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Range:
        """The range."""
        ends = [SIZE.convert(each, param, ctx) for each in str(value).split(":")]
        if len(ends) != 3:
            self.fail(f"{value!r} is not of the form MIN:OPT:MAX.", param, ctx)
        return Range(*ends)


class Cpus(click.ParamType):
    """Numbers of processors like 0,2 or 0-3."""

    name = "cpus"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """The numbers, in order, none of them twice."""
        if isinstance(value, tuple):
            return value
        found: set[int] = set()
        for each in str(value).split(","):
            low, sign, high = each.partition("-")
            first, last = (NUMBER.convert(end, param, ctx) for end in (low, high if sign else low))
            found.update(range(first, last + 1))
        return tuple(sorted(found))
