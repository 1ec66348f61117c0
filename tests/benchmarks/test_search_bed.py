"""The bed of searches on a stand-in: every method ends within the budget, and what ended is not done again."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from benchmarks import cpu_bed, search_bed
from benchmarks.record import Record
from benchmarks.search_fitness import Judges, measure, rates
from models.resnet_cifar import ResNet
from onnxprune.torch.recipe import Recipe
from onnxprune.torch.task import Accuracy, Split


@dataclass
class Tiny:
    """Ten images a class, of noise."""

    def model(self) -> nn.Module:
        return ResNet(1, widths=(4, 8, 8))

    def example(self) -> Tensor:
        return torch.zeros(2, 3, 32, 32)

    def data(self, split: Split) -> Dataset:
        generator = torch.Generator().manual_seed(len(split))
        return TensorDataset(torch.randn(100, 3, 32, 32, generator=generator), torch.arange(100) % 10)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs, targets)

    def metric(self) -> Accuracy:
        return Accuracy()


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> cpu_bed.Bed:
    task: Any = Tiny()
    made = cpu_bed.Bed(task, Recipe(2, batch=50, device="cpu"), tmp_path_factory.mktemp("bed"))
    cpu_bed.half(made)
    return made


@pytest.mark.parametrize("name", [*search_bed.METHODS, search_bed.UNIFORM])
def test_every_search_ends_within_the_budget(bed: cpu_bed.Bed, name: str) -> None:
    row = search_bed.measure(name, bed, 0.3)
    assert 0 < row["macs"] <= 50 and 0 <= row["accuracy"] <= 100
    if name != search_bed.UNIFORM:
        assert row["evaluations"] >= 1 and 0 <= row["score"] <= 1 and row["seconds"] >= 0.3
        assert search_bed.measure(name, bed, 0.3) == row, "it is not searched again"


def test_leads_are_by_paired_seeds() -> None:
    results = Record(search_bed.BENCHMARK, {})
    for seed, (ours, theirs) in enumerate([(61.0, 60.0), (71.0, 70.0)]):
        results.rows[f"a{seed}"] = {"method": "bees, cheap fitness", "seed": seed, "accuracy": ours}
        results.rows[f"b{seed}"] = {"method": "uniform width", "seed": seed, "accuracy": theirs}
    (line,) = [text for text in search_bed.summary(results) if text.startswith("bees, cheap fitness")]
    assert "66.00 ± " in line and "over uniform width 1.00 ± 0.00" in line and "not measured" in line


def test_fitnesses_judge_the_same_structures(bed: cpu_bed.Bed) -> None:
    judges = Judges(bed)
    drawn = judges.drawn(3, 0)
    assert len(set(drawn)) == 3 and all(judges.structures.fits(structure) for structure in drawn)
    row = measure(bed, 0, drawn[0], 0)
    assert row.keys() == {"cheap", "trained"} and all(0 <= score <= 1 for score in row.values())
    assert rates(judges, drawn)["cheap_rate"] > 0
