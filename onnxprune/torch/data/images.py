"""Labelled images as data sets: 8-bit in memory, scaled and augmented by the batch; and the split of what has no split.

All that is random in a batch comes from torch's global generator, so its saved state reproduces the batch. The
splits do not: they depend on the labels and their own seed alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from onnxprune.errors import UsageError
from onnxprune.torch.task import Split

TEST_SHARE, TEST_SEED = 0.2, 0
"""Of a data set without a test part; no option, so that all results on it are on the same images."""


class Pictures(Protocol):
    """Images to pick from: a uint8 tensor `(N, C, H, W)`, or files that are decoded when they are needed."""

    def __getitem__(self, index: Tensor, /) -> Tensor:
        """`uint8 (B, C, H, W)`, for int64 `(B,)`."""


@dataclass(frozen=True)
class Labelled:
    """N images and their classes, int64 `(N,)`."""

    pictures: Pictures
    labels: Tensor


@dataclass(frozen=True)
class Look:
    """What a network sees of an image.

    Attributes:
        mean: of each channel, where 255 is 1.
        std: standard deviation, alike.
        pad: in training the image moves by up to so many pixels each way, black beyond its edges.
        flip: in training every other image is mirrored.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    pad: int = 4
    flip: bool = True


def normalize(images: Tensor, look: Look) -> Tensor:
    """`uint8 (N, C, H, W)` to the network's float32 input."""
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (look.mean, look.std))
    return (images.float() / 255 - mean) / std


def moved(
    images: Tensor, pad: int, flip: Tensor, generator: torch.Generator | None = None, mode: str = "constant"
) -> Tensor:
    """Random crops of the images, padded by `pad` pixels in `torch.nn.functional.pad`'s mode, and some mirrored.

    Args:
        images: `uint8 (N, C, H, W)`.
        pad: how far a crop may lie off the image, in pixels.
        flip: which are mirrored, bool `(N,)`.
        generator: of the random numbers; torch's global one by default.
        mode: `constant` is black; `reflect` as in airbench.
    """
    n, _, height, width = images.shape
    # Reflection is not implemented for bytes.
    padded = functional.pad(images if mode == "constant" else images.float(), (pad,) * 4, mode).to(torch.uint8)
    top, left = (torch.randint(0, 2 * pad + 1, (n,), generator=generator) for _ in range(2))
    crops = padded.unfold(2, height, 1).unfold(3, width, 1)[torch.arange(n), :, top, left]
    return torch.where(flip.view(-1, 1, 1, 1), crops.flip(3), crops)


def resize(images: Tensor, side: int) -> Tensor:
    """`uint8` images at another resolution, averaged where pixels merge."""
    parts = [
        functional.interpolate(part.float(), (side, side), mode="bilinear", antialias=True)
        for part in images.split(1000)
    ]
    return torch.cat([part.round().clamp(0, 255).to(torch.uint8) for part in parts])


class Images(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    """Some of the images of a source, given as `(float32 (C, H, W), int64 ())`, or many at once."""

    def __init__(self, source: Labelled, index: Tensor, look: Look, augmented: bool):
        """`index` int64 `(n,)` says which; `augmented`, whether they are moved and mirrored at random."""
        self.source, self.index, self.look, self.augmented = source, index, look, augmented

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        inputs, targets = self.__getitems__([number])
        return inputs[0], targets[0]

    def __getitems__(self, numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
        """A batch: `float32 (B, C, H, W)` and `int64 (B,)`."""
        chosen = self.index[torch.as_tensor(numbers)]
        images = self.source.pictures[chosen]
        if self.augmented:
            flip = (torch.rand(len(images)) < 0.5) & self.look.flip
            images = moved(images, self.look.pad, flip)
        return normalize(images, self.look), self.source.labels[chosen]


def stratified(labels: Tensor, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Splits numbers 0..N-1 so that every class gives the same share, but at least one and not all of its images.

    Args:
        labels: int64 `(N,)`.
        share: of each class that is drawn, between 0 and 1.
        seed: of the draw.

    Returns:
        The numbers that are left and those that are drawn, both ascending.

    Raises:
        UsageError: the share is none, or a class has a single image.
    """
    if not 0 < share < 1:
        raise UsageError(f"validation share {share}: expected a number between 0 and 1", "for a tenth, give 0.1")
    classes = labels.numpy()
    drawn = np.zeros(len(classes), bool)
    # numpy promises that this generator's numbers never change; its newer one and torch's promise nothing.
    random = np.random.RandomState(seed)
    for name in np.unique(classes):
        members = np.flatnonzero(classes == name)
        if len(members) < 2:
            raise UsageError(f"class {name} has one image, which cannot be split", "add images, or remove the class")
        count = min(max(round(share * len(members)), 1), len(members) - 1)
        drawn[random.permutation(members)[:count]] = True
    left, taken = (torch.from_numpy(np.flatnonzero(which)) for which in (~drawn, drawn))
    return left, taken


class Splits:
    """The parts of a data set, each read when it is first needed and then kept.

    A part that has no images of its own is a stratified share of the training images, and no part of them any more:
    first the test part (a fifth, the same for every seed), then validation, from what is left.
    """

    def __init__(
        self,
        parts: Mapping[Split, Callable[[], Labelled]],
        classes: int,
        look: Look,
        validation: float = 0.1,
        seed: int = 0,
    ):
        """`validation` is a share; `parts` has at least `train`."""
        self.classes, self.look, self.validation, self.seed = classes, look, validation, seed
        self._parts = {split: cache(read) for split, read in parts.items()}

    def data(self, split: Split) -> Images:
        """The images of one part, augmented for training.

        Raises:
            UsageError: files are missing or damaged, or there are too few images to split.
        """
        own = split != "train" and split in self._parts
        source = self._parts[split if own else "train"]()
        index = torch.arange(len(source.labels)) if own else self._shares(source.labels)[split]
        return Images(source, index, self.look, augmented=split == "train")

    def _shares(self, labels: Tensor) -> dict[Split, Tensor]:
        """Which training images, whose labels are given, make up each part that has no images of its own."""
        left, shares = torch.arange(len(labels)), dict[Split, Tensor]()
        draws: list[tuple[Split, float, int]] = [
            ("test", TEST_SHARE, TEST_SEED),
            ("validation", self.validation, self.seed),
        ]
        for split, share, seed in draws:
            if split not in self._parts:
                rest, taken = stratified(labels[left], share, seed)
                left, shares[split] = left[rest], left[taken]
        return {**shares, "train": left}
