"""Train ResNet-20 on CIFAR-10 and ship it: `models/zoo/resnet20_cifar10.onnx` and its facts as JSON.

    python -m models.train_cifar10 --data FOLDER [--epochs 32] [--checkpoint FILE]

The checkpoint is written after every epoch; the same command continues from it. The last epoch's
weights are shipped (no selection on the test set), with a sample of the test images beside them.
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
from models.resnet_cifar import resnet20

ZOO = Path(__file__).parent / "zoo"
NAME = "resnet20_cifar10"
SAMPLE = 500


def parse() -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", type=Path, required=True, help="folder with train.npz and test.npz")
    p.add_argument("--checkpoint", type=Path, default=Path("build/resnet20.pt"))
    p.add_argument("--epochs", type=int, default=32)
    p.add_argument("--batch", type=int, default=128)
    p.add_argument("--lr", type=float, default=0.2, help="peak of the one-cycle schedule")
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
    torch.onnx.export(
        model.to(memory_format=torch.contiguous_format).eval(),
        (torch.zeros(1, 3, 32, 32),),
        path,
        opset_version=17,
        dynamo=False,
        input_names=["image"],
        output_names=["logits"],
        dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
        training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False,
    )
    np.savez_compressed(ZOO / "cifar10_sample.npz", image=images[:SAMPLE].numpy(), label=labels[:SAMPLE].numpy())
    facts |= {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size}
    (ZOO / f"{NAME}.json").write_text(json.dumps(facts, indent=1) + "\n")


def main() -> None:
    a = parse()
    torch.manual_seed(a.seed)
    generator = torch.Generator().manual_seed(a.seed)
    model = resnet20().to(memory_format=torch.channels_last)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": a.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=a.lr, momentum=0.9, nesterov=True)
    images, labels = cifar10.load(a.data, "train")
    test_images, test_labels = cifar10.load(a.data, "test")
    steps = len(images) // a.batch * a.epochs
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, a.lr, total_steps=steps, pct_start=0.25, div_factor=10)
    first, history = 0, []
    if a.checkpoint.exists():
        state = torch.load(a.checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        generator.set_state(state["generator"])
        first, history = state["epoch"], state["history"]
    for epoch in range(first, a.epochs):
        start = time.perf_counter()
        loss = train_epoch(model, optimizer, schedule, images, labels, a.batch, generator)
        history.append({"epoch": epoch + 1, "loss": round(loss, 4), "seconds": round(time.perf_counter() - start, 1)})
        left = (a.epochs - epoch - 1) * history[-1]["seconds"] / 60
        print(f"epoch {epoch + 1}/{a.epochs} loss {loss:.4f}, {left:.0f} min left", flush=True)
        save_checkpoint(
            a.checkpoint,
            {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
                "generator": generator.get_state(),
                "epoch": epoch + 1,
                "history": history,
            },
        )
    facts = {
        "model": NAME,
        "test_accuracy": accuracy(model, test_images, test_labels),
        "test_images": len(test_labels),
        "data": "CIFAR-10 re-encoded as JPEG (slightly lossy)",
        "seed": a.seed,
        "epochs": a.epochs,
        "batch": a.batch,
        "lr": a.lr,
        "weight_decay": a.weight_decay,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "history": history,
    }
    export(model, facts, test_images, test_labels)
    print(f"test accuracy {facts['test_accuracy']:.4f}")


if __name__ == "__main__":
    main()
