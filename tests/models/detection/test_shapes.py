"""The synthetic images: the same for the same seed and number, with boxes that are tight and inside."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from models.detection import shapes
from models.detection.shapes import KINDS, MOST, Shapes, background, extent, rasterize

SOME = range(40)


def boxes(data: Shapes, k: int) -> torch.Tensor:
    rows = data[k][1]
    return rows[rows[:, 0] >= 0]


def test_an_image_follows_from_seed_and_number():
    image, rows = Shapes(SOME)[7]
    again, same = Shapes(range(5, 10))[2]
    assert torch.equal(image, again) and torch.equal(rows, same)
    assert not torch.equal(image, Shapes(SOME, seed=1)[7][0])
    assert not torch.equal(image, Shapes(SOME)[8][0])


@pytest.mark.parametrize("side", [96, 160])
def test_images_and_boxes_have_the_stated_form(side: int):
    data = Shapes(SOME, side)
    for image, rows in data:
        assert image.shape == (3, side, side) and image.dtype == rows.dtype == torch.float32
        assert image.min() >= 0 and image.max() <= 1 and image.std() > 0.01
        real = rows[rows[:, 0] >= 0]
        assert rows.shape == (MOST, 5) and len(real) >= 1 and set(rows[len(real) :, 0].tolist()) <= {-1}
        assert real[:, 1:].min() >= 0 and real[:, 1:].max() <= side
        assert bool((real[:, 3:] - real[:, 1:3] >= side * shapes.SMALLEST).all())


def test_every_class_and_every_number_of_shapes_occurs():
    data = Shapes(range(150))
    found = [boxes(data, k)[:, 0] for k in range(len(data))]
    assert set(torch.cat(found).tolist()) == set(range(len(KINDS)))
    assert {len(labels) for labels in found} == set(range(1, MOST + 1))


def test_boxes_are_tight(monkeypatch):
    """Without noise, the pixels that differ from the bare background are those of the shapes."""
    monkeypatch.setattr(shapes, "NOISE", 0.0)
    alone, data = 0, Shapes(SOME)
    for k in SOME:
        changed = (np.abs(data[k][0].numpy() - bare(k)) > 1e-6).any(0)
        rest = changed.copy()
        for left, top, right, bottom in boxes(data, k)[:, 1:].int().tolist():
            part = changed[top:bottom, left:right]
            assert part[0].any() and part[-1].any() and part[:, 0].any() and part[:, -1].any()
            rest[top:bottom, left:right] = False
        assert not rest.any()
        if len(boxes(data, k)) == 1:
            assert boxes(data, k)[0, 1:].tolist() == list(extent(changed))
            alone += 1
    assert alone > 3


def bare(number: int, side: int = 96) -> np.ndarray:
    """The background of an image, before any shape."""
    rng = np.random.default_rng((0, number))
    y, x = (np.mgrid[:side, :side].astype(np.float32) + 0.5) / side
    return background(rng, x, y, rng.random(3, np.float32)).clip(0, 1)


@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_shapes_fill_their_circle_and_no_more(kind: int):
    y, x = np.mgrid[-1.2:1.2:241j, -1.2:1.2:241j]
    for turn in (0.0, 1.0):
        inside = rasterize(kind, x, y, turn)
        reach = np.hypot(x, y)[inside].max()
        assert 0.9 < reach <= 1.01 and 0.3 < inside.sum() * 0.01**2 <= np.pi


def test_a_turn_turns():
    y, x = np.mgrid[-1:1:100j, -1:1:100j]
    square = [rasterize(list(KINDS).index("square"), x, y, turn) for turn in (0.0, np.pi / 4, np.pi / 2 + 1e-9)]
    differing = [(square[0] ^ other).mean() for other in square[1:]]
    assert differing[0] > 0.05 and differing[1] < 0.02
    assert square[1].sum() == pytest.approx(square[0].sum(), rel=0.05)


def test_default_collation_makes_batches():
    images, rows = next(iter(DataLoader(Shapes(SOME), 8)))
    assert images.shape == (8, 3, 96, 96) and rows.shape == (8, MOST, 5)


def test_an_index_beyond_the_end_is_refused():
    with pytest.raises(IndexError):
        Shapes(SOME)[len(SOME)]
