"""Overlaps against values by hand, decoding against its inverse, suppression against the textbook's loop."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.detection.boxes import LARGEST, complete_iou, decode, detect, flatten, iou, kept
from tests.models.detection.encoding import CLASSES, DEPTH, HEADS, SIDE, SURE, blank, encode, perfect, slots, unflatten


@pytest.mark.parametrize(
    ("a", "b", "want"),
    [
        ((0, 0, 2, 2), (0, 0, 2, 2), 1),
        ((0, 0, 2, 2), (1, 1, 3, 3), 1 / 7),
        ((0, 0, 4, 4), (1, 1, 3, 3), 1 / 4),
        ((0, 0, 2, 2), (2, 0, 4, 2), 0),
        ((0, 0, 2, 2), (5, 5, 6, 6), 0),
        ((1, 1, 1, 1), (1, 1, 1, 1), 0),
    ],
)
def test_iou_by_hand(a, b, want):
    assert iou(torch.tensor(a).float(), torch.tensor(b).float()).item() == pytest.approx(want)


def test_iou_of_all_pairs():
    a, b = torch.rand(3, 1, 4), torch.rand(5, 4)
    assert iou(a, b).shape == (3, 5) and torch.equal(iou(a, b), iou(b[None], a))


@pytest.mark.parametrize(
    ("a", "b", "want"),
    [
        ((0, 0, 2, 2), (0, 0, 2, 2), 1),
        # apart: centres 4 apart in a hull of 6 by 2, shapes alike
        ((0, 0, 2, 2), (4, 0, 6, 2), -16 / 40),
        # one centre, IoU 1/2, diagonals at 45 and 63.43 degrees
        ((0, 0, 2, 2), (-1, 0, 3, 2), 0.5 - 0.0419594**2 / (0.5 + 0.0419594)),
    ],
)
def test_complete_iou_by_hand(a, b, want):
    assert complete_iou(torch.tensor(a).float(), torch.tensor(b).float()).item() == pytest.approx(want, abs=1e-6)


def test_rows_are_ordered_by_head_anchor_row_and_column():
    rows = torch.rand(2, len(slots().cell), DEPTH)
    maps = unflatten(rows, HEADS)
    assert torch.equal(flatten(maps, HEADS)[0], rows)
    # second anchor of the second head, row 1, column 3 of 4
    place = 2 * 4 + 16 + 4 + 3
    assert torch.equal(rows[:, place], maps[1][:, DEPTH:, 1, 3])
    where = slots()
    assert [p[place].tolist() for p in (where.cell, where.anchor, where.stride)] == [[3, 1], [24, 16], [16]]


def test_a_box_by_hand():
    raw = torch.zeros(1, len(slots().cell), DEPTH)
    raw[0, 0, :4] = torch.tensor((math.log(3), 0, math.log(2), 0))
    assert decode(raw, slots())[0, 0].tolist() == pytest.approx([24 - 40, 16 - 15, 24 + 40, 16 + 15], abs=1e-4)


def test_decode_inverts_encode():
    where = slots()
    centre = (where.cell + 0.05 + 0.9 * torch.rand(where.cell.shape)) * where.stride
    half = where.anchor * torch.empty(where.anchor.shape).uniform_(0.2, 3) / 2
    boxes = torch.cat((centre - half, centre + half), 1)
    torch.testing.assert_close(decode(encode(boxes, where)[None], where)[0], boxes, rtol=1e-4, atol=1e-3)


def test_sizes_of_an_untrained_network_stay_finite():
    boxes = decode(torch.full((1, len(slots().cell), DEPTH), 1e4), slots())
    assert boxes.isfinite().all() and (boxes[0, 0, 2] - boxes[0, 0, 0]).item() == pytest.approx(40 * math.exp(LARGEST))


coordinate = st.integers(0, 8)
box = st.tuples(coordinate, coordinate, st.integers(1, 8), st.integers(1, 8), st.integers(0, 1))


def greedy(boxes: Tensor, labels: list[int], overlap: float) -> list[bool]:
    pairs, stays = iou(boxes[:, None], boxes).tolist(), []
    for k, label in enumerate(labels):
        rivals = [j for j in range(k) if stays[j] and labels[j] == label]
        stays.append(all(pairs[j][k] <= overlap for j in rivals))
    return stays


@settings(deadline=None, max_examples=100)
@given(st.lists(box, min_size=1, max_size=14), st.sampled_from((0.0, 0.25, 0.5, 0.75)))
def test_suppression_is_the_greedy_loop(rows, overlap):
    boxes = torch.tensor([(x, y, x + w, y + h) for x, y, w, h, _ in rows]).float()
    labels = [row[-1] for row in rows]
    assert kept(boxes, torch.tensor(labels), overlap).tolist() == greedy(boxes, labels, overlap)


def test_suppression_of_a_batch_is_that_of_each_image():
    boxes, labels = torch.rand(4, 20, 4).cumsum(-1), torch.randint(0, 2, (4, 20))
    apart = [kept(b, k, 0.3) for b, k in zip(boxes, labels, strict=True)]
    assert torch.equal(kept(boxes, labels, 0.3), torch.stack(apart))
    assert 0 < torch.stack(apart).float().mean() < 1


def test_detections_of_perfect_maps():
    targets = torch.tensor([[(2.0, 10, 12, 30, 30), (0.0, 40, 40, 50, 48)], [(1.0, 5, 5, 60, 40), (-1.0, 0, 0, 0, 0)]])
    found = detect(perfect(targets), HEADS)
    assert [(s > 0.5).sum().item() for s in found.scores] == [2, 1]
    for image, rows in enumerate((targets[0], targets[1, :1])):
        for label, *corners in rows.tolist():
            k = found.labels[image][: len(rows)].tolist().index(int(label))
            assert found.boxes[image, k].tolist() == pytest.approx(corners, abs=1e-3)


def test_what_is_suppressed_counts_among_the_best():
    """Both anchors of a cell are sure of one box; the other object comes third."""
    maps = perfect(torch.tensor([[(1.0, 32, 8, 40, 16), (0.0, 40, 40, 50, 48)]]))
    again = (0, 0, math.log(8 / 12), math.log(8 / 10), SURE, -SURE, SURE, -SURE)
    maps[2][0, DEPTH:, 1, 4] = torch.tensor(again)
    for m in maps:
        rows = m.unflatten(1, (-1, DEPTH))
        rows[:, :, 4][rows[:, :, 5] == SURE] = 2.0
    found = [detect(maps, HEADS, count) for count in (2, 3)]
    assert [f.labels[f.scores > 0.5].tolist() for f in found] == [[1], [1, 0]]


def test_detections_come_best_first_and_no_more_than_asked_for():
    maps = [torch.randn(m.shape) for m in blank(2)]
    found = detect(maps, HEADS, count=30, overlap=1.0)
    assert found.boxes.shape == (2, 30, 4) and bool((found.scores.diff() <= 0).all())
    everything = detect(blank(1), HEADS, count=10**6)
    assert everything.scores.shape[1] == CLASSES * 2 * sum((SIDE // s) ** 2 for s in HEADS.strides)
