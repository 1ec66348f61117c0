"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009), in whatever format a folder holds them; read into memory as a whole.

Their own Python version is refused: it is pickled, and to read a pickle is to run what it says.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from onnxprune.errors import UsageError
from onnxprune.torch.data.cifar_files import AGAIN, fields, images_by_class, jpegs, records
from onnxprune.torch.data.folder import class_names
from onnxprune.torch.data.images import Labelled, Look, Splits
from onnxprune.torch.task import Split

CIFAR10 = Look((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
CIFAR100 = Look((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))

Part = Literal["train", "test"]

UNPACKED = ("cifar-10-batches-bin", "cifar-100-binary")
"""Folders that the archives of the binary version hold."""
PACKED = ("cifar-10-binary.tar.gz", "cifar-100-binary.tar.gz")
PICKLED = frozenset(
    {"data_batch_1", "batches.meta", "cifar-10-batches-py", "cifar-10-python.tar.gz"}
    | {"meta", "cifar-100-python", "cifar-100-python.tar.gz"}
)


@dataclass(frozen=True)
class Format:
    """How CIFAR lies in a folder.

    Attributes:
        name: for messages.
        files: of each part, by name; a folder's name ends in a slash.
        count: of the classes, from the first training file.
        read: a file's images `uint8 (N, 3, 32, 32)` and labels `int64 (N,)`; UsageError if it is damaged.
    """

    name: str
    files: Mapping[Part, tuple[str, ...]]
    count: Callable[[Path], int]
    read: Callable[[Path], tuple[Tensor, Tensor]]

    def missing(self, folder: Path) -> list[str]:
        """Which of the files are not there."""
        names = [name for names in self.files.values() for name in names]
        return [n for n in names if not (folder / n).exists() or (folder / n).is_dir() != n.endswith("/")]

    def present(self, folder: Path) -> bool:
        """Whether any of the files is there."""
        return len(self.missing(folder)) < sum(map(len, self.files.values()))

    def classes(self, folder: Path) -> int:
        """How many classes there are."""
        return self.count(folder / self.files["train"][0])

    def tensors(self, folder: Path, part: Part) -> tuple[Tensor, Tensor]:
        """Images and labels of all files of the part; UsageError for labels of no class."""
        classes = self.classes(folder)
        pieces = [_checked(folder / name, classes, *self.read(folder / name)) for name in self.files[part]]
        images, labels = zip(*pieces, strict=True)
        return torch.cat(images), torch.cat(labels)

    def source(self, folder: Path, part: Part) -> Labelled:
        """The same as something to split."""
        return Labelled(*self.tensors(folder, part))


def cifar(folder: Path, validation: float = 0.1, seed: int = 0) -> Splits:
    """The data set in `folder`: the binary version, JPEG archives, or images in `train/<class>/` and `test/<class>/`.

    JPEG archives, `train.npz` and `test.npz`, hold `jpeg` (the files' bytes, end to end), `offset` (where each
    begins, and the end of the last), `label` and `class_name`. All classes of CIFAR-100 are told apart, not just
    its 20 superclasses.

    Args:
        folder: with the files, or with the folder that the binary version comes in.
        validation: share of the training images, of every class the same, that is kept out of training.
        seed: of that choice.

    Raises:
        UsageError: there is no CIFAR in the folder, more than one, or it is incomplete, damaged or pickled.
    """
    place, form = _find(folder)
    classes = form.classes(place)
    parts: dict[Split, Callable[[], Labelled]] = {part: partial(form.source, place, part) for part in form.files}
    return Splits(parts, classes, CIFAR100 if classes == 100 else CIFAR10, validation, seed)


def read_part(folder: Path, part: Part) -> tuple[Tensor, Tensor]:
    """Images `uint8 (N, 3, 32, 32)` and labels `int64 (N,)` of the whole part; raises as `cifar` does."""
    place, form = _find(folder)
    return form.tensors(place, part)


def _checked(path: Path, classes: int, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    wrong = labels[(labels < 0) | (labels >= classes)]
    if len(wrong):
        raise UsageError(f"{path}: label {int(wrong[0])}: expected 0 to {classes - 1}", AGAIN)
    return images, labels


def _find(folder: Path) -> tuple[Path, Format]:
    """Where in the folder the files are, and their format."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: there is no such folder", "check the path")
    places = [folder, *(folder / name for name in UNPACKED)]
    found = [(place, form) for place in places for form in FORMATS if form.present(place)]
    if not found:
        raise _nothing(folder)
    if len(found) > 1:
        names = " and ".join(f"{form.name} in {place}" for place, form in found)
        raise UsageError(f"{folder}: expected one data set, got {names}", "put each into a folder of its own")
    place, form = found[0]
    if missing := form.missing(place):
        raise UsageError(f"{place}: {form.name}: {', '.join(missing)} not found", "copy the missing files there, too")
    return place, form


def _nothing(folder: Path) -> UsageError:
    names = {entry.name for entry in folder.iterdir()}
    if names & PICKLED:
        return UsageError(
            f"{folder}: this is CIFAR's Python version, which is pickled: to read it could run any code",
            f"download the binary version ({' or '.join(PACKED)}), and unpack it",
        )
    if packed := sorted(names.intersection(PACKED)):
        return UsageError(f"{folder}: {packed[0]} is not unpacked", f"tar -xf {packed[0]}")
    return UsageError(
        f"{folder}: expected CIFAR, got {'other files' if names else 'an empty folder'}",
        f"unpack the binary version there ({' or '.join(PACKED)}); for other images use image_folder",
    )


FORMATS = (
    Format(
        "CIFAR-10, binary",
        {"train": tuple(f"data_batch_{k}.bin" for k in range(1, 6)), "test": ("test_batch.bin",)},
        lambda path: 10,
        partial(records, labels=1),
    ),
    Format(
        "CIFAR-100, binary",
        {"train": ("train.bin",), "test": ("test.bin",)},
        lambda path: 100,
        partial(records, labels=2),
    ),
    Format(
        "JPEG archives",
        {"train": ("train.npz",), "test": ("test.npz",)},
        lambda path: fields(path, "class_name")[0].size,
        jpegs,
    ),
    Format(
        "images by class",
        {"train": ("train/",), "test": ("test/",)},
        lambda path: len(class_names(path)),
        images_by_class,
    ),
)
