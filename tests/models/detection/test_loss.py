"""YOLOv3's loss: small for perfect maps, larger for every kind of mistake, trainable, and defined without objects."""

import math

import pytest
import torch
from torch import Tensor

from models.detection.boxes import flatten
from models.detection.loss import BOX_WEIGHT, Placing, assign, by_offset, by_overlap, yolo_loss
from tests.models.detection.encoding import DEPTH, HEADS, blank, perfect, slots

TARGETS = torch.tensor([[(2.0, 10, 12, 30, 30), (0.0, 40, 40, 50, 48)], [(1.0, 5, 5, 60, 40), (-1.0, 0, 0, 0, 0)]])
EMPTY = torch.full((2, 2, 5), -1.0)


def loss(maps: list[Tensor], targets: Tensor = TARGETS, placing: Placing = by_overlap) -> float:
    return yolo_loss(maps, targets, HEADS, placing).item()


either = pytest.mark.parametrize("placing", [by_offset, by_overlap])


def test_perfect_maps_lose_next_to_nothing():
    assert 0 <= loss(perfect(TARGETS)) < 0.01


@either
def test_perfect_boxes_are_where_the_loss_is_least(placing: Placing):
    """There is no slope in any coordinate, and every step away costs."""
    maps = [m.requires_grad_() for m in perfect(TARGETS)]
    yolo_loss(maps, TARGETS, HEADS, placing).backward()
    assert max(m.grad.abs().max().item() for m in maps) < 1e-3
    maps = [m.detach() for m in maps]
    for coordinate in range(4):
        for step in (-0.2, 0.2):
            moved = [m.unflatten(1, (-1, DEPTH)).clone() for m in maps]
            for m in moved:
                m[:, :, coordinate] += step
            assert loss([m.flatten(1, 2) for m in moved], TARGETS, placing) > loss(maps, TARGETS, placing) + 1e-3


def test_published_gradients_by_hand():
    """Target less prediction, times 2 less the box's share of the image; the other coordinates have none."""
    target = torch.tensor([[(1.0, 34, 8, 42, 12)]])  # centre (38, 10) in cell (4, 1) of 8 pixels, anchor 8 x 8
    maps = [m.requires_grad_() for m in blank(1, value=0.1)]
    raw, where = flatten(maps, HEADS)
    objects = assign(target, where)
    by_offset(raw, where, objects).backward()
    rows = maps[2].grad.unflatten(1, (-1, DEPTH))
    sigma = 1 / (1 + math.exp(-0.1))
    needed = (38 / 8 - 4, 10 / 8 - 1, 0.0, math.log(4 / 8))
    want = [(2 - 8 * 4 / 64**2) * (p - n) for p, n in zip((sigma, sigma, 0.1, 0.1), needed, strict=True)]
    assert rows[0, 0, :4, 1, 4].tolist() == pytest.approx(want, abs=1e-6)
    assert (rows != 0).sum() == 4 and not maps[0].grad.any() and not maps[1].grad.any()


def test_an_object_outside_of_the_image_is_refused():
    outside = torch.tensor([[(1.0, 60, 8, 70, 16)]])
    with pytest.raises(ValueError, match=r"centre \(65, 12\) is outside of the image; fix: clip boxes"):
        loss(blank(1), outside)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(TARGETS + torch.tensor((0, 4, 0, 4, 0)), id="place"),
        pytest.param(TARGETS + torch.tensor((0, 0, 0, 3, 3)), id="size"),
        pytest.param(torch.cat((1 - TARGETS[..., :1].clamp(max=1), TARGETS[..., 1:]), -1), id="class"),
        pytest.param(EMPTY, id="missed"),
        pytest.param(torch.cat((TARGETS, TARGETS.flip(0)), 1), id="invented"),
    ],
)
def test_mistakes_cost(wrong: Tensor):
    wrong = torch.where(TARGETS[..., :1] < 0, TARGETS, wrong) if wrong.shape == TARGETS.shape else wrong
    assert loss(perfect(wrong)) > loss(perfect(TARGETS)) + 0.1


def test_a_worse_place_costs_more():
    costs = [loss(perfect(TARGETS[1:, :1] + torch.tensor((0, d, 0, d, 0))), TARGETS[1:, :1]) for d in (0, 1, 2, 4)]
    assert costs == sorted(costs) and costs[0] < costs[1] < costs[3]


def test_loss_of_blank_maps_by_hand():
    """Zeros: cross entropies of log 2, and a box of its anchor's size about its cell's centre."""
    target = torch.tensor([[(1.0, 32 + 8 - 4, 8, 32 + 8 + 4, 16)]])  # cell (4, 1), anchor 8 x 8: 4 pixels off
    slot = assign(target, slots()).slot
    assert [slots().cell[slot].tolist(), slots().anchor[slot].tolist()] == [[[5, 1]], [[8, 8]]]
    predictions = len(slots().cell)
    shift = 16 / (12**2 + 8**2)
    want = predictions * math.log(2) + 3 * math.log(2) + BOX_WEIGHT * (1 - (1 / 3 - shift))
    assert loss(blank(1), target) == pytest.approx(want, rel=1e-5)


@either
def test_gradients_are_finite_and_reach_every_map(placing: Placing):
    maps = [torch.randn(m.shape, requires_grad=True) for m in blank(2)]
    yolo_loss(maps, TARGETS, HEADS, placing).backward()
    assert all(m.grad.isfinite().all() and (m.grad != 0).any() for m in maps)


@either
@pytest.mark.parametrize("size", [1e3, 6e4])
def test_gradients_of_wild_maps_are_finite(size: float, placing: Placing):
    maps = [(size * torch.randn(m.shape)).requires_grad_() for m in blank(2)]
    yolo_loss(maps, TARGETS, HEADS, placing).backward()
    assert all(m.grad.isfinite().all() for m in maps)


@either
def test_images_without_objects(placing: Placing):
    maps = [m.requires_grad_() for m in blank(2)]
    value = yolo_loss(maps, EMPTY, HEADS, placing)
    value.backward()
    assert value.item() == pytest.approx(len(slots().cell) * math.log(2), rel=1e-5)
    rows = [m.grad.unflatten(1, (-1, DEPTH)) for m in maps]
    assert all(bool((g[:, :, 4] > 0).all()) and not g[:, :, [0, 1, 2, 3, 5, 6, 7]].any() for g in rows)


@either
def test_mean_over_the_batch(placing: Placing):
    maps = [torch.randn(m.shape) for m in blank(2)]
    apart = [loss([m[k : k + 1] for m in maps], TARGETS[k : k + 1], placing) for k in range(2)]
    assert loss(maps, TARGETS, placing) == pytest.approx(sum(apart) / 2, rel=1e-5)


def test_one_anchor_of_all_heads_is_in_charge():
    boxes = [(0.0, 10, 10, 50, 40), (0.0, 20, 12, 44, 28), (0.0, 33, 33, 41, 41)]
    where, objects = slots(), assign(torch.tensor([boxes]), slots())
    assert where.stride[objects.slot].flatten().tolist() == [32, 16, 8]
    assert where.anchor[objects.slot].tolist() == [[40, 30], [24, 16], [8, 8]]
    assert where.cell[objects.slot].tolist() == [[0, 0], [2, 1], [4, 4]]


@pytest.mark.parametrize(("shift", "blamed"), [(0.0, False), (-1.0, False), (-20.0, True)])
def test_predictions_that_overlap_enough_are_not_blamed(shift: float, blamed: bool):
    """The cell's other anchor is sure of the same box, too: at its place, 1.8 or 4 pixels (IoU 1/3) to the left."""
    target = torch.tensor([[(1.0, 32, 8, 40, 16)]])
    maps = perfect(target)
    maps[2][0, DEPTH : DEPTH + 5, 1, 4] = torch.tensor((shift, 0, math.log(8 / 12), math.log(8 / 10), 20))
    assert (loss(maps, target) > 10) == blamed
