"""Jobs killed at random moments and resumed against ones that were left alone: the final weights, bit for bit.

Every job runs in a process of its own: a narrow ResNet on synthetic images, with augmentation. It is trained with a
moving average and a hook that has a state; or slimmed, and made smaller in the middle; or pruned by ChipNet and
fine-tuned. It is killed by SIGKILL, which no program can prepare for, and resumed to the end.
"""

import argparse
import csv
import hashlib
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from benchmarks.common import BUILD, all_of, arguments, record
from benchmarks.record import Benchmark, Column, Record, Row
from models.resnet_cifar import ResNet
from onnxprune.torch.checkpoint import read
from onnxprune.torch.forecast import FixedEpoch
from onnxprune.torch.hooks import Hook
from onnxprune.torch.jobs import Place
from onnxprune.torch.loop import LAST, train
from onnxprune.torch.methods import Chips, chip
from onnxprune.torch.recipe import Recipe
from onnxprune.torch.run import Run
from onnxprune.torch.slim import Slimming, slim
from onnxprune.torch.task import Accuracy, Split

KILLS = 20
IMAGES = {"train": 512, "validation": 64, "test": 64}
RECIPE = Recipe(epochs=2, batch=32, lr=0.05, ema=0.9, clip=1.0, warmup=0.5, device="cpu")
SAVE_EVERY = 0.2
"""Seconds; so seldom that most kills fall between two checkpoints."""
FILES = ("mask.json", "pruned.onnx", "trained.onnx")
SAME = ("weights", "state", "log", "files")

BENCHMARK = Benchmark(
    name="resume",
    claim="Jobs killed by SIGKILL at a random moment and resumed: the same bits at the end",
    columns=(
        Column("kill", "name"),
        Column("killed after step", "after"),
        Column("of", "steps"),
        Column("weights identical", "weights"),
        Column("all state identical", "state"),
        Column("log identical", "log"),
        Column("masks and models identical", "files"),
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
        print("step", flush=True)  # tells whoever started this process
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


def training(folder: Path) -> None:
    """A training with a moving average, and a hook that has a state; with checkpoints within epochs."""
    torch.manual_seed(0)
    task = Task()
    network = task.model()
    run = train(task, network, RECIPE, [Sparsity(network)], folder=folder, resume=True, save_every=SAVE_EVERY)
    assert run.finished


def slimming(folder: Path) -> None:
    """Network slimming that prunes after the first epoch, and trains on."""
    how = Slimming({"macs": 0.6}, FixedEpoch(1), strength=1e-2)
    assert slim(Task(), RECIPE, how, Place(folder, resume=True)).finished


def chipping(folder: Path) -> None:
    """ChipNet, and its fine-tuning."""
    soft = replace(RECIPE, lr=1e-3, optimizer="adamw", schedule="constant", warmup=0.0)
    assert chip(Task(), soft, RECIPE, Chips("macs", 0.6), Place(folder, resume=True)).finished


JOBS: dict[str, Callable[[Path], None]] = {"training": training, "slim": slimming, "chipnet": chipping}


def start(job: str, folder: Path) -> subprocess.Popen[str]:
    """A child that does a job; it prints a line for every step."""
    command = [sys.executable, "-m", "benchmarks.resume", "--child", job, "--folder", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finish(job: str, folder: Path) -> list[float]:
    """Go on to the end; the seconds between steps."""
    with start(job, folder) as process:
        assert process.stdout is not None
        times = [time.perf_counter() for _ in process.stdout]
    if process.returncode:
        raise RuntimeError(f"the {job} ended with status {process.returncode}")
    return [b - a for a, b in pairwise(times)]


def kill(job: str, folder: Path, after: int, seconds: float) -> None:
    """Kill a job some seconds after a step."""
    with start(job, folder) as process:
        assert process.stdout is not None
        for _ in range(after):
            process.stdout.readline()
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)


def digests(folder: Path) -> dict[str, str]:
    """Of the final weights, of all else in checkpoints but the time it took, of logs likewise, of masks and models."""
    contents = {path.relative_to(folder).as_posix(): read(path) for path in sorted(folder.rglob(LAST))}
    for content in contents.values():
        content["position"].pop("seconds")
    weights = {name: content.pop("model") for name, content in contents.items()}
    logs = [list(csv.DictReader(path.open())) for path in sorted(folder.rglob("log.csv"))]
    rows = [{k: v for k, v in row.items() if k != "seconds"} for log in logs for row in log]
    files = {path.name: path.read_bytes() for name in FILES for path in sorted(folder.rglob(name))}
    return {"weights": digest(weights), "state": digest(contents), "log": digest(rows), "files": digest(files)}


def digest(value: Any) -> str:
    """A hash of tensors and plain data, to the last bit."""
    if isinstance(value, Tensor):
        value = (str(value.dtype), list(value.shape), value.contiguous().numpy().tobytes())
    elif isinstance(value, Mapping):
        value = [(key, digest(item)) for key, item in value.items()]
    elif isinstance(value, list | tuple):
        value = [digest(item) for item in value]
    return hashlib.sha256(repr(value).encode()).hexdigest()


def measure(job: str, folder: Path, expected: Mapping[str, str], steps: int, after: int, seconds: float) -> Row:
    """One row: kill, resume, compare."""
    kill(job, folder, after, seconds)
    finish(job, folder)
    got = digests(folder)
    return {"job": job, "after": after, "steps": steps} | {name: got[name] == expected[name] for name in expected}


def parse() -> argparse.Namespace:
    """The command line."""
    parser = arguments(BENCHMARK)
    parser.add_argument("--kills", type=int, default=KILLS, help=f"of every job ({KILLS})")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--child", choices=list(JOBS), default=None, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, default=None, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    """Kill and resume; 1 if a bit differs."""
    args = parse()
    if args.child:
        torch.set_num_threads(1)
        JOBS[args.child](args.folder)
        return 0
    results = record(BENCHMARK, args, kills=args.kills, seed=args.seed, recipe=json.dumps(RECIPE.to_json()))
    BUILD.mkdir(parents=True, exist_ok=True)
    for job in JOBS:
        with tempfile.TemporaryDirectory(dir=BUILD) as root:
            kills(results, job, Path(root), args)
    expected = args.kills * len(JOBS)
    same = [[row.get(name, False) for name in SAME] for row in results.rows.values()]
    return results.finish(
        [
            all_of("killed jobs whose weights are the same bits in the end", results.flags("weights"), expected),
            all_of("killed jobs whose whole state, log and files are the same", [all(s) for s in same], expected),
        ]
    )


def kills(results: Record, job: str, root: Path, args: argparse.Namespace) -> None:
    """The rows of a job; the moments are drawn alike whichever rows are there already."""
    chance, whole = random.Random(f"{job} {args.seed}"), root / "whole"
    if all(f"{job} {number}" in results.rows for number in range(1, args.kills + 1)):
        return
    between = finish(job, whole)
    steps, expected = len(between) + 1, digests(whole)
    for number in range(1, args.kills + 1):
        moment = chance.randint(1, steps), chance.random() * max(between)
        results.add(f"{job} {number}", partial(measure, job, root / str(number), expected, steps, *moment))


if __name__ == "__main__":
    sys.exit(main())
