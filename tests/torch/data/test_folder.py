"""Folders of images: layouts, order, decoding, and what is refused."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from onnxprune.errors import UsageError
from onnxprune.torch.data import folder as room
from onnxprune.torch.data.folder import Files, image_folder

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def picture(path: Path, colour: tuple[int, int, int] = RED, size: tuple[int, int] = (8, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def pictures(folder: Path, *classes: str, count: int = 10) -> None:
    for name in classes:
        for k in range(count):
            picture(folder / name / f"{k}.png")


def test_one_folder_is_split_in_three(tmp_path: Path) -> None:
    pictures(tmp_path, "dog", "cat")
    splits = image_folder(tmp_path, side=8)
    parts = [splits.data(name).index.tolist() for name in ("train", "validation", "test")]
    assert splits.classes == 2 and [len(part) for part in parts] == [14, 2, 4]
    assert sorted(k for part in parts for k in part) == list(range(20))


@pytest.mark.parametrize("name", ["val", "validation", "valid"])
def test_parts_of_their_own_are_taken_whole(tmp_path: Path, name: str) -> None:
    pictures(tmp_path / "train", "dog", "cat"), pictures(tmp_path / name, "dog", "cat", count=3)
    splits = image_folder(tmp_path, side=8)
    assert [len(splits.data(part)) for part in ("train", "validation", "test")] == [16, 6, 4]


def test_classes_and_files_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b/2.JPG", "b/10.png", "a/x.jpeg", "a/notes.txt", "a/.hidden.png", ".git/z.png"):
        if name.endswith("txt"):
            (tmp_path / name).touch()
        else:
            picture(tmp_path / name)
    source = room.labelled(tmp_path, ["a", "b"], 8)
    assert [str(path.relative_to(tmp_path)) for path in source.pictures.paths] == ["a/x.jpeg", "b/10.png", "b/2.JPG"]
    assert source.labels.tolist() == [0, 1, 1]


def test_the_middle_is_cut_out_and_resized(tmp_path: Path) -> None:
    wide = Image.new("RGB", (40, 16), RED)
    wide.paste(Image.new("RGB", (16, 16), BLUE), (12, 0))
    wide.save(tmp_path / "wide.png")
    (image,) = Files((tmp_path / "wide.png",), 8)[torch.tensor([0])]
    assert image.shape == (3, 8, 8) and image.dtype == torch.uint8
    assert (image[:, :, 1:-1] == torch.tensor(BLUE).view(3, 1, 1)).all()


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_any_kind_of_picture_becomes_three_channels(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    Image.new("RGB", (8, 8), (255, 255, 255)).convert(mode).save(path)
    assert Files((path,), 8)[torch.tensor([0])].unique().tolist() == [255]


def test_turned_as_the_camera_says(tmp_path: Path) -> None:
    image = Image.new("RGB", (8, 8), GREEN)
    image.paste(Image.new("RGB", (8, 4), RED), (0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise: what is at the top belongs to the right
    image.save(tmp_path / "x.png", exif=exif)
    (got,) = Files((tmp_path / "x.png",), 8)[torch.tensor([0])]
    assert got[:, 0, 0].tolist() == list(GREEN) and got[:, 0, -1].tolist() == list(RED)


def test_files_are_opened_when_they_are_asked_for(tmp_path: Path) -> None:
    pictures(tmp_path / "train", "a"), pictures(tmp_path / "test", "a")
    (tmp_path / "test" / "a" / "3.png").write_bytes(b"no image")
    data = image_folder(tmp_path, side=8).data("test")
    assert data[2][0].shape == (3, 8, 8)
    with pytest.raises(UsageError, match=r"3\.png: cannot be decoded: .+\n  fix: replace the image, or remove it"):
        data[3]


@pytest.mark.parametrize("kind", ["png", "jpg", "bmp"])
def test_a_truncated_image(tmp_path: Path, kind: str) -> None:
    noise = np.random.RandomState(0).randint(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / f"x.{kind}")
    content = (tmp_path / f"x.{kind}").read_bytes()
    (tmp_path / f"x.{kind}").write_bytes(content[: len(content) // 2])
    with pytest.raises(UsageError, match=rf"x\.{kind}: cannot be decoded: .*truncated"):
        Files((tmp_path / f"x.{kind}",), 8)[torch.tensor([0])]


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere: there is no such folder\n  fix: check the path"):
        image_folder(tmp_path / "nowhere")


def test_no_classes(tmp_path: Path) -> None:
    picture(tmp_path / "1.png")
    with pytest.raises(UsageError, match=r"expected a sub-folder for each class, got none\n  fix: put the images into"):
        image_folder(tmp_path)


def test_no_training_images(tmp_path: Path) -> None:
    pictures(tmp_path / "val", "a"), pictures(tmp_path / "test", "a")
    with pytest.raises(UsageError, match=r"has val, test but no train\n  fix: put the images into folder/train"):
        image_folder(tmp_path)


def test_two_folders_for_one_part(tmp_path: Path) -> None:
    pictures(tmp_path / "train", "a"), pictures(tmp_path / "val", "a"), pictures(tmp_path / "valid", "a")
    with pytest.raises(UsageError, match=r"several folders for validation\n  fix: keep one of val, valid"):
        image_folder(tmp_path)


def test_an_empty_class(tmp_path: Path) -> None:
    pictures(tmp_path, "a")
    (tmp_path / "b").mkdir()
    with pytest.raises(UsageError, match=r"b: has no images \(.*\.png.*\)\n  fix: add some, or remove the class"):
        image_folder(tmp_path, side=8).data("train")


def test_a_class_that_is_not_trained(tmp_path: Path) -> None:
    pictures(tmp_path / "train", "a"), pictures(tmp_path / "test", "a", "b")
    with pytest.raises(UsageError, match=r"test/b: there are no training images of this class\n  fix: remove it"):
        image_folder(tmp_path, side=8).data("test")


def test_without_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(UsageError, match=r"images in files need pillow\n  fix: pip install pillow"):
        image_folder(tmp_path)
