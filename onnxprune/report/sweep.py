"""The report of models that were timed under several plans: every part of it, and all in one table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from onnxprune.latency.sweep import Part
from onnxprune.report.bench import Bench, bench_sheet
from onnxprune.report.bench import verdict as bench_verdict
from onnxprune.report.cells import Table, number, short, table, text
from onnxprune.report.sheet import Card, Plot, Sheet

FORMAT, VERSION = "onnxprune-sweep", 1


@dataclass(frozen=True)
class Swept:
    """Models that were timed under several plans.

    Attributes:
        parts: what came of every plan.
        reports: of those that did not fail, by the parts' names.
    """

    parts: tuple[Part, ...]
    reports: Mapping[str, Bench]

    @property
    def failed(self) -> tuple[Part, ...]:
        """Parts without a result."""
        return tuple(part for part in self.parts if part.error is not None)

    def to_json(self) -> dict[str, Any]:
        """The report as plain data."""
        return {"format": FORMAT, "version": VERSION, "parts": [self._told(part) for part in self.parts]}

    def _told(self, part: Part) -> dict[str, Any]:
        report = self.reports.get(part.name)
        return {"name": part.name, **part.to_json(), "comparison": report.to_json() if report else None}


def sweep_sheet(swept: Swept) -> Sheet:
    """The whole report: the overview, then every part."""
    cards = tuple(Card(f"{len(swept.failed)}", "parts failed", "bad") for _ in swept.failed[:1])
    return Sheet("Sweep", verdict(swept), cards, (*sweep_tables(swept), *_details(swept)))


def verdict(swept: Swept) -> str:
    """How many parts have a result."""
    failed = f"; {len(swept.failed)} failed" if swept.failed else ""
    return f"{len(swept.reports)} of {len(swept.parts)} parts measured{failed}."


def sweep_tables(swept: Swept) -> tuple[Table, ...]:
    """What a terminal shows."""
    return (overview_table(swept), *([failures_table(swept)] if swept.failed else []))


def overview_table(swept: Swept) -> Table:
    """Time, ratio and throughput of every model in every part."""
    columns = [text("part"), text("model"), number("p50, ms"), number("ratio"), number("95% interval")]
    columns += [number("items in a run"), number("items/s"), number("build, s")]
    rows = [row for part in swept.parts for row in _rows(part)]
    return table("All parts", columns, rows, "Ratios are by the first model's time in the same part.")


def failures_table(swept: Swept) -> Table:
    """Why parts have no result."""
    rows = [(part.name, part.error.what, part.error.fix) for part in swept.failed if part.error]
    return table("Failed", [text("part"), text("why"), text("fix")], rows)


def _rows(part: Part) -> Iterator[tuple[str, ...]]:
    models = part.found.models if part.found else ()
    for timing, rate in zip(models, part.throughput, strict=True):
        ratio = timing.ratio
        yield (
            part.name,
            timing.name,
            f"{1e3 * timing.seconds.median:.3f}",
            f"{ratio.median:.3f}",
            f"{ratio.low:.3f} to {ratio.high:.3f}",
            f"{part.items}",
            short(rate.median),
            f"{timing.build:.2f}",
        )


def _details(swept: Swept) -> Iterator[Table | Plot]:
    """The reports of all parts, each under the part's name."""
    for name, report in swept.reports.items():
        first, *others = bench_sheet(report).parts
        yield replace(first, title=f"{name}: {first.title}", note=f"{bench_verdict(report)} {first.note}".strip())
        yield from (replace(part, title=f"{name}: {part.title}") for part in others)
