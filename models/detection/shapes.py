"""A synthetic data set for detection: coloured shapes on a textured, cluttered, noisy background.

Image k depends on k and the seed alone, so nothing is stored and every split is a range of numbers.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor
from torch.utils.data import Dataset

Array = np.ndarray

MOST = 6
"""Shapes in an image at most; there is always one."""
TRIES = 10
"""To find room for a shape."""
SMALLEST, LARGEST = 0.1, 0.28
"""Radius of the circle around a shape, by the image's side."""

NOISE = 0.05
"""Standard deviation of every value, of 1 from black to white."""

# Which points of the plane belong to a shape of radius 1: coordinates, from its centre, to truth.
KINDS: dict[str, Callable[[Array, Array], Array]] = {
    "circle": lambda x, y: x**2 + y**2 <= 1,
    "square": lambda x, y: np.maximum(abs(x), abs(y)) <= 0.7,
    "triangle": lambda x, y: np.maximum(y, 0.866 * abs(x) - 0.5 * y) <= 0.5,
    "cross": lambda x, y: (np.minimum(abs(x), abs(y)) <= 0.3) & (np.maximum(abs(x), abs(y)) <= 0.9),
    "ring": lambda x, y: abs(x**2 + y**2 - 0.7) <= 0.3,
}


@dataclass(frozen=True)
class Shapes(Dataset[tuple[Tensor, Tensor]]):
    """Images, float32 `(3, side, side)` in [0, 1], and the boxes in them, float32 `(MOST, 5)`.

    The rows of boxes are `class, x1, y1, x2, y2` in pixels, classes in the order of `KINDS`; the rows that are left
    over have class -1 and no area. A box is tight: x1 is the left edge of the leftmost pixel, x2 the right edge of
    the rightmost.
    """

    numbers: range
    """Of the images; data sets of disjoint ranges share none."""
    side: int = 96
    """Height and width in pixels."""
    seed: int = 0

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng((self.seed, self.numbers[index]))
        image, boxes = draw(rng, self.side)
        rows = np.full((MOST, 5), (-1, 0, 0, 0, 0), np.float32)
        rows[: len(boxes)] = boxes
        return torch.from_numpy(image), torch.from_numpy(rows)


def draw(rng: Generator, side: int) -> tuple[Array, list[tuple[int, ...]]]:
    """An image `(3, side, side)` and its boxes."""
    y, x = (np.mgrid[:side, :side].astype(np.float32) + 0.5) / side
    base = rng.random(3, np.float32)
    image, boxes = background(rng, x, y, base), []
    for left, top, radius in places(rng):
        kind, turn = int(rng.integers(len(KINDS))), rng.uniform(0, 2 * math.pi)
        inside = rasterize(kind, (x - left) / radius, (y - top) / radius, turn)
        image[:, inside] = contrasting(rng, base)[:, None]
        boxes.append((kind, *extent(inside)))
    image += NOISE * rng.standard_normal(image.shape, np.float32)
    return image.clip(0, 1), boxes


def places(rng: Generator) -> list[tuple[float, float, float]]:
    """Centres and radii of circles in the unit square, apart from each other; those without room are left out."""
    circles: list[tuple[float, float, float]] = []
    for _ in range(rng.integers(1, MOST, endpoint=True)):
        for _ in range(TRIES):
            radius = SMALLEST * (LARGEST / SMALLEST) ** rng.random()
            x, y = rng.uniform(radius, 1 - radius, 2).tolist()
            if all(math.hypot(x - a, y - b) > radius + r for a, b, r in circles):
                circles.append((x, y, radius))
                break
    return circles


def background(rng: Generator, x: Array, y: Array, base: Array) -> Array:
    """Three waves around the colour `base`, and strokes: `(3, H, W)`."""
    slopes = 6 * np.pi * rng.standard_normal((3, 3), np.float32)
    waves = [np.sin(right * x + down * y + phase) for right, down, phase in slopes]
    image = base[:, None, None] + np.tensordot(0.07 * rng.standard_normal((3, 3), np.float32), waves, 1)
    for _ in range(rng.integers(2, 7)):
        image[:, stroke(rng, x, y)] = rng.random((3, 1), np.float32)
    return image


def stroke(rng: Generator, x: Array, y: Array) -> Array:
    """The pixels of a straight line."""
    (left, top), (right, down) = rng.random(2, np.float32), 0.25 * rng.standard_normal(2, np.float32)
    x, y = x - left, y - top
    along = ((x * right + y * down) / (right**2 + down**2)).clip(0, 1)
    return (x - along * right) ** 2 + (y - along * down) ** 2 <= rng.uniform(0.004, 0.012) ** 2


def rasterize(kind: int, x: Array, y: Array, turn: float) -> Array:
    """Which points are in a shape of radius 1, turned by an angle in radians."""
    sine, cosine = math.sin(turn), math.cos(turn)
    return list(KINDS.values())[kind](cosine * x + sine * y, cosine * y - sine * x)


def contrasting(rng: Generator, base: Array) -> Array:
    """Of three random colours the one that differs most from `base`."""
    colours = rng.random((3, 3), np.float32)
    return colours[np.linalg.norm(colours - base, axis=1).argmax()]


def extent(inside: Array) -> tuple[int, ...]:
    """The tight box, `x1, y1, x2, y2`, around the true pixels."""
    columns, rows = inside.any(0).nonzero()[0], inside.any(1).nonzero()[0]
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
