"""What fails in a task, its network or its data is told by its line, and before the training where it can be."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset

import onnxprune
from onnxprune.errors import ModelError, UsageError
from onnxprune.torch.fitness import Recalibrated
from onnxprune.torch.forecast import FixedEpoch
from onnxprune.torch.jobs import Place, started
from onnxprune.torch.loop import LAST, train
from onnxprune.torch.methods import Chips, chip, fine_tune
from onnxprune.torch.recipe import make_optimizer
from onnxprune.torch.run import Run
from onnxprune.torch.slim import Slimming, slim
from onnxprune.torch.task import Guarded, Split, guarded
from onnxprune.torch.usercode import called, user_code
from tests.torch.training import FEATURES, HIDDEN, Classify, Points, fresh, recipe

PLAIN = recipe(ema=None, epochs=1)
SLIMMING = Slimming({"params": 0.9}, FixedEpoch(1))
CHIPS = Chips("params", 0.9)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def line(text: str) -> int:
    """The line of this file that ends in a remark."""
    return next(k for k, row in enumerate(Path(__file__).read_text().splitlines(), 1) if row.endswith(f"  # {text}"))


def told(doing: str, remark: str, what: str) -> str:
    """A pattern of the message."""
    return f"^{re.escape(doing)} failed at {re.escape(__file__)}:{line(remark)}: {what}"


# Methods ---------------------------------------------------------------------------------------------------------


class BrokenMetric:
    def __init__(self, part: str):
        self.part = part

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        if self.part == "update":
            raise KeyError("classes")  # update

    def compute(self) -> Any:
        return torch.zeros(2)


class Broken(Classify):
    """One of its methods fails."""

    def __init__(self, method: str):
        self.method = method

    def model(self) -> nn.Module:
        if self.method == "model":
            raise RuntimeError("weights of the backbone not found")  # model
        return super().model()

    def example(self) -> Tensor:
        return [][0] if self.method == "example" else super().example()  # example

    def data(self, split: Split) -> Dataset:
        return open(f"/nonexistent/{split}.bin") if self.method == "data" else super().data(split)  # data

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.bad if self.method == "loss" else super().loss(outputs, targets)  # loss

    def metric(self) -> Any:
        if self.method == "metric":
            raise ValueError("no metric")  # metric
        return BrokenMetric(self.method) if self.method in ("update", "compute") else super().metric()


@pytest.mark.parametrize(
    ("method", "doing", "what"),
    [
        ("model", "Broken.model()", "RuntimeError: weights of the backbone not found"),
        ("example", "Broken.example()", "IndexError: list index out of range"),
        ("data", "Broken.data('train')", r"FileNotFoundError: .*No such file or directory: '/nonexistent/train\.bin'"),
        ("loss", "Broken.loss()", "AttributeError: 'Tensor' object has no attribute 'bad'"),
        ("metric", "Broken.metric()", "ValueError: no metric"),
        ("update", "Broken.metric().update()", "KeyError: 'classes'"),
    ],
)
def test_a_method_that_fails_is_named_with_its_line(tmp_path: Path, method: str, doing: str, what: str) -> None:
    with pytest.raises(UsageError, match=told(doing, method, what)) as caught:
        fine_tune(Broken(method), PLAIN, Place(tmp_path))
    assert caught.value.fix and caught.value.__cause__ is not None


def test_a_metric_that_is_no_number_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^Broken\.metric\(\)\.compute\(\): expected a number, got shape \(2,\)"):
        fine_tune(Broken("compute"), PLAIN, Place(tmp_path))


def test_our_own_errors_pass_and_so_does_a_lack_of_memory() -> None:
    for error in (ModelError("no operator", "write one"), MemoryError()):
        with pytest.raises(type(error)) as caught, user_code("it", None, "fix"):
            raise error
        assert caught.value is error


def test_a_task_is_guarded_once() -> None:
    once = guarded(Classify())
    assert isinstance(once, Guarded) and guarded(once) is once


class Returning(Classify):
    """Its example and its loss are what they are told to be."""

    def __init__(self, example: Any = None, loss: Callable[[Tensor], Any] = lambda loss: loss.mean()):
        self.shown, self.reduced = example, loss

    def example(self) -> Any:
        return super().example() if self.shown is None else self.shown

    def loss(self, outputs: Tensor, targets: Tensor) -> Any:
        return self.reduced(nn.functional.cross_entropy(outputs, targets, reduction="none"))


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (Returning(loss=lambda loss: loss), r"Returning\.loss\(\): expected a scalar tensor, got shape \(16,\)"),
        (Returning(loss=lambda loss: float(loss.detach().mean())), r"expected a scalar tensor, got float"),
        (Returning(loss=lambda loss: loss.mean().detach()), "the task's loss depends on no parameter"),
        (Returning([torch.zeros(2, FEATURES)]), r"Returning\.example\(\): expected tensors, got list"),
        (Returning(()), r"Returning\.example\(\): expected tensors, got tuple"),
    ],
)
def test_what_a_method_must_not_give(tmp_path: Path, task: Classify, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        fine_tune(task, PLAIN, Place(tmp_path))


# Data and network ------------------------------------------------------------------------------------------------


class Unreadable(Points):
    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        raise OSError("disk gone")  # unreadable


class Narrow(Points):
    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.x[index, 1:], self.y[index]


class Choosy(nn.Module):
    """Takes what its example is alone."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(FEATURES, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)  # choosy


class Choosing(Classify):
    def model(self) -> nn.Module:
        return Choosy()


@pytest.mark.parametrize("workers", [0, 1])
def test_data_that_cannot_be_read_are_named(tmp_path: Path, workers: int) -> None:
    task = Classify()
    task.points = Unreadable
    with pytest.raises(UsageError, match=told("reading a batch of Unreadable", "unreadable", "OSError: disk gone\n")):
        train(task, fresh(task), recipe(workers=workers), folder=tmp_path)


def test_a_network_that_fails_on_the_data_is_named(tmp_path: Path) -> None:
    task = Choosing()
    task.points = Narrow
    doing = "the network on a batch of the task's data"
    with pytest.raises(UsageError, match=told(doing, "choosy", "RuntimeError: mat1 and mat2 shapes")):
        train(task, fresh(task), recipe(), folder=tmp_path)


# Nothing to train ------------------------------------------------------------------------------------------------


class Frozen(Classify):
    def model(self) -> nn.Module:
        return super().model().requires_grad_(False)


@pytest.mark.parametrize("job", ["slim", "chip", "fine_tune"])
def test_a_network_that_cannot_learn_is_refused_before_the_training(tmp_path: Path, job: str) -> None:
    with pytest.raises(UsageError, match="Sequential: nothing to train: none of its 6 parameters requires a gradient"):
        if job == "slim":
            slim(Frozen(), PLAIN, SLIMMING, Place(tmp_path))
        elif job == "chip":
            chip(Frozen(), PLAIN, PLAIN, CHIPS, Place(tmp_path))
        else:
            fine_tune(Frozen(), PLAIN, Place(tmp_path))
    assert not list(tmp_path.rglob("*"))


def test_so_it_is_by_the_loop(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to train"):
        train(Frozen(), Frozen().model(), recipe(), folder=tmp_path)
    half = Frozen().model()
    half[0].requires_grad_(True)
    assert make_optimizer(PLAIN, half)


# Empty splits ----------------------------------------------------------------------------------------------------


class Empty(Classify):
    def __init__(self, split: Split):
        self.split = split

    def data(self, split: Split) -> Dataset:
        return Subset(super().data(split), []) if split == self.split else super().data(split)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("job", ["slim", "chip", "fine_tune"])
def test_an_empty_split_is_refused_before_the_training(tmp_path: Path, split: Split, job: str) -> None:
    what = "Subset is" if (job, split) == ("chip", "train") else f"the {split} split: Subset is"
    with pytest.raises(UsageError, match=f"^{what} an empty data set"):
        if job == "slim":
            slim(Empty(split), PLAIN, SLIMMING, Place(tmp_path))
        elif job == "chip":
            chip(Empty(split), PLAIN, PLAIN, CHIPS, Place(tmp_path))
        else:
            fine_tune(Empty(split), PLAIN, Place(tmp_path))
    assert not list(tmp_path.rglob(LAST))


def test_the_loop_alone_needs_no_test_split(tmp_path: Path) -> None:
    assert train(Empty("test"), fresh(Classify()), recipe(), folder=tmp_path).finished


# A metric that is no number --------------------------------------------------------------------------------------


class NaN:
    def update(self, outputs: Tensor, targets: Tensor) -> None: ...

    def compute(self) -> float:
        return float("nan")


class Unmeasured(Classify):
    def metric(self) -> Any:
        return NaN()


def test_gates_without_a_figure_to_choose_by_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="chipnet: the task's metric was not finite after any epoch"):
        chip(Unmeasured(), PLAIN, PLAIN, CHIPS, Place(tmp_path))


# Several inputs --------------------------------------------------------------------------------------------------


class Pair(nn.Module):
    """Of two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(FEATURES, HIDDEN), nn.Linear(2, HIDDEN)
        self.norm, self.head = nn.BatchNorm1d(HIDDEN), nn.Linear(HIDDEN, 3)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        return self.head(torch.relu(self.norm(self.left(x) + self.right(z))))


class PairedPoints(Points):
    def __getitem__(self, index: int) -> Any:
        x, y = super().__getitem__(index)
        return (x, x[:2] * 2), y


class ReadyPairs(Points):
    def __getitems__(self, indices: list[int]) -> Any:
        return (self.x[indices], self.x[indices, :2]), self.y[indices]


class Paired(Classify):
    points = PairedPoints

    def model(self) -> nn.Module:
        return Pair()

    def example(self) -> Any:
        return torch.zeros(2, FEATURES), torch.zeros(2, 2)


class ReadyPaired(Paired):
    points = ReadyPairs


@pytest.mark.parametrize("task", [Paired, ReadyPaired])
def test_a_network_of_two_inputs_is_slimmed(tmp_path: Path, task: type[Paired]) -> None:
    outcome = slim(task(), recipe(epochs=2), SLIMMING, Place(tmp_path))
    assert outcome.finished and 0 <= outcome.figures["test"] <= 1
    trained = onnxprune.load(tmp_path / "trained.onnx")
    assert [value.name for value in trained.proto.graph.input] == ["input", "input1"]


def test_so_is_it_by_gates_and_judged_with_statistics_measured_anew(tmp_path: Path) -> None:
    assert chip(Paired(), PLAIN, PLAIN, CHIPS, Place(tmp_path)).finished
    network, binding = started(Paired(), PLAIN, Place(tmp_path))
    fitness = Recalibrated(Paired(), network, binding, PLAIN)
    assert 0 <= fitness(onnxprune.choose(binding.analysis, keep=0.5))["score"] <= 1


def test_inputs_of_a_batch_are_a_tuple_where_the_example_is_one() -> None:
    run = Run(Paired(), Pair(), PLAIN)
    (inputs, _), *_ = run.loading.pairs(run.data("train"), run.sampling.batches(0))
    assert isinstance(inputs, tuple) and [x.shape for x in inputs] == [(16, FEATURES), (16, 2)]
    assert called(run.network, inputs).shape == (16, 3)


class Listed(Classify):
    """Its network takes one list."""

    points = PairedPoints

    def model(self) -> nn.Module:
        network = super().model()
        network.register_forward_pre_hook(lambda part, args: (args[0][0] if isinstance(args[0], list) else args[0],))
        return network


def test_a_network_that_takes_a_list_still_gets_one(tmp_path: Path) -> None:
    assert train(Listed(), fresh(Listed()), PLAIN, folder=tmp_path).finished


@pytest.mark.parametrize(
    ("points", "got"),
    [(Points, "Tensor"), (type("Three", (PairedPoints,), {"__getitem__": lambda s, i: ((1, 2, 3), 0)}), "3")],
)
def test_other_inputs_than_the_example_has_are_refused(tmp_path: Path, points: type[Points], got: str) -> None:
    task = Paired()
    task.points = points
    with pytest.raises(UsageError, match=f"expected a tuple of 2 inputs, like the task's example, got {got}"):
        train(task, Pair(), recipe(), folder=tmp_path)
