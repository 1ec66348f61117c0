"""DenseNets for CIFAR (Huang et al. 2017, arXiv 1608.06993): three blocks, no bottlenecks, no compression.

Every layer reads the outputs of all layers before it in its block, so a group's channels lie at many places of many
concatenations.
"""

import torch
from torch import Tensor, nn

from models.layers import bn_relu_conv, conv, initialize

BLOCKS = 3


class DenseLayer(nn.Module):
    """`growth` more channels, behind the input's: `(B, inputs, H, W) -> (B, inputs + growth, H, W)`."""

    def __init__(self, inputs: int, growth: int):
        super().__init__()
        self.body = bn_relu_conv(inputs, growth, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x, self.body(x)), 1)


def transition(channels: int) -> nn.Sequential:
    """As many channels at half the resolution: `(B, channels, H, W) -> (B, channels, H/2, W/2)`."""
    return nn.Sequential(*bn_relu_conv(channels, channels, 1), nn.AvgPool2d(2))


class DenseNet(nn.Module):
    """`(B, 3, 32, 32)` images to `(B, classes)` logits with `3 * layers + 4` layers."""

    def __init__(self, layers: int, growth: int, stem: int, classes: int = 10):
        super().__init__()
        self.stem = conv(3, stem, 3)
        channels, parts = stem, []
        for block in range(BLOCKS):
            parts += [transition(channels)] if block > 0 else []
            parts.append(nn.Sequential(*[DenseLayer(channels + k * growth, growth) for k in range(layers)]))
            channels += layers * growth
        self.features = nn.Sequential(*parts, nn.BatchNorm2d(channels), nn.ReLU())
        self.head = nn.Linear(channels, classes)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(self.stem(x)).mean((2, 3)))


def densenet40(classes: int = 10, growth: int = 12, stem: int = 24) -> DenseNet:
    """DenseNet-40: `(B, 3, 32, 32) -> (B, classes)`; 1.06 M parameters, 282.9 M multiply-adds.

    The stem's 24 channels, twice the growth, are what later prunings start from. In the paper, and in network
    slimming's tables, they are 16: `densenet40(stem=16)`, 1.02 M parameters, 264.8 M multiply-adds.
    """
    return DenseNet(12, growth, stem, classes)
