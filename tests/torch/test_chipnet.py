"""ChipNet: its curves and schedules as published, its loss, and gates within a budget of what physically stays."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from onnxprune.cost import usage
from onnxprune.errors import UsageError
from onnxprune.mask import fit_mask, removed_units
from onnxprune.resources import RESOURCES, resource_terms
from onnxprune.torch.binding import bind
from onnxprune.torch.chipnet import ChipGates, ChipNet, Course, Weights, heaviside, logistic
from onnxprune.torch.recipe import Recipe
from onnxprune.torch.run import Run
from onnxprune.torch.tasks import Digits


@pytest.fixture
def network():
    torch.manual_seed(0)
    task = Digits()
    net = task.model()
    return ChipGates(net, bind(net, task.example()))


@given(st.floats(0, 1), st.floats(0, 300))
def test_heaviside_keeps_the_ends_and_lies_above_the_identity(smooth, gamma):
    z = heaviside(torch.tensor(smooth, dtype=torch.float64), gamma).item()
    assert smooth - 1e-9 <= z <= 1 + 1e-9
    assert heaviside(torch.tensor(0.0), gamma) == 0 and heaviside(torch.tensor(1.0), gamma) == pytest.approx(1)


def test_heaviside_without_steepness_is_the_identity():
    z = torch.linspace(0, 1, 11)
    assert torch.allclose(heaviside(z, 0.0), z)


def test_schedules_are_the_published_ones():
    assert Course(20).beta == pytest.approx(1.4) and Course(1000).beta == 6
    assert Course(0).gamma == 2 and Course(2).gamma == pytest.approx(4) and Course(14).gamma == pytest.approx(256)
    assert [Course(n).tau for n in (0, 1, 10, 30)] == [10, 15, 60, 60]


def test_the_first_gate_is_at_70_percent(network):
    assert 0.69 < network.values().mean() < 0.71
    expected = heaviside(logistic(network.gates, 1.0), 2.0)
    assert torch.equal(network.values(), expected)


@pytest.mark.parametrize("resource", RESOURCES)
def test_the_penalty_is_the_papers(network, resource):
    weights = Weights(3.0, 5.0)
    hook = ChipNet(network, resource, 0.4, weights)
    smooth = torch.sigmoid(network.gates)
    z = 1 - torch.exp(-2 * smooth) + smooth * math.exp(-2)
    share = hook.budget.usage(torch.sigmoid(10 * (z - 0.5)))
    expected = 3 * (smooth - z).square().mean() + 5 * (share - 0.4) ** 2
    assert hook.penalty().item() == pytest.approx(expected.item(), rel=1e-5)
    hook.penalty().backward()
    assert network.gates.grad.abs().min() > 0


def test_crispness_is_the_mean_over_gates(network):
    """Units without a gate are open: they are neither undecided nor counted."""
    network.open[:7] = True
    with torch.no_grad():
        network.gates.normal_()
    smooth = torch.sigmoid(network.gates[7:])
    z = 1 - torch.exp(-2 * smooth) + smooth * math.exp(-2)
    crispness = ChipNet(network, "macs", 0.4, Weights(1.0, 0.0)).penalty()
    assert crispness.item() == pytest.approx((smooth - z).square().mean().item(), rel=1e-5)


@pytest.mark.parametrize("resource", RESOURCES)
@pytest.mark.parametrize("target", [0.6, 0.3])
def test_the_hard_mask_meets_the_budget_of_the_physical_model(network, resource, target):
    torch.manual_seed(1)
    with torch.no_grad():
        network.gates.normal_()
    analysis = network.binding.analysis
    mask = ChipNet(network, resource, target).harden()[0]
    kept, _ = fit_mask(analysis, mask)
    terms = resource_terms(analysis, resource)
    share = usage(terms, {atom: int(units.sum()) for atom, units in kept.items()}) / usage(terms, {})
    assert 0.97 * target <= share <= target


def test_the_largest_gates_stay(network):
    with torch.no_grad():
        network.gates.normal_()
    gone = removed_units(ChipNet(network, "channels", 0.5).harden()[0])
    first = network.consumption.first
    for name, start in first.items():
        size = next(g.size for g in network.binding.analysis.groups if g.name == name)
        psi, removed = network.gates.detach().numpy()[start : start + size], gone[start : start + size]
        assert psi[removed].max(initial=-np.inf) <= psi[~removed].min()


def test_hardened_gates_are_zeros_and_ones_for_a_while(network):
    hook = ChipNet(network, "macs", 0.5)
    (mask, hard), soft = hook.harden(), network.values()
    with network.hardened(hard):
        assert torch.equal(network.values(), torch.from_numpy(~removed_units(mask)).float())
    assert torch.equal(network.values(), soft)


def test_after_each_epoch_the_best_hard_mask_is_kept(network):
    class Scored(Run):
        def __init__(self):
            self.scores, self.epoch, self.recipe = [0.5, 0.7, 0.6], 0, Recipe(20)

        def evaluate(self, split, network=None):
            assert split == "validation" and network.hard is not None
            return self.scores[self.epoch - 1]

    run, hook = Scored(), ChipNet(network, "macs", 0.5, recalibrate=0)
    masks = []
    for epoch in (1, 2, 3):
        run.epoch = epoch
        with torch.no_grad():
            network.gates.normal_()
            network.module[0].weight.fill_(epoch)
        masks.append(hook.harden()[0])
        figures = hook.after_epoch(run)
        assert figures["hard score"] == run.scores[epoch - 1] and network.course == Course(epoch)
    assert hook.mask.groups == masks[1].groups and hook.best == 0.7
    other = ChipNet(network, "macs", 0.5)
    other.load_state_dict(hook.state_dict())
    assert other.mask.groups == hook.mask.groups and other.best == 0.7
    other.restore()
    assert (network.module[0].weight == 2).all()


def test_curves_get_steeper_by_stages(network):
    hook = ChipNet(network, "macs", 0.5, stage=3)
    courses = []
    for _ in range(60):
        hook.after_step()
        courses.append(network.course.epoch)
    assert courses == [step // 3 for step in range(1, 61)]
    state = hook.state_dict()
    network.course = Course(0)
    other = ChipNet(network, "macs", 0.5, stage=3)
    other.load_state_dict(state)
    assert network.course == Course(20)
    other.after_step()
    assert network.course == Course(61 // 3)


def test_an_epoch_does_not_change_the_curves_of_stages(network):
    class Silent(Run):
        def __init__(self):
            self.epoch, self.recipe = 5, Recipe(5)

        def evaluate(self, split, network=None):
            return 0.0

    hook = ChipNet(network, "macs", 0.5, stage=1, recalibrate=0)
    hook.after_step()
    hook.after_epoch(Silent())
    assert network.course == Course(1)


@pytest.mark.parametrize(("resource", "target"), [("time", 0.5), ("macs", 0.0), ("macs", 1.5)])
def test_wrong_budgets(network, resource, target):
    with pytest.raises(UsageError, match=f"ChipNet: budget {resource}={target}"):
        ChipNet(network, resource, target)


def test_a_budget_below_the_floor_names_the_least(network):
    with pytest.raises(UsageError, match=r"no structure meets macs=0\.0001: .* the least is macs="):
        ChipNet(network, "macs", 1e-4).harden()
