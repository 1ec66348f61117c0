"""The CIFAR-10 recipe: whitening, augmentation, schedule, and a run that goes on where it stopped."""

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models import cifar10, train_cifar10
from models.resnet11_cifar import FILTERS, resnet11
from models.train_cifar10 import Cycle, Images, Lookahead, train, train_epoch, triangle

BATCH = 8


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 256, (2 * BATCH, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def recipe(checkpoint: Path, *epochs: int) -> Namespace:
    lr = [0.1] * len(epochs)
    steps = {"epochs": list(epochs), "lr": lr, "batch": BATCH, "weight_decay": 1e-3, "smoothing": 0.1}
    return Namespace(checkpoint=checkpoint, small=1, side=24, shift=4, seed=0, **steps)


def test_images_and_labels_are_read_from_a_folder(tmp_path: Path, images: Tensor) -> None:
    records = torch.cat([torch.arange(len(images), dtype=torch.uint8)[:, None] % 10, images.flatten(1)], 1)
    for name in ("test_batch", *(f"data_batch_{k}" for k in range(1, 6))):
        (tmp_path / f"{name}.bin").write_bytes(records.numpy().tobytes())
    got, labels = cifar10.load(tmp_path, "test")
    assert torch.equal(got, images) and labels.tolist() == [k % 10 for k in range(len(images))]


def test_first_filters_whiten(images: Tensor) -> None:
    model, x = resnet11(), cifar10.normalize(images)
    model.whiten(x)
    y = model.whitening(x).permute(1, 0, 2, 3).reshape(FILTERS, -1)[: FILTERS // 2]
    torch.testing.assert_close(y @ y.T / y.shape[1], torch.eye(FILTERS // 2), rtol=0, atol=0.02)


@pytest.mark.parametrize("side", [24, 32])
def test_logits_at_any_resolution(side: int) -> None:
    assert resnet11(classes=7)(torch.zeros(2, 3, side, side)).shape == (2, 7)


def test_flips_are_those_asked_for(images: Tensor) -> None:
    flip = torch.arange(len(images)) % 2 == 0
    got = cifar10.augment(images, 0, flip, torch.Generator())
    assert torch.equal(got, torch.where(flip[:, None, None, None], images.flip(3), images))


def test_crops_stay_within_the_shift(images: Tensor) -> None:
    flat = torch.arange(32, dtype=torch.uint8).expand(len(images), 3, 32, 32)
    centre = cifar10.augment(flat, 2, torch.zeros(len(images), dtype=torch.bool), torch.Generator())[:, 0, 16, 16]
    assert set(centre.tolist()) <= {14, 15, 16, 17, 18} and len(set(centre.tolist())) > 1


def test_schedule_goes_up_and_down() -> None:
    assert [round(triangle(p), 3) for p in (0, 0.115, 0.23, 0.615, 1)] == [0.2, 0.6, 1, 0.535, 0.07]


def test_lookahead_follows_at_first_and_holds_back_at_the_end() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    lookahead = Lookahead(model)
    for progress, value in ((0.0, 1.0), (1.0, 2.0)):
        torch.nn.init.constant_(model.weight, value)
        lookahead.step(progress)
    assert model.weight.item() == pytest.approx(2 - Lookahead.DECAY)


@pytest.mark.parametrize("epochs", [(2,), (1, 1)], ids=["within a cycle", "between cycles"])
def test_a_run_goes_on_where_it_stopped(
    tmp_path: Path, images: Tensor, epochs: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = torch.arange(len(images)) % 10
    whole, _ = train(recipe(tmp_path / "whole.pt", *epochs), images, labels)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(train_cifar10, "train_epoch", stopped_at(1))
        train(recipe(tmp_path / "cut.pt", *epochs), images, labels)
    rest, history = train(recipe(tmp_path / "cut.pt", *epochs), images, labels)
    assert [entry["epoch"] for entry in history] == [1, 2]
    for (name, got), want in zip(rest.state_dict().items(), whole.state_dict().values(), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-4, msg=name)


def stopped_at(last: int) -> Callable[[Cycle, Images, int], float]:
    """An epoch as ever, but a keyboard interrupt at the given one."""

    def epoch(cycle: Cycle, data: Images, number: int) -> float:
        if number == last:
            raise KeyboardInterrupt
        return train_epoch(cycle, data, number)

    return epoch
