"""Every row on a CPU, with stand-ins for networks and data: in one go, and in slices whose state travels."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import gpu_bed, gpu_rows, gpu_search, gpu_stages
from benchmarks.slices import Clock
from models.resnet_cifar import ResNet
from models.vgg_cifar import VGG
from onnxprune.torch.data.cifar import CIFAR10
from onnxprune.torch.data.images import Labelled, Splits


def images(count: int) -> Labelled:
    generator = torch.Generator().manual_seed(count)
    pixels = torch.randint(0, 256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return Labelled(pixels, torch.arange(count) % 10)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    splits = Splits({"train": lambda: images(160), "test": lambda: images(40)}, 10, CIFAR10, 0.1)
    monkeypatch.setattr(gpu_stages, "splits_in", lambda folder: splits)
    vgg = lambda: VGG(((16,), (16,), (16,), (16,), (16,)))  # noqa: E731
    networks = {"vgg16": vgg, "vgg19": vgg, "resnet56": lambda: ResNet(1, widths=(4, 8, 8))}
    monkeypatch.setattr(gpu_stages, "NETWORKS", networks)
    monkeypatch.setattr(gpu_search, "LIMITS", {"resnet56": (3e5, 0.7), "vgg16": (6e5, 0.8)})


def call(monkeypatch: pytest.MonkeyPatch, row: str, root: Path, *words: str) -> tuple[int, dict[str, Any]]:
    """The exit status, and the row if there is one."""
    words = ("--row", row, "--data", str(root), "--out", str(root / "out"), "--work", str(root / "work"), *words)
    monkeypatch.setattr("sys.argv", ["gpu_bed", *words])
    code, path = gpu_bed.main(), root / "out" / "gpu_bed.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    return code, next((found for found in rows if found["name"] == row), {})


def checks(root: Path) -> list[dict[str, Any]]:
    return json.loads((root / "out" / "gpu_bed.json").read_text())["checks"]


@pytest.mark.parametrize("row", ["resnet56", "chipnet", "early", "bees-resnet56", "bees-vgg16"])
def test_every_row_comes_to_its_end(row: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, found = call(monkeypatch, row, tmp_path, "--epochs", "1", "--evaluations", "12")
    assert code == 1, "the other rows are not measured"
    assert "failure" not in found and 0 <= found["accuracy"] <= 100 and 0 < found["macs"] < 100
    logs = [tmp_path / "work" / stage / "log.csv" for stage in gpu_bed.PLANS[row].stages]
    assert all(len(log.read_text().splitlines()) == 2 for log in logs)
    assert not list((tmp_path / "work").rglob("last.pt")), "of what is done only weights stay"
    assert [check["passed"] for check in checks(tmp_path) if "not measured" in check["measured"]] == [False] * 5


def test_training_is_counted_in_epochs_of_the_whole_network(tmp_path: Path) -> None:
    """160 epochs, pruned after 20 to a quarter; or 160 with all, then 160 with a quarter."""
    bed = gpu_stages.Bed(tmp_path, tmp_path, Clock(None))
    early, late = (
        {"pruned": {"epoch": epoch, "cost": {"before": {"macs": 400}, "after": {"macs": 100}}}} for epoch in (20, 160)
    )
    assert gpu_rows.work(early, bed, "vgg16/early") == 20 + 140 / 4
    assert gpu_rows.work(late, bed, "vgg16/sparse") == 160
    assert gpu_rows.work({}, bed, "vgg16/fine", late) == 40


def test_slices_give_the_row_of_one_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each slice ends after a step or a few, on a machine that has only what the last one gave out."""
    loss = gpu_stages.Most.loss

    def slow(task: gpu_stages.Most, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        time.sleep(0.05)  # so that no machine is too fast for slices
        return loss(task, outputs, targets)

    monkeypatch.setattr(gpu_stages.Most, "loss", slow)
    _, whole = call(monkeypatch, "vgg19", tmp_path / "whole", "--epochs", "2")
    before: tuple[str, ...] = ()
    for number in range(30):
        root = tmp_path / str(number)
        code, found = call(monkeypatch, "vgg19", root, "--epochs", "2", "--until", "0.1", *before)
        before = ("--from", str(root / "out"))
        if code != gpu_bed.UNFINISHED:
            break
    assert number > 1 and found | {"minutes": 0} == whole | {"minutes": 0}


def test_a_row_of_an_earlier_slice_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    row = {"accuracy": 93.0, "macs": 50.0, "params": 2.0}
    monkeypatch.setitem(gpu_bed.PLANS, "vgg19", replace(gpu_bed.PLANS["vgg19"], measure=lambda bed: row))
    code, _ = call(monkeypatch, "vgg19", one)
    assert code == 1 and [check["passed"] for check in checks(one)[:2]] == [False, True]
    code, _ = call(monkeypatch, "resnet56", two, "--until", "0", "--from", str(one / "out"))
    assert code == gpu_bed.UNFINISHED
    assert [row["name"] for row in json.loads((two / "out" / "gpu_bed.json").read_text())["rows"]] == ["vgg19"]


def test_rows_take_trainings_that_there_are() -> None:
    for plan in gpu_bed.PLANS.values():
        assert set(plan.stages) <= gpu_stages.STAGES.keys()
