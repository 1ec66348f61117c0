"""Scales of units: read from normalisations and gates, combined where units have several."""

import numpy as np
import pytest
import torch
from torch import nn

from onnxprune.errors import ModelError
from onnxprune.selection import STRATEGIES
from onnxprune.torch.binding import bind
from onnxprune.torch.gates import Gated
from onnxprune.torch.scales import Scales

EXAMPLE = torch.zeros(2, 3, 8, 8)


class Residual(nn.Module):
    """Two normalised convolutions whose outputs are added, a third between, and a plain one at the end."""

    def __init__(self):
        super().__init__()
        self.stem, self.bn0 = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv1, self.bn1 = nn.Conv2d(4, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.conv2, self.bn2 = nn.Conv2d(6, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.plain = nn.Conv2d(4, 5, 1)
        self.head = nn.Conv2d(5, 2, 1)

    def forward(self, x):
        x = torch.relu(self.bn0(self.stem(x)))
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return self.head(torch.relu(self.plain(x + y)))


@pytest.fixture
def net():
    torch.manual_seed(0)
    net = Residual()
    for norm in (net.bn0, net.bn1, net.bn2):
        nn.init.normal_(norm.weight)
    return net


def of(scales, name):
    return scales.by_group(scales.read())[name]


@pytest.mark.parametrize(("combine", "function"), [("max", np.maximum), ("mean", lambda a, b: (a + b) / 2)])
def test_coupled_units_have_the_largest_or_the_mean(net, combine, function):
    scales = Scales(net, bind(net, EXAMPLE), combine=combine)
    first, second = (norm.weight.detach().abs().numpy() for norm in (net.bn0, net.bn2))
    np.testing.assert_allclose(of(scales, "stem"), function(first, second), rtol=1e-6)
    np.testing.assert_allclose(of(scales, "conv1"), net.bn1.weight.detach().abs().numpy(), rtol=1e-6)


def test_groups_without_normalisation_are_left_out(net):
    scales = Scales(net, bind(net, EXAMPLE))
    assert sorted(scales.groups) == ["conv1", "stem"]
    assert scales.own.sum() == 10 and scales.units == 15


def test_gates_scale_them_instead(net):
    gated = Gated(net, bind(net, EXAMPLE))
    scales = Scales(gated, gated.binding)
    with torch.no_grad():
        gated.gates.copy_(torch.arange(15.0))
    first = gated.consumption.first["plain"]
    assert of(scales, "plain").tolist() == list(range(first, first + 5))
    np.testing.assert_allclose(of(scales, "conv1"), net.bn1.weight.detach().abs().numpy(), rtol=1e-6)
    assert scales.own.all()


def test_frozen_scales_are_none(net):
    net.bn1.weight.requires_grad_(False)
    assert Scales(net, bind(net, EXAMPLE)).groups == ["stem"]
    gated = Gated(net, bind(net, EXAMPLE))
    scales = Scales(gated, gated.binding)
    assert scales.own.all() and all(part.parameter is not net.bn1.weight for part in scales.parts)


def test_only_the_groups_asked_for(net):
    scales = Scales(net, bind(net, EXAMPLE), groups={"conv1"})
    assert [part.parameter is net.bn1.weight for part in scales.parts] == [True]


def test_values_reach_the_elements_of_their_units(net):
    scales = Scales(net, bind(net, EXAMPLE), groups={"stem"})
    found = list(scales.elementwise(np.arange(scales.units, dtype=np.float32)))
    start = scales.first["stem"]
    assert [p is n.weight for (p, _), n in zip(found, (net.bn0, net.bn2), strict=True)] == [True, True]
    assert all(values.tolist() == list(range(start, start + 4)) for _, values in found)


def test_concatenated_groups_share_a_normalisation():
    class Dense(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 2, 1)
            self.bn, self.head = nn.BatchNorm2d(6), nn.Conv2d(6, 2, 1)

        def forward(self, x):
            return self.head(self.bn(torch.cat([self.a(x), self.b(x)], 1)))

    net = Dense()
    nn.init.normal_(net.bn.weight)
    scales, gamma = Scales(net, bind(net, EXAMPLE)), net.bn.weight.detach().abs().numpy()
    np.testing.assert_allclose(of(scales, "a"), gamma[:4])
    np.testing.assert_allclose(of(scales, "b"), gamma[4:])


def test_no_scales_at_all_is_refused():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    with pytest.raises(ModelError, match="none of the groups has a normalisation") as error:
        Scales(net, bind(net, EXAMPLE))
    assert "Gated" in error.value.fix


def test_strategies(net):
    analysis = bind(net, EXAMPLE).analysis
    assert STRATEGIES["slim"].groups(analysis) == {"stem", "conv1", "plain"}
    assert STRATEGIES["uncoupled"].groups(analysis) == {"conv1", "plain"}
    assert STRATEGIES["regular"].round_to == 8 and STRATEGIES["shortcut"].combine == "mean"
