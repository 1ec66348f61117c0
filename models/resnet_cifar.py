"""CIFAR ResNets (He et al. 2016, arXiv 1512.03385, section 4.2): 6n+2 layers in three stages.

Shortcuts that change shape are 1x1 projections (option B of the paper), so every stage is one
coupled channel group. The paper's CIFAR networks have option A, without these 2,752 parameters.
"""

from torch import Tensor, nn

from models.layers import conv_bn, initialize, residual_stages

WIDTHS = (16, 32, 64)


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut: `(B, inputs, H, W) -> (B, outputs, H/stride, W/stride)`."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = conv_bn(inputs, outputs, 3, stride)
        self.conv2 = conv_bn(outputs, outputs, 3)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else conv_bn(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(nn.functional.relu(self.conv1(x)))
        return nn.functional.relu(y + self.shortcut(x))


class ResNet(nn.Module):
    """`(B, 3, 32, 32)` images to `(B, classes)` logits with `6 * blocks + 2` layers."""

    def __init__(self, blocks: int, classes: int = 10, widths: tuple[int, ...] = WIDTHS):
        super().__init__()
        self.stem = conv_bn(3, widths[0], 3)
        self.stages = residual_stages(Block, widths[0], widths, blocks)
        self.head = nn.Linear(widths[-1], classes)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stages(nn.functional.relu(self.stem(x)))
        return self.head(y.mean((2, 3)))


def resnet20() -> ResNet:
    """ResNet-20: 0.27 M parameters."""
    return ResNet(blocks=3)


def resnet56(classes: int = 10, widths: tuple[int, ...] = WIDTHS) -> ResNet:
    """ResNet-56: `(B, 3, 32, 32) -> (B, classes)`; 0.86 M parameters, 125.7 M multiply-adds (paper: 0.85 M)."""
    return ResNet(9, classes, widths)


def resnet110(classes: int = 10, widths: tuple[int, ...] = WIDTHS) -> ResNet:
    """ResNet-110: `(B, 3, 32, 32) -> (B, classes)`; 1.73 M parameters, 253.1 M multiply-adds (paper: 1.7 M)."""
    return ResNet(18, classes, widths)
