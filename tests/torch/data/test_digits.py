"""The shipped digits: whole, of the size that is asked for, and learnable."""

import numpy as np
import pytest
import torch

from onnxprune.errors import UsageError
from onnxprune.torch.data.digits import FILE, digits


def test_the_file_is_whole_small_and_says_where_it_is_from() -> None:
    with np.load(FILE, allow_pickle=False) as file:
        image, label, source = file["image"], file["label"], str(file["source"])
    assert image.shape == (1797, 8, 8) and image.dtype == np.uint8 and (image.min(), image.max()) == (0, 16)
    assert np.bincount(label).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert FILE.stat().st_size < 100_000
    assert "Alpaydin" in source and "CC BY 4.0" in source


def test_split_and_scaled_for_networks_of_32_pixels() -> None:
    splits = digits()
    parts = [splits.data(name) for name in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [1295, 143, 359] and splits.classes == 10
    inputs, _ = parts[2].__getitems__(range(359))
    assert inputs.shape == (359, 3, 32, 32)
    assert abs(float(inputs.mean())) < 0.05 and abs(float(inputs.std()) - 1) < 0.05


def test_the_original_is_there_in_8_pixels() -> None:
    splits = digits(side=8, channels=1)
    with np.load(FILE, allow_pickle=False) as file:
        bright = np.rint(file["image"] * (255 / 16)).astype(np.uint8)
    part = splits.data("test")
    assert torch.equal(part.source.pictures, torch.from_numpy(bright)[:, None])


def test_neighbours_of_the_training_images_tell_the_others() -> None:
    splits = digits(side=8, channels=1)
    train = splits.data("train")
    images = train.source.pictures.flatten(1).float()
    test = splits.data("test")
    nearest = torch.cdist(images[test.index], images[train.index]).argmin(1)
    assert (train.source.labels[train.index[nearest]] == test.source.labels[test.index]).float().mean() > 0.95


@pytest.mark.parametrize(("side", "channels"), [(7, 3), (32, 0)])
def test_sizes_that_there_are_not(side: int, channels: int) -> None:
    with pytest.raises(
        UsageError, match=rf"digits of {side} pixels in {channels} channels: expected at least 8 pixels"
    ):
        digits(side, channels)
