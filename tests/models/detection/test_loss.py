"""YOLOv3's loss: small for perfect maps, larger for every kind of mistake, trainable, and defined without objects."""

import math

import pytest
import torch
from torch import Tensor

from models.detection.loss import BOX_WEIGHT, assign, yolo_loss
from tests.models.detection.encoding import DEPTH, HEADS, blank, perfect, slots

TARGETS = torch.tensor([[(2.0, 10, 12, 30, 30), (0.0, 40, 40, 50, 48)], [(1.0, 5, 5, 60, 40), (-1.0, 0, 0, 0, 0)]])
EMPTY = torch.full((2, 2, 5), -1.0)


def loss(maps: list[Tensor], targets: Tensor = TARGETS) -> float:
    return yolo_loss(maps, targets, HEADS).item()


def test_perfect_maps_lose_next_to_nothing():
    assert 0 <= loss(perfect(TARGETS)) < 0.01


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


def test_gradients_are_finite_and_reach_every_map():
    maps = [torch.randn(m.shape, requires_grad=True) for m in blank(2)]
    yolo_loss(maps, TARGETS, HEADS).backward()
    assert all(m.grad.isfinite().all() and (m.grad != 0).any() for m in maps)


@pytest.mark.parametrize("size", [1e3, 6e4])
def test_gradients_of_wild_maps_are_finite(size: float):
    maps = [(size * torch.randn(m.shape)).requires_grad_() for m in blank(2)]
    yolo_loss(maps, TARGETS, HEADS).backward()
    assert all(m.grad.isfinite().all() for m in maps)


def test_images_without_objects():
    maps = [m.requires_grad_() for m in blank(2)]
    value = yolo_loss(maps, EMPTY, HEADS)
    value.backward()
    assert value.item() == pytest.approx(len(slots().cell) * math.log(2), rel=1e-5)
    rows = [m.grad.unflatten(1, (-1, DEPTH)) for m in maps]
    assert all(bool((g[:, :, 4] > 0).all()) and not g[:, :, [0, 1, 2, 3, 5, 6, 7]].any() for g in rows)


def test_mean_over_the_batch():
    maps = [torch.randn(m.shape) for m in blank(2)]
    apart = [loss([m[k : k + 1] for m in maps], TARGETS[k : k + 1]) for k in range(2)]
    assert loss(maps) == pytest.approx(sum(apart) / 2, rel=1e-5)


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
