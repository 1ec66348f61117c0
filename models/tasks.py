"""Tasks of the CIFAR-10 networks, for `onnxprune slim|chipnet|finetune --task models/tasks.py:resnet20`.

The data set is in the folder that the environment variable CIFAR10 names, in any of its usual formats.
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
from onnxprune.torch.data.images import Splits
from onnxprune.torch.task import Accuracy, Split


class Cifar10:
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
        folder = self.folder or os.environ.get("CIFAR10")
        if not folder:
            raise UsageError("the environment variable CIFAR10 is not set", "set it to the folder of the data set")
        return cifar(Path(folder))

    def model(self) -> nn.Module:
        return self.network()

    def example(self) -> Tensor:
        return torch.zeros(2, 3, 32, 32)

    def data(self, split: Split) -> Dataset:
        data = self.splits.data(split)
        if split != "train" or self.images is None or self.images >= len(data):
            return data
        return Subset(data, torch.linspace(0, len(data) - 1, self.images).round().long().tolist())

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return cross_entropy(outputs, targets)

    def metric(self) -> Accuracy:
        return Accuracy()


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
