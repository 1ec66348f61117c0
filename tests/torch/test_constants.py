"""Constants of removed channels are folded exactly, at the borders of padded maps too, whatever the architecture."""

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import onnxprune
from models.layers import conv, conv_bn
from models.yolov3 import YOLOv3, randomize
from onnxprune.errors import MaskError, ModelError
from onnxprune.execution import run
from onnxprune.mask import Mask, make_mask
from onnxprune.torch.binding import Binding, bind
from onnxprune.torch.constants import Folding, fold_constants
from onnxprune.torch.filling import filled
from onnxprune.torch.gates import Gated
from onnxprune.torch.shrinking import shrink
from tests.models.test_architectures import SMALL
from tests.pruning import random_mask

TOLERANCE = 1e-4
"""Relative to an output's range, in single precision."""


@torch.no_grad()
def results(module: nn.Module, x: Tensor) -> list[np.ndarray]:
    found = module(x)
    return [y.numpy() for y in (found if isinstance(found, tuple) else (found,))]


def worst(wanted: list[np.ndarray], found: list[np.ndarray]) -> float:
    """Largest difference relative to each output's range."""
    return max(float(np.abs(a - b).max() / np.abs(a).max()) for a, b in zip(wanted, found, strict=True))


@torch.no_grad()
def silenced(module: nn.Module, binding: Binding, mask: Mask) -> nn.Module:
    """A copy in which the scales of removed units are 0."""
    silent = copy.deepcopy(module)
    for group, entry in zip(binding.analysis.groups, mask.groups, strict=True):
        for scale in binding.scales_of(group):
            gone = (scale.units >= 0) & ~entry.kept[scale.units]
            silent.get_parameter(scale.parameter)[torch.from_numpy(gone)] = 0
    return silent


def gated(module: nn.Module, binding: Binding, mask: Mask) -> Gated:
    network = Gated(module, binding)
    network.set_mask(mask)
    return network


@torch.no_grad()
def randomized(module: nn.Module, seed: int = 0) -> nn.Module:
    """In evaluation mode, with norms of which no two hold the same values; half of their biases are below 0."""
    torch.manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(part.weight, 1.0, 0.2)
            nn.init.normal_(part.bias, 0.0, 0.5)
            nn.init.normal_(part.running_mean, 0.0, 0.2)
            nn.init.uniform_(part.running_var, 0.5, 2.0)
    return module.eval()


def example(*shape: int) -> Tensor:
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(5))


def removing(binding: Binding, **units: tuple[int, ...]) -> Mask:
    """A mask that removes these units of groups, whose names have `_` for every dot here."""
    groups = {g.name.replace(".", "_"): g for g in binding.analysis.groups}
    kept = {groups[n].name: ~np.isin(np.arange(groups[n].size), gone) for n, gone in units.items()}
    return make_mask(binding.analysis, kept, {"method": "by hand"})


def assert_folds(module: nn.Module, x: Tensor, mask: Mask, binding: Binding) -> Folding:
    """Fold in place: scales of 0 compute what the folded module does, as it is, gated, shrunk and as a pruned file.

    That the mask alone would change the network is asserted, too.
    """
    wanted = results(silenced(module, binding, mask), x)
    assert worst(wanted, results(gated(silenced(module, binding, mask), binding, mask), x)) > 100 * TOLERANCE
    folding = fold_constants(module, binding, mask)
    assert folding.left == {}
    pruned = onnxprune.apply(filled(binding, module), folding.mask, verify=False)
    small = copy.deepcopy(module)
    shrink(small, binding, folding.mask)
    found = {
        "itself": results(module, x),
        "gated": results(gated(module, binding, folding.mask), x),
        "shrunk": results(small, x),
        "pruned": run(pruned, [{"input": x.numpy()}])[0],
    }
    differences = {way: worst(wanted, values) for way, values in found.items()}
    assert max(differences.values()) < TOLERANCE, differences
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in module.parameters())
    return folding


# --- architectures -----------------------------------------------------------------------------------------------


def yolov3() -> nn.Module:
    model = YOLOv3(2, 1 / 16, ((64, 1), (64, 1), (128, 2), (128, 1), (256, 1)))
    randomize(model)
    return model


NETWORKS: dict[str, Callable[[], nn.Module]] = {**SMALL, "yolov3": yolov3}
LEFT = {
    # A raw shortcut reads what no BatchNorm has scaled.
    "preresnet_cifar": {"stem", "stages.0.0.conv3.2", "stages.1.0.conv3.2"},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_architectures(name: str) -> None:
    module, x = randomized(NETWORKS[name]()), example(3, 32, 32)
    binding = bind(module, x)
    names = {group.name for group in binding.analysis.groups}
    left = fold_constants(copy.deepcopy(module), binding, random_mask(binding.analysis, 0)).left.keys()
    assert left == LEFT.get(name, set())
    assert len(left) < len(names) / 4
    mask = random_mask(binding.analysis, 0, names - left)
    folding = assert_folds(module, x, mask, binding)
    units = [sum((~g.kept).sum() for g in m.groups) for m in (mask, folding.mask)]
    carriers = sum(map(len, folding.carriers.values()))
    assert units[0] - units[1] == carriers
    assert 0 < carriers <= units[0] / 2


def test_an_export_that_folds_batch_norms() -> None:
    module, x = randomized(SMALL["vgg_cifar"]()), example(3, 32, 32)
    binding = bind(module, x, mode="torchscript")
    mask = random_mask(binding.analysis, 0)
    wanted = results(silenced(module, binding, mask), x)
    folding = fold_constants(module, binding, mask)
    assert folding.left == {}
    assert worst(wanted, results(gated(module, binding, folding.mask), x)) < TOLERANCE


# --- layers that consume -----------------------------------------------------------------------------------------


def assert_folds_first(module: nn.Module, x: Tensor, seed: int = 0) -> Folding:
    """Fold about half of the units of the first group."""
    binding = bind(module, x)
    return assert_folds(module, x, random_mask(binding.analysis, seed, [binding.analysis.groups[0].name]), binding)


def padded() -> nn.Sequential:
    """A padded convolution, with a BatchNorm of its own, reads what the first group makes."""
    layers = (*conv_bn(3, 8, 3), nn.LeakyReLU(0.1), *conv_bn(8, 6, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))
    return nn.Sequential(*layers)


@torch.no_grad()
def by_running_mean(module: nn.Sequential, gone: np.ndarray) -> nn.Sequential:
    """The naive way, for `padded`: what removed channels add to an output is taken off the next BatchNorm's mean."""
    naive, constants = copy.deepcopy(module), nn.functional.leaky_relu(module[1].bias[gone], 0.1)
    naive[4].running_mean -= torch.einsum("oikl,i->o", naive[3].weight[:, gone], constants)
    naive[3].weight[:, gone] = 0
    return naive


@pytest.mark.parametrize("side", [2, 4, 13])
def test_padded_maps_are_exact_where_a_running_mean_is_wrong(side: int) -> None:
    module, x = padded(), example(3, side, side)
    module(x)
    binding = bind(randomized(module), x)
    mask = removing(binding, **{"0": (1, 2, 5, 6)})
    silent = silenced(module, binding, mask)
    naive = by_running_mean(silent, ~mask.groups[0].kept)
    assert len(assert_folds(module, x, mask, binding).carriers["0"]) == 1
    wanted, wrong, found = (results(net[:5], x)[0] for net in (silent, naive, module))
    assert worst([wanted], [found]) < TOLERANCE
    pixels = np.abs(wanted - wrong).max(axis=(0, 1)) > 0.01
    border = np.ones((side, side), bool)
    border[1:-1, 1:-1] = False
    assert (pixels == border).all()


@pytest.mark.parametrize(
    "consumer",
    [
        nn.Conv2d(8, 6, 3, 2, padding=1, groups=2),
        nn.Conv2d(8, 6, 3, padding=1).to(memory_format=torch.channels_last),
        nn.Conv2d(8, 6, 3, padding=2, dilation=2, padding_mode="circular"),
        nn.ConvTranspose2d(8, 6, 3, 2, padding=1),
        nn.ConvTranspose2d(8, 6, 3, groups=2),
    ],
    ids=["grouped", "channels_last", "circular", "transposed", "transposed-grouped"],
)
def test_convolutions(consumer: nn.Module) -> None:
    module = randomized(nn.Sequential(conv(3, 8, 3), nn.BatchNorm2d(8), nn.SiLU(), copy.deepcopy(consumer)))
    strides = module[3].weight.stride()
    assert assert_folds_first(module, example(3, 6, 6)).carriers
    assert module[3].weight.stride() == strides


def test_a_linear_layer_behind_a_flattened_map() -> None:
    module = nn.Sequential(*conv_bn(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2, padding=1), nn.Flatten(), nn.Linear(8 * 16, 5))
    assert assert_folds_first(randomized(module), example(3, 6, 6)).carriers


def test_linear_layers() -> None:
    module = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.GELU(), nn.Linear(8, 3, bias=False))
    assert assert_folds_first(randomized(module), example(5)).carriers


# --- carriers ----------------------------------------------------------------------------------------------------


class Stream(nn.Module):
    """Two branches read a stream through BatchNorms of their own; the branches' channels are joined."""

    def __init__(self):
        super().__init__()
        self.stem = conv_bn(3, 6, 3)
        self.norms = nn.ModuleList(nn.BatchNorm2d(6) for _ in range(2))
        self.branches = nn.ModuleList(conv_bn(6, 4, 3) for _ in range(2))
        self.head = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        pairs = zip(self.norms, self.branches, strict=True)
        return self.head(torch.cat([torch.sigmoid(branch(torch.relu(norm(x)))) for norm, branch in pairs], 1))


def stream() -> tuple[Stream, Binding]:
    module = randomized(Stream())
    return module, bind(module, example(3, 6, 6))


def set_biases(norm: nn.BatchNorm2d, *values: float) -> None:
    norm.bias.data[: len(values)] = torch.tensor(values)


def test_a_carrier_is_never_zero_where_it_is_needed() -> None:
    module, binding = stream()
    set_biases(module.norms[0], 1.0, -1.0, 0.5, 0.5)
    set_biases(module.norms[1], -1.0, 1.0, 0.01, 0.5)
    folding = assert_folds(module, example(3, 6, 6), removing(binding, stem_0=(0, 1, 2, 3)), binding)
    assert folding.carriers == {"stem.0": (3,)}


def test_several_carriers_where_no_unit_does() -> None:
    module, binding = stream()
    set_biases(module.norms[0], 1.0, -1.0, 0.5)
    set_biases(module.norms[1], -1.0, 1.0, -0.5)
    folding = assert_folds(module, example(3, 6, 6), removing(binding, stem_0=(0, 1, 2)), binding)
    assert folding.carriers == {"stem.0": (0, 1)}
    assert folding.mask.groups[0].removed == ((2, 3),)
    assert folding.mask.provenance == {"method": "by hand"}


def test_joined_groups_share_a_carrier() -> None:
    module, binding = stream()
    mask = removing(binding, branches_0_0=(0, 1, 2), branches_1_0=(1, 3))
    assert sum(map(len, assert_folds(module, example(3, 6, 6), mask, binding).carriers.values())) == 1


def test_what_emits_zero_needs_no_carrier() -> None:
    module, binding = stream()
    for norm in module.norms:
        set_biases(norm, -0.1, -0.2, 0.0)
    mask = removing(binding, stem_0=(0, 1, 2))
    folding = fold_constants(module, binding, mask)
    assert (folding.carriers, folding.left) == ({}, {})
    assert folding.mask == mask


class Twice(Stream):
    """Both branches are one."""

    def __init__(self, norms: int):
        super().__init__()
        self.norms, self.branches = self.norms[:norms], self.branches[:1]

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        ends = [torch.sigmoid(self.branches[0](torch.relu(norm(x)))) for norm in (self.norms[0], self.norms[-1])]
        return self.head(torch.cat(ends, 1))


def test_a_layer_that_is_called_twice() -> None:
    assert assert_folds_first(randomized(Twice(1)), example(3, 6, 6)).carriers
    assert_left(randomized(Twice(2)), example(3, 6, 6), "what it emits is not constant at 'branches.0.0'")


# --- what cannot be folded ---------------------------------------------------------------------------------------


def assert_left(module: nn.Module, x: Tensor, reason: str) -> None:
    """The first group is left, with a reason; module and mask stay as they are."""
    binding = bind(module, x)
    mask, before = random_mask(binding.analysis, 0, [binding.analysis.groups[0].name]), copy.deepcopy(module)
    folding = fold_constants(module, binding, mask)
    assert folding == Folding(mask, {}, {binding.analysis.groups[0].name: reason})
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), before.parameters(), strict=True))


def test_a_group_without_scales_is_left() -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 3))
    assert_left(module, example(3, 8, 8), "no normalisation scales it")


class Mixed(nn.Module):
    """The sum of a normalised and a bare convolution."""

    def __init__(self):
        super().__init__()
        self.normed, self.bare, self.head = conv_bn(3, 8, 3), conv(3, 8, 3), conv(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.normed(x) + self.bare(x))


def test_a_group_that_something_else_makes_too_is_left() -> None:
    assert_left(randomized(Mixed()), example(3, 6, 6), "what it emits is not constant at 'head'")


def test_zeros_between_the_norm_and_the_layer_are_no_constant() -> None:
    module = nn.Sequential(*conv_bn(3, 8, 3), nn.AvgPool2d(3, padding=1), nn.Conv2d(8, 2, 1))
    assert_left(randomized(module), example(3, 6, 6), "what it emits is not constant at '3'")


def test_two_groups_that_go_together_are_left() -> None:
    parts = (*conv_bn(3, 4, 1), nn.Conv2d(4, 8, 3, groups=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 2, 1))
    module, x = randomized(nn.Sequential(*parts)), example(3, 6, 6)
    binding = bind(module, x)
    shared = [g for g in binding.analysis.groups if any(m.tensor == "5.weight" for m in g.members)]
    mask = random_mask(binding.analysis, 0, [g.name for g in shared])
    left = fold_constants(module, binding, mask).left
    reason = "what it emits goes together with that of another group at '5'"
    assert left == dict.fromkeys([g.name for g in shared], reason) and len(left) == 2


class Bare(nn.Module):
    """A parameter of its own consumes the channels."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8))
        self.matrix = nn.Parameter(torch.randn(8, 3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x)) @ self.matrix


def test_a_consumer_that_is_no_layer_is_left() -> None:
    why = "'matrix' consumes it, which is not the weight of a convolution or linear layer"
    assert_left(randomized(Bare()), example(5), why)


def test_a_product_of_activations_is_left() -> None:
    class Products(Bare):
        def forward(self, x: Tensor) -> Tensor:
            x = self.body(x)[:, None]
            return (x @ x.transpose(1, 2)).flatten(1)

    module = randomized(Products())
    label = bind(module, example(5)).analysis.groups[0].consumers[0]
    assert_left(module, example(5), f"{label!r} consumes it without a parameter of its own")


class Called(nn.Module):
    """Its results depend on how often it was called."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(*conv_bn(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 3, padding=1))
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.body(x) * self.calls


class Single(Called):
    """It runs in single precision alone."""

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x.float())


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Called, r"folding constants changes the outputs of Called by .* of their range\n.*prune unfolded"),
        (Single, r"constants cannot be measured in double precision: .*(dtype|type)"),
    ],
)
def test_what_cannot_be_checked_is_refused_and_unchanged(kind: type[Called], message: str) -> None:
    module, x = randomized(kind()), example(3, 6, 6)
    binding, before = bind(module, x), copy.deepcopy(module)
    with pytest.raises(ModelError, match=message):
        fold_constants(module, binding, random_mask(binding.analysis, 0))
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), before.parameters(), strict=True))


def test_half_precision_is_too_coarse() -> None:
    module, binding = stream()
    module.bfloat16()
    with pytest.raises(ModelError, match="fold in single precision"):
        fold_constants(module, binding, random_mask(binding.analysis, 0))


def test_a_mask_of_another_network_is_refused() -> None:
    module, binding = stream()
    other = bind(randomized(Bare()), example(5))
    with pytest.raises(MaskError, match="for another model"):
        fold_constants(module, binding, random_mask(other.analysis, 0))
