"""`Usage` at gates of zeros and ones is what the pruned files cost, and its gradients are its slopes."""

from math import prod

import numpy as np
import onnx
import pytest
import torch

import onnxprune
from onnxprune.analysis import Analysis
from onnxprune.cost import usage
from onnxprune.mask import Mask, fit_mask, make_mask
from onnxprune.resources import RESOURCES, Resource, resource_terms
from onnxprune.torch.budgets import Usage
from tests import counting
from tests.pruning import random_mask
from tests.torch.test_binding import ARCHITECTURES, case

NAMES = ("mixed", "grouped", "transposed", "depthwise", *ARCHITECTURES)


def gates_of(mask: Mask) -> torch.Tensor:
    return torch.from_numpy(np.concatenate([group.kept for group in mask.groups])).float()


def produced(model: onnx.ModelProto, nodes: set[str]) -> list[tuple[int, ...]]:
    """Shapes of what some nodes put out."""
    shapes = counting.all_shapes(model)
    return [shapes[node.output[0]] for node in model.graph.node if node.output[0] in nodes]


def losing(dense: onnx.ModelProto, analysis: Analysis) -> set[str]:
    """Outputs of layers that get smaller when of every group only one unit stays."""
    kept = {group.name: np.arange(group.size) < 1 for group in analysis.groups}
    least = onnxprune.apply(analysis.model, make_mask(analysis, kept, {}), verify=False, analysis=analysis).proto
    whole, small = counting.all_shapes(dense), counting.all_shapes(least)
    layers = [node.output[0] for node in dense.graph.node if node.op_type in counting.COUNTS]
    return {name for name in layers if whole[name] != small[name]}


def counted(model: onnx.ModelProto, nodes: set[str], resource: Resource) -> int:
    """A resource of a file, from the shapes that running it gives."""
    if resource == "params":
        return counting.params(model)
    if resource == "macs":
        return counting.macs(model)
    shapes = produced(model, nodes)
    return (
        sum(shape[1] if len(shape) == 4 else shape[-1] for shape in shapes)
        if resource == "channels"
        else sum(map(prod, shapes))
    )


@pytest.mark.parametrize("name", NAMES)
def test_at_zeros_and_ones_it_is_what_the_files_cost(name: str) -> None:
    found = case(name)
    analysis = found.binding.analysis
    dense = analysis.model.proto
    nodes = losing(dense, analysis)
    for seed in range(2):
        mask = random_mask(analysis, seed)
        pruned = onnxprune.apply(analysis.model, mask, verify=False, analysis=analysis).proto
        kept, _ = fit_mask(analysis, mask)
        counts = {atom: int(units.sum()) for atom, units in kept.items()}
        for resource in RESOURCES:
            terms = resource_terms(analysis, resource)
            share = usage(terms, counts) / usage(terms, {})
            assert share == counted(pruned, nodes, resource) / counted(dense, nodes, resource) < 1
            assert Usage(analysis, resource)(gates_of(mask).double()).item() == pytest.approx(share, rel=1e-12)


@pytest.mark.parametrize("resource", RESOURCES)
def test_all_gates_open_are_the_whole(resource: Resource) -> None:
    analysis = case("densenet_cifar").binding.analysis
    share = Usage(analysis, resource)
    units = sum(group.size for group in analysis.groups)
    assert share(torch.ones(units)) == 1
    assert share.share.whole == usage(resource_terms(analysis, resource), {})
    assert 0 <= share(torch.zeros(units)).item() < 0.1
    assert share(torch.ones(units, dtype=torch.bfloat16)).dtype == torch.bfloat16


@pytest.mark.parametrize("resource", RESOURCES)
@pytest.mark.parametrize("name", ["mixed", "densenet_cifar", "mobilenetv2_cifar"])
def test_gradients_are_the_slopes(name: str, resource: Resource) -> None:
    analysis = case(name).binding.analysis
    units = sum(group.size for group in analysis.groups)
    gates = torch.rand(units, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(Usage(analysis, resource), gates.requires_grad_())


def test_gradients_pass_shut_gates() -> None:
    """The product over the counts of a term has a slope where one of them is 0."""
    found = case("residual")
    gates = torch.ones(11, requires_grad=True)
    closed = gates * torch.tensor([1.0] * 6 + [0.0] * 5)
    Usage(found.binding.analysis, "macs")(closed).backward()
    assert gates.grad is not None and (gates.grad[:6] > 0).all()
    shut = torch.zeros(11, requires_grad=True)
    Usage(found.binding.analysis, "params")(shut).backward()
    assert shut.grad is not None and (shut.grad > 0).all()


def test_a_network_without_groups_uses_all_or_nothing() -> None:
    analysis = onnxprune.analyze(case("residual").binding.analysis.model, sizes={})
    whole = Analysis(analysis.model, analysis.trace, (), analysis.frozen, {}, analysis.original)
    assert [Usage(whole, r)(torch.ones(0)).item() for r in RESOURCES] == [1, 1, 0, 0]
