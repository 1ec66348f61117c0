"""Train ResNet-20 on CIFAR-10 and ship it: `models/zoo/resnet20_cifar10.onnx` and its facts as JSON.

    python -m models.train_cifar10 --data FOLDER [--checkpoint FILE] [--epochs 32 18] [--lr 0.2 0.08]

Training runs in cycles (warm restarts), each a one-cycle schedule of its own. The checkpoint is written after
every epoch; the same command continues from it, and a longer list of cycles goes on from the last one. The
last epoch's weights are shipped (no selection on the test set), with a sample of the test images beside them.
"""

import argparse
import hashlib
import json
import os
import platform
import time
from pathlib import Path

import numpy as np
import torch

from models import cifar10
from models.export import export as export_onnx
from models.resnet_cifar import resnet20

ZOO = Path(__file__).parent / "zoo"
NAME = "resnet20_cifar10"
SAMPLE = 500


def parse() -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", type=Path, required=True, help="folder with train.npz and test.npz")
    p.add_argument("--checkpoint", type=Path, default=Path("build/resnet20.pt"))
    p.add_argument("--epochs", type=int, nargs="+", default=[32, 18], help="of each cycle")
    p.add_argument("--batch", type=int, default=128)
    p.add_argument("--lr", type=float, nargs="+", default=[0.2, 0.08], help="peak of each cycle's schedule")
    p.add_argument("--weight-decay", type=float, default=5e-4)
    p.add_argument("--seed", type=int, default=0)
    return p.parse_args()


@torch.no_grad()
def accuracy(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of `images` (uint8) that the model, in evaluation mode, labels rightly."""
    model.eval()
    hits = sum(
        int((model(cifar10.normalize(x)).argmax(1) == y).sum())
        for x, y in zip(images.split(500), labels.split(500), strict=True)
    )
    return hits / len(labels)


def train_epoch(model, optimizer, schedule, images, labels, batch, generator) -> float:
    """One pass in a shuffled order; the mean loss."""
    model.train()
    order = torch.randperm(len(images), generator=generator)
    order = order[: len(order) // batch * batch]
    total = 0.0
    for index in order.split(batch):
        x = cifar10.normalize(cifar10.augment(images[index], generator)).contiguous(memory_format=torch.channels_last)
        loss = torch.nn.functional.cross_entropy(model(x), labels[index])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        total += float(loss.detach()) * len(index)
    return total / len(order)


def save_checkpoint(path: Path, state: dict) -> None:
    """Write beside, then rename: a killed run leaves the last whole checkpoint."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path.with_suffix(".tmp"))
    os.replace(path.with_suffix(".tmp"), path)


def export(model: torch.nn.Module, facts: dict, images: torch.Tensor, labels: torch.Tensor) -> None:
    """The ONNX file (dynamic batch, BatchNorm kept apart), a test sample and the measured facts."""
    path = ZOO / f"{NAME}.onnx"
    contiguous = model.to(memory_format=torch.contiguous_format)
    export_onnx(contiguous, torch.zeros(1, 3, 32, 32), path, ["image"], ["logits"])
    np.savez_compressed(ZOO / "cifar10_sample.npz", image=images[:SAMPLE].numpy(), label=labels[:SAMPLE].numpy())
    facts |= {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size}
    (ZOO / f"{NAME}.json").write_text(json.dumps(facts, indent=1) + "\n")


def make_optimizer(model, weight_decay: float, lr: float, steps: int):
    """Nesterov SGD without decay on scales and biases, and its one-cycle schedule."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=lr, momentum=0.9, nesterov=True)
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(
        optimizer, lr, total_steps=steps, pct_start=0.25, div_factor=10
    )


def train(a: argparse.Namespace, images: torch.Tensor, labels: torch.Tensor):
    """All cycles, from the checkpoint on; the model and the history of its epochs."""
    torch.manual_seed(a.seed)
    generator = torch.Generator().manual_seed(a.seed)
    model = resnet20().to(memory_format=torch.channels_last)
    state = torch.load(a.checkpoint, weights_only=True) if a.checkpoint.exists() else None
    done, history = 0, []
    if state:
        model.load_state_dict(state["model"])
        generator.set_state(state["generator"])
        done, history = state["epoch"], state["history"]
    first = 0
    for epochs, lr in zip(a.epochs, a.lr, strict=True):
        optimizer, schedule = make_optimizer(model, a.weight_decay, lr, len(images) // a.batch * epochs)
        if state and first < done < first + epochs:
            optimizer.load_state_dict(state["optimizer"])
            schedule.load_state_dict(state["schedule"])
        for epoch in range(max(first, done), first + epochs):
            start = time.perf_counter()
            loss = train_epoch(model, optimizer, schedule, images, labels, a.batch, generator)
            seconds = round(time.perf_counter() - start, 1)
            history.append({"epoch": epoch + 1, "loss": round(loss, 4), "seconds": seconds})
            left = (sum(a.epochs) - epoch - 1) * seconds / 60
            print(f"epoch {epoch + 1}/{sum(a.epochs)} loss {loss:.4f}, {left:.0f} min left", flush=True)
            parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
            save_checkpoint(
                a.checkpoint,
                {name: part.state_dict() for name, part in parts.items()}
                | {"generator": generator.get_state(), "epoch": epoch + 1, "history": history},
            )
        first += epochs
    return model, history


def main() -> None:
    a = parse()
    model, history = train(a, *cifar10.load(a.data, "train"))
    test_images, test_labels = cifar10.load(a.data, "test")
    facts = {
        "model": NAME,
        "test_accuracy": accuracy(model, test_images, test_labels),
        "test_images": len(test_labels),
        "data": "CIFAR-10 re-encoded as JPEG (slightly lossy)",
        **{name: getattr(a, name) for name in ("seed", "epochs", "batch", "lr", "weight_decay")},
        "torch": torch.__version__,
        "machine": platform.machine(),
        "history": history,
    }
    export(model, facts, test_images, test_labels)
    print(f"test accuracy {facts['test_accuracy']:.4f}")


if __name__ == "__main__":
    main()
