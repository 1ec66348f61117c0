"""Batches, augmentation and splits of images in memory."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader

from onnxprune.errors import UsageError
from onnxprune.torch.data.images import Images, Labelled, Look, Splits, moved, normalize, resize, stratified

LOOK = Look((0.5, 0.25, 0.0), (0.5, 0.25, 1.0), pad=2)


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def source(images: Tensor) -> Labelled:
    return Labelled(images, torch.arange(40) % 4)


def test_normalized_by_channel() -> None:
    white = normalize(torch.full((1, 3, 1, 1), 255, dtype=torch.uint8), LOOK)
    assert white.flatten().tolist() == [1, 3, 1] and white.dtype == torch.float32


def test_a_batch_is_the_single_items(source: Labelled) -> None:
    data = Images(source, torch.tensor([3, 5, 7, 11]), LOOK, augmented=False)
    inputs, targets = data.__getitems__([2, 0])
    assert len(data) == 4 and targets.tolist() == [3, 3] and targets.dtype == torch.int64
    assert torch.equal(inputs, torch.stack([data[2][0], data[0][0]]))
    assert torch.equal(inputs, normalize(source.pictures[torch.tensor([7, 3])], LOOK))


def test_what_is_not_there_ends_an_iteration(source: Labelled) -> None:
    assert len(list(Images(source, torch.arange(3), LOOK, augmented=False))) == 3


def test_a_loader_gets_ready_batches(source: Labelled) -> None:
    data = Images(source, torch.arange(40), LOOK, augmented=True)
    shapes = [x.shape for x, _ in DataLoader(data, batch_size=16, collate_fn=lambda batch: batch)]
    assert shapes == [(16, 3, 8, 8), (16, 3, 8, 8), (8, 3, 8, 8)]


def test_a_saved_state_of_the_generator_gives_the_batch_again(source: Labelled) -> None:
    data = Images(source, torch.arange(40), LOOK, augmented=True)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first, second = data.__getitems__(range(40))[0], data.__getitems__(range(40))[0]
    torch.set_rng_state(state)
    assert torch.equal(data.__getitems__(range(40))[0], first) and not torch.equal(first, second)


@pytest.mark.parametrize("mode", ["constant", "reflect"])
def test_every_image_is_a_crop_of_the_padded_one_or_its_mirror(images: Tensor, mode: str) -> None:
    flip = torch.arange(40) % 2 == 0
    got = moved(images, 2, flip, torch.Generator().manual_seed(0), mode)
    padded = torch.nn.functional.pad(images.float(), (2,) * 4, mode=mode).byte()
    places = set()
    for image, big, mirrored in zip(got, padded, flip, strict=True):
        image = image.flip(2) if mirrored else image
        places |= {(y, x) for y in range(5) for x in range(5) if torch.equal(image, big[:, y : y + 8, x : x + 8])}
    assert len(places) > 15


def test_no_two_images_move_alike(images: Tensor) -> None:
    same = images[:1].expand(40, -1, -1, -1)
    got = moved(same, 2, torch.zeros(40, dtype=torch.bool), torch.Generator().manual_seed(0))
    assert len({image.numpy().tobytes() for image in got}) > 10


@pytest.mark.parametrize(("flip", "count"), [(True, 2), (False, 1)])
def test_mirrored_only_where_that_makes_sense(images: Tensor, flip: bool, count: int) -> None:
    look = Look(LOOK.mean, LOOK.std, pad=0, flip=flip)
    data = Images(Labelled(images[:1].expand(40, -1, -1, -1), torch.zeros(40).long()), torch.arange(40), look, True)
    assert len({image.numpy().tobytes() for image in data.__getitems__(range(40))[0]}) == count


def test_resized_to_any_side(images: Tensor) -> None:
    assert resize(images, 12).shape == (40, 3, 12, 12) and torch.equal(resize(images, 8), images)
    assert resize(torch.full((1, 1, 2, 2), 255, dtype=torch.uint8), 7).unique().tolist() == [255]


@given(st.lists(st.integers(2, 40), min_size=1, max_size=6), st.floats(0.05, 0.95), st.integers(0, 99))
def test_every_class_gives_its_share(sizes: list[int], share: float, seed: int) -> None:
    labels = torch.cat([torch.full((n,), 3 * k) for k, n in enumerate(sizes)])
    left, drawn = stratified(labels, share, seed)
    assert sorted(left.tolist() + drawn.tolist()) == list(range(sum(sizes)))
    counts = Counter(labels[drawn].tolist())
    for k, n in enumerate(sizes):
        assert 1 <= counts[3 * k] <= n - 1
        assert abs(counts[3 * k] - share * n) <= 1


def test_the_draw_depends_on_the_seed_alone() -> None:
    labels = torch.arange(1000) % 10
    torch.manual_seed(0)
    drawn = [stratified(labels, 0.01, seed)[1].tolist() for seed in (7, 7, 8)]
    assert drawn[0] == drawn[1] != drawn[2]
    # For good: a training that goes on elsewhere must not see validation images.
    assert drawn[0] == [95, 159, 311, 370, 513, 617, 624, 826, 858, 922]


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_a_share_of_nothing_or_all_is_refused(share: float) -> None:
    with pytest.raises(UsageError, match=r"validation share .*: expected a number between 0 and 1\n  fix: .*0\.1"):
        stratified(torch.zeros(9).long(), share, 0)


def test_a_class_of_one_image_is_refused() -> None:
    with pytest.raises(UsageError, match=r"class 5 has one image, which cannot be split\n  fix: add images"):
        stratified(torch.tensor([1, 1, 5]), 0.1, 0)


@pytest.mark.parametrize("own", [(), ("test",), ("validation",), ("validation", "test")])
def test_parts_are_disjoint_and_complete(source: Labelled, own: tuple[str, ...]) -> None:
    splits = Splits({"train": lambda: source, **{name: lambda: source for name in own}}, 4, LOOK, 0.25)
    data = {name: splits.data(name) for name in ("train", "validation", "test")}
    shared = [k for name in data if name not in own for k in data[name].index.tolist()]
    assert sorted(shared) == list(range(40))
    assert all(len(data[name]) == 40 for name in own)
    assert [data[name].augmented for name in data] == [True, False, False]


def test_the_test_part_is_the_same_for_every_seed(source: Labelled) -> None:
    first, second = (Splits({"train": lambda: source}, 4, LOOK, seed=seed) for seed in (1, 2))
    assert first.data("test").index.tolist() == second.data("test").index.tolist()
    assert first.data("validation").index.tolist() != second.data("validation").index.tolist()


def test_a_part_is_read_once_and_only_when_needed(source: Labelled) -> None:
    read: list[str] = []
    parts = {name: lambda name=name: read.append(name) or source for name in ("train", "test")}
    splits = Splits(parts, 4, LOOK)
    splits.data("test")
    assert read == ["test"]
    splits.data("train"), splits.data("validation"), splits.data("train")
    assert read == ["test", "train"]
