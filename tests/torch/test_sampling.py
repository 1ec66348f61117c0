"""Batches: the same whenever and wherever they are asked for, and the global random numbers stay as they are."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from onnxprune.errors import UsageError
from onnxprune.torch.sampling import Batch, Loading, Sampling, collate, in_order, mix, size_of

CPU = torch.device("cpu")


@settings(deadline=None)
@given(
    per_process=st.integers(1, 5),
    processes=st.integers(1, 4),
    steps=st.integers(1, 6),
    rest=st.integers(0, 3),
    epoch=st.integers(0, 3),
    start=st.integers(0, 6),
)
def test_processes_split_every_batch_of_a_permutation(
    per_process: int, processes: int, steps: int, rest: int, epoch: int, start: int
) -> None:
    batch = per_process * processes
    size = batch * steps + min(rest, batch - 1)
    ranks = [list(Sampling(size, batch, 3, r, processes).batches(epoch, start)) for r in range(processes)]
    order = Sampling(size, batch, 3).order(epoch)
    assert sorted(order.tolist()) == list(range(size))
    assert {len(batches) for batches in ranks} == {max(0, steps - start)}
    for number, parts in enumerate(zip(*ranks, strict=True), start):
        assert {len(part.indices) for part in parts} == {per_process}
        whole = [index for group in zip(*(part.indices for part in parts), strict=True) for index in group]
        assert whole == order[number * batch : (number + 1) * batch].tolist()


def test_orders_differ_by_seed_and_epoch_alone() -> None:
    orders = {(s, e): tuple(Sampling(40, 8, s).order(e).tolist()) for s in range(3) for e in range(3)}
    assert len(set(orders.values())) == 9
    assert orders[1, 2] == tuple(Sampling(40, 4, 1, 1, 2).order(2).tolist())


def test_a_batch_of_more_than_all_is_refused() -> None:
    with pytest.raises(UsageError, match="a batch of 16 samples from 10: there is not even one"):
        Sampling(10, 16, 0)


def test_a_batch_that_cannot_be_split_is_refused() -> None:
    with pytest.raises(UsageError, match="a batch of 15 samples cannot be split evenly over 2 processes"):
        Sampling(20, 15, 0, 0, 2)


def test_seeds_tell_their_uses_and_numbers_apart() -> None:
    seeds = [mix("order", 1, 2), mix("order", 2, 1), mix("order", 1, 2, 0), mix("batch", 1, 2), mix("order", 12)]
    assert len(set(seeds)) == 5 and mix("order", 1, 2) == seeds[0]


def test_in_order_gives_all_once() -> None:
    assert [batch.indices for batch in in_order(5, 2)] == [[0, 1], [2, 3], [4]]


class Numbers(Dataset):
    """Sample k is (k, k) and some chance."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> tuple[Tensor, float]:
        return torch.tensor([index, torch.rand(()), random.random(), np.random.rand()]), index


class Ready(Numbers):
    def __getitems__(self, indices: list[int]) -> dict[str, Any] | tuple[Tensor, Tensor]:
        return torch.tensor(indices) * 2, {"labels": [torch.tensor(indices)], "name": "ready"}


def loaded(workers: int, start: int = 0) -> list[Tensor]:
    batches = Sampling(12, 4, 0).batches(1, start)
    return [x for x, _ in Loading(workers, CPU, False).pairs(Numbers(), batches)]


def test_chance_in_workers_does_not_depend_on_where_an_epoch_is_resumed() -> None:
    whole, rest = loaded(2), loaded(1, start=1)
    assert torch.equal(torch.stack(whole[1:]), torch.stack(rest))
    assert len({float(v) for x in whole for v in x[:, 1:].flatten()}) == 3 * 12


def test_chance_without_workers_is_this_process_s() -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(0)
        states.append(loaded(0)[0][:, 1])
    assert torch.equal(states[0], states[1])
    assert not torch.equal(loaded(0)[0][:, 1], states[0])


@pytest.mark.parametrize("workers", [0, 1])
def test_loading_leaves_global_random_numbers_alone(workers: int) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    batches = list(Loading(workers, CPU, False).pairs(Ready(), Sampling(12, 4, 0).batches(0)))
    assert len(batches) == 3 and torch.equal(torch.get_rng_state(), before)


def test_a_ready_batch_passes_through() -> None:
    (x, y), *_ = Loading(0, CPU, False).pairs(Ready(), [Batch(0, [3, 1])])
    assert x.tolist() == [6, 2]
    assert y["labels"][0].tolist() == [3, 1] and y["name"] == "ready"
    assert torch.equal(collate([torch.ones(2)] * 3), torch.ones(3, 2))


def test_what_is_no_pair_is_refused() -> None:
    class Single(Numbers):
        def __getitems__(self, indices: list[int]) -> Tensor:
            return torch.tensor(indices)

    with pytest.raises(UsageError, match=r"Single: expected batches of \(inputs, targets\), got Tensor"):
        list(Loading(0, CPU, False).pairs(Single(), in_order(4, 2)))


def test_an_empty_data_set_is_refused() -> None:
    class Empty(Numbers):
        def __len__(self) -> int:
            return 0

    with pytest.raises(UsageError, match="Empty is an empty data set"):
        size_of(Empty())


def test_a_data_set_without_a_length_is_refused() -> None:
    class Stream(IterableDataset):
        def __iter__(self) -> Iterator[int]:
            return iter([1])

    with pytest.raises(UsageError, match="Stream is no map-style data set"):
        size_of(Stream())


def test_paths_and_other_values_are_left_as_they_are() -> None:
    assert Loading(0, CPU, True).placed([Path("a"), (1, "b"), {"c": None}]) == [Path("a"), [1, "b"], {"c": None}]
