"""The tables of a report: what was measured, removed and proven."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from onnxprune.latency import Attribution, Comparison, Timing
from onnxprune.report.cells import Bar, Table, change, number, short, table, text
from onnxprune.report.data import Accuracy, FrozenReason, Report, Width
from onnxprune.report.facts import facts_table as facts_of_timing
from onnxprune.report.plots import timing_plots
from onnxprune.report.sheet import Card, Plot, Sheet
from onnxprune.verify import Certificate

LONG = 40
"""Rows from which a table of details is folded."""


def pruning_sheet(report: Report) -> Sheet:
    """The whole report of a pruning."""
    plots: Iterable[Plot] = timing_plots(report.timing) if report.timing else ()
    return Sheet(report.title, report.verdict, tuple(_cards(report)), (*report_tables(report), *plots))


def _cards(report: Report) -> Iterator[Card]:
    a, b = report.before, report.after
    yield Card(change(a.params, b.params), f"parameters: {short(a.params)} → {short(b.params)}")
    yield Card(change(a.macs, b.macs), f"multiply-accumulates: {short(a.macs)} → {short(b.macs)}")
    if a.bytes is not None and b.bytes is not None:
        yield Card(change(a.bytes, b.bytes), f"file size: {short(a.bytes, 'B')} → {short(b.bytes, 'B')}")
    if report.accuracy:
        found = report.accuracy
        kind = "bad" if found.after < found.before else "good"
        yield Card(f"{found.after:.2%}", f"{found.name}, before {found.before:.2%}", kind)


def report_tables(report: Report) -> Iterator[Table]:
    """All tables of a report, in the order in which they are read."""
    yield before_after(report)
    if report.branches:
        yield dropped_table(report)
    if report.accuracy:
        yield accuracy_table(report.accuracy)
    if report.certificate:
        yield certificate_table(report.certificate)
    if report.timing:
        yield timing_table(report.timing)
        yield tails_table(report.timing)
        yield compared_table(report.timing)
        yield facts_of_timing(report.timing)
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
    return table("Before and after", [text(), number("before"), number("after"), number("change")], rows, note)


def dropped_table(report: Report) -> Table:
    """The residual branches that are dropped whole."""
    return table("Dropped residual branches", [text("branch")], [(name,) for name in report.branches])


def accuracy_table(accuracy: Accuracy) -> Table:
    """What was measured on data."""
    points = f"{100 * (accuracy.after - accuracy.before):+.2f} points"
    row = (accuracy.name, f"{accuracy.before:.2%}", f"{accuracy.after:.2%}", points)
    note = f"Measured on {accuracy.samples} samples. Without repair or fine-tuning it falls."
    return table("Accuracy", [text(), number("before"), number("after"), number("change")], [row], note)


def certificate_table(certificate: Certificate) -> Table:
    """What was proven."""
    c = certificate
    rows = [
        ("exact", "yes" if c.exact else "NO"),
        ("graph and tensors are the mask's", "yes" if c.same_graph else f"NO: {c.first_difference}"),
        ("error against the masked original", f"{c.error:.1e} (allowed {c.tolerance:.0e})"),
        ("what the mask changes", f"{c.mask_effect:.1e}"),
        ("what another input changes", f"{c.input_effect:.1e}"),
        (
            "what one wrong channel or branch changes",
            "nothing is masked" if c.corruption is None else f"{c.corruption:.1e}",
        ),
        ("approximate", ", ".join(c.approximate) or "nothing"),
        ("seeds of the inputs", ", ".join(map(str, c.seeds))),
        ("runtime", c.runtime),
        ("SHA-256 of the original", c.model),
        ("SHA-256 of the pruned model", c.pruned),
        ("SHA-256 of the mask", c.mask),
    ]
    return table(
        "Certificate", [text("check"), text("finding")], rows, "Differences are relative to the outputs' range."
    )


def timing_table(comparison: Comparison) -> Table:
    """Models timed side by side."""
    threads = comparison.threads or "default"
    note = f"{comparison.rounds} rounds, threads: {threads}, {comparison.runtime}. "
    floor = comparison.floor
    note += f"The first model by itself: {floor.median:.3f} ({floor.low:.3f} to {floor.high:.3f})."
    if comparison.noisy:
        note += " Noisy: times are spread by more than 10%; close other programs, or measure longer."
    interval = number("95% interval")
    columns = [text("model"), number("median"), interval, number("ratio"), interval]
    return table("Timing", columns, [_timing_row(t) for t in comparison.models], note)


def _timing_row(t: Timing) -> tuple[str, ...]:
    low, high = 1e3 * t.seconds.low, 1e3 * t.seconds.high
    ratio = (f"{t.ratio.median:.3f}", f"{t.ratio.low:.3f} to {t.ratio.high:.3f}")
    return (t.name, f"{1e3 * t.seconds.median:.4g} ms", f"{low:.4g} to {high:.4g}", *ratio)


def tails_table(comparison: Comparison) -> Table:
    """How long the slower runs take, and what comes before the first."""
    rows = [
        (
            t.name,
            *(f"{1e3 * interval.median:.4g}" for interval in t.percentiles.values()),
            f"{1e3 * t.slowest:.4g}",
            f"{1e3 * t.build:.4g}",
            f"{1e3 * t.first:.4g}",
            ", ".join(f"{count} {name.removesuffix('ExecutionProvider')}" for name, count in t.placement.items()),
        )
        for t in comparison.models
    ]
    tails = [number(label) for label in comparison.models[0].percentiles]
    columns = [text("model"), *tails, number("longest"), number("build"), number("first run"), text("nodes on")]
    return table("Tails and starts (ms)", columns, rows)


def layers_table(found: Mapping[str, Attribution]) -> Table:
    """What takes how long in every model, by the nodes of the first; `found` is by the models' names."""
    first, *others = found.values()
    rows = []
    times = [{part.nodes[0]: part.seconds for part in each.parts if part.nodes} for each in others]
    for part in first.parts:
        if part.nodes:
            more = f" + {len(part.nodes) - 1}" if len(part.nodes) > 1 else ""
            own = [part.seconds, *(time.get(part.nodes[0]) for time in times)]
            rows.append((f"{part.nodes[0]}{more}", part.op, *("-" if t is None else f"{1e6 * t:.0f}" for t in own)))
    shares = ", ".join(f"{each.attributed:.1%}" for each in found.values())
    note = (
        "A node with those that run together with it; -: there it runs together with one of another row. "
        f"Attributed: {shares} of what all operators take."
    )
    columns = [text("node"), text("as"), *map(number, found)]
    return table("Where the time goes (us)", columns, rows, note, folded=len(rows) > LONG)


def compared_table(comparison: Comparison) -> Table:
    """What the models that were timed are."""
    rows = [
        (t.name, short(t.params), short(t.macs), short(t.bytes, "B"), _differing(t.difference))
        for t in comparison.models
    ]
    columns = [text("model"), number("parameters"), number("MACs"), number("file size"), number("outputs differ by")]
    return table("Models", columns, rows, "Outputs: against the first model's, relative to their range.")


def _differing(difference: float | None) -> str:
    return "other shapes" if difference is None else f"{difference:.1e}"


def widths_table(widths: Iterable[Width]) -> Table:
    """Kept units of every group."""
    widths = tuple(widths)
    longest = max((w.size for w in widths), default=1)
    rows = [(w.group, f"{w.kept}", f"{w.size}", Bar(w.kept, w.size, longest)) for w in widths]
    note = "Filled: what stays. Lengths go with the square root of the group's size."
    return table("Groups", [text("group"), number("kept"), number("of"), text("width")], rows, note)


def frozen_table(reasons: Iterable[FrozenReason]) -> Table:
    """Why the other axes stay whole."""
    rows = [(f"{r.op}: {r.reason}" if r.op else r.reason, f"{r.axes}", r.example) for r in reasons]
    return table("Frozen axes", [text("reason"), number("axes"), text("for example")], rows)


def facts_table(title: str, facts: Mapping[str, Any]) -> Table:
    """Named facts."""
    return table(title, [text(), text()], [(name, _value(value)) for name, value in facts.items()])


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={item}" for name, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
