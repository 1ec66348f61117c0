"""docs/files.md against what the verbs really write and print."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import onnx
import pytest

from onnxprune.mask import read_mask
from tests.cli.conftest import document
from tests.micrographs import REGISTRY

DOC = (Path(__file__).parents[2] / "docs" / "files.md").read_text()
KINDS = {
    "string": {str},
    "integer": {int},
    "number": {int, float},
    "boolean": {bool},
    "array": {list},
    "object": {dict},
    "null": {type(None)},
    "any": {str, int, float, bool, list, dict, type(None)},
}


class Field(NamedTuple):
    kinds: set[type]
    optional: bool


def fields(heading: str) -> dict[str, Field]:
    """The table under a heading, by path."""
    section = DOC.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([^`]+)` \| ([^|]+) \|([^|]*)\|$", section, re.M)
    return {
        path: Field(set().union(*map(KINDS.get, kind.split(" or "))), "*optional*" in text) for path, kind, text in rows
    }


def examples(heading: str) -> list[dict]:
    section = DOC.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return [json.loads(text) for text in re.findall(r"```json\n(.*?)```", section, re.S)]


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Paths of all values of a document, as the tables write them; those of objects and lists, too."""
    if path:
        yield path, value
    for key, item in value.items() if isinstance(value, dict) else ():
        yield from leaves(item, f"{path}.{key}" if path else key)
    for item in value if isinstance(value, list) else ():
        yield from leaves(item, f"{path}[]")


def parent_of(path: str) -> str:
    """`a.b[]` -> `a.b` -> `a` -> nothing."""
    return path.removesuffix("[]") if path.endswith("[]") else path.rpartition(".")[0]


def row_of(path: str, known: dict[str, Field]) -> Field | None:
    """The row of a path: its own, that of any name beside it, or of what it lies in, where that may be anything."""
    row = known.get(path) or known.get(f"{parent_of(path)}.*")
    if row or not path:
        return row
    above = row_of(parent_of(path), known)
    return above if above and above.kinds == KINDS["any"] else None


def problems(content: dict, known: dict[str, Field]) -> list[str]:
    """Where a document and its table disagree."""
    values = list(leaves(content))
    seen, full = {path for path, _ in values}, {path for path, value in values if isinstance(value, dict | list)}
    groups = {parent_of(row) for row in known}
    found = [f"{path} is not documented" for path in seen - groups if not row_of(path, known)]
    rows = [(path, value, row_of(path, known)) for path, value in values]
    found += [f"{path} is {value!r}" for path, value, row in rows if row and type(value) not in row.kinds]
    needed = {path for path, row in known.items() if not row.optional and not path.endswith(".*")}
    return found + [f"{path} is missing" for path in sorted(needed - seen) if parent_of(path) in full | {""}]


@pytest.fixture
def analysis(run, folder):
    done = run("analyze", "model.onnx", "-o", "analysis.json", "--size", "batch=1", "--json")
    assert done.exit_code == 0
    assert json.loads((folder / "analysis.json").read_text()) == document(done)
    return document(done)


def test_every_table_is_found():
    headings = ["mask.json", "analysis.json", "report.json", "The certificate", "The comparison", "Errors"]
    assert all(fields(heading) for heading in headings)


@pytest.mark.parametrize("options", [("--keep", 0.5), ("--target", "macs=0.5", "--exclude", "fc*", "--uncoupled-only")])
def test_mask(run, folder, options):
    assert run("mask", "model.onnx", *options, "-o", "mask.json").exit_code == 0
    assert problems(json.loads((folder / "mask.json").read_text()), fields("mask.json")) == []


def test_analysis(analysis):
    assert problems(analysis, fields("analysis.json")) == []
    assert analysis["groups"] and analysis["frozen"]


@pytest.mark.parametrize(
    "name", ["grouped", "attention_packed", "unknown_op", "topk_over_channels", "yolo_head", "residual"]
)
def test_analysis_of(name, run, folder):
    onnx.save(REGISTRY[name]().model, folder / "micro.onnx")
    assert problems(document(run("analyze", "micro.onnx", "--json")), fields("analysis.json")) == []


def test_products_name_groups(run, folder):
    onnx.save(REGISTRY["attention_packed"]().model, folder / "micro.onnx")
    found = document(run("analyze", "micro.onnx", "--json"))
    names = [group["name"] for group in found["groups"]]
    assert found["products"] and len(found["products"][0]["factors"]) > 1
    assert {name for axis in found["products"] for factor in axis["factors"] for name in factor} <= set(names)


def test_report(run, folder, pruned):
    done = run("apply", "model.onnx", "--mask", "mask.json", "-o", "again.onnx", "--json")
    assert problems(document(done), fields("report.json")) == []
    done = run("mask", "model.onnx", "--keep", 0.5, "-o", "mask2.json", "--json")
    assert problems(document(done), fields("report.json")) == []
    run("prune", "model.onnx", "--keep", 0.5, "-o", "again.onnx", "--report", "report.json")
    assert problems(json.loads((folder / "report.json").read_text()), fields("report.json")) == []


def test_files_of_dropped_branches(run, residual):
    assert problems(json.loads((residual / "drop.json").read_text()), fields("mask.json")) == []
    report = document(run("apply", "residual.onnx", "--mask", "drop.json", "-o", "small.onnx", "--json"))
    assert problems(report, fields("report.json")) == []
    assert report["branches"] == ["w1"] and report["after"]["params"] == 8 * 27 + 8 + 5 * 8 + 5


def test_certificate(run, pruned):
    done = run("verify", "model.onnx", "small.onnx", "--mask", "mask.json", "--json")
    assert problems(document(done), fields("The certificate")) == []


def test_comparison(run, pruned):
    done = run("bench", "model.onnx", "small.onnx", "--runs", 2, "--json", "--size", "batch=2")
    assert problems(document(done), fields("The comparison")) == []


def test_sweep(run, pruned):
    words = ("--runs", 2, "--no-memory", "--json", "--size", "batch=2", "--runtime", "cpu", "--runtime", "tensorrt")
    done = run("bench", "model.onnx", "small.onnx", *words)
    assert problems(document(done), fields("The sweep")) == []


def test_errors(run):
    assert problems(document(run("analyze", "no.onnx", "--json")), fields("Errors")) == []


@pytest.mark.parametrize("heading", ["mask.json", "analysis.json"])
def test_examples(heading):
    (example,) = examples(heading)
    assert problems(example, fields(heading)) == []


def test_the_example_of_a_mask_is_one(run, folder):
    (example,) = examples("mask.json")
    (folder / "example.json").write_text(json.dumps(example))
    assert [g.size for g in read_mask(folder / "example.json").groups] == [8, 6]
    done = run("apply", "model.onnx", "--mask", "example.json", "-o", "small.onnx")
    assert done.exit_code == 0, done.output


def test_problems_are_found():
    known = fields("Errors")
    assert problems({"error": 1}, known) == ["error is 1", "fix is missing"]
    assert problems({"error": "a", "fix": "b", "more": {}}, known) == ["more is not documented"]


def test_diffs_are_small(run, folder):
    for share, name in ((0.5, "a"), (0.4, "b")):
        run("mask", "model.onnx", "--keep", share, "--exclude", "conv1*", "-o", f"{name}.json")
    pairs = zip((folder / "a.json").read_text().splitlines(), (folder / "b.json").read_text().splitlines(), strict=True)
    changed = [a for a, b in pairs if a != b]
    assert len(changed) == 2 and "provenance" in changed[0] and '"conv2.w"' in changed[1]
