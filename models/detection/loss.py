"""YOLOv3's loss (arXiv 1804.02767, section 2), with either of two terms for the coordinates.

`by_offset` is the published one: sigma(t_x), sigma(t_y), t_w and t_h are pulled to what the object needs. `by_overlap`
takes the box as a whole: what is evaluated, the overlap, is what is learnt, whatever the size of the box and its
anchor; its weight is one more to choose. In short trainings neither is better beyond chance
(`benchmarks/shapes_detection.py`: mAP of dense networks after 4 epochs, 3 seeds, by offset less by overlap: +0.096,
+0.001, -0.021), so the published one is the default.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, one_hot

from models.detection.boxes import Heads, Slots, complete_iou, decode, flatten, iou

IGNORED = 0.5
"""A prediction that overlaps an object by more (IoU) than this is not blamed for its objectness.

The threshold is the paper's (section 2.1; `yolov3.cfg` has 0.7). The paper compares the prior, Darknet the prediction,
as is done here.
"""
BOX_WEIGHT = 2.0
"""Of `by_overlap`. The published weight of a box lies between 1 and 2, nearer 2 the smaller it is."""


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


Placing = Callable[[Tensor, Slots, Objects], Tensor]
"""From raw predictions `(B, N, 5 + classes)` and their slots to the loss of all objects' coordinates."""


def by_overlap(raw: Tensor, slots: Slots, objects: Objects) -> Tensor:
    """Sum of `BOX_WEIGHT * (1 - CIoU)`: Zheng et al. 2020 (arXiv 1911.08287), equation 10."""
    boxes = decode(raw[objects.image, objects.slot], slots.at(objects.slot))
    return BOX_WEIGHT * (1 - complete_iou(boxes, objects.box)).sum()


def by_offset(raw: Tensor, slots: Slots, objects: Objects) -> Tensor:
    """The published loss: its gradient is the target less the prediction (section 2.1), weighted as in Darknet.

    For the centre, "prediction" is after the sigmoid in Darknet (`delta_yolo_box` in `src/yolo_layer.c`, whose delta
    goes to the convolution as it is): that is the gradient of a cross entropy. The weight is 2 less the box's share of
    the image, so that small boxes count.
    """
    chosen, where = raw[objects.image, objects.slot], slots.at(objects.slot)
    centre, size = (objects.box[:, :2] + objects.box[:, 2:]) / 2, objects.box[:, 2:] - objects.box[:, :2]
    place = binary_cross_entropy_with_logits(chosen[:, :2], centre / where.stride - where.cell, reduction="none")
    extent = (chosen[:, 2:4] - (size / where.anchor).log()).square() / 2
    image = ((slots.cell + 1) * slots.stride).amax(0).prod()
    weight = 2 - size.prod(-1) / image
    return (weight * (place + extent).sum(-1)).sum()


def yolo_loss(maps: Sequence[Tensor], targets: Tensor, heads: Heads, placing: Placing = by_offset) -> Tensor:
    """The loss of an image, averaged over the batch.

    An object adds what `placing` says and the cross entropies of its classes, a prediction the cross entropy of its
    objectness; summed, as in Darknet.

    Args:
        maps: raw, of the heads, `(B, anchors * (5 + classes), H/stride, W/stride)` each.
        targets: rows `class, x1, y1, x2, y2` in pixels, `(B, M, 5)`, M > 0; those of a negative class are padding.
            The others have an area, and their centres lie inside the image.
        heads: the geometry behind the maps.
        placing: the loss of the coordinates, `by_offset` or `by_overlap`.

    Raises:
        ValueError: the centre of an object lies outside of the image.
    """
    raw, slots = flatten(maps, heads)
    targets = targets.to(raw)
    objects = assign(targets, slots)
    classes = raw[objects.image, objects.slot, 5:]
    truth = one_hot(objects.label, classes.shape[-1]).to(raw)
    kind = binary_cross_entropy_with_logits(classes, truth, reduction="sum")
    with torch.no_grad():
        overlap = iou(decode(raw, slots)[:, :, None], targets[:, None, :, 1:]).amax(-1)
    return (placing(raw, slots, objects) + kind + objectness(raw[..., 4], overlap, objects)) / len(raw)


def assign(targets: Tensor, slots: Slots) -> Objects:
    """The one slot for each object: in a cell that holds its centre, with the anchor nearest to it in shape.

    All heads' anchors compete, whatever their strides: the paper's "one bounding box prior for each ground truth
    object". Where two objects fall to one slot, it learns from both.

    Raises:
        ValueError: the centre of an object lies outside of the image.
    """
    image, row = (targets[..., 0] >= 0).nonzero(as_tuple=True)
    label, box = targets[image, row].split((1, 4), -1)
    centre, size = (box[:, :2] + box[:, 2:]) / 2, box[:, 2:] - box[:, :2]
    holds = ((centre[:, None] / slots.stride).floor() == slots.cell).all(-1)
    if not (inside := holds.any(-1)).all():
        x, y = centre[~inside][0].tolist()
        raise ValueError(f"an object's centre ({x:g}, {y:g}) is outside of the image; fix: clip boxes to the image")
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
