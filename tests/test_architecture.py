"""The floor plan, read off the syntax trees: who may import whom, and what nobody may use.

Every check is a function of sources, so that each is also tried on sources that break it.
"""

import ast
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "onnxprune"

# Imports run one way: a room uses rooms further up, and its neighbours in the same line, never round in a circle.
FLOOR_PLAN = """
errors types environment collector pareto
embedded external files lazy outgoing saving tensors wire
forms
unify
graph shapes
trace
rules
coupling groups
branches
cost repair folding
analysis
resources mask selection widths
ranking
bypass slicing surgery compare execution
verify
scores budget reconstruct
api
latency
report
torch search
cli
"""
LEVEL = {room: level for level, line in enumerate(FLOOR_PLAN.split("\n")) for room in line.split()}
BLIND = {("torch", "search"), ("search", "torch")}

# Who alone may import what; the folders beside the package use it, never the other way round.
EXCLUSIVE = {
    "onnx_graphsurgeon": {"surgery"},
    "onnxruntime": {"execution", "latency"},
    "pynvml": {"latency"},
    "torch": {"torch"},
    "models": set(),
    "benchmarks": set(),
    "tests": set(),
}

UNSAFE_MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__"}
UNSAFE_ARGUMENTS = {("allow_pickle", True), ("weights_only", False)}

Sources = Mapping[str, str]
"""Texts of modules by dotted name; a package's `__init__` goes by the package's name."""


def read(folder: Path) -> dict[str, str]:
    """The modules in `folder`, by dotted names that start with the folder's own."""
    names = {path: path.relative_to(folder.parent).with_suffix("").parts for path in folder.rglob("*.py")}
    return {".".join(p for p in parts if p != "__init__"): path.read_text() for path, parts in names.items()}


def imported(name: str, sources: Sources) -> Iterator[str]:
    """Dotted names that the module imports, at any depth; a submodule under its own name where there is one."""
    for node in ast.walk(ast.parse(sources[name])):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = name if any(s.startswith(f"{name}.") for s in sources) else name.rpartition(".")[0]
            module = resolve_name("." * node.level + (node.module or ""), package)
            full = [f"{module}.{alias.name}" for alias in node.names]
            yield from (f if f in sources or module == PACKAGE else module for f in full)


def room(name: str) -> str:
    """`onnxprune.rules.linear` -> `rules`; the facade `onnxprune` itself has none."""
    return name.removeprefix(PACKAGE).lstrip(".").partition(".")[0]


def inside(names: Iterable[str]) -> list[str]:
    return [n for n in names if n == PACKAGE or n.startswith(f"{PACKAGE}.")]


def unknown_rooms(sources: Sources) -> list[str]:
    rooms = {room(name) for name in sources} - {"", "__main__"}
    return sorted(rooms - LEVEL.keys())


def wrong_directions(sources: Sources) -> list[str]:
    """Imports that run against the floor plan; only the facade and `__main__` stand above it."""
    wrong = []
    for name in sources:
        here = room(name)
        for target in inside(imported(name, sources)):
            there = room(target)
            below = LEVEL.get(there, len(LEVEL)) <= LEVEL.get(here, len(LEVEL))
            if here not in ("", "__main__") and (not below or (here, there) in BLIND):
                wrong.append(f"{name} imports {target}")
    return wrong


def circle(sources: Sources) -> list[str]:
    """Modules that import each other in a circle, or nothing; a package and its own submodules are one module."""
    graph = {n: {t for t in inside(imported(n, sources)) if t != n and not t.startswith(f"{n}.")} for n in sources}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def trespasses(sources: Sources) -> list[str]:
    """Imports of what belongs to other rooms alone."""
    pairs = [(name, target.partition(".")[0]) for name in sources for target in imported(name, sources)]
    return [f"{name} imports {top}" for name, top in pairs if top in EXCLUSIVE and room(name) not in EXCLUSIVE[top]]


def unsafe(sources: Sources) -> list[str]:
    """Uses of what can run code out of data."""
    found = [f"{name} imports {t}" for name in sources for t in imported(name, sources) if t in UNSAFE_MODULES]
    for name, text in sources.items():
        for call in (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)):
            if isinstance(call.func, ast.Name) and call.func.id in UNSAFE_CALLS:
                found.append(f"{name}:{call.lineno} calls {call.func.id}")
            given = {(k.arg, k.value.value) for k in call.keywords if isinstance(k.value, ast.Constant)}
            found += [f"{name}:{call.lineno} passes {arg}={value}" for arg, value in given & UNSAFE_ARGUMENTS]
    return found


PROJECT = {folder: read(ROOT / folder) for folder in (PACKAGE, "models", "benchmarks", "tests")}


def test_every_room_is_in_the_floor_plan():
    assert unknown_rooms(PROJECT[PACKAGE]) == []


def test_imports_run_one_way():
    assert wrong_directions(PROJECT[PACKAGE]) == []


def test_no_circular_imports():
    assert circle(PROJECT[PACKAGE]) == []


def test_dependencies_stay_in_their_rooms():
    assert trespasses(PROJECT[PACKAGE]) == []


@pytest.mark.parametrize("folder", PROJECT)
def test_nothing_runs_code_out_of_data(folder):
    assert unsafe(PROJECT[folder]) == []


def test_the_sources_are_really_read():
    assert {PACKAGE, "onnxprune.errors", "onnxprune.environment"} <= PROJECT[PACKAGE].keys()
    assert "onnxprune.errors" in set(imported("onnxprune.environment", PROJECT[PACKAGE]))


def test_an_unknown_room_is_named():
    assert unknown_rooms({"onnxprune": "", "onnxprune.attic": "", "onnxprune.rules.attic": ""}) == ["attic"]


@pytest.mark.parametrize(
    ("name", "text", "target"),
    [
        ("onnxprune.forms", "import onnxprune.graph", "onnxprune.graph"),
        ("onnxprune.rules.linear", "from onnxprune.coupling import analyze", "onnxprune.coupling"),
        ("onnxprune.graph", "def f():\n    from onnxprune import verify", "onnxprune.verify"),
        ("onnxprune.verify", "from onnxprune.cli.prune import main", "onnxprune.cli.prune"),
        ("onnxprune.mask", "from onnxprune import load", "onnxprune.load"),
        ("onnxprune.mask", "import onnxprune", "onnxprune"),
        ("onnxprune.search.bees", "from onnxprune.torch import bind", "onnxprune.torch"),
        ("onnxprune.torch.gates", "from onnxprune.search import bees", "onnxprune.search"),
    ],
)
def test_a_wrong_direction_is_found(name, text, target):
    submodules = ("verify", "coupling", "graph", "cli.prune")
    sources = {PACKAGE: "", **{f"{PACKAGE}.{m}": "" for m in submodules}, name: text}
    assert wrong_directions(sources) == [f"{name} imports {target}"]


def test_right_directions_are_let_through():
    texts = {
        "onnxprune": "from onnxprune.cli import main\nfrom onnxprune.graph import load",
        "onnxprune.cli": "from onnxprune.cli.prune import main",
        "onnxprune.cli.prune": "import os\nfrom onnxprune.errors import UsageError\nfrom onnxprune import verify",
        "onnxprune.shapes": "from onnxprune.graph import Graph",
        "onnxprune.errors": "import numpy as np",
        "onnxprune.verify": "from onnxprune.mask import Mask",
    }
    assert wrong_directions(texts) == [] == circle(texts)


def test_a_circle_between_neighbours_is_found():
    texts = {"onnxprune.graph": "from onnxprune.shapes import f", "onnxprune.shapes": "import onnxprune.graph"}
    assert set(circle(texts)) == {"onnxprune.graph", "onnxprune.shapes"}


@pytest.mark.parametrize(
    ("name", "text", "top"),
    [
        ("onnxprune.slicing", "import onnx_graphsurgeon as gs", "onnx_graphsurgeon"),
        ("onnxprune.report.html", "def f():\n    from onnxruntime import InferenceSession", "onnxruntime"),
        ("onnxprune.environment", "import onnxruntime.capi", "onnxruntime"),
        ("onnxprune.scores.l1", "import torch", "torch"),
        ("onnxprune.cli.bench", "from models.yolov3 import yolov3", "models"),
    ],
)
def test_a_trespass_is_found(name, text, top):
    assert trespasses({name: text}) == [f"{name} imports {top}"]


def test_owners_do_not_trespass():
    texts = {
        "onnxprune.surgery": "import onnx_graphsurgeon as gs",
        "onnxprune.execution": "import onnxruntime",
        "onnxprune.latency.cpu": "import onnxruntime",
        "onnxprune.torch.gates": "import torch.nn",
    }
    assert trespasses(texts) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import pickle", "m imports pickle"),
        ("from marshal import loads", "m imports marshal"),
        ("x = eval('1')", "m:1 calls eval"),
        ("\nexec('x = 1')", "m:2 calls exec"),
        ("np.load(f, allow_pickle=True)", "m:1 passes allow_pickle=True"),
        ("torch.load(f, weights_only=False)", "m:1 passes weights_only=False"),
    ],
)
def test_unsafe_code_is_found(text, found):
    assert unsafe({"m": text}) == [found]


def test_methods_named_eval_are_safe():
    assert unsafe({"m": "model.eval()\nre.compile('x')\nnp.load(f, allow_pickle=False)"}) == []


def test_relative_imports_are_resolved():
    texts = {
        "onnxprune.rules": "from .linear import conv",
        "onnxprune.rules.linear": "from ..graph import Node\nfrom . import pool",
        "onnxprune.rules.pool": "",
    }
    assert list(imported("onnxprune.rules", texts)) == ["onnxprune.rules.linear"]
    assert list(imported("onnxprune.rules.linear", texts)) == ["onnxprune.graph", "onnxprune.rules.pool"]
