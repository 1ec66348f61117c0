"""Sparsity training: what is added to gradients, what a proximal step does, and pruning once in the middle."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from onnxprune.errors import UsageError
from onnxprune.mask import removed_units
from onnxprune.ranking import rank
from onnxprune.torch.binding import bind
from onnxprune.torch.forecast import FixedEpoch, MovingAverage
from onnxprune.torch.gates import Gated
from onnxprune.torch.loop import train
from onnxprune.torch.pulls import PULLS
from onnxprune.torch.recipe import Recipe
from onnxprune.torch.scales import Scales
from onnxprune.torch.slimming import PruneOnce, Sparsity
from onnxprune.torch.tasks import Digits
from tests.torch.test_scales import EXAMPLE, Residual


@pytest.fixture
def net():
    torch.manual_seed(0)
    net = Residual()
    for norm in (net.bn0, net.bn1, net.bn2):
        torch.nn.init.normal_(norm.weight)
    return net


def test_the_subgradient_is_the_sign(net):
    sparsity = Sparsity(Scales(net, bind(net, EXAMPLE), {"conv1"}), strength=0.5)
    net(torch.randn(2, 3, 8, 8)).sum().backward()
    before = {name: p.grad.clone() for name, p in net.named_parameters()}
    sparsity.after_backward()
    for name, parameter in net.named_parameters():
        added = 0.5 * parameter.detach().sign() if name == "bn1.weight" else 0
        assert torch.allclose(parameter.grad, before[name] + added), name


def test_the_proximal_step_stops_at_zero(net):
    sparsity = Sparsity(Scales(net, bind(net, EXAMPLE), {"conv1"}), strength=2.0, method="proximal")
    [group] = sparsity.parameter_groups()
    optimizer = torch.optim.SGD([group], lr=0.1)
    assert optimizer.param_groups[0]["weight_decay"] == 0
    old = net.bn1.weight.detach().clone()
    sparsity.after_step()
    new = net.bn1.weight.detach()
    assert torch.allclose(new, old.sign() * (old.abs() - 0.2).clamp(min=0))
    assert (new[old.abs() < 0.2] == 0).all() and not torch.equal(new, old)


def test_the_proximal_step_follows_the_learning_rate(net):
    sparsity = Sparsity(Scales(net, bind(net, EXAMPLE), {"conv1"}), strength=1.0, method="proximal")
    optimizer = torch.optim.SGD(sparsity.parameter_groups(), lr=0.1)
    optimizer.param_groups[0]["lr"] = 0.0
    old = net.bn1.weight.detach().clone()
    sparsity.after_step()
    assert torch.equal(net.bn1.weight, old)


def test_gates_are_pulled_where_there_is_no_normalisation(net):
    gated = Gated(net, bind(net, EXAMPLE))
    sparsity = Sparsity(Scales(gated, gated.binding), strength=1.0)
    gated(torch.randn(2, 3, 8, 8)).sum().backward()
    before = gated.gates.grad.clone()
    sparsity.after_backward()
    first = gated.consumption.first["plain"]
    assert torch.allclose((gated.gates.grad - before)[first : first + 5], torch.ones(5), atol=1e-5)
    assert (gated.gates.grad - before).abs().sum().item() == pytest.approx(5, abs=1e-4)


@pytest.mark.parametrize("method", ["subgradient", "proximal"])
def test_gates_have_no_weight_decay(net, method):
    gated = Gated(net, bind(net, EXAMPLE))
    [group] = Sparsity(Scales(gated, gated.binding), method=method).parameter_groups()
    assert group["weight_decay"] == 0 and any(p is gated.gates for p in group["params"])
    assert (len(group["params"]) == 1) == (method == "subgradient")
    assert not Sparsity(Scales(net, gated.binding)).parameter_groups()


def test_pulls():
    scales = np.arange(100, dtype=np.float32)
    assert (PULLS["constant"](0.9, scales) == 1).all()
    assert (PULLS["late"](0.5, scales) == 1).all() and np.allclose(PULLS["late"](0.6, scales), 0.01)
    top = PULLS["top"](0.6, scales)
    assert np.allclose(top[85:], 0.01) and (top[:85] == 1).all() and (PULLS["top"](0.4, scales) == 1).all()


@pytest.mark.parametrize("wrong", [{"strength": 0}, {"method": "magic"}, {"pull": "hard"}])
def test_wrong_options(net, wrong):
    with pytest.raises(UsageError, match="sparsity: strength"):
        Sparsity(Scales(net, bind(net, EXAMPLE)), **wrong)


class Run(SimpleNamespace):
    """As much of a run as hooks look at."""

    def shrink(self, mask):
        self.masks.append(mask)


def pruner(net, trigger, **options):
    binding = bind(net, EXAMPLE)
    sparsity = Sparsity(Scales(net, binding))
    target = {"channels": 0.8}
    select = lambda values: rank(binding.analysis, sparsity.scales.by_group(values), target)  # noqa: E731
    return PruneOnce(sparsity, select, trigger, **options)


def test_it_prunes_once_and_stops_the_pull(net):
    hook = pruner(net, FixedEpoch(2))
    run = Run(epoch=1, recipe=Recipe(5), masks=[])
    assert hook.after_epoch(run) == {} and not run.masks and hook.sparsity.active
    run.epoch = 2
    assert hook.after_epoch(run) == {"pruned at": 2}
    assert len(run.masks) == 1 and not hook.sparsity.active
    assert hook.after_epoch(run) == {} and len(run.masks) == 1


def test_what_is_decided_counts(net):
    hook = pruner(net, FixedEpoch(1))
    mask = hook.select(np.arange(15.0))
    hook = pruner(net, FixedEpoch(1), decide=lambda run, values: mask)
    run = Run(epoch=1, recipe=Recipe(5), masks=[])
    hook.after_epoch(run)
    assert run.masks == [mask]


def test_at_the_end_it_prunes_whatever_the_trigger_says(net):
    hook = pruner(net, FixedEpoch(9))
    run = Run(epoch=4, recipe=Recipe(5), masks=[])
    assert hook.after_epoch(run) == {} and not run.masks
    run.epoch = 5
    assert hook.after_epoch(run) == {"pruned at": 5} and len(run.masks) == 1


def test_the_smallest_scales_go(net):
    hook = pruner(net, FixedEpoch(1))
    run = Run(epoch=1, recipe=Recipe(5), masks=[])
    scales = hook.sparsity.scales.read()
    hook.after_epoch(run)
    gone = removed_units(run.masks[0])
    assert gone.any() and not gone[~hook.sparsity.scales.own].any()
    conv1 = slice(hook.sparsity.scales.first["conv1"], hook.sparsity.scales.first["conv1"] + 6)
    assert scales[conv1][gone[conv1]].max(initial=0) <= scales[conv1][~gone[conv1]].min()


def test_the_forecast_decides(net):
    hook = pruner(net, FixedEpoch(3), forecaster=MovingAverage(3))
    run = Run(epoch=1, recipe=Recipe(5), masks=[])
    for value in (9.0, 9.0, 0.1):  # the last value alone would remove it
        with torch.no_grad():
            net.bn1.weight[0] = value
        hook.after_epoch(run)
    assert len(run.masks) == 1 and not removed_units(run.masks[0])[hook.sparsity.scales.first["conv1"]]


def test_state_goes_on_as_before(net):
    hook = pruner(net, FixedEpoch(2))
    hook.after_epoch(Run(epoch=1, recipe=Recipe(5), masks=[]))
    other = pruner(net, FixedEpoch(2))
    other.load_state_dict(hook.state_dict())
    assert np.array_equal(other.history.array, hook.history.array) and not other.pruned
    hook.sparsity.stop()
    other.sparsity.load_state_dict(hook.sparsity.state_dict())
    assert not other.sparsity.active


def test_slimming_in_the_loop_prunes_and_resumes_bit_identically(tmp_path):
    def hooks(net, task):
        binding = bind(net, task.example())
        sparsity = Sparsity(Scales(net, binding), strength=1e-3, method="proximal")
        select = lambda values: rank(binding.analysis, sparsity.scales.by_group(values), {"macs": 0.6})  # noqa: E731
        return [sparsity, PruneOnce(sparsity, select, FixedEpoch(1))]

    def run(folder, until, resume):
        task = Digits()
        torch.manual_seed(0)
        net = task.model()
        return train(
            task, net, Recipe(2, batch=256, lr=0.05), hooks(net, task), folder=folder, resume=resume, until=until
        )

    whole = run(tmp_path / "a", None, False)
    part = run(tmp_path / "b", 0.0, False)
    assert not part.finished
    for _ in range(20):
        if part.finished:
            break
        part = run(tmp_path / "b", 0.2, True)
    assert part.finished and len(part.masks) == 1
    sizes = sum(p.numel() for p in whole.network.parameters())
    assert sizes < sum(p.numel() for p in Digits().model().parameters())
    for (name, a), b in zip(whole.network.state_dict().items(), part.network.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
