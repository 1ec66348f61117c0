"""Folders of images, a sub-folder for each class, decoded when they are needed.

    photos/train/cat/1.jpg     or     photos/cat/1.jpg
    photos/val/cat/2.jpg              photos/dog/2.jpg
    photos/test/cat/3.jpg

What is missing of `val` and `test` (both, on the right) is taken from the training images. Classes are numbered in the
order of their names. An image is turned as its EXIF data says, its middle is cut out as a square and resized.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import torch
from torch import Tensor

from onnxprune.errors import UsageError
from onnxprune.torch.data.images import Labelled, Look, Splits
from onnxprune.torch.task import Split

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
NAMES: dict[Split, tuple[str, ...]] = {
    "train": ("train",),
    "validation": ("val", "validation", "valid"),
    "test": ("test",),
}
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of its red, green and blue, which most networks for photos expect."""
_LAYOUT = "put the images into folder/train/<class>/, or into folder/<class>/"


@dataclass(frozen=True)
class Files:
    """Image files, to be picked from like a tensor; each becomes `(3, side, side)`."""

    paths: tuple[Path, ...]
    side: int

    def __getitem__(self, index: Tensor) -> Tensor:
        """`uint8 (B, 3, side, side)`; UsageError for a file that cannot be decoded."""
        images = np.stack([self._square(self.paths[k]) for k in index.tolist()])
        return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()

    def _square(self, path: Path) -> np.ndarray:
        from PIL import Image, ImageOps

        fitted = ImageOps.fit(decode(path, str(path)), (self.side, self.side), Image.Resampling.BILINEAR)
        return np.asarray(fitted)


def image_folder(path: Path, side: int = 224, validation: float = 0.1, seed: int = 0) -> Splits:
    """The images below `path`, `(3, side, side)`.

    Args:
        path: has folders `train`, `val` and `test`, or at least the first; or else the classes themselves.
        side: in pixels.
        validation: share of the training images, where there is no `val`; stratified.
        seed: of that choice.

    Raises:
        UsageError: there are no such folders, a class has no images, or pillow is not installed.
    """
    require_pillow()
    folders = _parts(path)
    classes = class_names(folders["train"])
    parts = {split: partial(labelled, folder, classes, side) for split, folder in folders.items()}
    look = Look(*IMAGENET, pad=side // 8)
    return Splits(parts, len(classes), look, validation, seed)


def _parts(path: Path) -> dict[Split, Path]:
    if not path.is_dir():
        raise UsageError(f"{path}: there is no such folder", "check the path")
    found = {split: [path / n for n in names if (path / n).is_dir()] for split, names in NAMES.items()}
    for split, folders in found.items():
        if len(folders) > 1:
            raise UsageError(f"{path}: has several folders for {split}", f"keep one of {_listed(folders)}")
    given = {split: folders[0] for split, folders in found.items() if folders}
    if given and "train" not in given:
        raise UsageError(f"{path}: has {_listed(given.values())} but no train", _LAYOUT)
    return given or {"train": path}


def _listed(folders: Iterable[Path]) -> str:
    return ", ".join(folder.name for folder in folders)


def class_names(folder: Path) -> list[str]:
    """Sub-folders, sorted, without hidden ones.

    Raises:
        UsageError: there are none.
    """
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise UsageError(f"{folder}: expected a sub-folder for each class, got none", _LAYOUT)
    return names


def labelled(folder: Path, classes: Sequence[str], side: int) -> Labelled:
    """The images of the classes' sub-folders, in the order of classes and names; other files are left out.

    Raises:
        UsageError: `folder` has a class that is not in `classes`, or a class without images.
    """
    for name in class_names(folder):
        if name not in classes:
            raise UsageError(f"{folder / name}: there are no training images of this class", "remove it, or add some")
    files = [_images(folder / name) for name in classes]
    for name, found in zip(classes, files, strict=True):
        if not found:
            kinds = ", ".join(sorted(SUFFIXES))
            raise UsageError(f"{folder / name}: has no images ({kinds})", "add some, or remove the class everywhere")
    labels = torch.arange(len(classes)).repeat_interleave(torch.tensor([len(found) for found in files]))
    return Labelled(Files(tuple(path for found in files for path in found), side), labels)


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))


def decode(source: Path | BinaryIO, name: str) -> "Image":
    """An image in red, green and blue, turned as its EXIF data says; `name` is for the error.

    Raises:
        UsageError: it cannot be read, or is no image.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(source) as image:
            ImageOps.exif_transpose(image, in_place=True)
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UsageError(f"{name}: cannot be decoded: {error}", "replace the image, or remove it") from error


def require_pillow() -> None:
    """UsageError where pillow is not installed."""
    try:
        import PIL  # noqa: F401
    except ImportError as error:
        raise UsageError("images in files need pillow", "pip install pillow") from error
