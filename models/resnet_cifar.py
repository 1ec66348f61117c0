"""CIFAR ResNets (He et al. 2016, arXiv 1512.03385, section 4.2): 6n+2 layers in three stages.

Shortcuts that change shape are 1x1 projections (option B of the paper), so every stage is one
coupled channel group.
"""

from torch import Tensor, nn


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """A same-padded convolution without bias, and its BatchNorm."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


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

    def __init__(self, blocks: int, classes: int = 10, widths: tuple[int, ...] = (16, 32, 64)):
        super().__init__()
        self.stem = conv_bn(3, widths[0], 3)
        inputs, stages = widths[0], []
        for stage, outputs in enumerate(widths):
            first = 1 if stage == 0 else 2
            layers = [Block(inputs if b == 0 else outputs, outputs, first if b == 0 else 1) for b in range(blocks)]
            stages.append(nn.Sequential(*layers))
            inputs = outputs
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        y = self.stages(nn.functional.relu(self.stem(x)))
        return self.head(y.mean((2, 3)))


def resnet20() -> ResNet:
    """ResNet-20: 0.27 M parameters."""
    return ResNet(blocks=3)
