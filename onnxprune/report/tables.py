"""Tables of what came out: titles, columns and cells, for every format to draw in its own way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from onnxprune.analysis import Analysis
from onnxprune.latency import Comparison, Interval, Timing
from onnxprune.report.analysis_file import shared_axes
from onnxprune.report.data import Accuracy, FrozenReason, Report, Width
from onnxprune.verify import Certificate


@dataclass(frozen=True)
class Bar:
    """A cell drawn as a bar: `part` of `whole` units, where the longest bar of the column has `longest`."""

    part: int
    whole: int
    longest: int

    def __str__(self) -> str:
        return f"{self.part} of {self.whole}"


Cell = str | Bar


@dataclass(frozen=True)
class Column:
    """A column's title, and whether it holds numbers, which stand at the right."""

    title: str
    numeric: bool = False


@dataclass(frozen=True)
class Table:
    """Rows under a title; `note` is a sentence below."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


def table(title: str, columns: str, rows: Iterable[Iterable[Cell]], note: str = "") -> Table:
    """A table from its column titles, separated by `|`; those that end in `#` are numeric."""
    titles = [title.strip() for title in columns.split("|")]
    heads = tuple(Column(title.removesuffix("#"), title.endswith("#")) for title in titles)
    return Table(title, heads, tuple(tuple(row) for row in rows), note)


def short(number: float, unit: str = "") -> str:
    """A number with three or four digits and a decimal prefix.

    >>> short(11_684_712), short(46_748_865, "B"), short(512)
    ('11.68 M', '46.75 MB', '512')
    """
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= factor:
            return f"{number / factor:.4g} {prefix}{unit}"
    return f"{number:.4g} {unit}".rstrip()


def change(before: float, after: float) -> str:
    """By how much `after` is more or less than `before`, in percent."""
    return f"{100 * (after - before) / before:+.1f}%" if before else ""


def report_tables(report: Report) -> Iterator[Table]:
    """All tables of a report, in the order in which they are read."""
    yield before_after(report)
    if report.accuracy:
        yield accuracy_table(report.accuracy)
    if report.certificate:
        yield certificate_table(report.certificate)
    if report.timing:
        yield timing_table(report.timing)
    yield widths_table(report.widths)
    yield frozen_table(report.frozen)
    yield facts_table("Method", report.method)
    yield facts_table("Environment", report.environment)


def before_after(report: Report) -> Table:
    """The costs of the original and of the pruned model."""
    a, b = report.before, report.after
    rows = [
        ("parameters", short(a.params), short(b.params), change(a.params, b.params)),
        ("multiply-accumulates", short(a.macs), short(b.macs), change(a.macs, b.macs)),
    ]
    if a.bytes is not None and b.bytes is not None:
        rows.append(("file size", short(a.bytes, "B"), short(b.bytes, "B"), change(a.bytes, b.bytes)))
    units, kept = sum(w.size for w in report.widths), sum(w.kept for w in report.widths)
    rows.append(("units in groups", f"{units}", f"{kept}", change(units, kept)))
    note = f"{report.pruned_groups} of {len(report.widths)} groups are narrower."
    return table("Before and after", "| before# | after# | change#", rows, note)


def accuracy_table(accuracy: Accuracy) -> Table:
    """What was measured on data."""
    points = f"{100 * (accuracy.after - accuracy.before):+.2f} points"
    row = (accuracy.name, f"{accuracy.before:.2%}", f"{accuracy.after:.2%}", points)
    note = f"Measured on {accuracy.samples} samples. Without repair or fine-tuning it falls."
    return table("Accuracy", "| before# | after# | change#", [row], note)


def certificate_table(certificate: Certificate) -> Table:
    """What was proven."""
    c = certificate
    corruption = "nothing is masked" if c.corruption is None else f"{c.corruption:.1e}"
    rows = [
        ("exact", "yes" if c.exact else "NO"),
        ("graph and tensors are the mask's", "yes" if c.same_graph else f"NO: {c.first_difference}"),
        ("error against the masked original", f"{c.error:.1e} (allowed {c.tolerance:.0e})"),
        ("what the mask changes", f"{c.mask_effect:.1e}"),
        ("what another input changes", f"{c.input_effect:.1e}"),
        ("what one wrong channel changes", corruption),
        ("approximate", ", ".join(c.approximate) or "nothing"),
        ("seeds of the inputs", ", ".join(map(str, c.seeds))),
        ("runtime", c.runtime),
        ("sha-256 of the original", c.model),
        ("sha-256 of the pruned model", c.pruned),
        ("sha-256 of the mask", c.mask),
    ]
    return table("Certificate", "check | finding", rows, "Differences are relative to the largest output.")


def widths_table(widths: Iterable[Width]) -> Table:
    """Kept units of every group."""
    widths = tuple(widths)
    longest = max((w.size for w in widths), default=1)
    rows = [(w.group, f"{w.kept}", f"{w.size}", Bar(w.kept, w.size, longest)) for w in widths]
    return table("Groups", "group | kept# | of# | width", rows)


def frozen_table(reasons: Iterable[FrozenReason]) -> Table:
    """Why the other axes stay whole."""
    rows = [(f"{r.op}: {r.reason}" if r.op else r.reason, f"{r.axes}", r.example) for r in reasons]
    return table("Frozen axes", "reason | axes# | for example", rows)


def facts_table(title: str, facts: Mapping[str, Any]) -> Table:
    """Named facts."""
    return table(title, "| ", [(name, _value(value)) for name, value in facts.items()])


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={item}" for name, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def timing_table(comparison: Comparison) -> Table:
    """Models timed side by side."""
    threads = f"{comparison.threads} threads" if comparison.threads else "onnxruntime's default threads"
    note = f"{comparison.rounds} rounds, {threads}, {comparison.runtime}; medians with 95% confidence intervals."
    if comparison.noisy:
        note += " Noisy: times are spread by more than 10%; close other programs, or measure longer."
    columns = (
        "model | time# | ratio to the first# | parameters# | multiply-accumulates# | file size# | outputs differ by#"
    )
    return table("Timing", columns, [_timing_row(t) for t in comparison.models], note)


def _timing_row(t: Timing) -> tuple[str, ...]:
    time = Interval(1e3 * t.seconds.median, 1e3 * t.seconds.low, 1e3 * t.seconds.high)
    difference = "other shapes" if t.difference is None else f"{t.difference:.1e}"
    return (t.name, f"{time} ms", str(t.ratio), short(t.params), short(t.macs), short(t.bytes, "B"), difference)


def groups_table(analysis: Analysis) -> Table:
    """The groups of a model and what they weigh."""
    rows = []
    for group in analysis.groups:
        share = analysis.removable(group).share_of(analysis.cost)
        nodes = f"{len(group.producers)} → {len(group.consumers)}"
        row = (f"{group.size}", f"{share['params']:.1%}", f"{share['macs']:.1%}", f"{len(group.members)}", nodes)
        rows.append((group.name, *row))
    note = "Removable: what goes with all units but one, all else whole. Nodes: those that make → that consume it."
    return table("Groups", "group | units# | removable params# | removable MACs# | tensors# | nodes", rows, note)


def members_table(analysis: Analysis) -> Table:
    """The stored axes that every group lies on."""
    rows = [
        (g.name, f"{m.tensor}[{m.axis}]", f"{m.size}", f"{m.multiplicity}", "makes" if m.makes else "")
        for g in analysis.groups
        for m in g.members
    ]
    return table("Members", "group | tensor[axis] | elements# | per unit# | role", rows)


def products_table(analysis: Analysis) -> Table:
    """Axes that are products of groups."""
    inner: dict[str, list[str]] = {}
    for outer, *rest in (["+".join(factor) for factor in axis] for axis in shared_axes(analysis)):
        inner.setdefault(outer, []).append(" x ".join(rest))
    rows = [(outer, ", ".join(products)) for outer, products in inner.items()]
    note = "Only one factor of an axis is pruned, unless --factor says otherwise."
    return table("Axes that are products of groups", "outer factor | times each of", rows, note)
