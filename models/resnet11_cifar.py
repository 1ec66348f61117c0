"""A residual network for short CIFAR training, after airbench (Jordan 2024, arXiv 2404.00498).

A frozen 2x2 whitening convolution (from the data, see `whiten`), three stages of three 3x3 convolutions and a linear
layer. The sum at the end of a stage makes its first and its last convolution one coupled channel group.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_max_pool2d, silu

FILTERS = 24
"""Twelve principal components of the 2x2x3 patches, and their negatives."""
SCALE = 1 / 9
"""Of the logits, against too confident a start (airbench)."""


def conv3(inputs: int, outputs: int) -> nn.Conv2d:
    """A same-padded 3x3 convolution without bias; its first filters are the identity."""
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    nn.init.dirac_(conv.weight.data[: min(inputs, outputs)])
    return conv


class Stage(nn.Module):
    """Half the resolution, then a residual block: `(B, inputs, H, W) -> (B, outputs, H // 2, W // 2)`."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.down = nn.Sequential(conv3(inputs, outputs), nn.MaxPool2d(2), nn.BatchNorm2d(outputs))
        self.conv1 = nn.Sequential(conv3(outputs, outputs), nn.BatchNorm2d(outputs))
        self.conv2 = nn.Sequential(conv3(outputs, outputs), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        x = silu(self.down(x))
        return silu(x + self.conv2(silu(self.conv1(x))))


class WhitenedResNet(nn.Module):
    """Images `(B, 3, H, W)`, sides of 16 or more, to logits `(B, classes)`."""

    def __init__(self, widths: tuple[int, ...], classes: int = 10):
        super().__init__()
        self.whitening = nn.Conv2d(3, FILTERS, 2)
        self.whitening.weight.requires_grad_(False)
        pairs = zip((FILTERS, *widths), widths, strict=False)
        self.stages = nn.Sequential(*[Stage(inputs, outputs) for inputs, outputs in pairs])
        self.head = nn.Linear(widths[-1], classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stages(silu(self.whitening(x)))
        return self.head(adaptive_max_pool2d(y, 1).flatten(1)) * SCALE

    @torch.no_grad()
    def whiten(self, images: Tensor, epsilon: float = 5e-4) -> None:
        """Filters for images `(N, 3, H, W)`: their 2x2 patches' principal components at variance 1, then negated."""
        patches = images.unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 12)
        values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
        filters = (vectors / (values + epsilon).sqrt()).T.reshape(-1, 3, 2, 2).flip(0)
        self.whitening.weight.copy_(torch.cat((filters, -filters)))
        self.whitening.bias.zero_()


def resnet11(classes: int = 10) -> WhitenedResNet:
    """Eleven layers with weights: 1.43 M parameters, 77 M multiply-adds for a 32x32 image."""
    return WhitenedResNet((56, 144, 192), classes)
