"""The CIFAR architectures: their sizes are the published ones, and all of their channels can be pruned exactly."""

from collections import Counter
from collections.abc import Callable
from functools import cache, partial

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn
from torch.utils.flop_counter import FlopCounterMode

import onnxprune
from models.densenet_cifar import DenseNet, densenet40
from models.export import export
from models.googlenet_cifar import GoogLeNet, Widths, googlenet
from models.mobilenetv2_cifar import LAST, STAGES, STEM, MobileNetV2, Stage, mobilenetv2
from models.preresnet_cifar import PreResNet, preresnet164
from models.resnet_cifar import ResNet, resnet56, resnet110
from models.vgg_cifar import VGG, vgg16_bn, vgg19_bn
from models.wrn_cifar import WideResNet, wrn, wrn26_12
from onnxprune.analysis import Analysis
from onnxprune.mask import make_mask, masked_cost
from tests.pruning import assert_exact, random_mask
from tests.test_groups import ARCHITECTURES, check_golden

Factory = Callable[..., nn.Module]

# --- full size: counted without memory for weights ---------------------------------------------------------------

FACTORIES = [resnet56, resnet110, preresnet164, wrn26_12, vgg16_bn, vgg19_bn, densenet40, googlenet, mobilenetv2]
# The paper's network at 224x224 is, but for what the stem reads, this one at 112x112.
imagenet_stages = (*STAGES[:1], STAGES[1]._replace(stride=2), *STAGES[2:])
mobilenetv2_imagenet = partial(MobileNetV2, STEM, imagenet_stages, LAST, 1000)
wrn28_10 = partial(wrn, 4, 10)
densenet40_paper = partial(densenet40, stem=16)


def build(factory: Factory) -> nn.Module:
    """A network of shapes without values."""
    with torch.device("meta"):
        return factory().eval()


@cache
def params(factory: Factory) -> int:
    return sum(p.numel() for p in build(factory).parameters())


@cache
def macs(factory: Factory, side: int) -> int:
    return multiply_adds(build(factory), torch.zeros(1, 3, side, side, device="meta"))


def multiply_adds(model: nn.Module, image: Tensor) -> int:
    """Of one image, by torch's own table of operators."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(image)
    return counter.get_total_flops() // 2


@pytest.mark.parametrize(
    ("factory", "published"),
    [
        (resnet56, 0.85e6),  # He et al. 2016, table 6
        (resnet110, 1.72e6),  # HRank (Lin et al. 2020, arXiv 2002.10179)
        (preresnet164, 1.70e6),  # network slimming (arXiv 1708.06519), table 1
        (wrn26_12, 52.5e6),  # Zagoruyko and Komodakis 2016: WRN-28-12
        (wrn28_10, 36.5e6),
        (vgg16_bn, 14.75e6),  # ABCPruner (arXiv 2001.08565)
        (vgg19_bn, 20.04e6),  # network slimming
        (densenet40, 1.06e6),
        (densenet40_paper, 1.02e6),  # network slimming
        (googlenet, 6.15e6),  # HRank
        (mobilenetv2_imagenet, 3_504_872),  # torchvision
    ],
)
def test_parameters_are_the_published_ones(factory: Factory, published: float) -> None:
    assert params(factory) == pytest.approx(published, rel=0.01)


@pytest.mark.parametrize(
    ("factory", "side", "published"),
    [
        (resnet56, 32, 125.49e6),  # HRank; option A
        (resnet110, 32, 252.89e6),
        (preresnet164, 32, 4.99e8 / 2),  # network slimming counts two operations for each
        (vgg16_bn, 32, 314.6e6),  # ABCPruner, which also counts what BatchNorms and biases do
        (vgg19_bn, 32, 7.97e8 / 2),
        (densenet40, 32, 282.0e6),  # HRank
        (densenet40_paper, 32, 5.33e8 / 2),
        (googlenet, 32, 1534.7e6),  # ABCPruner
        (mobilenetv2_imagenet, 112, 300e6),  # Sandler et al. 2018, table 4
    ],
)
def test_multiply_adds_are_the_published_ones(factory: Factory, side: int, published: float) -> None:
    assert macs(factory, side) == pytest.approx(published, rel=0.01)


def sizes(factory: Factory) -> str:
    return f"{params(factory) / 1e6:.2f} M parameters, {macs(factory, 32) / 1e6:.1f} M multiply-adds"


@pytest.mark.parametrize("factory", FACTORIES)
def test_docstrings_state_the_sizes(factory: Factory) -> None:
    assert sizes(factory) in factory.__doc__


def test_docstring_states_the_sizes_of_the_paper_too() -> None:
    assert sizes(densenet40_paper) in densenet40.__doc__


@pytest.mark.parametrize("factory", FACTORIES)
def test_classes(factory: Factory) -> None:
    assert build(partial(factory, 7))(torch.zeros(2, 3, 32, 32, device="meta")).shape == (2, 7)


def channels(factory: Factory) -> int:
    """Normalised channels."""
    return sum(m.num_features for m in build(factory).modules() if isinstance(m, nn.BatchNorm2d))


@pytest.mark.parametrize(
    ("factory", "narrow"),
    [
        *[(f, {"width": 1 / 4}) for f in (vgg16_bn, vgg19_bn, googlenet, mobilenetv2)],
        *[(f, {"widths": (4, 8, 16)}) for f in (resnet56, resnet110)],
        (densenet40, {"growth": 3, "stem": 6}),
    ],
)
def test_narrow_versions_have_a_quarter_of_the_channels(factory: Factory, narrow: dict) -> None:
    assert channels(partial(factory, **narrow)) == pytest.approx(channels(factory) / 4, rel=0.01)


def test_dropout_acts_in_training_alone() -> None:
    model, image = WideResNet(1, (4, 4, 4), dropout=0.5), torch.randn(2, 3, 32, 32)
    assert not torch.equal(model(image), model(image))
    model.eval()
    assert torch.equal(model(image), model(image))


# --- small versions: exported and pruned -------------------------------------------------------------------------

SMALL: dict[str, Callable[[], nn.Module]] = {
    "densenet_cifar": lambda: DenseNet(2, growth=4, stem=6),
    "googlenet_cifar": lambda: GoogLeNet(8, ((Widths(3, 4, 6, 2, 4, 3),), (Widths(4, 3, 5, 3, 4, 2),))),
    "mobilenetv2_cifar": lambda: MobileNetV2(6, (Stage(1, 4, 1, 1), Stage(6, 5, 2, 2), Stage(3, 6, 1, 1)), 20),
    "preresnet_cifar": lambda: PreResNet(2, widths=(2, 3, 4)),
    "resnet_cifar": lambda: ResNet(2, widths=(6, 8, 10)),
    "vgg_cifar": lambda: VGG(((6, 4), (6,), (8,), (10,), (12, 8))),
    "wrn_cifar": lambda: WideResNet(2, (6, 8, 10), stem=4, dropout=0.3),
}


@torch.no_grad()
def randomize_norms(model: nn.Module) -> None:
    """BatchNorms of which no two hold the same values, through which a signal stays alive."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.2)
            nn.init.normal_(module.bias, 0.0, 0.2)
    update_bn([torch.randn(8, 3, 32, 32) for _ in range(2)], model)


@pytest.fixture(scope="module", params=ARCHITECTURES)
def architecture(request, tmp_path_factory) -> tuple[str, nn.Module, Analysis]:
    """A small version's name, its module and what is known of its file."""
    torch.manual_seed(0)
    model = SMALL[request.param]()
    randomize_norms(model)
    path = tmp_path_factory.mktemp("architectures") / f"{request.param}.onnx"
    export(model.eval(), torch.zeros(1, 3, 32, 32), path, ["image"], ["logits"])
    return request.param, model, onnxprune.analyze(onnxprune.load(path))


def test_the_file_costs_what_the_module_does(architecture) -> None:
    _, model, analysis = architecture
    assert analysis.cost.macs == multiply_adds(model, torch.zeros(1, 3, 32, 32))
    stored = [t for n, t in model.state_dict().items() if not n.endswith("num_batches_tracked")]
    bounds = 2 * sum(isinstance(m, nn.ReLU6) for m in model.modules())
    assert analysis.cost.params == sum(t.numel() for t in stored) + bounds


def test_every_normalised_channel_is_in_a_group(architecture) -> None:
    _, model, analysis = architecture
    scales = [n.inputs[1] for n in analysis.trace.graph.nodes if n.op == "BatchNormalization"]
    grouped: Counter[str] = Counter()
    for group in analysis.groups:
        grouped.update({m.tensor: group.size * m.multiplicity for m in group.members})
    assert len(set(scales)) == sum(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    assert {s: grouped[s] for s in scales} == {s: analysis.trace.shape(s)[0] for s in scales}


def test_only_the_ends_and_spatial_axes_are_frozen(architecture) -> None:
    *_, analysis = architecture
    reasons = {axis.reason.rpartition(": ")[2] for axis in analysis.frozen}
    ends = {"'image' is an input of the graph", "'logits' is an output of the graph"}
    assert reasons == {*ends, "is a spatial axis of a convolution"}


def test_random_pruning_is_exact(architecture) -> None:
    *_, analysis = architecture
    assert_exact(analysis.model)


# The identity shortcuts; a first block has a projection, unless its width is the stem's.
BRANCHES = {
    "densenet_cifar": [],
    "googlenet_cifar": [],
    "mobilenetv2_cifar": ["features.3.project.0"],
    "preresnet_cifar": ["stages.0.1.conv3.2", "stages.1.1.conv3.2", "stages.2.1.conv3.2"],
    "resnet_cifar": ["stages.0.0.conv2.0", "stages.0.1.conv2.0", "stages.1.1.conv2.0", "stages.2.1.conv2.0"],
    "vgg_cifar": [],
    "wrn_cifar": ["stages.0.1.conv2", "stages.1.1.conv2", "stages.2.1.conv2"],
}


def test_residual_branches(architecture) -> None:
    name, _, analysis = architecture
    assert [branch.name for branch in analysis.branches] == BRANCHES[name]


def test_dropping_branches_is_exact(architecture) -> None:
    """Some of them and random units, certified; the cost is that of the file."""
    _, _, analysis = architecture
    for seed in range(2 if analysis.branches else 0):
        names = [branch.name for branch in analysis.branches][seed::2] or [analysis.branches[0].name]
        units = {group.name: group.kept for group in random_mask(analysis, seed).groups}
        mask = make_mask(analysis, units, {}, names)
        pruned = onnxprune.apply(analysis.model, mask, analysis=analysis)
        assert masked_cost(analysis, mask) == onnxprune.analyze(pruned).cost
        adds = [sum(n.op_type == "Add" for n in m.proto.graph.node) for m in (analysis.model, pruned)]
        assert adds[0] - adds[1] == len(names) and "Identity" not in {n.op_type for n in pruned.proto.graph.node}


def test_groups_are_the_listed_ones(architecture) -> None:
    name, _, analysis = architecture
    check_golden(name, analysis)


def test_every_architecture_has_a_small_version() -> None:
    assert sorted(SMALL) == ARCHITECTURES
