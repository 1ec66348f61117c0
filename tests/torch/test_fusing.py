"""Folded BatchNorms: the same outputs; nothing is folded that others read, too, or whose code cannot be followed."""

import copy

import pytest
import torch
from torch import nn

from models.resnet_cifar import resnet20
from onnxprune.torch.fusing import fuse, fusible
from tests.models.test_architectures import randomize_norms


class Shared(nn.Module):
    """A convolution that is used twice, one that two read, and one whose norm has no statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.twice_norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.read, self.read_norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.plain, self.plain_norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False)
        self.good, self.good_norm = nn.Conv2d(3, 3, 1, bias=False), nn.BatchNorm2d(3)

    def forward(self, x):
        x = self.twice_norm(self.twice(self.twice(x)))
        y = self.read(x)
        return self.good_norm(self.good(self.plain_norm(self.plain(self.read_norm(y) + y))))


class Branching(nn.Module):
    """Code that depends on values."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x):
        return self.norm(self.conv(x)) if x.sum() > 0 else x


@pytest.mark.parametrize("make", [resnet20, Shared])
def test_it_computes_the_same(make):
    torch.manual_seed(0)
    net = make()
    randomize_norms(net)
    fused, x = copy.deepcopy(net).eval(), torch.randn(2, 3, 8, 8)
    fuse(fused, fusible(net))
    with torch.no_grad():
        assert torch.allclose(net.eval()(x), fused(x), rtol=1e-4, atol=1e-5)


def test_all_norms_of_a_residual_network_go():
    net = resnet20()
    pairs = fusible(net)
    fuse(net, pairs)
    assert len(pairs) > 18 and not [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]


def test_only_what_is_read_by_the_norm_alone():
    assert fusible(Shared()) == (("good", "good_norm"),)


def test_what_cannot_be_followed_is_left():
    assert fusible(Branching()) == ()
