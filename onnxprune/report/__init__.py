"""What came out, for people and programs: one data model, shown in the terminal, as JSON, Markdown or one HTML page."""

from onnxprune.report.analysis_file import analysis_document
from onnxprune.report.bench import Bench
from onnxprune.report.cells import Table
from onnxprune.report.choice import Candidate, Choice, choose
from onnxprune.report.data import Accuracy, Figures, FrozenReason, Report, Width, report_on
from onnxprune.report.files import check_outputs, document, write_text
from onnxprune.report.formats import render, report_format, sheet

__all__ = [
    "Accuracy",
    "Bench",
    "Candidate",
    "Choice",
    "Figures",
    "FrozenReason",
    "Report",
    "Table",
    "Width",
    "analysis_document",
    "check_outputs",
    "choose",
    "document",
    "render",
    "report_format",
    "report_on",
    "sheet",
    "write_text",
]
