"""Arguments and options that verbs share, each a decorator; those that belong together arrive as one object."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_args

import click

from onnxprune.analysis import Analysis
from onnxprune.cli.output import Output
from onnxprune.errors import UsageError
from onnxprune.latency import RUNTIMES, Setting
from onnxprune.latency.prediction import Latency
from onnxprune.latency.table import shared_file
from onnxprune.resources import Resource
from onnxprune.scores import SCORES
from onnxprune.selection import Factor

F = TypeVar("F", bound=Callable[..., Any])
Decorator = Callable[[F], F]

FILE = click.Path(path_type=Path)
COMMANDLINE = click.core.ParameterSource.COMMANDLINE


class Option(click.Option):
    """An option under a heading of the help."""

    def __init__(self, *args: Any, section: str = "Other options", **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.section = section


class Assignment(click.ParamType):
    """`name=value`, the value being converted by `kind`."""

    name = "name=value"

    def __init__(self, kind: click.ParamType):
        self.kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        """The name and the converted value."""
        name, sign, text = str(value).partition("=")
        if not (name and sign):
            self.fail(f"{value!r} is not of the form name=value.", param, ctx)
        return name, self.kind.convert(text, param, ctx)


def as_mapping(ctx: click.Context, param: click.Parameter, pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A dict of assignments, none of them twice."""
    table = dict(pairs)
    if len(table) < len(pairs):
        raise click.BadParameter("a name is given twice.", ctx, param)
    return table


class Amount(click.ParamType):
    """A share, or a time with its unit: 0.5, 8ms, 1.5s."""

    name = "share or time"
    units: ClassVar[dict[str, float]] = {"us": 1e-6, "ms": 1e-3, "s": 1.0}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | timedelta:
        """The share, or the time."""
        text = str(value).strip()
        unit = next((unit for unit in self.units if text.endswith(unit)), "")
        number = click.FLOAT(text.removesuffix(unit), param, ctx)
        return timedelta(seconds=number * self.units[unit]) if unit else number


LATENCY = "latency"
Limit = float | timedelta
"""What is not to be exceeded: a share of the whole, or a time."""


def other_shares(target: Mapping[str, Limit]) -> dict[Resource, float]:
    """The limits of all but the time.

    Raises:
        UsageError: one is a time.
    """
    found = {name: amount for name, amount in target.items() if name != LATENCY}
    for name, amount in found.items():
        if isinstance(amount, timedelta):
            raise UsageError(f"--target {name} is a time ({amount.total_seconds():g} s)", "give a share: 0.5")
    return found  # type: ignore[return-value]  # shares of names that are checked with them


@dataclass(frozen=True)
class Selection:
    """What `onnxprune.choose` and `choose_within` take beside the analysis."""

    keep: float | None
    target: Mapping[str, Limit]
    score: str
    seed: int
    round_to: int
    min_keep: int
    min_share: float
    exclude: tuple[str, ...]
    factor: Factor
    uncoupled_only: bool

    def __post_init__(self) -> None:
        if (self.keep is None) == (not self.target):
            got = "neither" if self.keep is None else "both"
            raise UsageError(f"expected --keep or --target, got {got}", "for example --keep 0.5, or --target macs=0.5")

    @property
    def latency(self) -> Limit | None:
        """The time that is not to be exceeded, or a share of it."""
        return self.target.get(LATENCY)

    @property
    def others(self) -> dict[Resource, float]:
        """Shares of other resources.

        Raises:
            UsageError: one is a time.
        """
        return other_shares(self.target)

    def options(self) -> dict[str, Any]:
        """What `candidates` takes, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("keep", "target")}


@dataclass(frozen=True)
class Clock:
    """Where times are measured that a target is of."""

    runtime: str
    threads: int
    table: Path | None

    def latency(self, analysis: Analysis) -> Latency:
        """Of a network."""
        setting = Setting(threads=self.threads)
        return Latency(analysis, self.runtime, setting, self.table or shared_file(self.runtime, setting))


def option(*names: str, section: str = "Other options", **settings: Any) -> Decorator:
    """A click option under a heading of the help."""
    return click.option(*names, cls=Option, section=section, **settings)


def bundled(name: str, kind: type, *options: Decorator) -> Decorator:
    """Options that arrive as one argument `name`, an object of the dataclass `kind`."""

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def verb(**given: Any) -> Any:
            bundle = kind(**{f.name: given.pop(f.name) for f in fields(kind)})
            return function(**given, **{name: bundle})

        return functools.reduce(lambda inner, decorate: decorate(inner), reversed(options), verb)  # type: ignore[return-value]

    return decorate


def given() -> dict[str, str]:
    """The options that the command line itself gives, not by default: how they are written, by name."""
    context = click.get_current_context()
    own = [p for p in context.command.params if context.get_parameter_source(p.name or "") is COMMANDLINE]
    return {p.name or "": p.opts[0] for p in own}


def under(section: str) -> Callable[..., Decorator]:
    """Options under one heading, with their defaults."""
    return functools.partial(option, section=section, show_default=True)


choosing, limiting = under("What to remove"), under("Limits")


def targets(kind: click.ParamType, help: str) -> Decorator:
    """`--target`: amounts of a kind by name."""
    how = {"multiple": True, "callback": as_mapping, "metavar": "NAME=SHARE"}
    return choosing("--target", type=Assignment(kind), help=f"{help} Several are all met.", **how)


RANKED = (
    "Rank the units of all groups together and remove the fewest so that the whole is at most this share: macs=0.5, "
    "params=0.5, channels=0.5"
)
target = targets(click.FLOAT, f"{RANKED} or volume=0.5 (elements of the layers' outputs).")
timed_target = targets(
    Amount(),
    f"{RANKED}, volume=0.5 (elements of the layers' outputs), or latency=0.5 (also latency=8ms), which is measured.",
)
timing = under("For --target latency")
clock = bundled(
    "clock",
    Clock,
    timing("--runtime", type=click.Choice(list(RUNTIMES)), default="cpu", help="What runs the model: see `bench`."),
    timing("--threads", type=click.IntRange(min=0), default=0, metavar="N", help="On the CPU (0: the default)."),
    timing(
        "--latency-table",
        "table",
        type=FILE,
        metavar="FILE",
        help="Keep what is measured of layers here, not in the cache folder.",
    ),
)

round_to = limiting(
    "--round-to", type=click.IntRange(min=1), default=1, metavar="N", help="Keep multiples of this many units."
)
min_keep = limiting(
    "--min-keep", type=click.IntRange(min=1), default=1, metavar="N", help="Keep at least this many units of a group."
)

min_share = limiting(
    "--min-share", type=click.FloatRange(0, 1), default=0.0, metavar="S", help="And at least this share of its units."
)

selection = bundled(
    "selection",
    Selection,
    choosing("--keep", type=float, help="Keep this share of the units of every group (0 to 1). Give this or --target."),
    timed_target,
    choosing(
        "--score",
        type=click.Choice(list(SCORES)),
        default="l1",
        help="How much a unit matters; the least go first. l1, l2: the norm of the weights that make it. bn: the "
        "absolute scale of its BatchNormalization. random: the control.",
    ),
    choosing("--seed", type=int, default=0, help="Seed of --score random."),
    choosing(
        "--factor",
        type=click.Choice(get_args(Factor)),
        default="auto",
        help="Where one axis is a product of groups, prune its outer factor (heads, convolution groups), its inner "
        "one (head width, channels in a group) or all. auto: heads, and channels in a group.",
    ),
    round_to,
    min_keep,
    min_share,
    limiting(
        "--exclude",
        multiple=True,
        metavar="PATTERN",
        help="Leave groups whole whose name, nodes or weights match (* and ? are wildcards; repeatable).",
    ),
    limiting(
        "--uncoupled-only",
        is_flag=True,
        help="Leave groups whole that several layers make together (residual connections) or that are resized.",
    ),
)

printing = bundled(
    "out",
    Output,
    option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout, errors included."),
    option("--quiet", is_flag=True, help="Print nothing but errors."),
    option("--debug", is_flag=True, expose_value=False, help="Print the traceback of an error."),
)

sizes = option(
    "--size",
    "sizes",
    type=Assignment(click.IntRange(min=1)),
    multiple=True,
    callback=as_mapping,
    metavar="NAME=SIZE",
    help="What a symbolic dimension of the inputs stands for while costs are counted and outputs compared: batch=1; "
    "* is for all others (repeatable).",
)

fold = option(
    "--fold",
    is_flag=True,
    section="What to remove",
    help="Compute constant branches that no slice passes through (weight standardisation and normalisation), so that "
    "what they give can be pruned; it takes their place.",
)

model = click.argument("model", type=FILE, metavar="MODEL")


def output(help: str, required: bool = True) -> Decorator:
    """`-o FILE`."""
    return option("-o", "--output", type=FILE, required=required, metavar="FILE", section="What comes out", help=help)


mask_file = option("--mask", type=FILE, required=True, metavar="FILE", section="What to remove", help="The mask file.")

no_verify = option(
    "--verify/--no-verify",
    "verified",
    default=True,
    section="What comes out",
    help="Prove the result equal to the masked original before it is written (default), or trust it.",
)
