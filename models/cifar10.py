"""CIFAR-10 as the networks here are trained on it; the files are read by `onnxprune.torch.data`."""

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from onnxprune.torch.data import images as shared
from onnxprune.torch.data.cifar import CIFAR10, read_part
from onnxprune.torch.data.images import resize

__all__ = ["augment", "load", "normalize", "resize"]


def load(folder: Path, split: Literal["train", "test"]) -> tuple[Tensor, Tensor]:
    """Images `uint8 (N, 3, 32, 32)` and labels `int64 (N,)`, from any format that `cifar` reads."""
    return read_part(folder, split)


def normalize(images: Tensor) -> Tensor:
    """`uint8 (N, 3, H, W)` to the network's float32 input."""
    return shared.normalize(images, CIFAR10)


def augment(images: Tensor, shift: int, flip: Tensor, generator: torch.Generator) -> Tensor:
    """Random crops of the images, reflected beyond their edges by `shift` pixels, mirrored where `flip (N,)` says."""
    return shared.moved(images, shift, flip, generator, mode="reflect")
