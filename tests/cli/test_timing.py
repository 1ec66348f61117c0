"""`bench` and `compare` on a tiny network: what they write, print and refuse."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from onnxprune.report.facts import FACTS
from tests.cli.conftest import document
from tests.cli.test_files import fields, problems
from tests.report.test_formats import Page

QUICK = ("--runs", 5, "--no-memory", "--size", "batch=1")


@pytest.fixture
def models(run, pruned):
    """model.onnx, small.onnx (half of the channels) and tiny.onnx (a quarter)."""
    assert run("prune", "model.onnx", "--keep", 0.25, "-o", "tiny.onnx", "--no-verify").exit_code == 0
    return ("model.onnx", "small.onnx", "tiny.onnx")


@pytest.fixture
def samples(folder):
    rng = np.random.default_rng(0)
    np.savez(folder / "s.npz", inputs=rng.normal(size=(40, 3, 8, 8)).astype(np.float32), labels=rng.integers(0, 5, 40))


@pytest.mark.parametrize("name", ["r.html", "r.md", "r.json"])
def test_bench_writes_a_report(run, models, name):
    done = run("bench", *models, *QUICK, "--layers", "--report", name)
    assert done.exit_code == 0, done.output
    assert done.stdout.rstrip().endswith(f"Written: {name}")
    text = Path(name).read_text()
    assert all(model in text for model in models)
    if name == "r.html":
        found = Page(text)
        assert {"How long runs take", "Percentiles", "Layer by layer", "Time by channel group (us)"} <= set(found.texts)
        assert {fact.name for fact in FACTS} <= set(found.texts)


def test_the_json_is_what_the_documents_say(run, models):
    done = run("bench", *models, *QUICK, "--layers", "--accuracy", "tiny.onnx=0.5", "--report", "r.json", "--json")
    content = document(done)
    assert content == json.loads(Path("r.json").read_text())
    assert problems(content, fields("The comparison")) == []
    assert [len(each["times"]) for each in content["models"]] == [5, 5, 5] and len(content["again"]) == 5
    assert content["widths"][0] == {"group": "conv1.w", "size": 8, "kept": {"small.onnx": 4, "tiny.onnx": 2}}
    spent = content["groups"]["model.onnx"]["conv1.w"]
    assert 0 < spent["seconds"] < spent["touched"] and content["accuracy"] == {"tiny.onnx": 0.5}


def test_memory_is_told_unless_it_is_not_wanted(run, models):
    whole = document(run("bench", *models[:2], "--runs", 2, "--size", "batch=1", "--json"))
    assert all(isinstance(each["memory"], int) for each in whole["models"])
    assert document(run("bench", *models[:2], *QUICK, "--json"))["models"][0]["memory"] is None


def test_what_is_first_is_printed_first(run, models):
    lines = [line for line in run("bench", *models, *QUICK).stdout.splitlines() if line.strip()]
    assert "model.onnx" in lines[0] and "5 rounds on " in lines[0] and lines[1].startswith("Timing")
    titles = [
        line.strip() for line in lines if line.strip() in {"Timing", "Models", "Widths", "Facts of the measurement"}
    ]
    assert titles == ["Timing", "Models", "Widths", "Facts of the measurement"]


def test_compare_by_hand(run, models):
    given = [
        word for name, value in zip(models, (0.9, 0.8, 0.85), strict=True) for word in ("--accuracy", f"{name}={value}")
    ]
    done = run("compare", *models, *QUICK, *given, "--json")
    content = document(done)
    assert problems(content, fields("The choice")) == []
    assert problems(content["measurements"][0], fields("The comparison")) == []
    assert [each["accuracy"] for each in content["models"]] == [0.9, 0.8, 0.85]
    assert content["criteria"] == ["time", "accuracy"]
    assert content["models"][0]["unbeaten"] is True, "it is the most accurate"


def test_compare_on_samples(run, models, samples):
    done = run("compare", *models, *QUICK, "--samples", "s.npz", "--accuracy", "small.onnx=0.75", "--json")
    found = {each["name"]: each["accuracy"] for each in document(done)["models"]}
    assert found["small.onnx"] == 0.75
    assert all(0 <= found[name] <= 1 and (40 * found[name]).is_integer() for name in ("model.onnx", "tiny.onnx"))


def test_compare_without_accuracies(run, models):
    done = run("compare", *models, *QUICK)
    assert done.exit_code == 0 and "No accuracy is known." in done.stdout
    assert "nothing beats it" in done.stdout


@pytest.mark.parametrize("name", ["r.html", "r.md", "r.json"])
def test_compare_of_reports_times_nothing(run, models, name, monkeypatch):
    assert run("bench", *models[:2], *QUICK, "--report", "a.json").exit_code == 0
    assert run("bench", models[0], models[2], *QUICK, "--report", "b.json").exit_code == 0
    monkeypatch.setattr(sys.modules["onnxprune.cli.compare"], "timed", None)
    done = run("compare", "a.json", "b.json", "--accuracy", "tiny.onnx=0.4", "--report", name)
    assert done.exit_code == 0, done.output
    assert "tiny.onnx" in Path(name).read_text() and f"Written: {name}" in done.stdout


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("bench", "model.onnx", "small.onnx", "--report", "r.txt"), "no report format for '.txt'"),
        (("bench", "model.onnx", "small.onnx", "--report", "no/r.html"), "no/r.html"),
        (("bench", "model.onnx", "small.onnx", "--accuracy", "x.onnx=1"), "--accuracy x.onnx: no such model"),
        (("bench", "model.onnx", "small.onnx", "--samples", "no.npz"), "no.npz: no such file"),
        (("compare", "model.onnx"), "expected two or more models to compare, got 1"),
        (("compare", "model.onnx", "mask.json"), "expected models or reports, got both"),
        (("compare", "mask.json"), "mask.json: no comparison: it is onnxprune-mask 1"),
        (("compare", "no.json"), "no.json: no comparison: No such file"),
        (("compare", "mask.json", "--samples", "s.npz"), "--samples needs models to run"),
        (("compare", "model.onnx", "small.onnx", "--runtime", "cuda"), "runtime 'cuda'"),
    ],
)
def test_what_cannot_be_is_refused(run, pruned, words, error):
    done = run(*words, *QUICK)
    assert done.exit_code == 2 and done.stderr.startswith("error: ") and error in done.stderr
    assert "fix: " in done.stderr and not Path("r.html").exists()


def test_a_report_never_takes_the_place_of_what_is_read(run, models):
    assert run("bench", *models[:2], *QUICK, "--report", "a.json").exit_code == 0
    before = Path("a.json").read_bytes()
    done = run("compare", "a.json", "--report", "a.json")
    assert done.exit_code == 2 and Path("a.json").read_bytes() == before


def test_what_failed_is_in_the_report(run, models):
    done = run("bench", *models[:2], *QUICK, "--fail-if", "p50 > 0.0001x", "--report", "r.html")
    assert done.exit_code == 1 and "was to fail" in Path("r.html").read_text()
