"""`Task`: what a user brings to a training, in one file; and reading it from there."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Protocol, cast

from torch import Tensor, nn
from torch.utils.data import Dataset

from onnxprune.errors import OnnxPruneError, UsageError

Split = Literal["train", "validation", "test"]


class Metric(Protocol):
    """A figure over a whole split, the higher the better; what is used of `torchmetrics.Metric`."""

    def update(self, outputs: Any, targets: Any) -> None:
        """Take a batch into account."""

    def compute(self) -> float | Tensor:
        """The figure over all batches."""


class Task(Protocol):
    """A network, its data and what it is to learn."""

    def model(self) -> nn.Module:
        """A fresh network; the caller has seeded torch."""

    def example(self) -> Tensor:
        """Inputs of the network, the first axis being the batch."""

    def data(self, split: Split) -> Dataset[Any]:
        """Pairs (inputs, targets) by index, with a length; validation data are no part of the others.

        One that has `__getitems__` may return a ready batch, `(inputs, targets)` with a first axis for the batch.
        """

    def loss(self, outputs: Any, targets: Any) -> Tensor:
        """A scalar, the mean over the batch."""

    def metric(self) -> Metric:
        """A new metric, of nothing yet."""


METHODS = tuple(name for name in vars(Task) if not name.startswith("_"))


class Accuracy:
    """Top-1 accuracy: the share of the targets whose class has the largest output; 0 of nothing."""

    def __init__(self) -> None:
        self._hits: Tensor | int = 0
        self._count = 0

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Take a batch into account: outputs `(B, classes, ...)`, targets `(B, ...)` of class numbers."""
        self._hits = self._hits + (outputs.argmax(1) == targets).sum()
        self._count += targets.numel()

    def compute(self) -> float:
        """The share, in [0, 1]."""
        return float(self._hits) / max(1, self._count)


def load_task(text: str) -> Task:
    """An instance of the task that `text` names: `path.py:Name` or `package.module:Name`.

    Raises:
        UsageError: there is no such file, module or name; it raises when it is imported or called; a method is missing.
    """
    place, _, name = text.rpartition(":")
    if not place or not name.isidentifier():
        raise UsageError(f"task {text!r}: expected path.py:Name or package.module:Name", "add the name of the class")
    spec = _file_spec(Path(place)) if place.endswith(".py") else _package_spec(place)
    with _user_code(f"importing {place}", spec.origin):
        module = _imported(spec)
    maker = getattr(module, name, None)
    if not callable(maker):
        raise UsageError(f"{place}: there is no class or function {name!r}", f"choose from: {_makers(module)}")
    with _user_code(f"{name}()", spec.origin):
        task = maker()
    for method in METHODS:
        if not callable(getattr(task, method, None)):
            raise UsageError(f"{text}: no task: it has no method {method!r}", f"give it {', '.join(METHODS)}")
    return cast(Task, task)


def _file_spec(path: Path) -> ModuleSpec:
    spec = importlib.util.spec_from_file_location(f"onnxprune_task_{path.stem}", path.absolute())
    if spec is None or not path.is_file():
        raise UsageError(f"{path}: no such file", "check the path")
    _make_importable(path.absolute().parent)
    return spec


def _package_spec(name: str) -> ModuleSpec:
    _make_importable(Path.cwd())
    try:
        spec = importlib.util.find_spec(name)
    except (ModuleNotFoundError, ValueError):
        spec = None
    if spec is None:
        raise UsageError(f"no module named {name!r}", "name a module as in `import`, or a file that ends in .py")
    return spec


def _make_importable(folder: Path) -> None:
    """As for a script in `folder`, but last, so that nothing in it stands in for an installed package."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _imported(spec: ModuleSpec) -> ModuleType:
    if not spec.name.startswith("onnxprune_task_"):
        return importlib.import_module(spec.name)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    assert spec.loader is not None
    spec.loader.exec_module(module)
    return module


@contextmanager
def _user_code(doing: str, file: str | None) -> Iterator[None]:
    """Tells errors in the user's file by its line, without a traceback."""
    try:
        yield
    except OnnxPruneError:
        raise
    except (Exception, SystemExit) as error:
        what = error.msg if isinstance(error, SyntaxError) else str(error)
        raise UsageError(
            f"{doing} failed at {_line(error, file)}: {type(error).__name__}: {what}", "run the file by itself to debug"
        ) from error


def _line(error: BaseException, file: str | None) -> str:
    """The last line of the user's file that the error came by."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == file] or frames
    return f"{own[-1].filename}:{own[-1].lineno}"


def _makers(module: ModuleType) -> str:
    """Names of the module's own classes and functions."""
    own = [name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
    return ", ".join(own) or "none"
