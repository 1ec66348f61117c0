"""`bind`: every parameter is found, in every export mode, or what cannot be found is listed."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import onnxprune
from models import yolov3
from onnxprune.errors import ModelError
from onnxprune.execution import run
from onnxprune.graph import Model
from onnxprune.mask import Mask, fit_mask, make_mask
from onnxprune.scores import SCORES
from onnxprune.torch.binding import Binding, bind, named_tensors
from onnxprune.torch.exporting import EXPORTERS, Example, Mode, export, tensors_in
from onnxprune.torch.filling import filled
from onnxprune.torch.gates import Gated
from tests.models.test_architectures import SMALL, randomize_norms
from tests.pruning import random_mask

# Networks of few channels. Sigmoids revive what is removed where it is made and not where it is consumed.


class Residual(nn.Module):
    """Convolutions without norms, too, of which one makes the channels that it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.inner, self.inner_norm = nn.Conv2d(6, 5, 3, padding=1, bias=False), nn.BatchNorm2d(5)
        self.back, self.same = nn.Conv2d(5, 6, 1), nn.Conv2d(6, 6, 1)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sigmoid(self.norm(self.stem(x)))
        x = x + self.back(nn.functional.silu(self.inner_norm(self.inner(x))))
        x = x + torch.sigmoid(self.same(x))
        return self.head(x.mean((2, 3)))


class Mixed(nn.Module):
    """What exporters fold: BatchNorms after convolutions, transposed ones, and linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.same, self.same_norm = nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4)
        self.up, self.up_norm = nn.ConvTranspose2d(4, 6, 2, stride=2), nn.BatchNorm2d(6)
        self.grouped, self.slope = nn.Conv2d(6, 6, 3, groups=3), nn.PReLU(6)
        self.wide = nn.Linear(6, 6, bias=False)
        self.hidden, self.hidden_norm = nn.Linear(6, 5), nn.BatchNorm1d(5)
        self.head = nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sigmoid(self.norm(self.stem(x)))
        x = x + self.same_norm(self.same(x))
        x = self.slope(self.grouped(nn.functional.silu(self.up_norm(self.up(x)))))
        x = nn.functional.silu(self.wide(x.amax(3).transpose(1, 2))).amax(1)
        return self.head(torch.sigmoid(self.hidden_norm(self.hidden(x))))


class Tied(nn.Module):
    """A weight of two layers, and a scale and statistics of two norms."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(5, 8)
        self.left_norm, self.right_norm = nn.BatchNorm1d(8), nn.BatchNorm1d(8)
        self.left, self.right = nn.Linear(8, 6), nn.Linear(8, 6)
        self.right.weight, self.right_norm.weight = self.left.weight, self.left_norm.weight
        self.right_norm.running_mean = self.left_norm.running_mean
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sigmoid(self.stem(x))
        left, right = self.left(self.left_norm(x)), self.right(self.right_norm(x))
        return self.head(torch.sigmoid(left) + torch.sigmoid(right))


class Twice(nn.Module):
    """Layers that are called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv, self.norm = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.head = nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sigmoid(self.stem(x))
        for _ in range(2):
            x = torch.sigmoid(self.norm(self.conv(x)))
        return self.head(x)


class Mirrored(nn.Module):
    """An autoencoder with one weight: hidden units are made and consumed along the same axis."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.bias = nn.Linear(6, 8), nn.Parameter(torch.zeros(6))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(torch.sigmoid(self.encoder(x)), self.encoder.weight.t(), self.bias)


class Attention(nn.Module):
    """One head: queries and keys meet in a product of activations."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(6, 8) for _ in range(3))
        self.out = nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.out((self.q(x) @ self.k(x).transpose(1, 2)).softmax(-1) @ self.v(x))


class Scaled(nn.Module):
    """Channels times a tensor: a constant, or a buffer, stored with the module or not."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)
        factor = torch.linspace(1, 2, 8).view(8, 1, 1)
        if kind == "constant":
            self.factor = factor
        else:
            self.register_buffer("factor", factor, persistent=kind == "persistent")

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.sigmoid(self.stem(x)) * self.factor)


class Sum(nn.Module):
    """Two inputs, outputs in a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(4, 6), nn.Linear(5, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        hidden = torch.sigmoid(self.a(x) + self.b(y))
        return {"sum": self.head(hidden), "double": self.head(2 * hidden)}


def chain(*layers: nn.Module) -> Callable[[], nn.Module]:
    """A fresh copy of layers with sigmoids where two convolutions or linear layers would meet."""
    return lambda: copy.deepcopy(nn.Sequential(*layers))


def stem() -> nn.Conv2d:
    return nn.Conv2d(3, 8, 3, padding=1)


def head() -> nn.Module:
    return nn.Sequential(nn.Sigmoid(), nn.Conv2d(8, 4, 1))


IMAGE, ROW, TOKENS = torch.zeros(1, 3, 8, 8), torch.zeros(1, 5), torch.zeros(1, 5, 6)
NETS: dict[str, tuple[Callable[[], nn.Module], Example]] = {
    "residual": (Residual, IMAGE),
    "mixed": (Mixed, IMAGE),
    "tied": (Tied, ROW),
    "twice": (Twice, IMAGE),
    "mirrored": (Mirrored, torch.zeros(1, 6)),
    "buffer": (lambda: Scaled("persistent"), IMAGE),
    "hidden buffer": (lambda: Scaled("volatile"), IMAGE),
    "inputs": (Sum, (torch.zeros(1, 4), torch.zeros(1, 5))),
    "no norm": (chain(stem(), nn.Sigmoid(), nn.Conv2d(8, 6, 3), nn.Tanh(), nn.Flatten(), nn.Linear(216, 4)), IMAGE),
    "transposed": (
        chain(
            stem(),
            nn.Sigmoid(),
            nn.ConvTranspose2d(8, 12, 2, stride=2, groups=4),
            nn.Sigmoid(),
            nn.ConvTranspose2d(12, 12, 2, groups=12),
            nn.Sigmoid(),
            nn.Conv2d(12, 4, 1),
        ),
        IMAGE,
    ),
    "depthwise": (
        chain(stem(), nn.BatchNorm2d(8), nn.ReLU6(), nn.Conv2d(8, 16, 3, groups=8), nn.Sigmoid(), nn.Conv2d(16, 4, 1)),
        IMAGE,
    ),
    "grouped": (chain(stem(), nn.Sigmoid(), nn.Conv2d(8, 12, 3, groups=4), nn.Sigmoid(), nn.Conv2d(12, 4, 1)), IMAGE),
    "rows": (
        chain(
            nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Sigmoid(), nn.Linear(8, 6, bias=False), nn.Tanh(), nn.Linear(6, 3)
        ),
        ROW,
    ),
    "plain norm": (chain(stem(), nn.BatchNorm2d(8, affine=False), head()), IMAGE),
    "prelu": (chain(stem(), nn.PReLU(8), head(), nn.PReLU()), IMAGE),
    "group norm": (chain(stem(), nn.GroupNorm(4, 8), head()), IMAGE),
    "plain group norm": (chain(stem(), nn.GroupNorm(4, 8, affine=False), head()), IMAGE),
    "instance norm": (chain(stem(), nn.InstanceNorm2d(8, affine=True), head()), IMAGE),
    "plain instance norm": (chain(stem(), nn.InstanceNorm2d(8), head()), IMAGE),
    "layer norm": (chain(nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 12), nn.GELU(), nn.Linear(12, 3)), TOKENS),
    "embedding": (
        chain(nn.Embedding(10, 8), nn.Linear(8, 6), nn.Sigmoid(), nn.Flatten(), nn.Linear(42, 3)),
        torch.zeros(1, 7, dtype=torch.long),
    ),
    "weight norm": (chain(nn.utils.parametrizations.weight_norm(stem()), head()), IMAGE),
}


ARCHITECTURES = (*SMALL, "yolov3")


@torch.no_grad()
def randomize(module: nn.Module) -> nn.Module:
    """With weights that let a signal pass, and norms of which no two hold the same values."""
    generator = torch.Generator().manual_seed(1)
    for part in module.modules():
        if isinstance(part, nn.modules.conv._ConvNd | nn.Linear):
            part.weight.mul_(3)
        if isinstance(part, nn.modules.batchnorm._NormBase | nn.GroupNorm | nn.LayerNorm | nn.PReLU):
            for tensor in (*part.parameters(), *part.buffers()):
                if tensor.is_floating_point():
                    tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return module


def architecture(name: str) -> nn.Module:
    """A narrow version with random values, through which a signal stays alive."""
    if name != "yolov3":
        model = SMALL[name]()
        randomize_norms(model)
        return model
    model = yolov3.YOLOv3(2, 1 / 16, ((64, 1), (64, 1), (128, 2), (128, 1), (256, 1)))
    yolov3.randomize(model)
    return model


@dataclass(frozen=True)
class Case:
    """A network with random values in evaluation mode, bound, and a random mask."""

    net: nn.Module
    binding: Binding
    mask: Mask


@cache
def _case(name: str) -> Case:
    torch.manual_seed(0)
    make, example = NETS.get(name, (None, torch.zeros(1, 3, 32, 32)))
    net = (architecture(name) if make is None else randomize(make())).eval()
    binding = bind(net, example)
    outputs = results(net, draw(example))
    assert all(np.ptp(y, 0).max() > 0.01 * np.abs(y).max() for y in outputs), "the inputs have to matter"
    return Case(net, binding, random_mask(binding.analysis, 0))


def case(name: str) -> Case:
    """With a copy of the network; the rest never changes."""
    shared = _case(name)
    return Case(copy.deepcopy(shared.net), shared.binding, shared.mask)


def draw(example: Example, batch: int = 3) -> tuple[Tensor, ...]:
    """Random inputs of the example's kind."""
    examples = example if isinstance(example, tuple) else (example,)
    generator = torch.Generator().manual_seed(2)
    shapes = [(batch, *x.shape[1:]) for x in examples]
    return tuple(
        torch.randn(shape, generator=generator)
        if x.is_floating_point()
        else torch.randint(10, shape, generator=generator)
        for x, shape in zip(examples, shapes, strict=True)
    )


@torch.no_grad()
def results(module: nn.Module, inputs: tuple[Tensor, ...]) -> list[np.ndarray]:
    return [tensor.numpy() for tensor in tensors_in(module(*inputs))]


def onnx_results(model: Model, inputs: tuple[Tensor, ...]) -> list[np.ndarray]:
    names = [value.name for value in model.proto.graph.input]
    return run(model, [{name: x.numpy() for name, x in zip(names, inputs, strict=True)}])[0]


def worst(wanted: list[np.ndarray], found: list[np.ndarray]) -> float:
    """Largest difference relative to each output's range."""
    return max(float(np.abs(a - b).max() / np.abs(a).max()) for a, b in zip(wanted, found, strict=True))


def gated(case: Case) -> nn.Module:
    network = Gated(case.net, case.binding)
    network.set_mask(case.mask)
    return network


# Where parameters lie --------------------------------------------------------------------------------------------


def lying(binding: Binding) -> list[set[tuple[str, int, bool]]]:
    """For every group all that it lies on."""
    return [{(at.parameter, at.axis, at.makes) for at in binding.lying(group)} for group in binding.analysis.groups]


def norms(*names: str) -> set[tuple[str, int, bool]]:
    return {(f"{n}.{part}", 0, False) for n in names for part in ("weight", "bias", "running_mean", "running_var")}


def test_every_axis_with_channels_is_found() -> None:
    stream = {("stem.weight", 0, True), ("stem.bias", 0, True), ("back.weight", 0, True), ("back.bias", 0, True)}
    stream |= {("same.weight", 0, True), ("same.weight", 1, True), ("same.bias", 0, True)}
    stream |= {("inner.weight", 1, False), ("head.weight", 1, False), *norms("norm")}
    inner = {("inner.weight", 0, True), ("back.weight", 1, False), *norms("inner_norm")}
    assert lying(case("residual").binding) == [stream, inner]
    assert case("residual").binding.unmapped == ()


@pytest.mark.parametrize("name", NETS)
def test_every_parameter_is_found_where_it_is(name: str) -> None:
    """The export with other values in its tensors computes what the module does with these values."""
    found = case(name)
    held = {place.parameter for places in found.binding.places.values() for place in places}
    assert held == {n for n, t in named_tensors(found.net).items() if t.is_floating_point()}
    inputs = draw(found.binding.example)
    assert worst(results(found.net, inputs), onnx_results(filled(found.binding, found.net), inputs)) <= 1e-5


def test_scales_of_groups() -> None:
    binding = case("mixed").binding
    scales = {group.name: [scale.parameter for scale in binding.scales_of(group)] for group in binding.analysis.groups}
    assert scales == {
        "stem": ["norm.weight", "same_norm.weight"],
        "up:0": ["up_norm.weight"],
        "up:1": ["up_norm.weight"],
        "grouped": [],
        "wide": [],
        "hidden": ["hidden_norm.weight"],
    }
    (units,) = (scale.units.tolist() for scale in binding.scales_of(binding.analysis.groups[2]))
    assert units == [0, 1, 0, 1, 0, 1]


def test_names_of_tied_parameters_are_the_first_ones() -> None:
    binding = case("tied").binding
    held = {place.parameter for places in binding.places.values() for place in places}
    assert {"left.weight", "left_norm.weight", "left_norm.running_mean", "right_norm.bias"} <= held
    assert not {"right.weight", "right_norm.weight", "right_norm.running_mean"} & held
    assert binding.scales == {"left_norm.weight"}


def test_names_of_tied_norms_that_are_folded_are_the_first_ones_too() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.a_norm, self.b, self.b_norm = stem(), nn.BatchNorm2d(8), stem(), nn.BatchNorm2d(8)
            self.b_norm.weight = self.a_norm.weight
            self.head = nn.Conv2d(8, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.sigmoid(self.a_norm(self.a(x))) + torch.sigmoid(self.b_norm(self.b(x))))

    binding = bind(Pair(), IMAGE, mode="torchscript")
    names = {place.parameter for places in binding.places.values() for place in places}
    assert "a_norm.weight" in names and "b_norm.bias" in names and "b_norm.weight" not in names


def test_a_constant_on_channels_is_not_mapped() -> None:
    binding = bind(Scaled("constant"), IMAGE)
    (name,) = binding.unmapped
    assert binding.analysis.trace.shape(name) == [8, 1, 1]
    assert bind(Scaled("persistent"), IMAGE).unmapped == ()


# All modes -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Exported:
    """A mode's binding, and the export of the module with the values that it has."""

    mode: Mode
    binding: Binding
    model: Model


@pytest.fixture(scope="module", params=EXPORTERS)
def exported(request) -> Exported:
    net = case("mixed").net
    return Exported(request.param, bind(net, IMAGE, mode=request.param), Model(export(net, IMAGE, mode=request.param)))


def test_all_modes_lead_to_the_same_axes(exported: Exported) -> None:
    assert exported.binding.unmapped == ()
    wanted, found = lying(case("mixed").binding), lying(exported.binding)
    assert [{(p, a) for p, a, _ in group} for group in found] == [{(p, a) for p, a, _ in group} for group in wanted]


def test_a_mask_means_the_same_in_every_mode(exported: Exported) -> None:
    """Gated, the module computes what the pruned export does, of its own values."""
    base, groups = case("mixed"), exported.binding.analysis.groups
    kept = {group.name: entry.kept for group, entry in zip(groups, base.mask.groups, strict=True)}
    mask = make_mask(exported.binding.analysis, kept, {})
    wanted = results(gated(base), draw(IMAGE))
    assert worst(wanted, results(gated(Case(base.net, exported.binding, mask)), draw(IMAGE))) <= 1e-6
    pruned = onnxprune.apply(exported.model, mask, verify=False)
    assert worst(wanted, onnx_results(pruned, draw(IMAGE))) <= 1e-5


def test_a_mask_fits_every_other_mode(exported: Exported) -> None:
    _, matched = fit_mask(exported.binding.analysis, case("mixed").mask)
    assert matched == (exported.mode != "torchscript-preserve")


def test_an_analysis_of_the_module_as_it_is_may_be_given(exported: Exported) -> None:
    net = case("mixed").net
    binding = bind(net, IMAGE, mode=exported.mode, analysis=onnxprune.analyze(exported.model))
    assert (binding.places, binding.unmapped) == (exported.binding.places, ())


# Modules of all kinds --------------------------------------------------------------------------------------------


def test_the_module_is_not_touched() -> None:
    net = Residual().train()
    net.norm.eval()
    net.stem.weight.requires_grad_(False)
    before = {name: t.clone() for name, t in net.state_dict().items()}
    binding = bind(net, IMAGE)
    assert {name: part.training for name, part in net.named_modules() if not part.training} == {"norm": False}
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())
    assert not net.stem.weight.requires_grad and lying(binding) == lying(case("residual").binding)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_precision_does_not_matter(dtype: torch.dtype) -> None:
    net = case("residual").net.to(dtype)
    binding = bind(net, IMAGE.to(dtype))
    assert lying(binding) == lying(case("residual").binding)
    own = onnxprune.analyze(Model(export(copy.deepcopy(net).float(), IMAGE)))
    assert lying(bind(net, IMAGE.to(dtype), analysis=own)) == lying(binding)


def test_an_untrained_network_is_bound_as_surely_as_a_trained_one() -> None:
    assert lying(bind(Residual(), IMAGE)) == lying(case("residual").binding)


def test_copies_share_the_binding() -> None:
    binding = case("residual").binding
    assert copy.deepcopy(binding) is binding


# Refusals --------------------------------------------------------------------------------------------------------


def test_an_export_of_something_else_is_refused() -> None:
    other = onnxprune.analyze(Model(export(nn.Linear(3, 4), torch.zeros(1, 3))))
    with pytest.raises(ModelError, match=r"no tensor of the export is a parameter of the module"):
        bind(nn.Linear(3, 4), torch.zeros(1, 3), analysis=other)


def test_a_parameter_on_channels_that_are_not_tied_is_refused() -> None:
    """TorchScript stores the second use of the weight transposed, apart from the first."""

    class Uses(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.shared, self.c = nn.Linear(5, 8), nn.Linear(5, 8), nn.Linear(8, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            left = self.shared(torch.sigmoid(self.a(x)))
            right = self.shared(torch.sigmoid(self.b(x))[:, None]).mean(1)
            return self.c(torch.sigmoid(left)) + self.c(torch.sigmoid(right))

    assert len(bind(Uses(), ROW).analysis.groups) == 2
    with pytest.raises(ModelError, match=r"'shared.weight' is stored as .* axis 1 that are not tied\n.*preserve"):
        bind(Uses(), ROW, mode="torchscript")


@pytest.mark.parametrize("mode", ["dynamo", "torchscript"])
def test_folding_modes_are_not_filled(mode: Mode) -> None:
    found = case("residual")
    binding = Binding(found.binding.analysis, found.binding.places, (), frozenset(), IMAGE, mode)
    with pytest.raises(ModelError, match=rf"mode '{mode}' stores values that it computed.*\n.*'torchscript-preserve'"):
        filled(binding, found.net)


def test_what_was_merged_is_filled_while_it_is_equal() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).eval()
    binding = bind(net, torch.zeros(1, 3), analysis=onnxprune.analyze(Model(export(net, torch.zeros(1, 3)))))
    inputs = draw(torch.zeros(1, 3))
    assert worst(results(net, inputs), onnx_results(filled(binding, net), inputs)) <= 1e-6
    nn.init.uniform_(net[1].running_mean)
    with pytest.raises(ModelError, match=r"the export holds '1\.\w+' with other values"):
        filled(binding, net)


def test_a_module_that_changed_is_not_filled() -> None:
    found = case("residual")
    found.net.head = nn.Linear(6, 5)
    with pytest.raises(ModelError, match=r"'head.weight' has shape \(5, 6\), the export holds it .* shape \(4, 6\)"):
        filled(found.binding, found.net)


def test_the_analysis_has_the_values_of_the_module() -> None:
    """Scores are computed from them: values of an export with others would give chance."""
    net = Residual()
    with torch.no_grad():
        net.inner.weight.mul_(
            torch.tensor([5.0, 1.0, 3.0, 2.0, 4.0]).reshape(-1, 1, 1, 1) / net.inner.weight.abs().mean()
        )
    analysis = bind(net, torch.zeros(1, 3, 8, 8)).analysis
    scores = SCORES["l1"](analysis, 0)
    (group,) = [group for group in analysis.groups if group.size == 5]
    weights = net.inner.weight.detach().abs().sum((1, 2, 3)).numpy()
    assert np.allclose(scores[group.name], weights / weights.mean(), rtol=1e-4)
