"""What branches are judged by, and the decision that is made of it."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from onnxprune.errors import ModelError, UsageError
from onnxprune.selection import STRATEGIES
from onnxprune.torch.binding import bind
from onnxprune.torch.deciding import ByBranch
from onnxprune.torch.ends import BranchScales
from onnxprune.torch.gates import Gated
from onnxprune.torch.scales import Scales
from tests.torch.test_binding import IMAGE, SMALL


class Ends(nn.Module):
    """Branches that end in a norm, an activation of one, two norms, a gated norm, a layer after a norm, a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 4, 1)
        self.convs = nn.ModuleList(nn.Conv2d(6, 6, 3, padding=1) for _ in range(6))
        self.norms = nn.ModuleList(nn.BatchNorm2d(6) for _ in range(6))
        self.down, self.up, self.before = nn.Conv2d(6, 3, 1), nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6)
        self.wide, self.back = nn.Conv2d(6, 5, 1), nn.Conv2d(5, 6, 1)
        for k, norm in enumerate([*self.norms, self.before]):
            nn.init.uniform_(norm.weight, -k - 1.5, -k - 0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = [norm(conv(x)) for norm, conv in zip(self.norms, self.convs, strict=True)]
        x = x + y[0]
        x = x + nn.functional.leaky_relu(self.norms[1](self.convs[1](x)))
        x = x + (self.norms[2](self.convs[2](x)) + self.norms[3](self.convs[3](x)))
        z = self.norms[4](self.convs[4](x))
        x = x + z * torch.sigmoid(self.up(torch.relu(self.down(z.mean((2, 3), keepdim=True)))))
        x = x + self.convs[5](torch.relu(self.before(x)))
        return self.head(torch.relu(x + self.back(torch.relu(self.wide(x)))))


def gamma(*norms: nn.Module) -> float:
    return float(torch.cat([norm.weight.detach().abs() for norm in norms]).mean())


def test_the_mean_of_the_norms_that_end_a_branch_or_of_what_its_last_layer_reads() -> None:
    net = Ends()
    gated = Gated(net, bind(net, IMAGE))
    with torch.no_grad():
        gated.gates.copy_(torch.arange(float(len(gated.gates))))
    branches = BranchScales(gated, gated.binding, Scales(gated, gated.binding, combine="mean"))
    assert branches.names == ("convs.0", "convs.1", "convs.3", "up", "convs.5", "back")
    found = dict(zip(branches.names, branches.read().tolist(), strict=True))
    own = dict(zip(branches.names[:4], [net.norms[0:1], net.norms[1:2], net.norms[2:4], net.norms[4:5]], strict=True))
    assert {name: found[name] for name in own} == pytest.approx({name: gamma(*norms) for name, norms in own.items()})
    scales = Scales(gated, gated.binding, combine="mean")
    stream, wide = (scales.by_group(scales.read())[name] for name in ("stem", "wide"))
    assert found["convs.5"] == pytest.approx(stream.mean()) and found["back"] == pytest.approx(wide.mean())


def test_the_norm_before_the_last_layer_judges_a_preactivated_branch() -> None:
    torch.manual_seed(0)
    net = SMALL["preresnet_cifar"]()
    binding = bind(net, torch.zeros(2, 3, 32, 32))
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.weight)
    branches = BranchScales(net, binding, Scales(net, binding))
    wanted = [gamma(net.get_submodule(name.removesuffix("2") + "0")) for name in branches.names]
    np.testing.assert_allclose(branches.read(), wanted, rtol=1e-6)


def test_a_branch_that_nothing_judges_is_refused() -> None:
    net = nn.Sequential(nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6), Plain(), nn.Conv2d(6, 4, 1))
    binding = bind(net, IMAGE)
    scales = Scales(net, binding)
    with pytest.raises(ModelError, match=r"branch '2\.b' cannot be judged: no normalisation with scales") as error:
        BranchScales(net, binding, scales)
    assert "Gated" in error.value.fix
    gated = Gated(net, binding)
    assert BranchScales(gated, binding, Scales(gated, binding)).read().tolist() == [1.0]


class Plain(nn.Module):
    """A branch without a normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(6, 5, 1), nn.Conv2d(5, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.b(torch.relu(self.a(x)))


def decision(share: float) -> ByBranch:
    net = Ends()
    gated = Gated(net, bind(net, IMAGE))
    branches = BranchScales(gated, gated.binding, Scales(gated, gated.binding))
    return ByBranch(gated.binding.analysis, branches, {"macs": share}, {"strategy": "layer"})


def test_the_branches_of_the_smallest_scales_go() -> None:
    by = decision(0.9)
    values = np.array([3, 1, 2, 6, 5, 4], np.float32)
    mask = by.select(values)
    assert mask.branches == ("convs.1",) and by.removed(mask).tolist() == [False, True, *[False] * 4]
    assert by.select(values, tighter=0.85).branches == ("convs.1", "convs.3")
    assert mask.provenance == {"strategy": "layer", "target": {"macs": 0.9}} and by.read().shape == (6,)


def test_a_target_that_dropping_all_does_not_reach_is_refused() -> None:
    with pytest.raises(UsageError, match=r"with all 6 residual branches dropped the least is macs=0\.\d+"):
        decision(0.01).select(np.ones(6, np.float32))


def test_the_strategy_pulls_all_scales() -> None:
    net = Ends()
    analysis = bind(net, IMAGE).analysis
    assert STRATEGIES["layer"].branches and STRATEGIES["layer"].groups(analysis) == STRATEGIES["slim"].groups(analysis)
