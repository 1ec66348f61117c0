"""The report of models that were timed side by side: its data, and how it is told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from onnxprune.latency import Attribution, Comparison, GroupTime
from onnxprune.report.cards import CARDS, faster, floor_card, resolved, timing_card
from onnxprune.report.cells import Bar, Cell, Table, number, table, text
from onnxprune.report.choice import choice_table, choose, frontier_plot
from onnxprune.report.facts import facts_table, nodes_table
from onnxprune.report.layers import layers
from onnxprune.report.plots import timing_plots
from onnxprune.report.sheet import Plot, Sheet
from onnxprune.report.tables import compared_table, layers_table, tails_table, timing_table
from onnxprune.widths import GroupWidths


@dataclass(frozen=True)
class Bench:
    """Models that were timed side by side, and what else is known of them.

    Attributes:
        timing: the comparison.
        layers: where the time of each goes, by name; empty where that was not measured.
        widths: of the first model's groups in the others, where these are pruned forms of it.
        accuracy: by name, where it is known; higher is better.
        failed: conditions that were not to hold of a model, in words.
    """

    timing: Comparison
    layers: Mapping[str, Attribution] = field(default_factory=dict)
    widths: tuple[GroupWidths, ...] = ()
    accuracy: Mapping[str, float] = field(default_factory=dict)
    failed: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The report as plain data."""
        told = {name: [asdict(part) for part in each.parts] for name, each in self.layers.items()}
        groups = {name: {g: asdict(t) for g, t in each.by_group().items()} for name, each in self.layers.items()}
        more = {"layers": told, "groups": groups, "widths": [asdict(width) for width in self.widths]}
        return self.timing.to_json() | more | {"accuracy": dict(self.accuracy), "failed": list(self.failed)}


# How it is told ------------------------------------------------------------------------------------------------------


NAMED = 3
"""Models that are named one by one."""


def bench_sheet(report: Bench) -> Sheet:
    """The whole report."""
    c = report.timing
    others = c.models[1:]
    names = ", ".join(t.name for t in others) if len(others) <= NAMED else f"{len(others)} models"
    title = f"{names} against {c.models[0].name}"
    shown = others if len(others) <= CARDS else sorted(others, key=lambda t: t.ratio.median)[:CARDS]
    cards = (*(timing_card(t, c) for t in shown), floor_card(c))
    return Sheet(title, verdict(report), cards, (*_parts(report), *nodes_table(c)))


def terminal_tables(report: Bench) -> tuple[Table, ...]:
    """What a terminal shows, the most important first; the provider of every node is for files."""
    return tuple(part for part in _parts(report) if isinstance(part, Table))


def verdict(report: Bench) -> str:
    """What came out, in a sentence or two."""
    c = report.timing
    others = c.models[1:]
    words = "; ".join(f"{t.name} {faster(t, c)}" for t in others) if len(others) <= NAMED else _summary(c)
    failed = f" Failed: {'; '.join(report.failed)}." if report.failed else ""
    return f"{words}. {c.rounds} rounds on {c.device or c.asked}, {c.runtime}.{failed}"


def _summary(c: Comparison) -> str:
    """How many are faster, and the fastest."""
    others = c.models[1:]
    count, best = sum(resolved(t, c) < 0 for t in others), min(others, key=lambda t: t.ratio.median)
    return f"{count} of {len(others)} models are faster than {c.models[0].name}; {best.name} {faster(best, c)}"


def _parts(report: Bench) -> Iterator[Table | Plot]:
    c = report.timing
    yield timing_table(c)
    if report.accuracy:
        choice = choose([c], report.accuracy)
        yield choice_table(choice)
        yield frontier_plot(choice)
    yield from timing_plots(c)
    yield tails_table(c)
    yield compared_table(c)
    if report.widths:
        yield kept_table(report)
    if report.layers:
        yield groups_table(report)
        yield layers(report.layers)
        yield layers_table(report.layers)
    yield facts_table(c)


def kept_table(report: Bench) -> Table:
    """The width of every group in every model."""
    names = list(report.widths[0].kept)
    longest = max(width.size for width in report.widths)
    rows = [(w.group, f"{w.size}", *_bars(w, names, longest)) for w in report.widths]
    columns = [text("group"), number("of"), *_bar_columns(names)]
    return table("Widths", columns, rows, "Filled: what stays. Lengths go with the square root of the group's size.")


def _bar_columns(names: Sequence[str]) -> list[Any]:
    return [column for name in names for column in (number(name), text(""))]


def _bars(width: GroupWidths, names: Sequence[str], longest: int) -> Iterator[Cell]:
    for name in names:
        kept = width.kept[name]
        yield "-" if kept is None else f"{kept}"
        yield "-" if kept is None else Bar(kept, width.size, longest)


def groups_table(report: Bench) -> Table:
    """The time of every channel group in every model."""
    times = {name: each.by_group() for name, each in report.layers.items()}
    first, empty = next(iter(times)), GroupTime(0.0, 0.0)
    rows = [
        (group, *(f"{1e6 * own.get(group, empty).seconds:.1f}" for own in times.values()), f"{1e6 * spent.touched:.1f}")
        for group, spent in sorted(times[first].items(), key=lambda item: -item[1].seconds)
    ]
    rows.append(("what passes no group", *(f"{1e6 * each.ungrouped:.1f}" for each in report.layers.values()), "-"))
    columns = [text("group"), *map(number, times), number(f"touched, {first}")]
    note = (
        "A part's time is shared by what would go with each group (multiply-accumulates, or the elements that it "
        f"makes), so that a column's times sum to the whole. Touched: all parts of {first} that the group's channels "
        "pass, whole; pruning the group cannot save more."
    )
    return table("Time by channel group (us)", columns, rows, note)
