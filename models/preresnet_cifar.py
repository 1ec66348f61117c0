"""Pre-activation ResNets of bottlenecks for CIFAR (He et al. 2016, arXiv 1603.05027): 9n+2 layers in three stages.

As in network slimming (Liu et al. 2017, arXiv 1708.06519) and ChipNet (arXiv 2102.07156): the first block normalises
like all others, and a shortcut that changes shape is a 1x1 convolution of the block's raw input. The stream of a
stage is never normalised itself, only what is read from it: many BatchNorms bear one channel group.
"""

from torch import Tensor, nn

from models.layers import bn_relu_conv, conv, initialize, residual_stages

EXPANSION = 4
"""Channels of the stream over those inside of a block."""
WIDTHS = (16, 32, 64)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut: `(B, inputs, H, W) -> (B, outputs, H/stride, W/stride)`."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        width = outputs // EXPANSION
        self.conv1 = bn_relu_conv(inputs, width, 1)
        self.conv2 = bn_relu_conv(width, width, 3, stride)
        self.conv3 = bn_relu_conv(width, outputs, 1)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else conv(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(self.conv2(self.conv1(x))) + self.shortcut(x)


class PreResNet(nn.Module):
    """`(B, 3, 32, 32)` images to `(B, classes)` logits with `9 * blocks + 2` layers; `widths` are the inner ones."""

    def __init__(self, blocks: int, classes: int = 10, widths: tuple[int, ...] = WIDTHS):
        super().__init__()
        outer = [EXPANSION * width for width in widths]
        self.stem = conv(3, widths[0], 3)
        self.stages = residual_stages(Bottleneck, widths[0], outer, blocks)
        self.norm = nn.BatchNorm2d(outer[-1])
        self.head = nn.Linear(outer[-1], classes)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.relu(self.norm(self.stages(self.stem(x))))
        return self.head(y.mean((2, 3)))


def preresnet164(classes: int = 10, widths: tuple[int, ...] = WIDTHS) -> PreResNet:
    """PreResNet-164: `(B, 3, 32, 32) -> (B, classes)`; 1.70 M parameters, 247.6 M multiply-adds."""
    return PreResNet(18, classes, widths)
