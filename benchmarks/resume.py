"""A training killed at random moments and resumed against one that was left alone: the final weights, bit for bit.

Every training runs in a process of its own: a narrow ResNet on synthetic images, with augmentation, a moving average
and a hook that has a state. It is killed by SIGKILL, which no program can prepare for, and resumed to the end.
"""

import argparse
import hashlib
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from benchmarks.common import BUILD, all_of, arguments, record
from benchmarks.record import Benchmark, Column, Row
from models.resnet_cifar import ResNet
from onnxprune.torch.checkpoint import read
from onnxprune.torch.hooks import Hook
from onnxprune.torch.loop import LAST, train
from onnxprune.torch.recipe import Recipe
from onnxprune.torch.run import Run
from onnxprune.torch.task import Accuracy, Split

KILLS = 20
IMAGES = {"train": 512, "validation": 64, "test": 64}
RECIPE = Recipe(epochs=2, batch=32, lr=0.05, ema=0.9, clip=1.0, warmup=0.5, device="cpu")
STEPS = IMAGES["train"] // RECIPE.batch
SAVE_EVERY = 0.2
"""Seconds; so seldom that most kills fall between two checkpoints."""

BENCHMARK = Benchmark(
    name="resume",
    claim="A training of 32 steps, killed by SIGKILL at a random moment and resumed: the same bits at the end",
    columns=(
        Column("kill", "name"),
        Column("killed after step", "after"),
        Column("its checkpoint's step", "step"),
        Column("weights identical", "weights"),
        Column("all state identical", "state"),
        Column("log identical", "log"),
    ),
)


class Images(Dataset):
    """Random images `(3, 32, 32)` whose brightness tells the class; training ones are flipped and get noise."""

    def __init__(self, split: Split):
        generator = torch.Generator().manual_seed(list(IMAGES).index(split))
        self.labels = torch.arange(IMAGES[split]) % 10
        noise = torch.randn(len(self.labels), 3, 32, 32, generator=generator)
        self.images = noise + 0.2 * self.labels.view(-1, 1, 1, 1)
        self.augmented = split == "train"

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        x, y = self.images[indices], self.labels[indices]
        if self.augmented:
            flipped = torch.rand(len(x), 1, 1, 1) < 0.5
            x = torch.where(flipped, x.flip(3), x) + 0.1 * torch.randn_like(x)
        return x, y


class Task:
    """ResNet-8 of 4, 8 and 16 channels on these images."""

    def model(self) -> nn.Module:
        return ResNet(blocks=1, widths=(4, 8, 16))

    def example(self) -> Tensor:
        return torch.zeros(1, 3, 32, 32)

    def data(self, split: Split) -> Dataset:
        return Images(split)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs, targets)

    def metric(self) -> Accuracy:
        return Accuracy()


class Sparsity(Hook):
    """L1 on BatchNorm's scales, the more so the longer their mean over all steps has been large."""

    def __init__(self, network: nn.Module):
        self.scales = [m.weight for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
        self.means = [torch.ones_like(p) for p in self.scales]
        self.steps = 0

    def after_backward(self) -> None:
        for p, mean in zip(self.scales, self.means, strict=True):
            assert p.grad is not None
            p.grad += 1e-3 * mean * p.sign()

    @torch.no_grad()
    def after_step(self) -> None:
        self.steps += 1
        for p, mean in zip(self.scales, self.means, strict=True):
            mean.lerp_(p, 1 / self.steps)

    def after_epoch(self, run: Run) -> Mapping[str, float]:
        return {"scales": float(torch.cat(self.means).mean())}

    def state_dict(self) -> dict[str, Any]:
        return {"means": self.means, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.means, self.steps = state["means"], state["steps"]


class Told(Hook):
    """Tells whoever started this process of every step."""

    def after_step(self) -> None:
        print("step", flush=True)


def child(folder: Path) -> None:
    """Train in this process, from the checkpoint on if there is one."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    task = Task()
    network = task.model()
    hooks = [Sparsity(network), Told()]
    run = train(task, network, RECIPE, hooks, folder=folder, resume=True, save_every=SAVE_EVERY)
    assert run.finished


def start(folder: Path) -> subprocess.Popen[str]:
    """A child that trains; it prints a line after every step."""
    command = [sys.executable, "-m", "benchmarks.resume", "--child", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finish(folder: Path) -> list[float]:
    """Train to the end; the seconds between steps."""
    with start(folder) as process:
        assert process.stdout is not None
        times = [time.perf_counter() for _ in process.stdout]
    if process.returncode:
        raise RuntimeError(f"the training ended with status {process.returncode}")
    return [b - a for a, b in pairwise(times)]


def kill(folder: Path, after: int, seconds: float) -> int:
    """Kill a training some seconds after a step; the step that its checkpoint holds."""
    with start(folder) as process:
        assert process.stdout is not None
        for _ in range(after):
            process.stdout.readline()
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
    if not (folder / LAST).exists():
        return 0
    position = read(folder / LAST)["position"]
    return position["epoch"] * STEPS + position["batches"]


def digests(folder: Path) -> dict[str, str]:
    """Of the final weights, of all else in the checkpoint but the time it took, and of the log likewise."""
    content = read(folder / LAST)
    content["position"].pop("seconds")
    lines = [line.split(",") for line in (folder / "log.csv").read_text().splitlines()]
    place = lines[0].index("seconds")
    log = [line[:place] + line[place + 1 :] for line in lines]
    return {"weights": digest(content.pop("model")), "state": digest(content), "log": digest(log)}


def digest(value: Any) -> str:
    """A hash of tensors and plain data, to the last bit."""
    if isinstance(value, Tensor):
        value = (str(value.dtype), list(value.shape), value.contiguous().numpy().tobytes())
    elif isinstance(value, Mapping):
        value = [(key, digest(item)) for key, item in value.items()]
    elif isinstance(value, list | tuple):
        value = [digest(item) for item in value]
    return hashlib.sha256(repr(value).encode()).hexdigest()


def measure(folder: Path, expected: Mapping[str, str], after: int, seconds: float) -> Row:
    """One row: kill, resume, compare."""
    step = kill(folder, after, seconds)
    finish(folder)
    got = digests(folder)
    return {"after": after, "step": step} | {name: got[name] == expected[name] for name in expected}


def parse() -> argparse.Namespace:
    """The command line."""
    parser = arguments(BENCHMARK)
    parser.add_argument("--kills", type=int, default=KILLS, help=f"trainings to kill ({KILLS})")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--child", type=Path, default=None, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    """Kill and resume; 1 if a bit differs."""
    args = parse()
    if args.child:
        child(args.child)
        return 0
    results = record(BENCHMARK, args, kills=args.kills, seed=args.seed, recipe=json.dumps(RECIPE.to_json()))
    BUILD.mkdir(parents=True, exist_ok=True)
    chance = random.Random(args.seed)
    with tempfile.TemporaryDirectory(dir=BUILD) as root:
        whole = Path(root) / "whole"
        longest = max(finish(whole))
        for number in range(1, args.kills + 1):
            moment = chance.randint(1, 2 * STEPS), chance.random() * longest
            results.add(str(number), partial(measure, Path(root) / str(number), digests(whole), *moment))
    checks = [
        all_of("killed trainings whose weights are the same bits in the end", results.flags("weights"), args.kills),
        all_of(
            "killed trainings whose whole state and log are the same",
            [all(pair) for pair in zip(results.flags("state"), results.flags("log"), strict=True)],
            args.kills,
        ),
    ]
    return results.finish(checks)


if __name__ == "__main__":
    sys.exit(main())
