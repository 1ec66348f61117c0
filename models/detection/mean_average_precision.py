"""Mean average precision as COCO defines it, computed by pycocotools."""

import contextlib
import io
from collections.abc import Iterator, Sequence

import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from models.detection.boxes import Heads, area, detect

WORST = 0.01
"""Detections of a lower score do not count: at the far end of the precision-recall curve, they add next to nothing."""


class MeanAveragePrecision:
    """Gathers detections and objects, batch by batch; higher is better.

    Boxes of all sizes count, and what is left of the 100 best predictions for an image.
    """

    def __init__(self, heads: Heads, classes: int):
        self.heads, self.classes, self.images = heads, classes, 0
        self.objects: list[dict[str, object]] = []
        self.detections: list[dict[str, object]] = []

    @torch.no_grad()
    def update(self, maps: Sequence[Tensor], targets: Tensor) -> None:
        """Adds a batch: the network's raw maps, and rows `class, x1, y1, x2, y2`, `(B, M, 5)` (negative: padding)."""
        found = detect(maps, self.heads)
        parts = (part.cpu() for part in (found.boxes, found.scores, found.labels, targets))
        for boxes, scores, labels, rows in zip(*parts, strict=True):
            real, good = rows[rows[:, 0] >= 0], scores >= WORST
            for row in annotations(self.images, real[:, 1:], real[:, 0].long()):
                # COCOeval takes a match with object 0 for none
                self.objects.append(row | {"id": len(self.objects) + 1, "iscrowd": 0})
            pairs = zip(annotations(self.images, boxes[good], labels[good]), scores[good].tolist(), strict=True)
            self.detections += [row | {"score": score} for row, score in pairs]
            self.images += 1

    def compute(self) -> float:
        """mAP at an IoU of 0.5."""
        return self.figures()["mAP@0.5"]

    def figures(self) -> dict[str, float]:
        """mAP at an IoU of 0.5, and averaged over 0.5, 0.55 to 0.95: means over the classes that occur.

        Raises:
            ValueError: there was no object in any image, which leaves precision undefined.
        """
        if not self.objects:
            raise ValueError("no object in any image: mAP is undefined; fix: update() with targets that have some")
        if not self.detections:
            return {"mAP@0.5": 0.0, "mAP@[.5:.95]": 0.0}
        # thresholds, recalls, classes, areas, limits on detections
        precision = self._evaluate().eval["precision"][:, :, :, 0, 0]
        known = precision[:, :, (precision >= 0).all((0, 1))]
        return {"mAP@0.5": float(known[0].mean()), "mAP@[.5:.95]": float(known.mean())}

    def _evaluate(self) -> COCOeval:
        truth = COCO()
        images, kinds = ([{"id": k} for k in range(count)] for count in (self.images, self.classes))
        truth.dataset = {"images": images, "categories": kinds, "annotations": self.objects}
        # pycocotools reports its progress on standard output
        with contextlib.redirect_stdout(io.StringIO()):
            truth.createIndex()
            evaluation = COCOeval(truth, truth.loadRes(self.detections), "bbox")
            evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, float("inf")]], ["all"]
            evaluation.params.maxDets = [100]
            evaluation.evaluate()
            evaluation.accumulate()
        return evaluation


def annotations(image: int, boxes: Tensor, labels: Tensor) -> Iterator[dict[str, object]]:
    """COCO's form of boxes `(K, 4)` in one image: corner, width and height."""
    corners = torch.cat((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), 1)
    for box, size, label in zip(corners.tolist(), area(boxes).tolist(), labels.tolist(), strict=True):
        yield {"image_id": image, "category_id": label, "bbox": box, "area": size}
