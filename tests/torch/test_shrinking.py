"""The smaller module is the gated one and the pruned export, and goes on training; or it is refused, untouched."""

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import onnxprune
from onnxprune.errors import MaskError, ModelError
from onnxprune.mask import Mask, make_mask
from onnxprune.torch.binding import Binding, bind
from onnxprune.torch.filling import filled
from onnxprune.torch.gates import Gated
from onnxprune.torch.shrinking import shrink
from onnxprune.torch.trials import difference
from tests.pruning import random_mask
from tests.torch.test_binding import (
    ARCHITECTURES,
    IMAGE,
    NETS,
    TOKENS,
    Attention,
    Case,
    Residual,
    Scaled,
    case,
    chain,
    draw,
    gated,
    results,
    worst,
)


@pytest.mark.parametrize("name", [*NETS, *ARCHITECTURES])
def test_the_smaller_module_is_the_gated_one_and_the_pruned_model(name: str) -> None:
    found = case(name)
    pruned = onnxprune.apply(filled(found.binding, found.net), found.mask, verify=False)
    inputs = draw(found.binding.example)
    wanted = results(gated(found), inputs)
    random = torch.get_rng_state()
    smaller = shrink(found.net, found.binding, found.mask)
    assert torch.equal(torch.get_rng_state(), random)
    assert worst(wanted, results(found.net, inputs)) <= 1e-5
    assert smaller.analysis.cost == onnxprune.analyze(pruned).cost
    assert sum(t.size for t in _held(smaller)) == sum(t.numel() for t in _floats(found.net))


def _held(binding: Binding) -> list[np.ndarray]:
    return [binding.analysis.trace.graph.array(name) for name in binding.places]


def _floats(net: nn.Module) -> list[Tensor]:
    return [t for t in (*net.parameters(), *net.buffers()) if t.is_floating_point()]


def keeping(binding: Binding, **kept: int) -> Mask:
    """Of some groups the first units."""
    sizes = {group.name: group.size for group in binding.analysis.groups}
    return make_mask(binding.analysis, {name: np.arange(sizes[name]) < n for name, n in kept.items()}, {})


@pytest.mark.parametrize(
    ("name", "kept", "expected"),
    [
        (
            "depthwise",
            {"0": 3, "3": 1},
            chain(
                nn.Conv2d(3, 3, 3, padding=1),
                nn.BatchNorm2d(3),
                nn.ReLU6(),
                nn.Conv2d(3, 3, 3, groups=3),
                nn.Sigmoid(),
                nn.Conv2d(3, 4, 1),
            ),
        ),
        (
            "transposed",
            {"0:0": 3, "0:1": 1, "2": 2},
            chain(
                nn.Conv2d(3, 3, 3, padding=1),
                nn.Sigmoid(),
                nn.ConvTranspose2d(3, 6, 2, stride=2, groups=3),
                nn.Sigmoid(),
                nn.ConvTranspose2d(6, 6, 2, groups=6),
                nn.Sigmoid(),
                nn.Conv2d(6, 4, 1),
            ),
        ),
        (
            "rows",
            {"0": 3, "3": 2},
            chain(
                nn.Linear(5, 3),
                nn.BatchNorm1d(3),
                nn.Sigmoid(),
                nn.Linear(3, 2, bias=False),
                nn.Tanh(),
                nn.Linear(2, 3),
            ),
        ),
        ("group norm", {"0": 3}, (6, nn.GroupNorm(3, 6))),
        ("plain group norm", {"0": 3}, (6, nn.GroupNorm(3, 6, affine=False))),
        ("instance norm", {"0": 3}, (3, nn.InstanceNorm2d(3, affine=True))),
        ("plain instance norm", {"0": 3}, (3, nn.InstanceNorm2d(3))),
        ("plain norm", {"0": 3}, (3, nn.BatchNorm2d(3, affine=False))),
        (
            "embedding",
            {"0.weight": 3, "1": 2},
            chain(nn.Embedding(10, 3), nn.Linear(3, 2), nn.Sigmoid(), nn.Flatten(), nn.Linear(14, 3)),
        ),
        (
            "prelu",
            {"0": 3},
            chain(
                nn.Conv2d(3, 3, 3, padding=1),
                nn.PReLU(3),
                nn.Sequential(nn.Sigmoid(), nn.Conv2d(3, 4, 1)),
                nn.PReLU(),
            ),
        ),
    ],
)
def test_modules_state_their_new_sizes(name: str, kept: dict[str, int], expected: object) -> None:
    found = case(name)
    shrink(found.net, found.binding, keeping(found.binding, **kept))
    if isinstance(expected, tuple):
        n, norm = expected
        expected = chain(nn.Conv2d(3, n, 3, padding=1), norm, nn.Sequential(nn.Sigmoid(), nn.Conv2d(n, 4, 1)))
    assert repr(found.net) == repr(expected())


# Training goes on ------------------------------------------------------------------------------------------------


def regression() -> tuple[Tensor, Tensor]:
    (x,) = draw(IMAGE, 16)
    return x, x.mean((2, 3)) @ torch.ones(3, 4)


def train(network: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> list[float]:
    """The losses of some steps."""
    (x, y), losses = regression(), []
    for _ in range(steps):
        loss = (network(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


STREAM, INNER = np.array([0, 2, 3, 5]), np.array([1, 4])
ALONG = {  # by hand: what lies along each axis of Residual's tensors
    "stem": (STREAM,),
    "norm": (STREAM,),
    "inner": (INNER, STREAM),
    "inner_norm": (INNER,),
    "back": (STREAM, INNER),
    "same": (STREAM, STREAM),
    "head": (slice(None), STREAM),
}


def by_hand(name: str, tensor: Tensor) -> Tensor:
    for axis, kept in enumerate(ALONG[name.partition(".")[0]][: tensor.ndim]):
        tensor = tensor.movedim(axis, 0)[kept].movedim(0, axis)
    return tensor


def residual_mask(binding: Binding) -> Mask:
    kept = {"stem": np.isin(np.arange(6), STREAM), "inner": np.isin(np.arange(5), INNER)}
    return make_mask(binding.analysis, kept, {})


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, 0.02, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, 0.01, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, 0.01),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_parameters_and_optimizer_state_are_sliced_and_training_goes_on(name: str) -> None:
    net = case("residual").net.train()
    net.norm.eval()
    optimizer = OPTIMIZERS[name](net.parameters())
    first = train(net, optimizer, 5)
    parameters = dict(net.named_parameters())
    before = {key: t.detach().clone() for key, t in net.state_dict().items()}
    states = {key: copy.deepcopy(optimizer.state[p]) for key, p in parameters.items()}
    binding = bind(net, IMAGE)
    shrink(net, binding, residual_mask(binding), optimizer)
    assert {key: id(p) for key, p in net.named_parameters()} == {key: id(p) for key, p in parameters.items()}
    assert {id(p) for p in optimizer.param_groups[0]["params"]} == {id(p) for p in parameters.values()}
    for key, tensor in net.state_dict().items():
        assert torch.equal(tensor, by_hand(key, before[key]) if tensor.ndim else before[key])
    for key, parameter in parameters.items():
        assert parameter.grad is None or parameter.grad.shape == parameter.shape
        assert states[key].keys() == optimizer.state[parameter].keys() != set()
        for entry, value in states[key].items():
            wanted = by_hand(key, value) if value.ndim else value
            assert torch.equal(optimizer.state[parameter][entry], wanted)
    assert {name: part.training for name, part in net.named_modules() if not part.training} == {"norm": False}
    assert train(net, optimizer, 30)[-1] < first[-1]


def test_state_of_another_shape_is_dropped() -> None:
    """Adafactor keeps means of rows and columns."""
    net = case("residual").net.train()
    optimizer = torch.optim.Adafactor(net.parameters(), 0.01)
    train(net, optimizer, 2)
    binding = bind(net, IMAGE)
    shrink(net, binding, residual_mask(binding), optimizer)
    assert net.inner.weight not in optimizer.state
    assert optimizer.state[net.head.bias]["variance"].shape == (4,)
    assert np.isfinite(train(net, optimizer, 5)).all()


def test_frozen_parameters_stay_frozen() -> None:
    found = case("residual")
    found.net.inner.weight.requires_grad_(False)
    shrink(found.net, found.binding, found.mask)
    assert [name for name, p in found.net.named_parameters() if not p.requires_grad] == ["inner.weight"]


def test_channels_stay_last_in_memory() -> None:
    found = case("residual")
    net = found.net.to(memory_format=torch.channels_last)
    optimizer = OPTIMIZERS["sgd"](net.parameters())
    train(net, optimizer, 1)
    layouts = [p.is_contiguous(memory_format=torch.channels_last) for p in net.parameters() if p.ndim == 4]
    assert all(layouts) and not net.inner.weight.is_contiguous()
    shrink(net, found.binding, found.mask, optimizer)
    for p in net.parameters():
        for tensor in (p, optimizer.state[p]["momentum_buffer"]):
            assert tensor.is_contiguous(memory_format=torch.channels_last if p.ndim == 4 else torch.contiguous_format)
    assert not net.inner.weight.is_contiguous()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_precision_stays(dtype: torch.dtype) -> None:
    net = case("residual").net.to(dtype)
    before = {key: t.clone() for key, t in net.state_dict().items()}
    binding = bind(net, IMAGE.to(dtype))
    shrink(net, binding, residual_mask(binding))
    for key, tensor in net.state_dict().items():
        assert torch.equal(tensor, by_hand(key, before[key]) if tensor.ndim else before[key])


def test_shrinking_twice() -> None:
    found = case("mixed")
    second = shrink(found.net, found.binding, found.mask)
    mask = random_mask(second.analysis, 1)
    wanted = results(gated(Case(copy.deepcopy(found.net), second, mask)), draw(IMAGE))
    third = shrink(found.net, second, mask)
    assert worst(wanted, results(found.net, draw(IMAGE))) <= 1e-5
    assert third.analysis.cost.params < second.analysis.cost.params < found.binding.analysis.cost.params


# Gated networks --------------------------------------------------------------------------------------------------


def test_a_gated_network_gets_smaller_with_its_gates_folded_in() -> None:
    found = case("residual")
    network = Gated(found.net, found.binding)
    gates = network.gates
    optimizer = OPTIMIZERS["sgd"](network.parameters())
    first = train(network, optimizer, 5)
    mask = residual_mask(found.binding)
    kept = torch.from_numpy(np.concatenate([group.kept for group in mask.groups]))
    learnt = gates.detach().clone()
    with torch.no_grad():
        gates.mul_(kept)
        network.eval()
        wanted = results(network, draw(IMAGE))
        gates.copy_(learnt)
        assert worst(wanted, results(gated(case("residual")), draw(IMAGE))) > 1e-3, "the gates have to matter"
    shrink(network, found.binding, mask, optimizer)
    assert network.gates is gates and (gates == 1).all() and gates.shape == (6,)
    assert gates not in optimizer.state and gates.grad is None
    assert worst(wanted, results(network, draw(IMAGE))) <= 1e-5
    assert worst(wanted, results(network.module, draw(IMAGE))) <= 1e-5
    assert [group.size for group in network.binding.analysis.groups] == [4, 2]
    assert train(network.train(), optimizer, 30)[-1] < first[-1]


# Refusals --------------------------------------------------------------------------------------------------------


class Viewing(nn.Module):
    """States a size in `forward`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(512, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.sigmoid(self.conv(x)).view(-1, 512))


class Normalizing(nn.Module):
    """Divides by a number of channels: it runs when it is smaller, but computes something else."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 1, bias=False), nn.Conv2d(8, 4, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.stem(x)) * (8 / self.stem.out_channels))


class Helped(nn.Module):
    """Has another head while it is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head, self.aid = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = torch.sigmoid(self.stem(x))
        return (self.head(x), self.aid(x)) if self.training else (self.head(x),)


class Telling(Normalizing):
    """Gives its channels away while it is trained."""

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.stem(x))
        return x if self.training else self.head(x)


OFFER = r"\n  fix: `forward` states sizes: .*, or train on gated \(onnxprune\.torch\.Gated\)"


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (Viewing(), r"^Viewing cannot be made smaller: the smaller module fails: shape '\[-1, 512\]' is invalid"),
        (Scaled("constant"), r"fails: The size of tensor a .* must match .*; it also computes with '.*Constant"),
        (Normalizing(), r"the smaller module differs from the gated one by \d\.\de[-+]\d\d of the outputs' range"),
        (Helped(), r"the smaller module fails in training mode: .* expected input.* to have 8 channels, but got"),
        (Telling(), r"fails in training mode: it gives outputs of \[\(2, \d, 8, 8\)\], expected \[\(2, 8, 8, 8\)\]"),
    ],
)
def test_modules_that_do_not_follow_are_refused_and_left_as_they_were(net: nn.Module, message: str) -> None:
    net.train()
    optimizer = OPTIMIZERS["adam"](net.parameters())
    result = net(draw(IMAGE)[0])
    (result if isinstance(result, Tensor) else sum(result)).sum().backward()
    optimizer.step()
    before, text, ids = copy.deepcopy(net.state_dict()), repr(net), [id(p) for p in net.parameters()]
    states = copy.deepcopy(optimizer.state_dict())
    binding = bind(net, IMAGE)
    for module in (net, Gated(net, binding)):
        with pytest.raises(ModelError, match=message + r".*" + OFFER):
            shrink(module, binding, random_mask(binding.analysis, 0), optimizer)
        assert (repr(net), [id(p) for p in net.parameters()]) == (text, ids)
        assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())
        assert all(part.training for part in net.modules())
        torch.testing.assert_close(optimizer.state_dict(), states, rtol=0, atol=0)


def test_a_blank_example_does_not_hide_a_difference() -> None:
    """Without biases all that a network makes of zeros is zeros."""
    net = Normalizing()
    assert not IMAGE.any() and not net(IMAGE).any()
    binding = bind(net, IMAGE)
    with pytest.raises(ModelError, match=r"differs from the gated one"):
        shrink(net, binding, random_mask(binding.analysis, 0))


def test_training_that_takes_more_than_the_example_is_no_hindrance() -> None:
    class Losing(Residual):
        def forward(self, x: Tensor, target: Tensor | None = None) -> Tensor:
            y = super().forward(x)
            return (y - target).square().mean() if self.training else y

    net = Losing()
    binding = bind(net, IMAGE)
    shrink(net, binding, residual_mask(binding))
    assert net.inner.weight.shape == (2, 4, 3, 3)


def test_what_cannot_be_gated_cannot_be_removed() -> None:
    net = Attention()
    binding = bind(net, TOKENS)
    with pytest.raises(MaskError, match=r"group 'q' cannot be gated"):
        shrink(net, binding, random_mask(binding.analysis, 0))
    shrink(net, binding, random_mask(binding.analysis, 0, ["v"]))
    assert (net.q.out_features, net.v.out_features) == (8, net.out.in_features) != (8, 8)


def test_a_mask_that_empties_a_group_is_refused() -> None:
    found = case("residual")
    with pytest.raises(MaskError, match=r"group 'inner': the mask removes all 5 units"):
        shrink(found.net, found.binding, keeping(found.binding, inner=0))


@pytest.mark.parametrize(
    ("wanted", "found", "expected"),
    [
        (torch.tensor([1.0, -4.0]), torch.tensor([2.0, -4.0]), 0.25),
        (torch.tensor([1, 4]), torch.tensor([2, 4]), 0.25),
        (torch.tensor([True, False]), torch.tensor([True, True]), 1.0),
        (torch.zeros(2), torch.zeros(2), 0.0),
        (torch.zeros(0), torch.zeros(0), 0.0),
        (torch.zeros(2), torch.zeros(3), float("inf")),
        (torch.tensor([float("nan")]), torch.tensor([float("nan")]), float("inf")),
    ],
)
def test_difference(wanted: Tensor, found: Tensor, expected: float) -> None:
    assert difference(wanted, found) == expected
