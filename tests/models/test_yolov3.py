"""YOLOv3's architecture against the published counts, read off the traced graph, not off the names of layers."""

from collections import Counter

import pytest
import torch
from torch import fx, nn

from models.yolov3 import ANCHORS, YOLOv3, yolov3


@pytest.fixture(scope="module")
def traced() -> fx.GraphModule:
    with torch.device("meta"):
        return fx.symbolic_trace(YOLOv3())


def is_kind(graph: fx.GraphModule, node: fx.Node, kind: type[nn.Module]) -> bool:
    return node.op == "call_module" and isinstance(graph.get_submodule(node.target), kind)


def convolutions(graph: fx.GraphModule) -> dict[fx.Node, int]:
    """Output channels of every convolution that a BatchNorm follows."""
    norms = [n for n in graph.graph.nodes if is_kind(graph, n, nn.BatchNorm2d)]
    return {n.args[0]: graph.get_submodule(n.target).num_features for n in norms}


def producers(graph: fx.GraphModule, node: fx.Node) -> set[fx.Node]:
    """The convolutions whose channels are, one to one, those of `node`."""
    if is_kind(graph, node, nn.Conv2d):
        return {node}
    return set().union(*(producers(graph, n) for n in node.all_input_nodes))


def coupled(graph: fx.GraphModule) -> list[set[fx.Node]]:
    """Sets of convolutions whose outputs are added."""
    sets: list[set[fx.Node]] = []
    for node in graph.graph.nodes:
        if "add" in str(node.target):
            tied = producers(graph, node)
            apart = [s for s in sets if not s & tied]
            sets = [*apart, tied.union(*(s for s in sets if s & tied))]
    return sets


def before_upsampling(graph: fx.GraphModule) -> set[fx.Node]:
    ups = [n for n in graph.graph.nodes if is_kind(graph, n, nn.Upsample)]
    return set().union(*(producers(graph, n) for n in ups))


def test_parameters_and_convolutions(traced):
    convs = [m for m in traced.modules() if isinstance(m, nn.Conv2d)]
    assert sum(p.numel() for p in traced.parameters()) == 61_949_149
    assert len(convs) == 75
    assert [c.out_channels for c in convs if c.bias is not None] == [255] * ANCHORS


def test_normalized_convolutions(traced):
    channels = convolutions(traced)
    assert len(channels) == 72
    assert sum(channels.values()) == 26_304


def test_shortcut_coupled_groups(traced):
    channels = convolutions(traced)
    sets = coupled(traced)
    assert [len(s) for s in sets] == [2, 3, 9, 9, 5]
    assert [{channels[n] for n in s} for s in sets] == [{64}, {128}, {256}, {512}, {1024}]
    assert sum(channels[n] for s in sets for n in s) == 12_544


def test_convolutions_before_upsampling(traced):
    channels = convolutions(traced)
    assert Counter(channels[n] for n in before_upsampling(traced)) == {256: 1, 128: 1}


def test_uncoupled_convolutions(traced):
    channels = convolutions(traced)
    left = channels.keys() - set().union(*coupled(traced)) - before_upsampling(traced)
    assert (len(left), sum(channels[n] for n in left)) == (42, 13_376)


def test_activations_and_names(traced):
    leaky = [n for n in traced.graph.nodes if "leaky_relu" in str(n.target)]
    assert len(leaky) == 72 and all(n.kwargs["negative_slope"] == 0.1 for n in leaky)
    names = dict(traced.named_parameters())
    assert names["layers.0.conv.weight"].shape == (32, 3, 3, 3)
    assert names["layers.105.bias"].shape == (255,)


@pytest.fixture(scope="module")
def model() -> YOLOv3:
    return yolov3(seed=0)


@torch.no_grad()
def test_heads_are_raw_maps_that_depend_on_the_input(model):
    generator = torch.Generator().manual_seed(1)
    first, second = (model(torch.randn(1, 3, 416, 416, generator=generator)) for _ in range(2))
    assert [tuple(y.shape) for y in first] == [(1, 255, 13, 13), (1, 255, 26, 26), (1, 255, 52, 52)]
    for a, b in zip(first, second, strict=True):
        assert torch.isfinite(a).all()
        assert (a - b).std() > 0.1 * a.std()


def test_weights_follow_the_seed_and_statistics_are_measured(model):
    state = torch.random.get_rng_state()
    again = yolov3(seed=0)
    assert torch.equal(state, torch.random.get_rng_state()), "the caller's random state must not move"
    assert torch.equal(again.layers[60].conv.weight, model.layers[60].conv.weight)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert not model.training and all(bool((n.running_var != 1).all()) for n in norms)
    assert all(n.weight.std() > 0.1 for n in norms)
