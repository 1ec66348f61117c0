"""Parts that several architectures here are made of: `(B, inputs, H, W) -> (B, outputs, H/stride, W/stride)`."""

from collections.abc import Callable, Sequence

from torch import nn


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A same-padded convolution without bias."""
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False)


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A same-padded convolution without bias, and its BatchNorm."""
    return nn.Sequential(conv(inputs, outputs, kernel, stride, groups), nn.BatchNorm2d(outputs))


def conv_bn_relu(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    """A same-padded convolution without bias, its BatchNorm and ReLU."""
    return nn.Sequential(*conv_bn(inputs, outputs, kernel), nn.ReLU())


def bn_relu_conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """BatchNorm and ReLU of the input, then a convolution: pre-activation (He et al. 2016, arXiv 1603.05027)."""
    return nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(), conv(inputs, outputs, kernel, stride))


def residual_stages(
    block: Callable[[int, int, int], nn.Module], inputs: int, widths: Sequence[int], blocks: int
) -> nn.Sequential:
    """Stages of `blocks` blocks, one stage a width; each but the first halves the resolution, in its first block.

    Args:
        block: makes a block of its input channels, output channels and stride.
    """
    stages = []
    for stage, outputs in enumerate(widths):
        first = block(inputs, outputs, 1 if stage == 0 else 2)
        stages.append(nn.Sequential(first, *[block(outputs, outputs, 1) for _ in range(1, blocks)]))
        inputs = outputs
    return nn.Sequential(*stages)


def scale(channels: int, width: float) -> int:
    """`width` times as many channels, at least one."""
    return max(1, round(channels * width))


def initialize(model: nn.Module) -> None:
    """Draw the weights of all convolutions as He et al. 2015 do (arXiv 1502.01852), after their outputs' number."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
