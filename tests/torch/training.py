"""A network, data and hooks so small that a training of them takes milliseconds."""

import os
import random
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from onnxprune import choose
from onnxprune.torch.binding import bind
from onnxprune.torch.hooks import Hook
from onnxprune.torch.loop import train
from onnxprune.torch.recipe import Recipe
from onnxprune.torch.run import Run
from onnxprune.torch.task import Accuracy, Split

ROOT = Path(__file__).parents[2]

SIZES = {"train": 50, "validation": 20, "test": 20}
FEATURES, HIDDEN, CLASSES = 6, 8, 3
STEPS = 3
"""In an epoch of batches of 16."""


class Points(Dataset):
    """Labelled points; training ones are moved about by all three global sources of random numbers."""

    def __init__(self, split: Split):
        generator = torch.Generator().manual_seed(list(SIZES).index(split))
        self.y = torch.arange(SIZES[split]) % CLASSES
        centres = torch.eye(CLASSES, FEATURES)[self.y]
        self.x = centres + 0.3 * torch.randn(SIZES[split], FEATURES, generator=generator)
        self.moves = split == "train"

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        x = self.x[index]
        if self.moves:
            x = x + 0.1 * torch.randn(FEATURES) + 0.1 * random.random() + 0.1 * float(np.random.rand())
        return x, self.y[index]


class ReadyPoints(Points):
    """The same, a batch at a time."""

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        noise = 0.1 * torch.randn(len(indices), FEATURES) if self.moves else 0
        return self.x[indices] + noise, self.y[indices]


class Classify:
    """Which centre a point is near."""

    points: type[Points] = Points

    def model(self) -> nn.Module:
        return nn.Sequential(
            nn.Linear(FEATURES, HIDDEN),
            nn.BatchNorm1d(HIDDEN),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Linear(HIDDEN, CLASSES),
        )

    def example(self) -> Tensor:
        return torch.zeros(2, FEATURES)

    def data(self, split: Split) -> Dataset:
        return self.points(split)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs, targets)

    def metric(self) -> Accuracy:
        return Accuracy()


class Sparse(Hook):
    """L1 on BatchNorm's scales by penalty and sub-gradient, a gate of its own, and a memory."""

    def __init__(self, network: nn.Sequential):
        self.scale = network[1].weight
        self.gate = nn.Parameter(torch.ones(2))
        self.seen: list[Tensor] = []
        self.steps = 0

    def parameter_groups(self) -> list[dict[str, Any]]:
        self.group = {"params": [self.gate], "weight_decay": 0.0, "lr": 0.5}
        return [self.group]

    def penalty(self) -> Tensor:
        return 1e-2 * self.scale.abs().sum() + (self.gate**2).sum() * 0.01

    def after_backward(self) -> None:
        self.scale.grad += 1e-3 * self.scale.sign() * (1 + 0.1 * self.steps)

    def after_step(self) -> None:
        self.steps += 1
        with torch.no_grad():
            self.scale -= 1e-3 * self.group["lr"] * self.scale.sign()

    def after_epoch(self, run: Run) -> Mapping[str, float]:
        self.seen.append(self.scale.detach().clone())
        return {"scales": float(self.scale.detach().abs().mean())}

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen, "steps": self.steps, "gate": self.gate.detach()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seen, self.steps = state["seen"], state["steps"]
        self.gate.data.copy_(state["gate"])


class Stopped(Exception):
    """A training was cut short."""


class StopAfter(Hook):
    """Raises when a number of steps is done by this object."""

    def __init__(self, steps: int):
        self.steps = steps

    def after_step(self) -> None:
        self.steps -= 1
        if self.steps == 0:
            raise Stopped


class Smaller(Hook):
    """Takes a quarter of the hidden units out after the second epoch."""

    def after_epoch(self, run: Run) -> Mapping[str, float]:
        if run.epoch == 2:
            run.shrink(choose(bind(run.network, run.task.example()).analysis, keep=0.75))
        return {"hidden": float(run.network[0].out_features)}


def recipe(**changes: Any) -> Recipe:
    """Four epochs of three steps."""
    return Recipe(**{"epochs": 4, "batch": 16, "device": "cpu", "ema": 0.8, "clip": 1.0, "seed": 5} | changes)


def fresh(task: Classify) -> nn.Module:
    """The same network every time."""
    torch.manual_seed(1)
    return task.model()


def everything(run: Run, hooks: Sequence[Hook]) -> dict[str, Any]:
    """All that a training ends with, as one flat dict."""
    average = run.average.state_dict() if run.average else {}
    parts = {
        "network": run.network.state_dict(),
        "average": average,
        "optimizer": run.optimizer.state_dict(),
        "hooks": [hook.state_dict() for hook in hooks],
        "random": [torch.get_rng_state(), random.random(), float(np.random.rand())],
        "best": run.best,
        "position": [run.epoch, run.batches, run.step],
    }
    return dict(_flat(parts, ""))


def _flat(value: Any, name: str) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [pair for key, item in value.items() for pair in _flat(item, f"{name}.{key}")]
    if isinstance(value, list | tuple):
        return [pair for key, item in enumerate(value) for pair in _flat(item, f"{name}.{key}")]
    return [(name, value)]


def assert_same_bits(got: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Tensors and numbers are equal, not just close."""
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        same = torch.equal(got[name], value) if isinstance(value, Tensor) else got[name] == value
        assert same, f"{name}: {got[name]} is not {value}"


def rows_of(folder: Path) -> list[list[str]]:
    """The log without its last seconds."""
    lines = [line.split(",") for line in (folder / "log.csv").read_text().splitlines()]
    seconds = lines[0].index("seconds")
    return [line[:seconds] + line[seconds + 1 :] for line in lines]


@dataclass
class Trial:
    """A training that can be cut."""

    folder: Path
    changes: Mapping[str, Any]
    more: Callable[[nn.Module], list[Hook]] = lambda network: []
    task: Classify = field(default_factory=Classify)

    def run(self, stop: int = 0, **options: Any) -> tuple[Run, list[Hook]]:
        """From the start or from the checkpoint on, until `stop` steps are done or all."""
        network = fresh(self.task)
        hooks = [Sparse(network), *self.more(network), StopAfter(stop)]
        run = train(self.task, network, recipe(**self.changes), hooks, folder=self.folder, resume=True, **options)
        return run, hooks

    def cut(self, *stops: int, save_every: float) -> tuple[Run, list[Hook]]:
        """Cut after these numbers of steps, each counted from where it went on, then run to the end."""
        for stop in stops:
            with pytest.raises(Stopped):
                self.run(stop, save_every=save_every)
        return self.run()


def in_two_processes(module: str, folder: Path) -> None:
    """Run a module's `main(folder)` by `torchrun`."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "-m", module, str(folder)], cwd=ROOT, env=environment, check=True, timeout=240)
