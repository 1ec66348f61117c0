"""The CIFAR tasks fit the loop's protocol, on a data set of a few made-up images."""

import numpy as np
import pytest
import torch

from models import tasks
from models.resnet_cifar import resnet20
from onnxprune.errors import UsageError
from onnxprune.torch.task import load_task

NAMES = [name for name, value in vars(tasks).items() if getattr(value, "func", None) is tasks.Cifar10]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """CIFAR-10's binary version, 20 images in each of its files."""
    rng = np.random.default_rng(0)
    for name in (*[f"data_batch_{k}.bin" for k in range(1, 6)], "test_batch.bin"):
        rows = rng.integers(0, 256, (20, 3073), np.uint8)
        rows[:, 0] = np.arange(20) % 10
        (tmp_path / name).write_bytes(rows.tobytes())
    monkeypatch.setenv("CIFAR10", str(tmp_path))
    return tmp_path


def test_there_is_one_for_every_network():
    assert len(NAMES) == 10 and {"resnet20", "vgg19_bn", "densenet40"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_networks_take_the_example(name):
    with torch.device("meta"):
        task = load_task(f"models.tasks:{name}")
        logits = task.model().eval()(task.example())
    assert logits.shape == (2, 10)


def test_data(folder):
    task = tasks.Cifar10(resnet20, images=50)
    assert [len(task.data(split)) for split in ("train", "validation", "test")] == [50, 10, 20]
    images, labels = task.data("train").__getitems__([0, 1, 2])
    assert images.shape == (3, 3, 32, 32) and labels.shape == (3,)
    assert len(tasks.Cifar10(resnet20).data("train")) == 90


def test_a_folder_of_photos(tmp_path, monkeypatch):
    image = pytest.importorskip("PIL.Image")
    for name in ("cat", "dog", "eel"):
        (tmp_path / name).mkdir()
        for number in range(10):
            pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3), np.uint8)
            image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    monkeypatch.setenv("PHOTOS", str(tmp_path))
    task = load_task("models.tasks:photos")
    images, labels = task.data("train").__getitems__([0, 1])
    assert images.shape == (2, 3, 64, 64) and labels.shape == (2,)
    outputs = task.model().eval()(images)
    assert outputs.shape == (2, 3) and task.loss(outputs, labels).ndim == 0
    assert sum(len(task.data(split)) for split in ("train", "validation", "test")) == 30


def test_without_a_folder_the_fix_is_named(monkeypatch):
    monkeypatch.delenv("CIFAR10", raising=False)
    with pytest.raises(UsageError, match="environment variable CIFAR10 is not set"):
        tasks.Cifar10(resnet20).data("train")
