"""CIFAR in each of its formats, found in a folder, and what is refused."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from onnxprune.errors import UsageError
from onnxprune.torch.data.cifar import CIFAR10, CIFAR100, cifar, read_part

COUNT = 20
LABELS = np.arange(COUNT, dtype=np.uint8) % 10
IMAGES = np.random.RandomState(0).randint(0, 256, (COUNT, 3, 32, 32), np.uint8)


def records(path: Path, *labels: np.ndarray, images: np.ndarray = IMAGES) -> None:
    """A file of the binary version."""
    rows = [column[:, None] for column in labels] + [images.reshape(len(images), -1)]
    path.write_bytes(np.concatenate(rows, 1).astype(np.uint8).tobytes())


def binary10(folder: Path) -> None:
    for k in range(5):
        records(folder / f"data_batch_{k + 1}.bin", LABELS[4 * k : 4 * k + 4], images=IMAGES[4 * k : 4 * k + 4])
    records(folder / "test_batch.bin", LABELS)


def binary100(folder: Path) -> None:
    for name in ("train.bin", "test.bin"):
        records(folder / name, LABELS, 10 * LABELS + 9)


def picture(image: np.ndarray, kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(stream, kind)
    return stream.getvalue()


def archive(folder: Path, **changes: np.ndarray) -> None:
    """Lossless, so that pixels can be compared: the format of each picture is told by its own bytes."""
    files = [picture(image, "png") for image in IMAGES]
    fields = {
        "jpeg": np.frombuffer(b"".join(files), np.uint8),
        "offset": np.cumsum([0, *map(len, files)]),
        "label": LABELS,
        "class_name": np.array(list("abcdefghij")),
    }
    for name in ("train", "test"):
        np.savez(folder / f"{name}.npz", **fields | changes)


def by_class(folder: Path) -> None:
    for part in ("train", "test"):
        for k in range(COUNT):
            path = folder / part / "abcdefghij"[LABELS[k]] / f"{k:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture(IMAGES[k], "png"))


FORMATS = [binary10, binary100, archive, by_class]


@pytest.mark.parametrize("write", FORMATS)
@pytest.mark.parametrize("part", ["train", "test"])
def test_all_formats_hold_the_same(tmp_path: Path, write, part: str) -> None:
    write(tmp_path)
    images, targets = read_part(tmp_path, part)
    order = np.argsort(LABELS, kind="stable") if write is by_class else np.arange(COUNT)
    assert torch.equal(images, torch.from_numpy(IMAGES[order])) and images.is_contiguous()
    labels = 10 * LABELS + 9 if write is binary100 else LABELS
    assert targets.tolist() == labels[order].tolist() and targets.dtype == torch.int64


@pytest.mark.parametrize(("write", "classes", "look"), [(binary10, 10, CIFAR10), (binary100, 100, CIFAR100)])
def test_splits(tmp_path: Path, write, classes: int, look) -> None:
    write(tmp_path)
    splits = cifar(tmp_path, validation=0.5, seed=1)
    assert (splits.classes, splits.look) == (classes, look)
    train, validation = (splits.data(name).index.tolist() for name in ("train", "validation"))
    assert sorted(train + validation) == list(range(COUNT)) and len(train) == len(validation)
    assert len(splits.data("test")) == COUNT


@pytest.mark.parametrize(("name", "write"), [("cifar-10-batches-bin", binary10), ("cifar-100-binary", binary100)])
def test_the_folder_in_the_archive_is_found(tmp_path: Path, name: str, write) -> None:
    (tmp_path / name).mkdir()
    write(tmp_path / name)
    assert len(cifar(tmp_path).data("test")) == COUNT


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere: there is no such folder\n  fix: check the path"):
        cifar(tmp_path / "nowhere")


@pytest.mark.parametrize(("file", "got"), [(None, "an empty folder"), ("notes.txt", "other files")])
def test_nothing_there(tmp_path: Path, file: str | None, got: str) -> None:
    if file:
        (tmp_path / file).touch()
    with pytest.raises(UsageError, match=rf"expected CIFAR, got {got}\n  fix: unpack the binary version there"):
        cifar(tmp_path)


@pytest.mark.parametrize("name", ["data_batch_1", "batches.meta", "meta", "cifar-10-python.tar.gz"])
def test_pickles_are_never_opened(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"cos\nsystem\n(S'touch opened'\ntR.")
    with pytest.raises(UsageError, match=r"is pickled: to read it could run any code\n  fix: download the binary"):
        cifar(tmp_path)


def test_arrays_of_objects_are_never_opened(tmp_path: Path) -> None:
    archive(tmp_path, label=np.array([{}] * COUNT, object))
    with pytest.raises(UsageError, match=r"no JPEG archive, or a damaged one: Object arrays cannot be loaded"):
        read_part(tmp_path, "train")


def test_an_archive_to_unpack(tmp_path: Path) -> None:
    (tmp_path / "cifar-100-binary.tar.gz").touch()
    with pytest.raises(UsageError, match=r"is not unpacked\n  fix: tar -xf cifar-100-binary\.tar\.gz"):
        cifar(tmp_path)


def test_two_data_sets(tmp_path: Path) -> None:
    binary10(tmp_path), binary100(tmp_path)
    with pytest.raises(UsageError, match=r"expected one data set, got CIFAR-10, binary in .* and CIFAR-100, binary"):
        cifar(tmp_path)


def test_a_file_is_missing(tmp_path: Path) -> None:
    binary10(tmp_path)
    (tmp_path / "data_batch_3.bin").unlink()
    with pytest.raises(UsageError, match=r"CIFAR-10, binary: data_batch_3\.bin not found\n  fix: copy the missing"):
        cifar(tmp_path)


@pytest.mark.parametrize("size", [0, 3072, 3 * 3073 + 1])
def test_a_truncated_file(tmp_path: Path, size: int) -> None:
    binary10(tmp_path)
    with open(tmp_path / "test_batch.bin", "r+b") as file:
        file.truncate(size)
    with pytest.raises(UsageError, match=rf"test_batch\.bin: truncated: .* records of 3073 bytes, got {size} bytes"):
        read_part(tmp_path, "test")


def test_a_label_of_no_class(tmp_path: Path) -> None:
    binary10(tmp_path)
    records(tmp_path / "data_batch_2.bin", LABELS + 7)
    with pytest.raises(UsageError, match=r"data_batch_2\.bin: label 10: expected 0 to 9\n  fix: download"):
        cifar(tmp_path).data("train")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"\x93NUMPY"], ids=["empty", "cut", "no archive"])
def test_a_damaged_archive(tmp_path: Path, content: bytes) -> None:
    archive(tmp_path)
    (tmp_path / "train.npz").write_bytes(content)
    with pytest.raises(UsageError, match=r"train\.npz: no JPEG archive, or a damaged one: .+\n  fix: download"):
        cifar(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [{"offset": np.arange(COUNT)}, {"label": LABELS[:-1]}, {"label": LABELS * 1.0}, {"jpeg": np.zeros(9, np.uint8)}],
    ids=["offsets", "labels", "fractions", "bytes"],
)
def test_an_archive_that_does_not_fit_together(tmp_path: Path, changes: dict[str, np.ndarray]) -> None:
    archive(tmp_path, **changes)
    with pytest.raises(UsageError, match=r"damaged: `offset` does not cut `jpeg` into one image for each `label`"):
        read_part(tmp_path, "train")


def test_an_archive_with_bytes_that_are_no_image(tmp_path: Path) -> None:
    archive(tmp_path, jpeg=np.zeros(COUNT, np.uint8), offset=np.arange(COUNT + 1))
    with pytest.raises(UsageError, match=r"train\.npz: image 0: cannot be decoded: .+\n  fix: replace"):
        read_part(tmp_path, "train")


def test_an_archive_of_other_images(tmp_path: Path) -> None:
    small = picture(IMAGES[0, :, :16], "png")
    data = np.frombuffer(small * COUNT, np.uint8)
    archive(tmp_path, jpeg=data, offset=np.arange(COUNT + 1) * len(small))
    with pytest.raises(UsageError, match=r"image 0: expected 32x32 pixels, got 32x16"):
        read_part(tmp_path, "train")
