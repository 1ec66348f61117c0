"""Boxes, in pixels: overlap, the boxes that YOLOv3's maps stand for, and non-maximum suppression.

A box is `(..., 4)`, its corners `x1, y1, x2, y2`. Torch alone is used: compiled operators for boxes are an extra
that not every installation has.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Size = tuple[float, float]
LARGEST = 4.0
"""Largest exponent of a size: a box of 55 times its anchor; beyond, an untrained network's boxes would overflow."""


@dataclass(frozen=True)
class Heads:
    """The geometry of a network's heads, in the order of its outputs."""

    strides: tuple[int, ...]
    """Pixels per cell."""
    anchors: tuple[tuple[Size, ...], ...]
    """Width and height in pixels of each head's anchors, the same number for every head."""


@dataclass(frozen=True)
class Slots:
    """Where the N predictions for an image are made, ordered by head, anchor, row and column."""

    cell: Tensor
    """Column and row of the cell, `(N, 2)`."""
    anchor: Tensor
    """Width and height in pixels, `(N, 2)`."""
    stride: Tensor
    """Pixels per cell, `(N, 1)`."""

    def at(self, index: Tensor) -> "Slots":
        """Those of the numbers `(K,)`."""
        return Slots(self.cell[index], self.anchor[index], self.stride[index])


@dataclass(frozen=True)
class Detections:
    """The best detections in each image, best first; a score of 0 marks those that were suppressed."""

    boxes: Tensor
    """`(B, K, 4)`"""
    scores: Tensor
    """`(B, K)`"""
    labels: Tensor
    """Classes, `(B, K)`."""


def intersection(a: Tensor, b: Tensor) -> Tensor:
    """Common area: `(..., 4), (..., 4) -> (...)`, broadcast."""
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    return (high - low).clamp(min=0).prod(-1)


def area(box: Tensor) -> Tensor:
    """`(..., 4) -> (...)`"""
    return (box[..., 2:] - box[..., :2]).prod(-1)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union: `(..., 4), (..., 4) -> (...)`, broadcast; 0 where both are empty."""
    common = intersection(a, b)
    return common / (area(a) + area(b) - common).clamp(min=torch.finfo(common.dtype).tiny)


def complete_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU less penalties for distance and for shape: Zheng et al. 2020 (arXiv 1911.08287), equations 7 to 11."""
    overlap = iou(a, b)
    hull = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    distance = ((a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]) / 2).square().sum(-1)
    shape = (4 / math.pi**2) * (angle(a) - angle(b)).square()
    with torch.no_grad():
        weight = shape / (1 - overlap + shape).clamp(min=1e-7)
    return overlap - distance / hull.square().sum(-1).clamp(min=1e-7) - weight * shape


def angle(box: Tensor) -> Tensor:
    """Of the diagonal, in radians: `(..., 4) -> (...)`."""
    width, height = (box[..., 2:] - box[..., :2]).clamp(min=1e-7).unbind(-1)
    return torch.atan(width / height)


def flatten(maps: Sequence[Tensor], heads: Heads) -> tuple[Tensor, Slots]:
    """Raw predictions `(B, N, 5 + classes)`, in single precision, and their slots."""
    rows, slots = [], []
    for raw, stride, anchors in zip(maps, heads.strides, heads.anchors, strict=True):
        rows.append(raw.float().unflatten(1, (len(anchors), -1)).movedim(2, -1).flatten(1, 3))
        slots.append(slots_of(raw.shape[-2:], anchors, stride, raw.device))
    return torch.cat(rows, 1), Slots(*(torch.cat(parts) for parts in zip(*slots, strict=True)))


def slots_of(sides: Sequence[int], anchors: Sequence[Size], stride: int, device: torch.device) -> tuple[Tensor, ...]:
    """Cells, anchors and strides of the slots of one head, whose map has the given height and width."""
    height, width = sides
    axes = torch.arange(height, device=device), torch.arange(width, device=device)
    cell = torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], -1).flatten(0, 1).repeat(len(anchors), 1)
    anchor = torch.tensor(anchors, device=device).repeat_interleave(height * width, 0)
    return cell.float(), anchor.float(), torch.full((len(cell), 1), float(stride), device=device)


def decode(raw: Tensor, slots: Slots) -> Tensor:
    """Boxes `(B, N, 4)` of raw predictions `(B, N, 4 or more)`: section 2.1 of the YOLOv3 paper (arXiv 1804.02767)."""
    centre = (slots.cell + raw[..., :2].sigmoid()) * slots.stride
    half = slots.anchor * raw[..., 2:4].clamp(max=LARGEST).exp() / 2
    return torch.cat((centre - half, centre + half), -1)


def scores(raw: Tensor) -> Tensor:
    """Objectness times the probability of each class: `(B, N, 5 + classes) -> (B, N, classes)`."""
    return raw[..., 4:5].sigmoid() * raw[..., 5:].sigmoid()


def detect(maps: Sequence[Tensor], heads: Heads, count: int = 100, overlap: float = 0.45) -> Detections:
    """Of the `count` best predictions those that no better one of the same class overlaps by more than `overlap` (IoU).

    Raw maps as the network returns them; a box may be detected as several classes (no softmax, as in the paper).
    The threshold is Darknet's (`nms` in `examples/detector.c`). Where there are many objects, or a network is unsure
    of many boxes, take a larger count: what is suppressed counts, too.
    """
    raw, slots = flatten(maps, heads)
    probability = scores(raw)
    best, index = probability.flatten(1).topk(min(count, probability[0].numel()))
    slot, labels = index // probability.shape[-1], index % probability.shape[-1]
    boxes = decode(raw, slots).take_along_dim(slot[..., None], 1)
    return Detections(boxes, best * kept(boxes, labels, overlap), labels)


def kept(boxes: Tensor, labels: Tensor, overlap: float) -> Tensor:
    """Class-wise greedy non-maximum suppression of boxes `(..., K, 4)`, best first: what stays, `(..., K)`.

    All boxes decide at once whether a better one that stays suppresses them, until nothing changes. Box k is settled
    after k rounds at the latest, usually after a few (Cluster-NMS, Zheng et al. 2020, arXiv 2005.03572).
    """
    same = labels[..., :, None] == labels[..., None, :]
    better = torch.ones_like(same).triu(diagonal=1)
    suppresses = (iou(boxes[..., :, None, :], boxes[..., None, :, :]) > overlap) & same & better
    stays = torch.ones_like(labels, dtype=torch.bool)
    while True:
        now = ~(suppresses & stays[..., :, None]).any(-2)
        if torch.equal(now, stays):
            return now
        stays = now
