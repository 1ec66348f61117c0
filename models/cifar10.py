"""CIFAR-10 from the JPEG archive `train.npz` / `test.npz`: `jpeg` bytes end to end, `offset`, `label`."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)


def load(folder: Path, split: str) -> tuple[Tensor, Tensor]:
    """Images `uint8 (N, 3, 32, 32)` and labels `int64 (N,)` of the split `train` or `test`."""
    with np.load(folder / f"{split}.npz", allow_pickle=False) as file:
        data, offset, label = file["jpeg"].tobytes(), file["offset"], file["label"]
    images = np.empty((len(label), 32, 32, 3), np.uint8)
    for k in range(len(label)):
        images[k] = np.asarray(Image.open(io.BytesIO(data[offset[k] : offset[k + 1]])).convert("RGB"))
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(label.astype(np.int64))


def normalize(images: Tensor) -> Tensor:
    """`uint8 (N, 3, H, W)` to the network's float32 input."""
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
    return (images.float() / 255 - mean) / std


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Random crop of the reflection-padded images (4 pixels) and a random flip, an image at a time."""
    n = len(images)
    padded = torch.nn.functional.pad(images.float(), (4, 4, 4, 4), mode="reflect").to(torch.uint8)
    top, left = (torch.randint(0, 9, (n, 1), generator=generator) for _ in range(2))
    flip = torch.rand(n, 1, generator=generator) < 0.5
    rows = top + torch.arange(32)
    columns = left + torch.where(flip, torch.arange(31, -1, -1), torch.arange(32))
    index = torch.arange(n).view(n, 1, 1)
    return padded.permute(0, 2, 3, 1)[index, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
