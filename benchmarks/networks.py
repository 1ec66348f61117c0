"""The networks in `models/`, at full size and with values that a check can tell apart."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from models.densenet_cifar import densenet40
from models.detection.task import ShapesDetection
from models.googlenet_cifar import googlenet
from models.mobilenetv2_cifar import mobilenetv2
from models.preresnet_cifar import preresnet164
from models.resnet11_cifar import resnet11
from models.resnet_cifar import resnet20, resnet56, resnet110
from models.vgg_cifar import vgg16_bn, vgg19_bn
from models.wrn_cifar import wrn26_12
from models.yolov3 import yolov3

NETWORKS: Mapping[str, tuple[Callable[[], nn.Module], int]] = {
    "resnet11": (resnet11, 32),
    "resnet20": (resnet20, 32),
    "resnet56": (resnet56, 32),
    "resnet110": (resnet110, 32),
    "preresnet164": (preresnet164, 32),
    "wrn26_12": (wrn26_12, 32),
    "vgg16_bn": (vgg16_bn, 32),
    "vgg19_bn": (vgg19_bn, 32),
    "densenet40": (densenet40, 32),
    "googlenet": (googlenet, 32),
    "mobilenetv2": (mobilenetv2, 32),
    "yolov3_shapes": (lambda: ShapesDetection().model(), 96),
    "yolov3": (yolov3, 64),
}
"""By name: what makes the network, and the side of its images in pixels."""


def built(name: str, seed: int = 0) -> tuple[nn.Module, Tensor]:
    """A network in evaluation mode, random BatchNorms included, and an example of two images."""
    make, side = NETWORKS[name]
    torch.manual_seed(seed)
    network, example = make(), torch.randn(2, 3, side, side)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.2)
            nn.init.normal_(module.bias, 0.0, 0.2)
    update_bn([torch.randn(8, 3, side, side)], network)
    return network.eval(), example
