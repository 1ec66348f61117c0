"""One report in every format: the same facts, whatever the names in it."""

import json
from dataclasses import replace
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from onnxprune.errors import OutputError, UsageError
from onnxprune.report import (
    Accuracy,
    Figures,
    FrozenReason,
    Report,
    Width,
    check_outputs,
    document,
    render,
    report_format,
    sheet,
    write_text,
)
from onnxprune.report.cells import Bar, Lines, change, short
from onnxprune.report.html import page
from onnxprune.report.markdown import markdown, markdown_table
from onnxprune.report.markup import Markup, element, join
from onnxprune.report.tables import report_tables, widths_table
from onnxprune.report.terminal import plain, terminal_table
from onnxprune.verify import Certificate
from tests.timings import comparison, timing

NASTY = '<b>&"layer|1"</b>[red]`x`\n\x1b[31m'

CERTIFICATE = Certificate(
    exact=True,
    same_graph=True,
    first_difference="",
    error=3e-7,
    tolerance=1e-4,
    mask_effect=0.5,
    input_effect=0.25,
    corruption=None,
    seeds=(0, 1),
    model="a" * 64,
    pruned="b" * 64,
    mask="c" * 64,
    runtime="onnxruntime 1.0",
)
TIMING = timing("a.onnx", 0.002, 1.0, 0.003, 0.004, spread=0.2)
REPORT = Report(
    model="model.onnx",
    output="small.onnx",
    before=Figures(1_000_000, 2_000_000, 4_000_000),
    after=Figures(500_000, 500_000, 2_000_000),
    widths=(Width("conv1", 64, 32), Width(NASTY, 8, 8)),
    frozen=(FrozenReason("Softmax", "is normalised over", 3, "attention"),),
    method={"method": "l1", "target": {"macs": 0.5}},
    certificate=CERTIFICATE,
    accuracy=Accuracy("top-1", 0.91, 0.42, 1000),
    timing=comparison(TIMING, replace(TIMING, name="b.onnx", difference=None)),
    environment={"python": "3.11"},
)
BARE = replace(REPORT, certificate=None, accuracy=None, timing=None, widths=(), frozen=())


class Page(HTMLParser):
    """Checks that every element is closed, and collects texts, tags and addresses."""

    VOID = frozenset({"meta"})

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        self.open += [] if tag in self.VOID else [tag]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


@pytest.mark.parametrize("report", [REPORT, BARE], ids=["full", "bare"])
def test_the_page_is_whole_and_needs_nothing_else(report):
    text = page(sheet(report))
    found = Page(text)
    assert text.startswith("<!DOCTYPE html>")
    assert not {"script", "link", "img", "iframe", "b>"} & set(found.tags) and found.addresses == []
    assert "http" not in text and "url(" not in text and "@import" not in text


def test_the_page_shows_every_cell_as_it_is():
    found = Page(page(sheet(REPORT)))
    texts = set(found.texts)
    for table in report_tables(REPORT):
        assert table.title in texts
        for row in table.rows:
            assert {cell for cell in row if isinstance(cell, str) and cell} <= texts
            assert {line for cell in row if isinstance(cell, Lines) for line in cell.texts} <= texts
    assert found.tags.count("svg") == len(REPORT.widths)


def test_bars_are_as_long_as_what_they_show():
    text = page(sheet(REPORT))
    assert '<rect width="320.0" height="12" rx="2" class="gone">' in text
    assert '<rect width="160.0" height="12" rx="2" class="kept">' in text
    assert 'aria-label="32 of 64"' in text
    assert Bar(3, 4, 16).length == 0.5 and Bar(3, 4, 16).filled == 0.75


def test_a_report_that_is_not_exact_says_so_everywhere():
    wrong = replace(REPORT, certificate=replace(CERTIFICATE, exact=False, same_graph=False, first_difference="w"))
    for text in (page(sheet(wrong)), markdown(sheet(wrong))):
        assert "NOT exact" in text and "NO: w" in text
    assert "Not verified." in page(sheet(BARE)) and "Not verified." in markdown(sheet(BARE))


def test_markdown_tables_have_a_cell_for_every_column():
    for table in report_tables(REPORT):
        lines = [line for line in markdown_table(table).splitlines() if line.startswith("|")]
        assert len(lines) == 2 + len(table.rows)
        widths = {line.replace("\\|", "").count("|") for line in lines}
        assert widths == {len(table.columns) + 1}


def test_markdown_shows_names_as_they_are():
    text = markdown(sheet(REPORT))
    assert '\\<b\\>&"layer\\|1"' in text and "<b>" not in text


def test_the_terminal_shows_every_cell_and_obeys_no_name():
    console = Console(width=300, record=True, file=StringIO())
    for table in report_tables(REPORT):
        console.print(terminal_table(table))
    text = console.export_text()
    assert "[red]" in text and "\x1b[31m" not in text
    for word in ("Before and after", "-75.0%", "conv1", "Softmax: is normalised over", "top-1", "42.00%", "macs=0.5"):
        assert word in text
    assert plain("a\x1b[1mb\n") == "a\ufffd[1mb\ufffd"


@pytest.mark.parametrize(("kept", "blocks"), [(64, "█" * 24), (32, "█" * 12 + "·" * 12), (1, "▍" + "·" * 23)])
def test_bars_in_the_terminal(kept, blocks):
    console = Console(width=80, record=True, file=StringIO())
    console.print(terminal_table(widths_table([Width("g", 64, kept)])))
    assert blocks in console.export_text()


def test_json_is_the_whole_report():
    content = json.loads(document(REPORT.to_json()))
    assert content["certificate"]["error"] == 3e-7 and content["timing"]["noisy"] is True
    assert content["widths"][1] == {"group": NASTY, "size": 8, "kept": 8}
    assert (content["format"], content["version"]) == ("onnxprune-report", 1)


def test_json_without_numbers_that_it_cannot_say():
    text = document({"a": float("inf"), "b": [{"c": float("nan")}], "d": (1, 2.5)})
    assert json.loads(text) == {"a": None, "b": [{"c": None}], "d": [1, 2.5]}


def test_json_has_a_line_for_every_entry():
    text = document({"a": 1, "b": [{"c": 1}, {"c": 2}], "d": [1, 2]})
    assert text == '{\n "a": 1,\n "b": [\n  {"c": 1},\n  {"c": 2}\n ],\n "d": [1, 2]\n}\n'


def test_the_format_goes_by_the_name():
    assert render(REPORT, Path("r.HTML")) == page(sheet(REPORT))
    assert render(REPORT, Path("r.md")) == markdown(sheet(REPORT))
    assert json.loads(render(REPORT, Path("r.json"))) == json.loads(document(REPORT.to_json()))
    with pytest.raises(UsageError, match=r"r: no report format for 'no ending'"):
        report_format(Path("r"))


def test_elements_are_escaped_once():
    inner = element("b", "1 < 2")
    assert element("p", inner, "&", class_="a", data_x='"') == '<p class="a" data-x="&quot;"><b>1 &lt; 2</b>&amp;</p>'
    assert join("<", Markup("<br>")) == "&lt;<br>"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(0, "", "0"), (715, "", "715"), (11_684_712, "", "11.68 M"), (46_748_865, "B", "46.75 MB"), (512, "B", "512 B")],
)
def test_numbers_are_short(value, unit, text):
    assert short(value, unit) == text


def test_changes_are_relative():
    assert (change(4, 1), change(4, 5), change(0, 0)) == ("-75.0%", "+25.0%", "-")


def test_texts_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OutputError, match=r"a\.txt: cannot be written: No space left on device\n  fix: free some"):
        write_text(path, "new")
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_checking_outputs_leaves_nothing(tmp_path):
    check_outputs([tmp_path / "a", None, tmp_path / "b"], [tmp_path / "c"])
    assert list(tmp_path.iterdir()) == []
