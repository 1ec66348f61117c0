"""The formats a report can be written in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from onnxprune.errors import UsageError
from onnxprune.report.data import Report
from onnxprune.report.files import document
from onnxprune.report.html import page
from onnxprune.report.markdown import markdown

Render = Callable[[Report], str]

FORMATS: dict[str, Render] = {
    ".html": page,
    ".json": lambda report: document(report.to_json()),
    ".md": markdown,
}


def report_format(path: Path) -> Render:
    """What turns a report into the text of a file with this name.

    Raises:
        UsageError: there is no format for the name's ending.
    """
    if path.suffix.lower() not in FORMATS:
        known = ", ".join(FORMATS)
        raise UsageError(f"{path}: no report format for {path.suffix or 'no ending'!r}", f"end the name in {known}")
    return FORMATS[path.suffix.lower()]


def render(report: Report, path: Path) -> str:
    """The text of a report file with this name."""
    return report_format(path)(report)
