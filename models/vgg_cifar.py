"""VGG for CIFAR, with BatchNorm (Simonyan and Zisserman 2015, arXiv 1409.1556, configurations D and E).

As in network slimming (Liu et al. 2017, arXiv 1708.06519): no fifth max-pooling, and one linear layer in place of
three, so the depth in the names counts two layers that are not there.
"""

from torch import Tensor, nn

from models.layers import conv_bn_relu, initialize, scale

VGG16 = ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3)
VGG19 = ((64,) * 2, (128,) * 2, (256,) * 4, (512,) * 4, (512,) * 4)
"""Channels of the 3x3 convolutions; between the stages the resolution is halved."""

Stages = tuple[tuple[int, ...], ...]


class VGG(nn.Module):
    """`(B, 3, 32, 32)` images to `(B, classes)` logits, by five stages of convolutions."""

    def __init__(self, stages: Stages, classes: int = 10):
        super().__init__()
        inputs, layers = 3, []
        for widths in stages:
            layers += [nn.MaxPool2d(2)] if layers else []
            for outputs in widths:
                layers.append(conv_bn_relu(inputs, outputs, 3))
                inputs = outputs
        self.features = nn.Sequential(*layers, nn.AvgPool2d(2))
        self.head = nn.Linear(inputs, classes)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).flatten(1))


def vgg(stages: Stages, classes: int, width: float) -> VGG:
    """A VGG of `width` times the channels."""
    return VGG(tuple(tuple(scale(channels, width) for channels in widths) for widths in stages), classes)


def vgg16_bn(classes: int = 10, width: float = 1.0) -> VGG:
    """VGG-16 with BatchNorm, 13 convolutions, `width` times as wide: `(B, 3, 32, 32) -> (B, classes)`.

    14.72 M parameters, 313.2 M multiply-adds.
    """
    return vgg(VGG16, classes, width)


def vgg19_bn(classes: int = 10, width: float = 1.0) -> VGG:
    """VGG-19 with BatchNorm, 16 convolutions, `width` times as wide: `(B, 3, 32, 32) -> (B, classes)`.

    20.04 M parameters, 398.1 M multiply-adds.
    """
    return vgg(VGG19, classes, width)
