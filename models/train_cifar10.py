"""Train ResNet-11 on CIFAR-10 and ship it: `models/zoo/resnet11_cifar10.onnx` and its facts as JSON.

    torchrun --nproc-per-node 2 -m models.train_cifar10 --data FOLDER [--checkpoint FILE] [--epochs 30] [--small 18]

The recipe is airbench's (Jordan 2024, arXiv 2404.00498): Nesterov SGD on a triangular schedule with Lookahead, label
smoothing, alternating flips; here with the first epochs at a low resolution. Several values of `--epochs` and `--lr`
are cycles (warm restarts). Under `torchrun` every process takes its part of each batch and one thread; without it,
`python -m` runs one process. The checkpoint is written after every epoch and the same command continues from it. The
last epoch's weights are shipped (no selection on the test set), with a sample of the test images beside them.
"""

import argparse
import hashlib
import json
import os
import platform
import time
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR

from models import cifar10
from models.export import export as export_onnx
from models.resnet11_cifar import WhitenedResNet, resnet11

ZOO = Path(__file__).parent / "zoo"
NAME = "resnet11_cifar10"
SAMPLE = 500
WHITENING_IMAGES = 5000
WHITENING_EPOCHS = 3
"""For how long the biases of the whitening convolution learn."""
BIAS_LR = 64
"""Learning rate of BatchNorm's biases over that of the rest."""


def parse() -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", type=Path, required=True, help="folder with train.npz and test.npz")
    p.add_argument("--checkpoint", type=Path, default=Path("build/resnet11.pt"))
    p.add_argument("--epochs", type=int, nargs="+", default=[30], help="of each cycle")
    p.add_argument("--small", type=int, default=18, help="epochs, the first ones, at the low resolution")
    p.add_argument("--side", type=int, default=24, help="the low resolution in pixels")
    p.add_argument("--batch", type=int, default=256)
    p.add_argument("--lr", type=float, nargs="+", default=[0.375], help="peak of each cycle's schedule")
    p.add_argument("--weight-decay", type=float, default=0.00133)
    p.add_argument("--smoothing", type=float, default=0.2, help="of the labels")
    p.add_argument("--shift", type=int, default=4, help="pixels by which a full-size image moves at most")
    p.add_argument("--seed", type=int, default=0)
    return p.parse_args()


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of `images` (uint8) that the model, in evaluation mode, labels rightly."""
    model.eval()
    hits = sum(
        int((model(cifar10.normalize(x)).argmax(1) == y).sum())
        for x, y in zip(images.split(500), labels.split(500), strict=True)
    )
    return hits / len(labels)


def processes() -> tuple[int, int]:
    """This process's rank and how many there are."""
    return (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)


@torch.no_grad()
def average(tensors: list[Tensor]) -> None:
    """Set the tensors to their mean over all processes."""
    _, count = processes()
    if count > 1:
        vector = torch.cat([t.flatten() for t in tensors])
        distributed.all_reduce(vector)
        for tensor, part in zip(tensors, (vector / count).split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(part.view(tensor.shape))


class Lookahead:
    """Slow weights that a model is pulled back to every few steps, the more so the later (Zhang et al. 2019)."""

    EVERY = 10
    DECAY = 0.95**5

    def __init__(self, model: nn.Module):
        self.model = model
        self.slow = {name: tensor.clone() for name, tensor in self.floats()}

    def floats(self) -> Iterator[tuple[str, Tensor]]:
        """Parameters and BatchNorm's statistics."""
        return ((n, t) for n, t in self.model.state_dict().items() if t.is_floating_point())

    @torch.no_grad()
    def step(self, progress: float) -> None:
        """Move the slow weights towards the model's, and set the model to them."""
        for name, tensor in self.floats():
            tensor.copy_(self.slow[name].lerp_(tensor, 1 - self.DECAY * progress**3))

    def settle(self) -> None:
        """Set the model to the slow weights."""
        for name, tensor in self.floats():
            tensor.copy_(self.slow[name])


def triangle(progress: float, start: float = 0.2, peak: float = 0.23, end: float = 0.07) -> float:
    """The learning rate over its peak: up from `start` until `peak` of the way, down to `end`."""
    if progress < peak:
        return start + (1 - start) * progress / peak
    return 1 + (end - 1) * (progress - peak) / (1 - peak)


def make_optimizer(model: nn.Module, weight_decay: float, lr: float, steps: int) -> tuple[SGD, LambdaLR]:
    """Nesterov SGD and its schedule; BatchNorm's biases learn fast, its scales decay not."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    scales, biases = [m.weight for m in norms], [m.bias for m in norms]
    apart = {id(p) for p in (*scales, *biases)}
    rest = [p for p in model.parameters() if id(p) not in apart]
    groups = [
        {"params": rest, "weight_decay": weight_decay},
        {"params": scales, "weight_decay": 0.0},
        {"params": biases, "lr": lr * BIAS_LR, "weight_decay": weight_decay / BIAS_LR},
    ]
    optimizer = SGD(groups, lr=lr, momentum=0.85, nesterov=True)
    return optimizer, LambdaLR(optimizer, lambda step: triangle(step / steps))


class Cycle:
    """One schedule from start to end: optimizer, learning rate and Lookahead."""

    def __init__(self, model: WhitenedResNet, a: argparse.Namespace, lr: float, steps: int):
        self.model, self.steps, self.smoothing = model, steps, a.smoothing
        self.optimizer, self.schedule = make_optimizer(model, a.weight_decay, lr, steps)
        self.lookahead = Lookahead(model)

    def step(self, x: Tensor, y: Tensor) -> float:
        """Learn from a batch; its loss."""
        x = cifar10.normalize(x).contiguous(memory_format=torch.channels_last)
        loss = nn.functional.cross_entropy(self.model(x), y, label_smoothing=self.smoothing)
        self.optimizer.zero_grad()
        loss.backward()
        average([p.grad for p in self.model.parameters() if p.grad is not None])
        self.optimizer.step()
        self.schedule.step()
        if self.schedule.last_epoch % Lookahead.EVERY == 0:
            average([b for b in self.model.buffers() if b.is_floating_point()])
            self.lookahead.step(self.schedule.last_epoch / self.steps)
        return float(loss.detach())

    def state_dict(self) -> dict[str, Any]:
        """All that a continuation needs, besides the model."""
        parts = {"optimizer": self.optimizer.state_dict(), "schedule": self.schedule.state_dict()}
        return parts | {"slow": self.lookahead.slow}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.lookahead.slow = state["slow"]


class Images:
    """The training images, in batches, at a resolution that grows with the epochs."""

    def __init__(self, images: Tensor, labels: Tensor, a: argparse.Namespace):
        self.labels, self.batch, self.small = labels, a.batch, a.small
        self.full, self.low = (images, a.shift), (cifar10.resize(images, a.side), a.shift * a.side // images.shape[-1])
        self.generator = torch.Generator().manual_seed(a.seed)
        self.parity = torch.randint(0, 2, (len(labels),), generator=self.generator)

    @property
    def steps(self) -> int:
        """Whole batches in an epoch."""
        return len(self.labels) // self.batch

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Shuffled batches, this process's part of each; an image is mirrored in every other epoch."""
        images, shift = self.low if number < self.small else self.full
        order = torch.randperm(len(self.labels), generator=self.generator)
        rank, count = processes()
        for batch in order[: self.steps * self.batch].split(self.batch):
            index = batch[rank::count]
            flip = (self.parity[index] + number) % 2 == 0
            yield cifar10.augment(images[index], shift, flip, self.generator), self.labels[index]


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write beside, then rename: a killed run leaves the last whole checkpoint."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path.with_suffix(".tmp"))
    os.replace(path.with_suffix(".tmp"), path)


def new_model(images: Tensor, seed: int) -> WhitenedResNet:
    """The network before training, whitened; its BatchNorm statistics follow fast."""
    torch.manual_seed(seed)
    model = resnet11()
    model.whiten(cifar10.normalize(images[:WHITENING_IMAGES]))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.2
    return model.to(memory_format=torch.channels_last)


def train_epoch(cycle: Cycle, data: Images, number: int) -> float:
    """One pass; the mean loss."""
    cycle.model.train()
    cycle.model.whitening.bias.requires_grad_(number < WHITENING_EPOCHS)
    losses = [cycle.step(x, y) for x, y in data.epoch(number)]
    return sum(losses) / len(losses)


def train(a: argparse.Namespace, images: Tensor, labels: Tensor) -> tuple[WhitenedResNet, list[dict[str, Any]]]:
    """All cycles, from the checkpoint on; the model and the history of its epochs."""
    model, data, history = new_model(images, a.seed), Images(images, labels, a), []
    state = torch.load(a.checkpoint, weights_only=True) if a.checkpoint.exists() else None
    if state:
        model.load_state_dict(state["model"])
        data.generator.set_state(state["generator"])
        history = state["history"]
    for end, epochs, lr in zip(accumulate(a.epochs), a.epochs, a.lr, strict=True):
        cycle, done = Cycle(model, a, lr, data.steps * epochs), len(history)
        if state and end - epochs < done < end:
            cycle.load_state_dict(state["cycle"])
        for number in range(max(end - epochs, done), end):
            start = time.perf_counter()
            loss = train_epoch(cycle, data, number)
            if number + 1 == end:
                cycle.lookahead.settle()
            seconds = round(time.perf_counter() - start, 1)
            history.append({"epoch": number + 1, "loss": round(loss, 4), "seconds": seconds})
            if processes()[0] > 0:
                continue
            print(f"epoch {number + 1}/{sum(a.epochs)} loss {loss:.4f}, {seconds:.0f} s", flush=True)
            parts = {"model": model.state_dict(), "cycle": cycle.state_dict(), "generator": data.generator.get_state()}
            save_checkpoint(a.checkpoint, parts | {"history": history})
    return model, history


def export(model: nn.Module, facts: dict[str, Any], images: Tensor, labels: Tensor) -> None:
    """The ONNX file (dynamic batch, BatchNorm kept apart), a test sample and the measured facts."""
    path = ZOO / f"{NAME}.onnx"
    contiguous = model.to(memory_format=torch.contiguous_format)
    export_onnx(contiguous, torch.zeros(1, 3, 32, 32), path, ["image"], ["logits"])
    np.savez_compressed(ZOO / "cifar10_sample.npz", image=images[:SAMPLE].numpy(), label=labels[:SAMPLE].numpy())
    facts |= {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size}
    (ZOO / f"{NAME}.json").write_text(json.dumps(facts, indent=1) + "\n")


def main() -> None:
    a = parse()
    if "WORLD_SIZE" in os.environ:
        distributed.init_process_group("gloo")
        torch.set_num_threads(1)
    model, history = train(a, *cifar10.load(a.data, "train"))
    rank, count = processes()
    if rank > 0:
        return
    test_images, test_labels = cifar10.load(a.data, "test")
    options = {name: value for name, value in vars(a).items() if name not in ("data", "checkpoint")}
    facts = {
        "model": NAME,
        "test_accuracy": accuracy(model, test_images, test_labels),
        "test_images": len(test_labels),
        "data": "CIFAR-10 re-encoded as JPEG (lossy: quality 75, 4:2:0 chroma)",
        **options,
        "processes": count,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "history": history,
    }
    export(model, facts, test_images, test_labels)
    print(f"test accuracy {facts['test_accuracy']:.4f}")


if __name__ == "__main__":
    main()
