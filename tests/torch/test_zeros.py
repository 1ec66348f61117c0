"""Dropped branches in a module: what gives zeros in their place, and that it is the pruned export, or refused."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import onnxprune
from onnxprune.errors import MaskError, ModelError
from onnxprune.execution import run
from onnxprune.mask import Mask, make_mask
from onnxprune.torch.binding import Binding, bind
from onnxprune.torch.consumers import consumption
from onnxprune.torch.filling import filled
from onnxprune.torch.gates import Gated
from onnxprune.torch.shrinking import shrink
from onnxprune.torch.tasks import DigitsNet
from onnxprune.torch.trials import droppable
from onnxprune.torch.zeros import Zeros
from tests.pruning import random_mask
from tests.torch.test_binding import IMAGE, SMALL, Residual, draw

TOKENS = torch.zeros(2, 4, 6)


class Attention(nn.Module):
    """`(B, N, 8)` to the same; `forward` states sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).reshape(*x.shape[:2], 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = (q @ k.transpose(-1, -2) / 2).softmax(-1) @ v
        return self.out(mixed.transpose(1, 2).reshape(x.shape))


class Encoder(nn.Module):
    """Two branches in one block."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.attention, self.norm2 = nn.LayerNorm(8), Attention(), nn.LayerNorm(8)
        self.mlp = nn.Sequential(nn.Linear(8, 12), nn.GELU(), nn.Linear(12, 8))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ConvNext(nn.Module):
    """A block with a parameter of its own, beside its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.depthwise, self.norm = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.LayerNorm(8)
        self.wide, self.back = nn.Linear(8, 12), nn.Linear(12, 8)
        self.scale = nn.Parameter(torch.full((8,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.scale * self.back(nn.functional.gelu(self.wide(y)))
        return x + y.permute(0, 3, 1, 2)


class Wrapped(nn.Module):
    """x + f(x) for any f."""

    def __init__(self, f: nn.Module) -> None:
        super().__init__()
        self.f = f

    def forward(self, x: Tensor) -> Tensor:
        return x + self.f(x)


class Shared(nn.Module):
    """One layer is the branch of two sums."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.layer, self.head = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 1), nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sigmoid(self.stem(x))
        x = x + self.layer(x)
        return self.head(x + torch.tanh(self.layer(x)))


def sequence(*blocks: nn.Module, tokens: bool = False) -> nn.Module:
    """Blocks of 8 channels, between a stem and a head."""
    ends = (nn.Linear(6, 8), nn.Linear(8, 5)) if tokens else (nn.Conv2d(3, 8, 1), nn.Conv2d(8, 5, 1))
    return nn.Sequential(ends[0], *blocks, ends[1])


def ending() -> nn.Module:
    """Of zeros its end makes halves."""
    return nn.Sequential(nn.Linear(8, 8), nn.Sigmoid())


NETS: dict[str, tuple[Callable[[], nn.Module], Tensor, list[str], list[str]]] = {
    # The network, its example, the branches to drop, and what gives zeros then.
    "digits": (DigitsNet, torch.zeros(2, 1, 16, 16), ["3.conv2"], ["3.bn1", "3.bn2", "3.conv1", "3.conv2"]),
    "encoders": (
        lambda: sequence(Encoder(), Encoder(), tokens=True),
        TOKENS,
        ["1.attention.out", "2.mlp.2"],
        ["1.attention", "1.norm1", "2.mlp", "2.norm2"],
    ),
    "both of a block": (
        lambda: sequence(Encoder(), tokens=True),
        TOKENS,
        ["1.attention.out", "1.mlp.2"],
        ["1.attention", "1.mlp", "1.norm1", "1.norm2"],
    ),
    "a parameter beside": (
        lambda: sequence(ConvNext()),
        IMAGE,
        ["1.back"],
        ["1.back", "1.depthwise", "1.norm", "1.wide"],
    ),
    # The attention states sizes, and of zeros the sigmoid makes halves: all of f has to be replaced.
    "wrapped": (lambda: sequence(Wrapped(Attention()), tokens=True), TOKENS, ["1.f.out"], ["1.f"]),
    "wrapped with its end": (lambda: sequence(Wrapped(ending()), tokens=True), TOKENS, ["1.f.0"], ["1.f"]),
    "of different kinds": (
        lambda: sequence(Wrapped(ending()), Wrapped(Attention()), Encoder(), tokens=True),
        TOKENS,
        ["1.f.0", "2.f.out", "3.mlp.2"],
        ["1.f", "2.f", "3.mlp", "3.norm2"],
    ),
    "shared": (Shared, IMAGE, ["layer:0", "layer:1"], ["layer"]),
    "one of two": (Residual, IMAGE, ["back"], ["back", "inner", "inner_norm"]),
    "preresnet": (
        SMALL["preresnet_cifar"],
        torch.zeros(2, 3, 32, 32),
        ["stages.1.1.conv3.2"],
        ["stages.1.1.conv1", "stages.1.1.conv2", "stages.1.1.conv3"],
    ),
    "mobilenet": (
        SMALL["mobilenetv2_cifar"],
        torch.zeros(2, 3, 32, 32),
        ["features.3.project.0"],
        ["features.3.depthwise", "features.3.expand", "features.3.project"],
    ),
}


def dropping(binding: Binding, names: list[str], seed: int | None = None) -> Mask:
    """Drops branches and, given a seed, units of all groups that gates reach, too."""
    reached = [g.name for g in binding.analysis.groups if g.name not in consumption(binding).open]
    units = {} if seed is None else {g.name: g.kept for g in random_mask(binding.analysis, seed, reached).groups}
    return make_mask(binding.analysis, units, {}, names)


@pytest.mark.parametrize(("name", "seed"), [("digits", None), *((name, 0) for name in NETS)])
def test_the_module_computes_what_the_pruned_export_computes(name: str, seed: int | None) -> None:
    make, example, names, zeros = NETS[name]
    torch.manual_seed(0)
    net = make()
    binding = bind(net, example)
    mask = dropping(binding, names, seed)
    pruned = onnxprune.apply(filled(binding, net), mask, verify=False)
    training, random = net.training, torch.get_rng_state()
    shrink(net, binding, mask)
    assert torch.equal(torch.get_rng_state(), random) and net.training == training
    assert sorted(n for n, part in net.named_modules() if isinstance(part, Zeros)) == zeros
    (inputs,) = draw(example)
    wanted = torch.from_numpy(run(pruned, [{"input": inputs.numpy()}])[0][0])
    torch.testing.assert_close(net.eval()(inputs), wanted, rtol=1e-4, atol=1e-5)
    stored = {"scale"} if name == "a parameter beside" else set()
    assert len(list(net.parameters())) == len(pruned_parameters(pruned, binding)) + len(stored)


def pruned_parameters(pruned: onnxprune.Model, binding: Binding) -> set[str]:
    """Names of the module's parameters that the pruned model still holds."""
    held = {p.parameter for t in pruned.proto.graph.initializer for p in binding.places.get(t.name, ())}
    return {name for name in held if not name.endswith(("running_mean", "running_var"))}


def test_a_branch_that_is_not_zero_at_zero_is_refused_and_nothing_changed() -> None:
    """The sigmoid is called by `forward` itself; of zeros it makes halves."""
    net = Residual()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    before, text = copy.deepcopy(net.state_dict()), repr(net)
    binding = bind(net, IMAGE)
    message = r"smaller: the smaller module differs from the pruned export \(without 'same'\) by .*\n  fix: a dropped"
    with pytest.raises(ModelError, match=message):
        shrink(net, binding, dropping(binding, ["same"]), optimizer)
    assert repr(net) == text and len(optimizer.param_groups[0]["params"]) == len(list(net.parameters()))
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())


def test_which_branches_a_module_can_lose() -> None:
    digits, residual = DigitsNet(), Residual()
    assert droppable(digits, bind(digits, torch.zeros(2, 1, 16, 16))) == ("3.conv2", "7.conv2")
    assert droppable(Gated(residual, bind(residual, IMAGE)), bind(residual, IMAGE)) == ("back",)


def test_none_that_it_can_lose_is_refused() -> None:
    net = sequence(Squashed())
    with pytest.raises(ModelError, match=r"differs from the pruned export \(without '1\.layer'\)"):
        droppable(net, bind(net, IMAGE))


class Squashed(nn.Module):
    """A branch that is not zero where its layer gives zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.sigmoid(self.layer(x))


@pytest.mark.parametrize("silent", ["head", "branch"])
def test_zeros_that_a_network_begins_with_do_not_let_anything_pass(silent: str) -> None:
    """Neither a head of zeros nor a last scale of zero hides that the block itself must not be replaced."""
    net = sequence(ConvNext())
    with torch.no_grad():
        (net[2].weight if silent == "head" else net[1].scale).zero_()
        net[2].bias.zero_()
    binding = bind(net, IMAGE)
    shrink(net, binding, dropping(binding, ["1.back"]))
    assert isinstance(net[1], ConvNext) and isinstance(net[1].back, Zeros)


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_the_optimizer_forgets_what_goes_and_trains_on(kind: type) -> None:
    net = DigitsNet()
    options = {"momentum": 0.9} if kind is torch.optim.SGD else {}
    norms = [p for p in net.parameters() if p.ndim == 1]
    optimizer = kind([{"params": [p for p in net.parameters() if p.ndim > 1]}, {"params": norms}], lr=0.01, **options)
    inputs = torch.rand(4, 1, 16, 16)
    net(inputs).sum().backward()
    optimizer.step()
    momenta = {id(p): copy.deepcopy(optimizer.state[p]) for p in net.parameters()}
    binding = bind(net, inputs)
    shrink(net, binding, dropping(binding, ["3.conv2"]), optimizer)
    left = list(net.parameters())
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in left} == {id(p) for p in optimizer.state}
    for p in left:
        torch.testing.assert_close(optimizer.state[p], momenta[id(p)], rtol=0, atol=0)
    before = net[0].weight.detach().clone()
    net.train()(inputs).square().sum().backward()
    optimizer.step()
    assert not torch.equal(net[0].weight, before)


def test_gates_are_multiplied_in_and_opened() -> None:
    net = DigitsNet()
    gated = Gated(net, bind(net, torch.zeros(2, 1, 16, 16)))
    inputs = torch.rand(2, 1, 16, 16)
    with torch.no_grad():
        gated.gates.uniform_(0.5, 1.5)
    dense = filled(gated.binding, copy.deepcopy(gated).fold())
    mask = dropping(gated.binding, ["7.conv2"])
    shrink(gated, gated.binding, mask)
    assert (gated.gates == 1).all() and "7.conv2" not in {b.name for b in gated.binding.analysis.branches}
    wanted = run(onnxprune.apply(dense, mask, verify=False), [{"input": inputs.numpy()}])[0][0]
    torch.testing.assert_close(gated.eval()(inputs), torch.from_numpy(wanted), rtol=1e-4, atol=1e-5)


def test_gates_alone_cannot_drop_a_branch() -> None:
    net = DigitsNet()
    gated = Gated(net, bind(net, torch.zeros(2, 1, 16, 16)))
    with pytest.raises(MaskError, match=r"branch '3\.conv2' cannot be dropped by gates"):
        gated.set_mask(dropping(gated.binding, ["3.conv2"]))


def test_one_more_branch_is_dropped_from_the_smaller_module() -> None:
    net, inputs = DigitsNet(), torch.rand(2, 1, 16, 16)
    smaller = shrink(net, binding := bind(net, inputs), dropping(binding, ["3.conv2"]))
    assert [b.name for b in smaller.analysis.branches] == ["7.conv2"]
    shrink(net, smaller, dropping(smaller, ["7.conv2"], seed=0))
    assert sum(isinstance(part, Zeros) for part in net.modules()) == 8 and net(inputs).shape == (2, 10)
