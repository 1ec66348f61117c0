"""The task that needs no data of one's own, for a first try: handwritten digits and a small residual network."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from onnxprune.torch.data.digits import CLASSES, digits
from onnxprune.torch.data.images import Images
from onnxprune.torch.task import Accuracy, Split

SIDE = 16
WIDTHS = (16, 32)


class Block(nn.Module):
    """`(B, C, H, W)` to the same: two 3x3 convolutions beside a shortcut."""

    def __init__(self, width: int):
        super().__init__()
        self.conv1, self.bn1 = _conv(width, width), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _conv(width, width), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(x + self.bn2(self.conv2(y)))


class DigitsNet(nn.Sequential):
    """Images `(B, 1, H, W)` to logits `(B, 10)`: 28,410 parameters."""

    def __init__(self) -> None:
        narrow, wide = WIDTHS
        super().__init__(
            _conv(1, narrow),
            nn.BatchNorm2d(narrow),
            nn.ReLU(),
            Block(narrow),
            _conv(narrow, wide, stride=2),
            nn.BatchNorm2d(wide),
            nn.ReLU(),
            Block(wide),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(wide, CLASSES),
        )


class Digits:
    """A `Task`: the 8x8 digits at 16x16, see `onnxprune.torch.data.digits`."""

    def __init__(self) -> None:
        self._splits = digits(SIDE, channels=1)

    def model(self) -> nn.Module:
        """A fresh network."""
        return DigitsNet()

    def example(self) -> Tensor:
        """Two images."""
        return torch.zeros(2, 1, SIDE, SIDE)

    def data(self, split: Split) -> Images:
        """1,295, 143 and 359 images."""
        return self._splits.data(split)

    def loss(self, outputs: Any, targets: Any) -> Tensor:
        """Cross entropy."""
        return functional.cross_entropy(outputs, targets)

    def metric(self) -> Accuracy:
        """Top-1 accuracy."""
        return Accuracy()


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
