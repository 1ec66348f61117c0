"""MobileNetV2 for CIFAR (Sandler et al. 2018, arXiv 1801.04381): inverted residuals with linear bottlenecks.

Table 2 of the paper, but the stem and the stage of 24 channels keep the resolution, as is usual for 32x32 images.
"""

from typing import NamedTuple

from torch import Tensor, nn

from models.layers import conv_bn, initialize, scale


class Stage(NamedTuple):
    """A row of the paper's table 2.

    Attributes:
        expansion: hidden channels of a block over its input channels.
        channels: outputs of every block.
        blocks: how many.
        stride: of the first block; the others have 1.
    """

    expansion: int
    channels: int
    blocks: int
    stride: int


STEM, LAST = 32, 1280
STAGES = (
    Stage(1, 16, 1, 1),
    Stage(6, 24, 2, 1),
    Stage(6, 32, 3, 2),
    Stage(6, 64, 4, 2),
    Stage(6, 96, 3, 1),
    Stage(6, 160, 3, 2),
    Stage(6, 320, 1, 1),
)


def conv_bn_relu6(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A same-padded convolution without bias, its BatchNorm and ReLU6."""
    return nn.Sequential(*conv_bn(inputs, outputs, kernel, stride, groups), nn.ReLU6())


class InvertedResidual(nn.Module):
    """Expansion, depthwise 3x3, projection: `(B, inputs, H, W) -> (B, outputs, H/stride, W/stride)`.

    The input is added where it has the output's shape; a block that does not expand has no expansion layer.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int):
        super().__init__()
        hidden = expansion * inputs
        self.expand = conv_bn_relu6(inputs, hidden, 1) if expansion > 1 else nn.Identity()
        self.depthwise = conv_bn_relu6(hidden, hidden, 3, stride, groups=hidden)
        self.project = conv_bn(hidden, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """`(B, 3, 32, 32)` images to `(B, classes)` logits; `stem` channels, the stages, and `last` channels."""

    def __init__(self, stem: int, stages: tuple[Stage, ...], last: int, classes: int = 10):
        super().__init__()
        inputs, layers = stem, [conv_bn_relu6(3, stem, 3)]
        for stage in stages:
            for block in range(stage.blocks):
                stride = stage.stride if block == 0 else 1
                layers.append(InvertedResidual(inputs, stage.channels, stride, stage.expansion))
                inputs = stage.channels
        self.features = nn.Sequential(*layers, conv_bn_relu6(inputs, last, 1))
        self.head = nn.Linear(last, classes)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean((2, 3)))


def mobilenetv2(classes: int = 10, width: float = 1.0) -> MobileNetV2:
    """MobileNetV2, `width` times as wide: `(B, 3, 32, 32) -> (B, classes)`.

    2.24 M parameters, 88.0 M multiply-adds. The 2.30 M that are often quoted for CIFAR are not the paper's network:
    that one has 1x1 projections where blocks of stride 1 change the channels, and expands in the first block too.
    """
    stages = tuple(stage._replace(channels=scale(stage.channels, width)) for stage in STAGES)
    return MobileNetV2(scale(STEM, width), stages, scale(LAST, width), classes)
