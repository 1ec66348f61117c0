"""Tasks of the CIFAR networks, for `onnxprune slim|chipnet|finetune|search --task models/tasks.py:resnet20`.

CIFAR-10 is in the folder that the environment variable CIFAR10 names, in any of its usual formats. `photos` is for a
folder of images of your own, which PHOTOS names: a sub-folder for each class (see `onnxprune.torch.data.folder`).
"""

import os
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset, Subset

from models import (
    densenet_cifar,
    googlenet_cifar,
    mobilenetv2_cifar,
    preresnet_cifar,
    resnet_cifar,
    vgg_cifar,
    wrn_cifar,
)
from onnxprune.errors import UsageError
from onnxprune.torch.data.cifar import cifar
from onnxprune.torch.data.folder import image_folder
from onnxprune.torch.data.images import Splits
from onnxprune.torch.task import Accuracy, Split


def named_folder(variable: str) -> Path:
    """The folder that an environment variable names.

    Raises:
        UsageError: it is not set.
    """
    if not (folder := os.environ.get(variable)):
        raise UsageError(f"the environment variable {variable} is not set", "set it to the folder of the data set")
    return Path(folder)


class Classification:
    """What tasks of classes share."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return cross_entropy(outputs, targets)

    def metric(self) -> Accuracy:
        return Accuracy()


class Cifar10(Classification):
    """To tell ten classes of images of 32x32 pixels apart.

    Attributes:
        network: makes a fresh one.
        folder: of the data; by default what CIFAR10 names.
        images: so many of the training images are used, evenly picked; all by default.
    """

    def __init__(self, network: Callable[[], nn.Module], folder: Path | None = None, images: int | None = None):
        self.network, self.folder, self.images = network, folder, images

    @cached_property
    def splits(self) -> Splits:
        return cifar(self.folder or named_folder("CIFAR10"))

    def model(self) -> nn.Module:
        return self.network()

    def example(self) -> Tensor:
        return torch.zeros(2, 3, 32, 32)

    def data(self, split: Split) -> Dataset:
        data = self.splits.data(split)
        if split != "train" or self.images is None or self.images >= len(data):
            return data
        return Subset(data, torch.linspace(0, len(data) - 1, self.images).round().long().tolist())


class Photos(Classification):
    """To tell the classes of a folder of images apart.

    Attributes:
        network: makes a fresh one for so many classes.
        folder: of the images; by default what PHOTOS names.
        side: of the squares that are cut out and resized, in pixels.
    """

    def __init__(self, network: Callable[[int], nn.Module], folder: Path | None = None, side: int = 64):
        self.network, self.folder, self.side = network, folder, side

    @cached_property
    def splits(self) -> Splits:
        return image_folder(self.folder or named_folder("PHOTOS"), self.side)

    def model(self) -> nn.Module:
        return self.network(self.splits.classes)

    def example(self) -> Tensor:
        return torch.zeros(2, 3, self.side, self.side)

    def data(self, split: Split) -> Dataset:
        return self.splits.data(split)


resnet20 = partial(Cifar10, resnet_cifar.resnet20)
resnet56 = partial(Cifar10, resnet_cifar.resnet56)
resnet110 = partial(Cifar10, resnet_cifar.resnet110)
preresnet164 = partial(Cifar10, preresnet_cifar.preresnet164)
wrn26_12 = partial(Cifar10, wrn_cifar.wrn26_12)
vgg16_bn = partial(Cifar10, vgg_cifar.vgg16_bn)
vgg19_bn = partial(Cifar10, vgg_cifar.vgg19_bn)
densenet40 = partial(Cifar10, densenet_cifar.densenet40)
googlenet = partial(Cifar10, googlenet_cifar.googlenet)
mobilenetv2 = partial(Cifar10, mobilenetv2_cifar.mobilenetv2)
photos = partial(Photos, mobilenetv2_cifar.mobilenetv2)
