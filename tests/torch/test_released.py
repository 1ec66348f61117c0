"""ChipNet as released: gates on BatchNorms' outputs, its formulas by hand, its threshold, and a proven mask."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from onnxprune.errors import ModelError
from onnxprune.mask import read_mask, removed_units
from onnxprune.resources import RESOURCES
from onnxprune.torch.binding import bind
from onnxprune.torch.chipnet import ChipNet
from onnxprune.torch.jobs import Place
from onnxprune.torch.methods import Chips, chip
from onnxprune.torch.recipe import Recipe
from onnxprune.torch.released import ReleasedGates
from onnxprune.torch.tasks import Digits

SIDE, WIDE, NARROW, CLASSES = 5, 6, 4, 3


class Net(nn.Module):
    """A stem, a block with a shortcut, a classifier."""

    def __init__(self):
        super().__init__()
        self.stem, self.bn0 = nn.Conv2d(3, WIDE, 3, padding=1, bias=False), nn.BatchNorm2d(WIDE)
        self.conv1, self.bn1 = nn.Conv2d(WIDE, NARROW, 3, padding=1, bias=False), nn.BatchNorm2d(NARROW)
        self.conv2, self.bn2 = nn.Conv2d(NARROW, WIDE, 3, padding=1, bias=False), nn.BatchNorm2d(WIDE)
        self.head = nn.Linear(WIDE, CLASSES)

    def forward(self, x):
        x = functional.relu(self.bn0(self.stem(x)))
        y = functional.relu(self.bn1(self.conv1(x)))
        return self.head(functional.relu(x + self.bn2(self.conv2(y))).mean((2, 3)))


@pytest.fixture
def network():
    torch.manual_seed(0)
    net = Net().eval()
    with torch.no_grad():
        for name, p in net.named_parameters():
            if name.startswith("bn"):
                p.uniform_(0.5, 1.5)
    return ReleasedGates(net, bind(net, torch.zeros(1, 3, SIDE, SIDE)))


def by_norm(network, values):
    parts = values.split([len(gate.units) for gate in network.norms])
    return {gate.scale.split(".")[0]: part for gate, part in zip(network.norms, parts, strict=True)}


def test_gates_are_on_the_output_of_every_batch_norm(network):
    assert len(network.gates) == 2 * WIDE + NARROW and not network.open.any()
    with torch.no_grad():
        network.gates.normal_()
    z, net = by_norm(network, network.values()), network.module
    hooks = [
        getattr(net, name).register_forward_hook(lambda m, i, out, z=z[name]: out * z.view(1, -1, 1, 1)) for name in z
    ]
    x = torch.randn(2, 3, SIDE, SIDE)
    expected = net(x)
    for hook in hooks:
        hook.remove()
    assert torch.allclose(network(x), expected, atol=1e-6) and not torch.allclose(net(x), expected, atol=1e-3)


def formula(resource, r0, r1, r2):
    """The appendix's sums; the shortcut's width is the largest of its layers' own counts."""
    area, shared = SIDE * SIDE, max(r0, r2)
    if resource == "channels":
        return r0 + r1 + r2
    if resource == "volume":
        return area * (r0 + r1 + r2)
    weights = 9 * (3 * r0 + shared * r1 + r1 * r2)
    if resource == "params":
        return weights + shared * CLASSES
    return area * weights + shared * CLASSES + area * (r0 + r1 + r2) + CLASSES


@pytest.mark.parametrize("resource", RESOURCES)
def test_the_budget_is_the_published_formula(network, resource):
    usage, generator = network.usage(resource), torch.Generator().manual_seed(0)
    for _ in range(5):
        hard = (torch.rand(len(network.gates), generator=generator) < 0.6).float()
        z = by_norm(network, hard)
        expected = formula(resource, *(float(z[name].sum()) for name in ("bn0", "bn1", "bn2")))
        assert usage(hard).item() == pytest.approx(expected / formula(resource, WIDE, NARROW, WIDE), rel=1e-6)


@pytest.mark.parametrize("resource", RESOURCES)
def test_the_last_threshold_is_kept(network, resource):
    torch.manual_seed(3)
    with torch.no_grad():
        network.gates.normal_()
    hook = ChipNet(network, resource, 0.5)
    mask, hard = hook.harden()
    values = network.values()
    assert values[hard > 0].min() > values[hard == 0].max()
    share, step = hook.budget.usage(hard).item(), 0.25
    assert abs(share - 0.5) < step
    z = by_norm(network, hard)
    either = (z["bn0"] + z["bn2"]).numpy() > 0
    kept = {g.size: g.kept for g in mask.groups}
    assert np.array_equal(kept[WIDE], either) and np.array_equal(kept[NARROW], z["bn1"].numpy() > 0)
    assert mask.provenance["compat"] == "released"


def test_a_layer_that_is_shut_keeps_the_unit_of_the_largest_gate(network):
    with torch.no_grad():
        network.gates.fill_(3)
        by_norm(network, network.gates)["bn1"].copy_(torch.tensor([-9.0, -7, -5, -8]))
    mask, hard = ChipNet(network, "channels", 0.75).harden()
    assert by_norm(network, hard)["bn1"].sum() == 0
    assert next(g.kept for g in mask.groups if g.size == NARROW).tolist() == [False, False, True, False]


def test_units_that_one_layer_shuts_have_zeros_there(network):
    hard = torch.ones(len(network.gates))
    by_norm(network, hard)["bn2"][2] = 0
    state = network.state_of(hard)
    assert state["bn2.weight"][2] == 0 and state["bn2.bias"][2] == 0 and state["bn0.weight"][2] != 0
    network.module.load_state_dict(state)
    with network.hardened(torch.ones_like(hard)):
        x = torch.randn(2, 3, SIDE, SIDE)
        assert torch.allclose(network(x), network.module(x))


def test_a_network_without_batch_norms_is_refused():
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    with pytest.raises(ModelError, match="none of the groups passes a BatchNorm"):
        ReleasedGates(net, bind(net, torch.zeros(1, 4)))


def test_the_whole_job_ends_proven(tmp_path):
    soft = Recipe(1, batch=128, lr=1e-3, optimizer="adamw", schedule="constant")
    chips = Chips("channels", 0.3, lr=0.8, compat="released")
    outcome = chip(Digits(), soft, Recipe(1, batch=128), chips, Place(tmp_path))
    assert outcome.finished and outcome.figures["pruned"]["certificate"]["exact"]
    assert removed_units(read_mask(tmp_path / "mask.json")).any()


def test_what_is_shut_stays_shut_in_fine_tuning(network):
    """Psi is frozen: a channel that a coupled layer keeps does not come back in the layer that shut it."""
    hard = torch.ones(len(network.gates))
    by_norm(network, hard)["bn2"][2] = 0
    network.module.load_state_dict(network.state_of(hard))
    (hook,) = network.fine_tuning()
    optimizer = torch.optim.SGD(network.module.parameters(), 0.1, momentum=0.9)
    for _ in range(3):
        optimizer.zero_grad()
        network.module(torch.randn(4, 3, SIDE, SIDE)).square().sum().backward()
        optimizer.step()
        hook.after_step()
    norm = network.module.bn2
    assert norm.weight[2] == 0 and norm.bias[2] == 0
    assert (norm.weight != 0).sum() == len(norm.weight) - 1
    assert network.module.bn0.weight[2] != 0
