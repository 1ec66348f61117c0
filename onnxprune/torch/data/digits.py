"""Handwritten digits, shipped with the package, so that everything can be tried without any data.

`digits.npz` holds the 1,797 images of 8x8 pixels, 0 to 16, that are the test images of: E. Alpaydin, C. Kaynak,
Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998, doi:10.24432/C50P49, licensed
CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/). Nothing but the file format was changed.

The images tell nothing of their 13 writers, so that all of them are in every part: accuracies are higher here than
on digits of strangers. This is a set for trying things out, not for results.
"""

from pathlib import Path

import numpy as np
import torch

from onnxprune.errors import UsageError
from onnxprune.torch.data.images import Labelled, Look, Splits, resize

FILE = Path(__file__).with_name("digits.npz")
CLASSES = 10
MEAN, STD = 0.3053, 0.3235
"""Of all pixels at 32x32, where full ink is 1."""


def digits(side: int = 32, channels: int = 3, validation: float = 0.1, seed: int = 0) -> Splits:
    """White digits on black: a fifth of them for testing, then `validation` of the rest, stratified.

    Args:
        side: of the images in pixels; interpolated, unless it is 8.
        channels: how often the one channel is repeated.
        validation: share for validation of the images that are not for testing.
        seed: of that choice.

    Raises:
        UsageError: there is no such size.
    """
    if side < 8 or channels < 1:
        raise UsageError(
            f"digits of {side} pixels in {channels} channels: expected at least 8 pixels and 1 channel",
            "leave them at 32 and 3",
        )
    # Digits reach from edge to edge: they move by half a pixel of the original. And a mirrored digit is none.
    look = Look((MEAN,) * channels, (STD,) * channels, pad=side // 16, flip=False)
    return Splits({"train": lambda: _read(side, channels)}, CLASSES, look, validation, seed)


def _read(side: int, channels: int) -> Labelled:
    with np.load(FILE, allow_pickle=False) as file:
        images, labels = torch.from_numpy(file["image"]), torch.from_numpy(file["label"])
    bright = (images[:, None].float() * 255 / 16).round().to(torch.uint8)
    return Labelled(resize(bright, side).repeat(1, channels, 1, 1), labels.long())
