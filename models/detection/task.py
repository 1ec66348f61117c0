"""A detection task that trains on a CPU in minutes: a small YOLOv3 finds coloured shapes.

onnxprune slim --task models.detection.task:ShapesDetection ...
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.detection.boxes import Heads
from models.detection.loss import Placing, by_offset, yolo_loss
from models.detection.mean_average_precision import MeanAveragePrecision
from models.detection.shapes import KINDS, Shapes
from models.yolov3 import YOLOv3

SIDE = 96
"""Height and width of the images, in pixels."""
CLASSES = len(KINDS)
STAGES = ((128, 1), (192, 1), (256, 1), (512, 2), (1024, 1))
"""Darknet-53's, with fewer blocks, and wider at first than an eighth of it: 4 channels are too few for edges."""
WIDTH = 1 / 8
HEADS = Heads(
    strides=(32, 16, 8),
    anchors=(((37, 37), (43, 43), (50, 50)), ((24, 24), (27, 27), (32, 32)), ((15, 15), (18, 18), (21, 21))),
)
"""The shapes turn, so their boxes are nearly square; sizes from the smallest to the largest in equal ratios."""
SPLITS = {
    "train": range(4_000),
    "validation": range(1_000_000, 1_000_500),
    "test": range(2_000_000, 2_001_000),
}
"""Numbers of images."""
PRIOR = 0.01
"""Objectness that an untrained network predicts."""


class ShapesDetection:
    """Finds circles, squares, triangles, crosses and rings; the network has 0.57 M parameters.

    Outputs are the raw maps of the three heads; targets are rows `class, x1, y1, x2, y2`, padded (see `Shapes`).

    Attributes:
        placing: the loss of the boxes' coordinates (see `loss`).
    """

    def __init__(self, placing: Placing = by_offset):
        self.placing = placing

    def model(self) -> YOLOv3:
        """A small YOLOv3, random but for the heads' biases."""
        model = YOLOv3(CLASSES, WIDTH, STAGES)
        doubt(model)
        return model

    def example(self) -> Tensor:
        """One image."""
        return torch.zeros(1, 3, SIDE, SIDE)

    def data(self, split: str) -> Shapes:
        """The images of `train`, `validation` or `test`."""
        return Shapes(SPLITS[split], SIDE)

    def loss(self, outputs: Sequence[Tensor], targets: Tensor) -> Tensor:
        """YOLOv3's loss of an image, averaged over the batch."""
        return yolo_loss(outputs, targets, HEADS, self.placing)

    def metric(self) -> MeanAveragePrecision:
        """mAP at an IoU of 0.5."""
        return MeanAveragePrecision(HEADS, CLASSES)


@torch.no_grad()
def doubt(model: YOLOv3) -> None:
    """Sets the biases of the objectness so that a new network sees next to nothing anywhere.

    Otherwise the many empty cells drown the few objects at first: Lin et al. 2017 (arXiv 1708.02002), section 4.1.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            module.bias[4 :: 5 + CLASSES] = math.log(PRIOR / (1 - PRIOR))
