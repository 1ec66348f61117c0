"""The small YOLOv3: the structure of the large one, prunable exactly, and it learns."""

from itertools import combinations

import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import onnxprune
from models.detection.boxes import detect
from models.detection.loss import shape_iou
from models.detection.task import HEADS, STAGES, ShapesDetection
from models.export import export
from models.yolov3 import Detection, Route, Shortcut, YOLOv3, randomize
from tests.pruning import assert_exact

task = ShapesDetection()


@pytest.fixture(scope="module")
def batch() -> tuple[Tensor, Tensor]:
    return next(iter(DataLoader(task.data("train"), 8)))


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> onnxprune.Model:
    path = tmp_path_factory.mktemp("small") / "small.onnx"
    torch.manual_seed(0)
    model = task.model()
    randomize(model)
    distinguish(model)
    export(model, task.example(), path, ["image"], ["stride32", "stride16", "stride8"])
    return onnxprune.Model(onnx.load(path))


@torch.no_grad()
def distinguish(model: nn.Module) -> None:
    """Weights of the same spread, no two in a tensor equal: the check recovers from them what was removed."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            weight = module.weight
            weight.copy_(
                weight.std() * torch.linspace(-1.7, 1.7, weight.numel())[torch.randperm(weight.numel())].view_as(weight)
            )


def test_the_structure_is_that_of_the_large_one():
    kinds = [Detection, Route, Shortcut, nn.Upsample]
    model = task.model()
    counts = [sum(isinstance(layer, kind) for layer in model.layers) for kind in kinds]
    assert counts == [3, 4, sum(blocks for _, blocks in STAGES), 2]
    assert 0.5e6 < sum(p.numel() for p in model.parameters()) < 1e6


def test_heads_have_the_strides_of_the_geometry(batch):
    maps = task.model()(batch[0])
    assert [batch[0].shape[-1] // m.shape[-1] for m in maps] == list(HEADS.strides)


def test_half_the_width_is_about_a_quarter_of_the_parameters():
    with torch.device("meta"):
        whole, half = (sum(p.numel() for p in YOLOv3(width=width).parameters()) for width in (1.0, 0.5))
    assert whole / half == pytest.approx(4, rel=0.02)


def test_splits_are_disjoint():
    parts = [task.data(split) for split in ("train", "validation", "test")]
    assert all(len(part) >= 400 for part in parts)
    for a, b in combinations(parts, 2):
        assert a.seed == b.seed and not set(a.numbers) & set(b.numbers)


def test_anchors_fit_the_shapes(batch):
    sizes = torch.cat([rows[rows[:, 0] >= 0][:, 3:] - rows[rows[:, 0] >= 0][:, 1:3] for rows in batch[1]])
    assert shape_iou(sizes[:, None], torch.tensor(HEADS.anchors).flatten(0, 1)).amax(1).mean() > 0.9


def test_an_untrained_network_finds_nothing_much(batch):
    found = detect(task.model().eval()(batch[0]), HEADS)
    assert found.scores.max() < 0.1


def test_the_loss_falls(batch):
    torch.manual_seed(0)
    model, (images, rows) = task.model(), batch
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(20):
        losses.append(task.loss(model(images), rows))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]


def test_the_metric_takes_what_the_network_gives(batch):
    metric = task.metric()
    with torch.no_grad():
        metric.update(task.model().eval()(batch[0]), batch[1])
    assert 0 <= metric.compute() < 0.2


def test_channel_groups_are_those_of_the_structure(exported):
    groups = onnxprune.analyze(exported).groups
    coupled = sorted((g.size, len(g.producers)) for g in groups if len(g.producers) > 1)
    assert coupled == [(channels // 8, 1 + blocks) for channels, blocks in STAGES]
    assert (
        sum(len(g.producers) for g in groups) == 1 + len(STAGES) + 2 * sum(blocks for _, blocks in STAGES) + 3 * 6 + 2
    )


def test_random_masks_are_exact(exported):
    assert_exact(exported, seeds=(0, 1))
