"""YOLOv3 (Redmon and Farhadi 2018, arXiv 1804.02767): Darknet-53 and three detection heads, 75 convolutions.

The layers are numbered as in Darknet's configuration file: 107 of them, shortcuts, routes, upsamplings and heads
included, so `layers.36` here is layer 36 there, and a route's absolute source is the one of the file.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

ANCHORS = 3
STAGES = ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4))
"""Darknet-53: channels and residual blocks of each stage."""

Stages = Sequence[tuple[int, int]]


class Convolutional(nn.Module):
    """Same-padded convolution, BatchNorm, LeakyReLU: `(B, inputs, H, W) -> (B, outputs, H/stride, W/stride)`."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.leaky_relu(self.bn(self.conv(x)), 0.1)


class Shortcut(nn.Module):
    """The sum of the last layer's output and that of the layer three back."""

    def forward(self, outputs: list[Tensor]) -> Tensor:
        return outputs[-1] + outputs[-3]


class Route(nn.Module):
    """The output of an earlier layer, or those of several, joined along the channels."""

    def __init__(self, *sources: int):
        super().__init__()
        self.sources = sources

    def forward(self, outputs: list[Tensor]) -> Tensor:
        chosen = [outputs[k] for k in self.sources]
        return torch.cat(chosen, 1) if len(chosen) > 1 else chosen[0]


class Detection(nn.Identity):
    """Marks a head: its input, three boxes of 4 coordinates, an objectness and the class scores, is an output."""


def scaled(stages: Stages, width: float) -> list[tuple[int, int]]:
    """The stages with `width` times the channels, rounded to multiples of 8."""
    return [(8 * max(1, round(channels * width / 8)), blocks) for channels, blocks in stages]


def backbone(stages: Stages) -> Iterator[nn.Module]:
    """Darknet-53's layers 0 to 74: `(B, 3, H, W) -> (B, 1024, H/32, W/32)`; every stage halves the resolution."""
    inputs = stages[0][0] // 2
    yield Convolutional(3, inputs, 3)
    for width, blocks in stages:
        yield Convolutional(inputs, width, 3, stride=2)
        for _ in range(blocks):
            yield Convolutional(width, width // 2, 1)
            yield Convolutional(width // 2, width, 3)
            yield Shortcut()
        inputs = width


def head(inputs: int, width: int, classes: int) -> Iterator[nn.Module]:
    """Eight layers, the last of them a head; the fifth is where the next, finer head branches off."""
    yield Convolutional(inputs, width, 1)
    for _ in range(2):
        yield Convolutional(width, 2 * width, 3)
        yield Convolutional(2 * width, width, 1)
    yield Convolutional(width, 2 * width, 3)
    yield nn.Conv2d(2 * width, ANCHORS * (5 + classes), 1)
    yield Detection()


def finer(inputs: int, shared: int) -> Iterator[nn.Module]:
    """Four layers that start a finer head: half the channels at twice the resolution, beside layer `shared`."""
    yield Route(-4)
    yield Convolutional(inputs, inputs // 2, 1)
    yield nn.Upsample(scale_factor=2, mode="nearest")
    yield Route(-1, shared)


class YOLOv3(nn.Module):
    """Images `(B, 3, H, W)`, sides multiples of 32, to the maps of the heads of strides s = 32, 16 and 8.

    Each is raw, before any sigmoid or anchor: `(B, 3 * (5 + classes), H/s, W/s)`.

    Args:
        classes: that the heads tell apart.
        width: times this many channels in the backbone and the heads.
        stages: channels (at width 1) and residual blocks of each stage, five unless the strides are to change;
            the heads read the last three.
    """

    def __init__(self, classes: int = 80, width: float = 1.0, stages: Stages = STAGES):
        super().__init__()
        stages = scaled(stages, width)
        (fine, _), (middle, _), (coarse, _) = stages[-3:]
        ends = list(accumulate(1 + 3 * blocks for _, blocks in stages))
        layers = [
            *backbone(stages),
            *head(coarse, coarse // 2, classes),
            *finer(coarse // 2, ends[-2]),
            *head(coarse // 4 + middle, middle // 2, classes),
            *finer(middle // 2, ends[-3]),
            *head(middle // 4 + fine, fine // 2, classes),
        ]
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        outputs: list[Tensor] = []
        for layer in self.layers:
            x = layer(outputs) if isinstance(layer, Shortcut | Route) else layer(x)
            outputs.append(x)
        return tuple(y for y, layer in zip(outputs, self.layers, strict=True) if isinstance(layer, Detection))


@torch.no_grad()
def randomize(model: nn.Module) -> None:
    """Random weights through which a signal stays alive, with BatchNorm statistics measured on random images."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, a=0.1)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.2)
            nn.init.normal_(module.bias, 0.0, 0.2)
    update_bn([torch.randn(2, 3, 96, 96) for _ in range(2)], model)


def yolov3(seed: int = 0) -> YOLOv3:
    """YOLOv3 for 80 classes, 61.9 M random parameters, in evaluation mode; equal for equal seeds."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = YOLOv3()
        randomize(model)
    return model.eval()
