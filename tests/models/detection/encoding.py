"""Maps as a perfect network would return them: the inverse of decoding."""

import torch
from torch import Tensor

from models.detection.boxes import Heads, Slots, flatten
from models.detection.loss import assign

HEADS = Heads((32, 16, 8), (((40, 30), (30, 40)), ((20, 20), (24, 16)), ((8, 8), (12, 10))))
CLASSES, SIDE, SURE = 3, 64, 14.0
DEPTH = 5 + CLASSES


def blank(images: int, heads: Heads = HEADS, value: float = 0.0, classes: int = CLASSES) -> list[Tensor]:
    """Maps full of one value for square images of SIDE pixels."""
    pairs = zip(heads.strides, heads.anchors, strict=True)
    return [torch.full((images, len(a) * (5 + classes), SIDE // s, SIDE // s), value) for s, a in pairs]


def slots(heads: Heads = HEADS) -> Slots:
    return flatten(blank(1, heads), heads)[1]


def encode(boxes: Tensor, where: Slots) -> Tensor:
    """Raw coordinates `(K, 4)` that slots `(K, ...)` need to predict the boxes `(K, 4)`."""
    centre, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    return torch.cat(((centre / where.stride - where.cell).logit(), (size / where.anchor).log()), 1)


def perfect(targets: Tensor, heads: Heads = HEADS, classes: int = CLASSES) -> list[Tensor]:
    """Maps that find the objects of `targets` `(B, M, 5)`, all of them and nothing else."""
    where = slots(heads)
    rows = torch.full((len(targets), len(where.cell), 5 + classes), -SURE)
    rows[..., :4] = 0
    objects = assign(targets, where)
    chosen = where.at(objects.slot)
    rows[objects.image, objects.slot, :4] = encode(objects.box, chosen)
    rows[objects.image, objects.slot, 4] = SURE
    rows[objects.image, objects.slot, 5 + objects.label] = SURE
    return unflatten(rows, heads)


def unflatten(rows: Tensor, heads: Heads) -> list[Tensor]:
    """Maps of the rows `(B, N, depth)` that `flatten` would make of them."""
    shapes = [(len(a), SIDE // s, SIDE // s) for s, a in zip(heads.strides, heads.anchors, strict=True)]
    parts = rows.split([a * h * w for a, h, w in shapes], 1)
    return [p.unflatten(1, s).movedim(-1, 2).flatten(1, 2) for p, s in zip(parts, shapes, strict=True)]
