"""The documents' tables are the results."""

import json
from pathlib import Path

import pytest

from benchmarks import tables
from benchmarks.exam import BENCHMARKS
from benchmarks.record import ROOT, Column, markdown

DOCUMENTS = tables.documents()


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A folder with the result of one benchmark, made up."""
    rows = [{"name": "a|b", "ours": 0.5, "theirs": 1.0, "ratio": 0.5}, {"name": "c", "failure": "ModelError: no"}]
    check = {"figure": "time", "required": "≤ 1x", "measured": "0.50x", "passed": True}
    environment = {"cpu": "a chip", "cores": 2, "platform": "Linux", "onnx": "1.0", "onnxruntime": "onnxruntime 1.1"}
    content = {"rows": rows, "checks": [check], "environment": environment, "date": "2030-01-02"}
    content["summary"] = ["ours: 0.50 ± 0.10"]
    (tmp_path / "exam_speed.json").write_text(json.dumps(content))
    return tmp_path


def test_tables_are_put_between_their_markers(results: Path) -> None:
    text = "before\n<!-- table:exam_speed -->\nold\n<!-- /table -->\nbetween\n<!-- table:checks -->\n<!-- /table -->\n"
    filled = tables.filled(text, results)
    assert "| a\\|b | - | - | - | - | 0.500 | 1.000 | 0.50 |" in filled
    assert "a chip, 2 cores; onnx 1.0, onnxruntime 1.1; 2030-01-02." in filled
    assert "| time | ≤ 1x | 0.50x | yes |" in filled
    assert "|\n\n- ours: 0.50 ± 0.10\n\na chip" in filled
    assert "old" not in filled
    assert tables.filled(filled, results) == filled, "a second time changes nothing"


def test_text_without_markers_stays() -> None:
    assert tables.filled("no table here\n") == "no table here\n"


def test_an_unknown_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no benchmark 'nonsense'; expected one of checks, exam_exact"):
        tables.table("nonsense", tmp_path)


@pytest.mark.parametrize("content", [None, {"rows": [{"name": "half"}], "checks": []}])
def test_what_was_not_run_to_its_end_is_said(content: dict | None, tmp_path: Path) -> None:
    if content:
        (tmp_path / "chain.json").write_text(json.dumps(content))
    assert tables.table("chain", tmp_path) == "*Not measured yet: `python -m benchmarks.chain`.*"
    assert tables.table("checks", tmp_path).startswith("*Not measured yet: `python -m benchmarks.exam_exact`, `")


def test_missing_checks_are_said_beside_the_others(results: Path) -> None:
    drawn = tables.table("checks", results)
    assert "| time | ≤ 1x | 0.50x | yes |" in drawn
    assert "`python -m benchmarks.chain`" in drawn and "benchmarks.exam_speed" not in drawn


def test_check_finds_a_difference(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = results / "text.md"
    document.write_text("<!-- table:checks -->\n<!-- /table -->\n")
    words = ["tables", "--file", str(document), "--results", str(results)]
    monkeypatch.setattr("sys.argv", [*words, "--check"])
    assert tables.main() == 1
    monkeypatch.setattr("sys.argv", words)
    assert tables.main() == 0
    monkeypatch.setattr("sys.argv", [*words, "--check"])
    assert tables.main() == 0
    assert "0.50x" in document.read_text()


def test_cells_are_formatted() -> None:
    columns = (Column("model", "name"), Column("nodes", "nodes", ",d"), Column("exact", "exact"))
    drawn = markdown(columns, [{"name": "a", "nodes": 1000, "exact": False}])
    assert drawn == "| model | nodes | exact |\n|---|--:|--:|\n| a | 1,000 | NO |"


def test_benchmarks_have_names_of_their_own() -> None:
    assert len({b.name for b in BENCHMARKS}) == len(BENCHMARKS)
    assert all((ROOT / "benchmarks" / f"{b.name}.py").exists() for b in BENCHMARKS)


def test_every_benchmark_has_its_table() -> None:
    shown = {found[2] for path in DOCUMENTS for found in tables.MARKED.finditer(path.read_text())}
    assert shown == {"checks", *(b.name for b in BENCHMARKS)}


@pytest.mark.parametrize("path", DOCUMENTS, ids=[p.name for p in DOCUMENTS])
def test_documents_show_the_results(path: Path) -> None:
    assert tables.filled(path.read_text()) == path.read_text(), "fix: python -m benchmarks.tables"
