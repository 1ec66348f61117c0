"""Statistics measured anew: the plain averages over the batches, and nothing else of the network changes."""

import pytest
import torch
from torch import nn

from onnxprune.torch.recalibration import kept_statistics, recalibrate


@pytest.fixture
def network():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, momentum=0.3), nn.Dropout(), nn.BatchNorm2d(4, affine=False)
    )
    net[0].eval()
    return net


def test_they_are_the_averages_over_the_batches(network):
    batches = [torch.randn(8, 3, 5, 5) + k for k in range(3)]
    recalibrate(network, batches)
    seen = [network[0](x) for x in batches]
    assert torch.allclose(network[1].running_mean, torch.stack([y.mean((0, 2, 3)) for y in seen]).mean(0), atol=1e-5)
    assert torch.allclose(network[1].running_var, torch.stack([y.var((0, 2, 3)) for y in seen]).mean(0), atol=1e-5)
    # Dropout did nothing: what the second one saw was normalised with the batch's own statistics.
    assert torch.allclose(network[3].running_mean, torch.zeros(4), atol=1e-5)
    assert network[3].running_var.sub(1).abs().max() < 0.02


def test_a_smaller_batch_counts_for_less(network):
    batches = [torch.randn(8, 3, 5, 5), torch.randn(2, 3, 5, 5) + 5]
    recalibrate(network, batches)
    means = [network[0](x).mean((0, 2, 3)) for x in batches]
    assert torch.allclose(network[1].running_mean, 0.8 * means[0] + 0.2 * means[1], atol=1e-5)


def test_modes_momenta_and_weights_stay(network):
    weights = [p.clone() for p in network.parameters()]
    recalibrate(network, [torch.randn(8, 3, 5, 5)])
    assert [m.training for m in network] == [False, True, True, True] and network[1].momentum == 0.3
    assert all(torch.equal(a, b) for a, b in zip(weights, network.parameters(), strict=True))


def test_statistics_come_back(network):
    before = {name: b.clone() for name, b in network.named_buffers()}
    with kept_statistics(network):
        recalibrate(network, [torch.randn(8, 3, 5, 5)])
        assert not torch.equal(network[1].running_mean, before["1.running_mean"])
    assert all(torch.equal(b, before[name]) for name, b in network.named_buffers())


def test_a_network_without_statistics_is_left_alone():
    network = nn.Linear(2, 2)
    before = network.weight.clone()
    recalibrate(network, [torch.ones(1, 2)])
    assert torch.equal(network.weight, before) and network.training
