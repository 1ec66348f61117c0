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


def resize(images: Tensor, side: int) -> Tensor:
    """`uint8` images at another resolution, averaged where pixels merge."""
    parts = [
        torch.nn.functional.interpolate(part.float(), (side, side), mode="bilinear", antialias=True)
        for part in images.split(1000)
    ]
    return torch.cat([part.round().clamp(0, 255).to(torch.uint8) for part in parts])


def augment(images: Tensor, shift: int, flip: Tensor, generator: torch.Generator) -> Tensor:
    """Random crops of the images, reflected beyond their edges by `shift` pixels, mirrored where `flip (N,)` says."""
    n, side = len(images), images.shape[-1]
    padded = torch.nn.functional.pad(images.float(), (shift,) * 4, mode="reflect").to(torch.uint8)
    top, left = (torch.randint(0, 2 * shift + 1, (n, 1), generator=generator) for _ in range(2))
    forth = torch.arange(side)
    rows, columns = top + forth, left + torch.where(flip[:, None], forth.flip(0), forth)
    index = torch.arange(n).view(n, 1, 1)
    return padded.permute(0, 2, 3, 1)[index, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
