"""Gates of zeros and ones are the removal itself, on every architecture, and gradients reach them."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import onnxprune
from onnxprune.errors import MaskError
from onnxprune.torch.binding import bind
from onnxprune.torch.consumers import consumption, first_units
from onnxprune.torch.filling import filled
from onnxprune.torch.gates import Gated
from tests.pruning import random_mask
from tests.torch.test_binding import (
    ARCHITECTURES,
    IMAGE,
    NETS,
    ROW,
    TOKENS,
    Attention,
    case,
    draw,
    gated,
    onnx_results,
    results,
    worst,
)


@pytest.mark.parametrize("name", [*NETS, *ARCHITECTURES])
def test_gated_outputs_are_those_of_the_pruned_model(name: str) -> None:
    found = case(name)
    inputs = draw(found.binding.example)
    pruned = onnxprune.apply(filled(found.binding, found.net), found.mask, verify=False)
    wanted = onnx_results(pruned, inputs)
    assert worst(wanted, results(found.net, inputs)) > 1e-3, "the mask has to matter"
    assert worst(wanted, results(gated(found), inputs)) <= 1e-5


def soft(network: Gated, seed: int = 0) -> Gated:
    """With gates between 0.5 and 1.5."""
    with torch.no_grad():
        network.gates.copy_(torch.rand(network.gates.shape, generator=torch.Generator().manual_seed(seed)) + 0.5)
    return network


@pytest.mark.parametrize("name", ["residual", "mixed", "tied", "mirrored", "grouped", "transposed", "densenet_cifar"])
def test_gates_multiply_into_the_weights(name: str) -> None:
    found = case(name)
    network, inputs = soft(Gated(found.net, found.binding)), draw(found.binding.example)
    before, wanted = results(found.net, inputs), results(network, inputs)
    assert worst(before, wanted) > 1e-3
    assert network.fold() is found.net
    assert (network.gates == 1).all()
    assert worst(wanted, results(found.net, inputs)) <= 1e-5
    assert worst(wanted, results(network, inputs)) <= 1e-5


@pytest.mark.parametrize("name", ["residual", "mixed", "tied", "twice", "mirrored", "grouped", "layer norm"])
def test_gradients_reach_every_gate(name: str) -> None:
    found = case(name)
    network = soft(Gated(found.net, found.binding))
    torch.stack([y.square().sum() for y in _outputs(network, draw(found.binding.example))]).sum().backward()
    assert network.gates.grad is not None and (network.gates.grad != 0).all()
    assert all(p.grad is not None for p in found.net.parameters())


def _outputs(network: nn.Module, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    result = network(*inputs)
    return [result] if isinstance(result, Tensor) else list(result.values())


def test_gradients_are_the_slopes() -> None:
    found = case("residual")
    network = soft(Gated(found.net.double(), found.binding)).double()
    (x,) = draw(IMAGE)

    def total(gates: Tensor) -> Tensor:
        network.values = lambda: gates  # type: ignore[method-assign]
        return network(x.double()).square().sum()

    assert torch.autograd.gradcheck(total, network.gates.detach().requires_grad_())


def test_a_groups_own_values() -> None:
    found = case("residual")
    network = soft(Gated(found.net, found.binding))
    first, units = first_units(found.binding.analysis)
    assert (first, units) == ({"stem": 0, "inner": 6}, 11)
    assert torch.equal(network.of("inner"), network.gates[6:])


def test_gates_follow_the_precision_of_the_network() -> None:
    """Its own stays single; and keyword arguments reach the module."""
    found = case("residual")
    network = soft(Gated(found.net.bfloat16(), found.binding))
    (x,) = draw(IMAGE)
    result = network(x=x.bfloat16())
    result.sum().backward()
    assert result.dtype == torch.bfloat16
    assert network.gates.dtype == network.gates.grad.dtype == torch.float32


def test_gates_stay_the_same_object_when_they_are_bound_anew() -> None:
    found = case("residual")
    network = soft(Gated(found.net, found.binding))
    gates = network.gates
    network(*draw(IMAGE)).sum().backward()
    network.rebind(bind(found.net, IMAGE))
    assert network.gates is gates and gates.grad is None and (gates == 1).all()


# Consumers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "consumers"),
    [
        ("residual", {"inner.weight": 1, "back.weight": 1, "same.weight": 1, "head.weight": 1}),
        ("depthwise", {"5.weight": 1}),
        ("grouped", {"2.weight": 1, "4.weight": 1}),
        ("transposed", {"2.weight": 0, "6.weight": 1}),
        ("mirrored", {"encoder.weight": 0}),
        ("tied", {"left.weight": 1, "head.weight": 1}),
        ("layer norm", {"4.weight": 1}),
    ],
)
def test_consumers(name: str, consumers: dict[str, int]) -> None:
    found = consumption(case(name).binding)
    assert {c.parameter: c.axis for c in found.consumers} == consumers
    assert found.open == {}


def test_units_of_consumers() -> None:
    """Of 8 channels in 4 groups of 2, an input of the convolution is one of the 2; the groups pass."""
    binding = case("grouped").binding
    sizes = [group.size for group in binding.analysis.groups]
    assert sizes == [4, 2, 3]
    inner, last = consumption(binding).consumers
    assert inner.units.tolist() == [[4, 5]]
    groups, channels = [[g for g in range(4) for _ in range(3)], [6, 7, 8] * 4]
    np.testing.assert_array_equal(last.units, [groups, channels])


def test_units_of_a_concatenation_are_in_one_row() -> None:
    """However many groups: a table of all of them would grow with the square of a DenseNet's depth."""
    binding = case("densenet_cifar").binding
    last = next(c for c in consumption(binding).consumers if c.parameter == "head.weight")
    assert len(binding.analysis.groups) > 2 and last.units.shape[0] == 1 and (last.units >= 0).all()


class Frozen(nn.Module):
    """A buffer for a weight, and one that is a constant."""

    def __init__(self, constant: bool) -> None:
        super().__init__()
        self.stem = nn.Linear(5, 8)
        weight = torch.linspace(-1, 1, 24).view(3, 8)
        if constant:
            self.weight = weight
        else:
            self.register_buffer("weight", weight)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(torch.sigmoid(self.stem(x)), self.weight)


def test_buffers_are_gated() -> None:
    net = Frozen(constant=False)
    network = Gated(net, bind(net, ROW))
    network.set_mask(random_mask(network.binding.analysis, 0))
    weights = network.weights()
    assert list(weights) == ["weight"]
    np.testing.assert_array_equal((weights["weight"] != 0).all(0), network.gates.detach().bool())
    network.fold()
    assert torch.equal(net.weight, weights["weight"])


# Refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("net", "example", "group", "node"),
    [(Attention(), TOKENS, "q", "/MatMul"), (Frozen(constant=True), ROW, "stem", "/MatMul")],
)
def test_what_no_parameter_consumes_is_refused(net: nn.Module, example: Tensor, group: str, node: str) -> None:
    network = Gated(net, bind(net, example))
    analysis = network.binding.analysis
    assert network.consumption.open == {group: node}
    message = rf"group '{group}' cannot be gated: '{node}' consumes it without a parameter.*\n.*--exclude '{group}'"
    with pytest.raises(MaskError, match=message):
        network.set_mask(random_mask(analysis, 0, [group]))
    network.set_mask(random_mask(analysis, 0, [g.name for g in analysis.groups if g.name != group]))


def test_a_mask_for_another_network_is_refused() -> None:
    found = case("residual")
    with pytest.raises(MaskError, match=r"the mask is for another model"):
        Gated(found.net, found.binding).set_mask(case("mixed").mask)
