"""YOLOv3's loss (arXiv 1804.02767, section 2), with complete IoU for the coordinates."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, one_hot

from models.detection.boxes import Heads, Slots, complete_iou, decode, flatten, iou

IGNORED = 0.5
"""A prediction that overlaps an object by more (IoU) than this is not blamed for its objectness (section 2.1)."""
BOX_WEIGHT = 2.0


@dataclass(frozen=True)
class Objects:
    """The K objects in a batch, and the prediction that is in charge of each."""

    image: Tensor
    """`(K,)`"""
    slot: Tensor
    """Into the N predictions for that image, `(K,)`."""
    label: Tensor
    """Class, `(K,)`."""
    box: Tensor
    """`(K, 4)`"""


def yolo_loss(maps: Sequence[Tensor], targets: Tensor, heads: Heads) -> Tensor:
    """The loss of an image, averaged over the batch.

    An object adds `BOX_WEIGHT * (1 - CIoU)` of its box and the cross entropies of its classes, a prediction the cross
    entropy of its objectness; summed, as in Darknet.

    Args:
        maps: raw, of the heads, `(B, anchors * (5 + classes), H/stride, W/stride)` each.
        targets: rows `class, x1, y1, x2, y2` in pixels, `(B, M, 5)`, M > 0; those of a negative class are padding.
            The centres of the others lie inside the image.
        heads: the geometry behind the maps.
    """
    raw, slots = flatten(maps, heads)
    targets, boxes = targets.to(raw), decode(raw, slots)
    objects = assign(targets, slots)
    chosen = objects.image, objects.slot
    place = (1 - complete_iou(boxes[chosen], objects.box)).sum()
    classes = raw[chosen][:, 5:]
    truth = one_hot(objects.label, classes.shape[-1]).to(raw)
    kind = binary_cross_entropy_with_logits(classes, truth, reduction="sum")
    presence = objectness(raw[..., 4], iou(boxes.detach()[:, :, None], targets[:, None, :, 1:]).amax(-1), objects)
    return (BOX_WEIGHT * place + kind + presence) / len(raw)


def assign(targets: Tensor, slots: Slots) -> Objects:
    """The one slot for each object: in a cell that holds its centre, with the anchor nearest to it in shape.

    All heads' anchors compete, whatever their strides: the paper's "one bounding box prior for each ground truth
    object".
    """
    image, row = (targets[..., 0] >= 0).nonzero(as_tuple=True)
    label, box = targets[image, row].split((1, 4), -1)
    centre, size = (box[:, :2] + box[:, 2:]) / 2, box[:, 2:] - box[:, :2]
    holds = ((centre[:, None] / slots.stride).floor() == slots.cell).all(-1)
    likeness = shape_iou(size[:, None], slots.anchor).where(holds, -1)
    return Objects(image, likeness.argmax(-1), label[:, 0].long(), box)


def shape_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of boxes about one centre, given their widths and heights: `(..., 2), (..., 2) -> (...)`, broadcast."""
    return iou(torch.cat((-a, a), -1), torch.cat((-b, b), -1))


def objectness(logits: Tensor, overlap: Tensor, objects: Objects) -> Tensor:
    """Summed cross entropy: 1 is right for those in charge, 0 for the others, unless they overlap an object enough.

    Logits and each prediction's largest IoU with an object are `(B, N)`.
    """
    truth = torch.zeros_like(logits)
    truth[objects.image, objects.slot] = 1
    counts = (overlap <= IGNORED) | (truth > 0)
    return (binary_cross_entropy_with_logits(logits, truth, reduction="none") * counts).sum()
