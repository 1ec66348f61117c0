"""Wide residual networks for CIFAR (Zagoruyko and Komodakis 2016, arXiv 1605.07146).

WRN-d-k has three stages of n blocks, k times as wide as a ResNet's. The paper counts d = 6n + 4 convolutions: the
stem, two in each of the 3n blocks, and the three projections. ResNet's count, 6n + 2, is of the stem, the blocks'
convolutions and the linear layer, without projections. 26 is no 6n + 4; with n = 4 it is 6n + 2, so the WRN-26-12 of
ChipNet (arXiv 2102.07156) is n = 4, k = 12: what its inventors call WRN-28-12.
"""

from torch import Tensor, nn

from models.layers import conv, initialize, residual_stages


class Block(nn.Module):
    """Two pre-activated 3x3 convolutions and a shortcut: `(B, inputs, H, W) -> (B, outputs, H/stride, W/stride)`.

    A shortcut that changes shape projects what the first convolution reads, the normalised input.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, dropout: float):
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(inputs), conv(inputs, outputs, 3, stride)
        self.norm2, self.conv2 = nn.BatchNorm2d(outputs), conv(outputs, outputs, 3)
        self.dropout = nn.Dropout(dropout)
        same = stride == 1 and inputs == outputs
        self.projection = None if same else conv(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        active = nn.functional.relu(self.norm1(x))
        y = nn.functional.relu(self.norm2(self.conv1(active)))
        return self.conv2(self.dropout(y)) + (self.projection(active) if self.projection else x)


class WideResNet(nn.Module):
    """`(B, 3, 32, 32)` images to `(B, classes)` logits; `stem` channels, then three stages of `blocks` blocks."""

    def __init__(self, blocks: int, widths: tuple[int, ...], classes: int = 10, stem: int = 16, dropout: float = 0.0):
        super().__init__()
        self.stem = conv(3, stem, 3)
        self.stages = residual_stages(lambda *shape: Block(*shape, dropout), stem, widths, blocks)
        self.norm = nn.BatchNorm2d(widths[-1])
        self.head = nn.Linear(widths[-1], classes)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.relu(self.norm(self.stages(self.stem(x))))
        return self.head(y.mean((2, 3)))


def wrn(blocks: int, widening: int, classes: int = 10, dropout: float = 0.0) -> WideResNet:
    """The paper's WRN-d-k, d = `6 * blocks + 4` and k = `widening`: `(B, 3, 32, 32) -> (B, classes)`."""
    return WideResNet(blocks, (16 * widening, 32 * widening, 64 * widening), classes, dropout=dropout)


def wrn26_12(classes: int = 10, dropout: float = 0.0) -> WideResNet:
    """ChipNet's WRN-26-12, the paper's WRN-28-12: `(B, 3, 32, 32) -> (B, classes)`.

    52.52 M parameters, 7543.9 M multiply-adds (paper: 52.5 M parameters).
    """
    return wrn(4, 12, classes, dropout)
