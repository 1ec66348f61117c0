"""mAP at its extremes, and a case by hand."""

import pytest
import torch

from models.detection.mean_average_precision import MeanAveragePrecision
from tests.models.detection.encoding import CLASSES, HEADS, blank, perfect

TARGETS = torch.tensor([[(2.0, 10, 12, 30, 30), (0.0, 40, 40, 50, 48)], [(1.0, 5, 5, 60, 40), (-1.0, 0, 0, 0, 0)]])


@pytest.fixture
def metric() -> MeanAveragePrecision:
    return MeanAveragePrecision(HEADS, CLASSES)


def test_perfect_maps(metric):
    metric.update(perfect(TARGETS), TARGETS)
    assert metric.figures() == {"mAP@0.5": pytest.approx(1), "mAP@[.5:.95]": pytest.approx(1)}


@pytest.mark.parametrize("others", [torch.full((2, 2, 5), -1.0), TARGETS.flip(0)], ids=["nothing", "elsewhere"])
def test_nothing_is_found(metric, others):
    metric.update(perfect(others), TARGETS)
    assert metric.compute() == 0


def test_two_of_three_classes_are_found(metric):
    metric.update(perfect(TARGETS[:1]), TARGETS[:1])
    metric.update(blank(1, value=-20.0), TARGETS[1:])
    assert metric.compute() == pytest.approx(2 / 3)


def test_precision_by_hand(metric):
    """Two objects of a class; found are the first, with the third-best score, behind two that are not there.

    Precision is 1/3 up to a recall of 1/2, the first 51 of COCO's 101 recalls, and 0 beyond.
    """
    target = torch.tensor([[(0.0, 8, 8, 16, 16), (0.0, 40, 8, 48, 16)]])
    found = torch.tensor([[(0.0, 8, 8, 16, 16), (0.0, 8, 40, 16, 48), (0.0, 40, 40, 48, 48)]])
    maps = perfect(found)
    maps[2][0, 4, 1, 1] = 2.0
    metric.update(maps, target)
    assert metric.compute() == pytest.approx(51 / 101 / 3)


def test_figures_by_hand(metric):
    """A box of IoU 0.72 counts at 5 of 10 thresholds."""
    target = torch.tensor([[(0.0, 10, 10, 40, 40)]])
    metric.update(perfect(target), target * torch.tensor((1, 1, 1, 1, 1)) - torch.tensor((0, 0, 0, 0, 30 * 0.28)))
    assert metric.figures() == {"mAP@0.5": pytest.approx(1), "mAP@[.5:.95]": pytest.approx(0.5)}


def test_batches_do_not_matter(metric):
    torch.manual_seed(0)
    maps = [torch.randn(m.shape) + p for m, p in zip(blank(2), perfect(TARGETS), strict=True)]
    whole = MeanAveragePrecision(HEADS, CLASSES)
    whole.update(maps, TARGETS)
    for k in range(2):
        metric.update([m[k : k + 1] for m in maps], TARGETS[k : k + 1])
    assert metric.figures() == whole.figures()


def test_it_says_nothing(metric, capsys):
    metric.update(perfect(TARGETS), TARGETS)
    metric.compute()
    assert capsys.readouterr() == ("", "")


def test_images_without_objects(metric):
    empty = torch.full((2, 2, 5), -1.0)
    metric.update(perfect(empty), empty)
    with pytest.raises(ValueError, match=r"mAP is undefined; fix: update\(\) with targets that have some"):
        metric.compute()
