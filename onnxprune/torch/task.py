"""`Task`: what a user brings to a training, in one file; and reading it from there."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Protocol, cast

from torch import Tensor, nn
from torch.utils.data import Dataset

from onnxprune.errors import UsageError
from onnxprune.torch.exporting import Example
from onnxprune.torch.usercode import user_code

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

    def example(self) -> Example:
        """Inputs of the network, the first axis being the batch; in a tuple if it takes several."""

    def data(self, split: Split) -> Dataset[Any]:
        """Pairs (inputs, targets) by index, with a length; validation data are no part of the others.

        Where the example is a tuple, the inputs are one, too. A data set that has `__getitems__` may return a ready
        batch, `(inputs, targets)` with a first axis for the batch.
        """

    def loss(self, outputs: Any, targets: Any) -> Tensor:
        """A scalar, the mean over the batch."""

    def metric(self) -> Metric:
        """A new metric, of nothing yet."""


_ALONE = "run the file by itself to debug"
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


@dataclass(frozen=True)
class Guarded:
    """A task as the package calls it: what fails in one's methods is told by its line, as a `UsageError`.

    Attributes:
        task: the user's own.
    """

    task: Task

    def model(self) -> nn.Module:
        """A fresh network."""
        with self.calling("model"):
            return self.task.model()

    def example(self) -> Example:
        """Inputs of the network: one tensor, or a tuple of them."""
        with self.calling("example"):
            example = self.task.example()
        for part in example if isinstance(example, tuple) and example else (example,):
            if not isinstance(part, Tensor):
                got = type(part).__name__
                raise UsageError(f"{self.name('example')}: expected tensors, got {got}", "give one, or a tuple of some")
        return example

    def data(self, split: Split) -> Dataset[Any]:
        """The data of a split."""
        with self.calling("data", repr(split)):
            return self.task.data(split)

    def loss(self, outputs: Any, targets: Any) -> Tensor:
        """The loss, which is a scalar."""
        with self.calling("loss"):
            loss = self.task.loss(outputs, targets)
        if not isinstance(loss, Tensor) or loss.ndim:
            got = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise UsageError(f"{self.name('loss')}: expected a scalar tensor, got {got}", "take the batch's mean")
        return loss

    def metric(self) -> Metric:
        """A new metric, guarded as well."""
        with self.calling("metric"):
            return _GuardedMetric(self.task.metric(), self)

    def name(self, method: str, argument: str = "") -> str:
        """What a call of a method is called in messages."""
        return f"{type(self.task).__name__}.{method}({argument})"

    def calling(self, method: str, argument: str = "") -> AbstractContextManager[None]:
        """For the call of a method."""
        file = getattr(sys.modules.get(type(self.task).__module__), "__file__", None)
        return user_code(self.name(method, argument), file, "mend it there; --debug prints the traceback")


@dataclass(frozen=True)
class _GuardedMetric:
    """A metric of a guarded task."""

    metric: Metric
    task: Guarded

    def update(self, outputs: Any, targets: Any) -> None:
        """Take a batch into account."""
        with self.task.calling("metric().update"):
            self.metric.update(outputs, targets)

    def compute(self) -> float:
        """The figure, as a number."""
        with self.task.calling("metric().compute"):
            value = self.metric.compute()
        if isinstance(value, Tensor) and value.numel() != 1:
            what = f"{self.task.name('metric().compute')}: expected a number, got shape {tuple(value.shape)}"
            raise UsageError(what, "give one figure, the higher the better")
        with self.task.calling("metric().compute"):
            return float(value)


def guarded(task: Task) -> Task:
    """A task that tells where its methods fail.

    Its methods raise `UsageError` for whatever they raised, our own errors excepted, which pass.
    """
    return task if isinstance(task, Guarded) else Guarded(task)


def several(task: Task) -> int | None:
    """How many inputs a task's network takes, if its example is a tuple."""
    example = task.example()
    return len(example) if isinstance(example, tuple) else None


def load_task(text: str) -> Task:
    """An instance of the task that `text` names, guarded: `path.py:Name` or `package.module:Name`.

    Raises:
        UsageError: there is no such file, module or name; it raises when it is imported or called; a method is missing.
    """
    place, _, name = text.rpartition(":")
    if not place or not name.isidentifier():
        raise UsageError(f"task {text!r}: expected path.py:Name or package.module:Name", "add the name of the class")
    spec = _file_spec(Path(place)) if place.endswith(".py") else _package_spec(place)
    with user_code(f"importing {place}", spec.origin, _ALONE):
        module = _imported(spec)
    maker = getattr(module, name, None)
    if not callable(maker):
        raise UsageError(f"{place}: there is no class or function {name!r}", f"choose from: {_makers(module)}")
    with user_code(f"{name}()", spec.origin, _ALONE):
        task = maker()
    for method in METHODS:
        if not callable(getattr(task, method, None)):
            raise UsageError(f"{text}: no task: it has no method {method!r}", f"give it {', '.join(METHODS)}")
    return guarded(cast(Task, task))


def _file_spec(path: Path) -> ModuleSpec:
    spec = importlib.util.spec_from_file_location(f"onnxprune_task_{path.stem}", path.absolute())
    if spec is None or not path.is_file():
        raise UsageError(f"{path}: no such file", "check the path")
    _make_importable(path.absolute().parent)
    _make_importable(Path.cwd())  # a file in a package of the project that one works in
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


def _makers(module: ModuleType) -> str:
    """Names of the module's own classes and functions."""
    own = [name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
    return ", ".join(own) or "none"
