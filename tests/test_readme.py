"""The documents: their commands run, their links lead somewhere, and their list of rooms is the package's."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from onnxprune.cli import application

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCUMENTS = [README, *sorted((ROOT / "docs").glob("*.md"))]
EXIT = re.compile(r"  # exit status (\d)$")
TRAINING = {"slim", "chipnet", "search", "finetune"}
"""Verbs that begin with a task instead of a model."""
TIMING = {"bench", "compare"}
"""Verbs that take as long as they are given."""
IDS = [path.name for path in DOCUMENTS]


def blocks(text: str) -> list[tuple[str, str]]:
    """Language and content of the blocks that are to be run."""
    return re.findall(r"^```(console|python)\n(.*?)^```$", text, re.M | re.S)


def commands(block: str) -> list[tuple[list[str], int]]:
    """Words and exit status of the lines that begin with a dollar; a status other than 0 is stated behind them."""
    lines = [line[2:] for line in block.splitlines() if line.startswith("$ ")]
    return [(shlex.split(line, comments=True), int((EXIT.search(line) or ["", "0"])[1])) for line in lines]


def run_console(block: str) -> None:
    for (program, *words), status in commands(block):
        assert program == "onnxprune", "another program cannot be tried here: leave the block's language out"
        done = CliRunner().invoke(application, words)
        assert done.exit_code == status, (words, done.output)


def run_python(block: str) -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", block], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with the shipped models."""
    shutil.copytree(ROOT / "models" / "zoo", tmp_path / "models" / "zoo")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("document", DOCUMENTS, ids=IDS)
def test_what_documents_show_runs(document: Path, folder: Path) -> None:
    for language, block in blocks(document.read_text()):
        run_console(block) if language == "console" else run_python(block)


def test_the_readme_shows_every_verb_on_a_shipped_model() -> None:
    shown = [
        words for language, block in blocks(README.read_text()) for words, _ in commands(block) if language == "console"
    ]
    assert {words[1] for words in shown} == set(application.commands)
    assert all((ROOT / words[2]).exists() for words in shown if words[1] not in TRAINING)
    assert "python" in dict(blocks(README.read_text()))


def test_the_first_help_is_a_tour_that_runs(folder: Path) -> None:
    lines = [words for _, block in blocks(README.read_text()) for words, _ in commands(block)]
    (model,) = {words[2] for words in lines if words[1] not in TRAINING}
    shutil.copy(folder / model, folder / "model.onnx")
    tour = re.findall(r"^    (onnxprune .*)$", CliRunner().invoke(application, ["--help"]).stdout, re.M)
    assert len(tour) == len(application.commands)
    run_console("\n".join(f"$ {line}{' --runs 2' * (line.split()[1] in TIMING)}" for line in tour))


def test_commands_are_read_as_they_are_meant() -> None:
    text = "```console\n$ onnxprune a 'b c'\nprinted\n$ onnxprune d  # exit status 2\n```\n```\nmake demo\n```\n"
    ((language, block),) = blocks(text)
    assert language == "console"
    assert commands(block) == [(["onnxprune", "a", "b c"], 0), (["onnxprune", "d"], 2)]


# Links and names ------------------------------------------------------------------------------------------------


def anchors(document: Path) -> set[str]:
    """Where links into a document may lead: its headings, as GitHub names them."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=IDS)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", document.read_text()):
        path, _, anchor = target.partition("#")
        if path.startswith(("http:", "https:")):
            continue
        there = document.parent / path if path else document
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=IDS)
def test_files_that_are_named_exist(document: Path) -> None:
    """In backquotes, from the repository's root."""
    names = re.findall(r"`((?:onnxprune|models|benchmarks|tests|docs)/[\w./]*)`", document.read_text())
    assert [name for name in names if not (ROOT / name).exists()] == []


def test_the_rooms_are_those_of_the_package() -> None:
    section = README.read_text().partition("\n## Rooms\n")[2].partition("\n## ")[0]
    first_cells = [row.split("|")[1] for row in section.splitlines() if row.startswith("| `")]
    listed = [name for cell in first_cells for name in re.findall(r"`([^`]+)`", cell)]
    package = ROOT / "onnxprune"
    modules = {path.name for path in package.glob("*.py")} - {"__init__.py"}
    assert sorted(listed) == sorted(modules | {f"{path.parent.name}/" for path in package.glob("*/__init__.py")})
