"""The formats a report can be written in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from onnxprune.errors import UsageError
from onnxprune.report.bench import Bench, bench_sheet
from onnxprune.report.choice import Choice, choice_sheet
from onnxprune.report.data import Report
from onnxprune.report.files import document
from onnxprune.report.html import page
from onnxprune.report.markdown import markdown
from onnxprune.report.sheet import Sheet
from onnxprune.report.sweep import Swept, sweep_sheet
from onnxprune.report.tables import pruning_sheet

AnyReport = Report | Bench | Choice | Swept
Render = Callable[[AnyReport], str]

SHEETS: dict[type, Callable[[Any], Sheet]] = {
    Report: pruning_sheet,
    Bench: bench_sheet,
    Choice: choice_sheet,
    Swept: sweep_sheet,
}
FORMATS: dict[str, Render] = {
    ".html": lambda report: page(sheet(report)),
    ".json": lambda report: document(report.to_json()),
    ".md": lambda report: markdown(sheet(report)),
}


def sheet(report: AnyReport) -> Sheet:
    """What a report says, before it has a format."""
    return SHEETS[type(report)](report)


def report_format(path: Path) -> Render:
    """What turns a report into the text of a file with this name.

    Raises:
        UsageError: there is no format for the name's ending.
    """
    if path.suffix.lower() not in FORMATS:
        known = ", ".join(FORMATS)
        raise UsageError(f"{path}: no report format for {path.suffix or 'no ending'!r}", f"end the name in {known}")
    return FORMATS[path.suffix.lower()]


def render(report: AnyReport, path: Path) -> str:
    """The text of a report file with this name."""
    return report_format(path)(report)
