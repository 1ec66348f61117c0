"""Tasks from files and modules, what is wrong with some, and the accuracy."""

import re
import sys
from pathlib import Path
from textwrap import dedent

import pytest
import torch

from onnxprune.errors import ModelError, UsageError
from onnxprune.torch.task import METHODS, Accuracy, load_task

GOOD = """
    from dataclasses import dataclass
    from beside_the_task import make

    @dataclass
    class Good:
        size: "int" = 3
        def model(self): return make(self.size)
        def example(self): ...
        def data(self, split): ...
        def loss(self, outputs, targets): ...
        def metric(self): ...

    def function():
        return Good(5)

    class Lacking:
        def model(self): ...
        def example(self): ...
        def data(self, split): ...
        def loss(self, outputs, targets): ...

    class Raising(Good):
        def __init__(self):
            self.size = [][1]

    number = 3
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with tasks, good and bad, and a module beside it."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "beside_the_task.py").write_text("def make(size):\n    return [size]\n")
    path = tmp_path / "mine.py"
    path.write_text(dedent(GOOD))
    yield path
    for name in ("beside_the_task", "mine", "onnxprune_task_mine"):
        sys.modules.pop(name, None)


def test_a_class_in_a_file(file: Path) -> None:
    assert load_task(f"{file}:Good").model() == [3]


def test_a_function_in_a_file(file: Path) -> None:
    assert load_task(f"{file}:function").model() == [5]


def test_a_file_that_changed_is_read_again(file: Path) -> None:
    load_task(f"{file}:Good")
    file.write_text(file.read_text().replace('"int" = 3', '"int" = 33'))
    assert load_task(f"{file}:Good").model() == [33]


def test_a_class_in_a_module(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    assert load_task("mine:Good").model() == [3]


def test_a_file_in_a_package_of_the_folder_one_works_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "nets_of_mine"
    package.mkdir()
    (package / "__init__.py").write_text("WIDTH = 7\n")
    methods = "".join(f"    def {name}(self, *more): return WIDTH\n" for name in METHODS)
    (package / "tasks.py").write_text(f"from nets_of_mine import WIDTH\nclass Mine:\n{methods}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert load_task("nets_of_mine/tasks.py:Mine").model() == 7


def test_the_protocol_is_what_is_asked_for() -> None:
    assert METHODS == ("model", "example", "data", "loss", "metric")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mine.py", r"task 'mine\.py': expected path\.py:Name or package\.module:Name"),
        ("mine.py:", r"task 'mine\.py:': expected path\.py:Name"),
        ("mine.py:a b", r"task 'mine\.py:a b': expected path\.py:Name"),
        ("other.py:Good", r"other\.py: no such file"),
        ("not_there.at_all:Good", r"no module named 'not_there\.at_all'"),
        ("not_there:Good", r"no module named 'not_there'"),
        ("mine.py:Bad", r"(?s)there is no class or function 'Bad'.*choose from: Good, function, Lacking, Raising"),
        ("mine.py:number", r"there is no class or function 'number'"),
        ("mine.py:Lacking", r"mine\.py:Lacking: no task: it has no method 'metric'"),
        ("mine.py:Raising", r"Raising\(\) failed at .*mine\.py:25: IndexError: list index out of range"),
    ],
)
def test_what_is_wrong_is_said(file: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str) -> None:
    monkeypatch.chdir(file.parent)
    with pytest.raises(UsageError, match=message):
        load_task(text)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1\ny = x +\n", r"mine\.py:2: SyntaxError: invalid syntax"),
        ("import torch\ntorch.zeros(2).view(3)\n", r"mine\.py:2: RuntimeError: shape '\[3\]' is invalid"),
        ("\n\nimport nothing_such\n", r"mine\.py:3: ModuleNotFoundError: No module named 'nothing_such'"),
        ("raise SystemExit('stop')\n", r"mine\.py:1: SystemExit: stop"),
    ],
)
@pytest.mark.parametrize("as_module", [False, True])
def test_a_file_that_fails_is_told_by_its_line(
    file: Path, monkeypatch: pytest.MonkeyPatch, source: str, message: str, as_module: bool
) -> None:
    file.write_text(source)
    monkeypatch.chdir(file.parent)
    place = "mine" if as_module else str(file)
    with pytest.raises(UsageError, match=f"importing {re.escape(place)} failed at .*{message}"):
        load_task(f"{place}:Good")


def test_our_own_errors_pass(file: Path) -> None:
    file.write_text("from onnxprune.errors import ModelError\ndef f():\n    raise ModelError('no data', 'get them')\n")
    with pytest.raises(ModelError, match="no data"):
        load_task(f"{file}:f")


def test_accuracy_is_the_share_over_all_batches() -> None:
    accuracy = Accuracy()
    assert accuracy.compute() == 0
    accuracy.update(torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]]), torch.tensor([1, 0, 0]))
    accuracy.update(torch.tensor([[0.1, 0.9]]), torch.tensor([1]))
    assert accuracy.compute() == 0.75


def test_accuracy_of_pixels() -> None:
    accuracy = Accuracy()
    outputs = torch.zeros(1, 2, 2, 2)
    outputs[:, 1, 0] = 1
    accuracy.update(outputs, torch.tensor([[[1, 1], [1, 0]]]))
    assert accuracy.compute() == 0.75
