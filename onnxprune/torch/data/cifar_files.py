"""CIFAR's files as tensors: images `uint8 (N, 3, 32, 32)` and labels `int64 (N,)`. UsageError for damaged ones."""

import io
import zipfile
import zlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from onnxprune.errors import UsageError
from onnxprune.torch.data.folder import class_names, decode, labelled, require_pillow

SIDE = 32
AGAIN = "download or copy it again"
_UNREADABLE = (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile, zlib.error)
"""What numpy raises for an archive that is none, or damaged."""


def records(path: Path, labels: int) -> tuple[Tensor, Tensor]:
    """The binary version: for every image some bytes of labels, of which the last counts, then red, green and blue."""
    size = labels + 3 * SIDE * SIDE
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}", "check the file's permissions") from error
    if not len(data) or len(data) % size:
        raise UsageError(f"{path}: truncated: expected records of {size} bytes, got {len(data)} bytes", AGAIN)
    rows = torch.from_numpy(data).view(-1, size)
    return rows[:, labels:].reshape(-1, 3, SIDE, SIDE), rows[:, labels - 1].long()


def jpegs(path: Path) -> tuple[Tensor, Tensor]:
    """A JPEG archive, described at `cifar`."""
    require_pillow()
    data, offset, label = fields(path, "jpeg", "offset", "label")
    whole = all(a.ndim == 1 and a.dtype.kind in "iu" for a in (data, offset, label))
    if not whole or len(offset) != len(label) + 1 or not len(label) or offset[0] != 0 or offset[-1] != len(data):
        raise UsageError(f"{path}: damaged: `offset` does not cut `jpeg` into one image for each `label`", AGAIN)
    stream, images = data.tobytes(), np.empty((len(label), SIDE, SIDE, 3), np.uint8)
    for number, (start, end) in enumerate(pairwise(offset.tolist())):
        image = decode(io.BytesIO(stream[start:end]), f"{path}: image {number}")
        if image.size != (SIDE, SIDE):
            size = f"{image.width}x{image.height}"
            raise UsageError(f"{path}: image {number}: expected {SIDE}x{SIDE} pixels, got {size}", AGAIN)
        images[number] = np.asarray(image)
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(label.astype(np.int64))


def fields(path: Path, *names: str) -> list[np.ndarray]:
    """Some arrays of an archive."""
    try:
        # numpy would leave a damaged file open.
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            return [file[name] for name in names]
    except _UNREADABLE as error:
        raise UsageError(f"{path}: no JPEG archive, or a damaged one: {error}", AGAIN) from error


def images_by_class(path: Path) -> tuple[Tensor, Tensor]:
    """A sub-folder for each class, of those that the folder `train` beside it has; other sizes become 32x32."""
    require_pillow()
    files = labelled(path, class_names(path.with_name("train")), SIDE)
    return files.pictures[torch.arange(len(files.labels))], files.labels
