"""GoogLeNet for CIFAR, with BatchNorm (Szegedy et al. 2015, arXiv 1409.4842), as ABCPruner prunes it (2001.08565).

The stem is one 3x3 convolution at full resolution, the 5x5 branch is two 3x3 convolutions (Szegedy et al. 2016,
arXiv 1512.00567), and there are no auxiliary classifiers.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.layers import conv_bn_relu, initialize, scale


class Widths(NamedTuple):
    """Output channels of an inception module's convolutions.

    Attributes:
        one: of the 1x1 branch.
        reduce3, three: of the 3x3 branch.
        reduce5, five: of the 5x5 branch.
        pool: of the projection behind the pooling.
    """

    one: int
    reduce3: int
    three: int
    reduce5: int
    five: int
    pool: int

    @property
    def outputs(self) -> int:
        """Channels of all branches."""
        return self.one + self.three + self.five + self.pool


STEM = 192
STAGES = (
    (Widths(64, 96, 128, 16, 32, 32), Widths(128, 128, 192, 32, 96, 64)),
    (
        Widths(192, 96, 208, 16, 48, 64),
        Widths(160, 112, 224, 24, 64, 64),
        Widths(128, 128, 256, 24, 64, 64),
        Widths(112, 144, 288, 32, 64, 64),
        Widths(256, 160, 320, 32, 128, 128),
    ),
    (Widths(256, 160, 320, 32, 128, 128), Widths(384, 192, 384, 48, 128, 128)),
)
"""Inception 3a to 5b (table 1 of the paper); between the stages the resolution is halved."""

Stages = tuple[tuple[Widths, ...], ...]


class Inception(nn.Module):
    """Four branches, joined along the channels: `(B, inputs, H, W) -> (B, widths.outputs, H, W)`."""

    def __init__(self, inputs: int, widths: Widths):
        super().__init__()
        self.branch1 = conv_bn_relu(inputs, widths.one, 1)
        self.branch3 = nn.Sequential(
            conv_bn_relu(inputs, widths.reduce3, 1), conv_bn_relu(widths.reduce3, widths.three, 3)
        )
        self.branch5 = nn.Sequential(
            conv_bn_relu(inputs, widths.reduce5, 1),
            conv_bn_relu(widths.reduce5, widths.five, 3),
            conv_bn_relu(widths.five, widths.five, 3),
        )
        self.pool = nn.Sequential(nn.MaxPool2d(3, 1, padding=1), conv_bn_relu(inputs, widths.pool, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.branch1(x), self.branch3(x), self.branch5(x), self.pool(x)), 1)


def inceptions(inputs: int, stages: Stages) -> Iterator[nn.Module]:
    """The modules of all stages, with poolings between these."""
    for number, stage in enumerate(stages):
        if number > 0:
            yield nn.MaxPool2d(3, 2, padding=1)
        for widths in stage:
            yield Inception(inputs, widths)
            inputs = widths.outputs


class GoogLeNet(nn.Module):
    """`(B, 3, 32, 32)` images to `(B, classes)` logits; `stem` channels, then the stages' inception modules."""

    def __init__(self, stem: int, stages: Stages, classes: int = 10):
        super().__init__()
        self.features = nn.Sequential(conv_bn_relu(3, stem, 3), *inceptions(stem, stages))
        self.head = nn.Linear(stages[-1][-1].outputs, classes)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean((2, 3)))


def googlenet(classes: int = 10, width: float = 1.0) -> GoogLeNet:
    """GoogLeNet, `width` times as wide: `(B, 3, 32, 32) -> (B, classes)`.

    6.16 M parameters, 1521.8 M multiply-adds.
    """
    stages = tuple(tuple(Widths(*[scale(n, width) for n in widths]) for widths in stage) for stage in STAGES)
    return GoogLeNet(scale(STEM, width), stages, classes)
