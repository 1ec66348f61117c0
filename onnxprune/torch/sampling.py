"""Which samples make which batch in which process, and loading them; the global random numbers are not touched."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate, get_worker_info

from onnxprune.errors import UsageError
from onnxprune.torch.usercode import user_code

_MEND = "mend the task's data; --debug prints the traceback"


class Batch(NamedTuple):
    """Samples of one batch, and what seeds their augmentation if a worker loads them."""

    seed: int
    indices: list[int]


@dataclass(frozen=True)
class Sampling:
    """Seeded permutations of a data set, dealt out in batches.

    Attributes:
        size: samples in the data set.
        batch: samples in a step, of all processes together.
        seed: with the number of the epoch it decides on the order.
        rank: this process's number.
        processes: how many there are; every one gets as many samples of each batch.
    """

    size: int
    batch: int
    seed: int
    rank: int = 0
    processes: int = 1

    def __post_init__(self) -> None:
        if self.size < self.batch:
            raise UsageError(
                f"a batch of {self.batch} samples from {self.size}: there is not even one",
                f"choose a batch of at most {self.size}",
            )
        if self.batch % self.processes:
            raise UsageError(
                f"a batch of {self.batch} samples cannot be split evenly over {self.processes} processes",
                f"choose a multiple of {self.processes}",
            )

    @property
    def steps(self) -> int:
        """Batches in an epoch; what is left over and fills none is not used."""
        return self.size // self.batch

    def order(self, epoch: int) -> Tensor:
        """The permutation of an epoch: int64 `(size,)`."""
        return torch.randperm(self.size, generator=torch.Generator().manual_seed(mix("order", self.seed, epoch)))

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """This process's part of the batches of an epoch, from the batch `start` on."""
        order = self.order(epoch)
        for number in range(start, self.steps):
            whole = order[number * self.batch : (number + 1) * self.batch]
            yield Batch(mix("batch", self.seed, epoch, self.rank, number), whole[self.rank :: self.processes].tolist())


def in_order(size: int, batch: int) -> Iterator[Batch]:
    """All samples, for an evaluation; the last batch may be smaller."""
    return (Batch(start, list(range(start, min(start + batch, size)))) for start in range(0, size, batch))


def mix(use: str, *numbers: int) -> int:
    """A seed out of what it is for and several numbers; seeds of neighbours have nothing in common."""
    digest = hashlib.sha256(repr((use, *numbers)).encode()).digest()
    return int.from_bytes(digest[:7], "little")


def seed_all(seed: int) -> None:
    """Seed the global random numbers of Python, NumPy and torch on every device."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """The global random numbers begin at a seed, and are afterwards as they were."""
    own, arrays = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            seed_all(seed)
            yield
    finally:
        random.setstate(own)
        np.random.set_state(arrays)


def size_of(data: Dataset[Any], split: str = "") -> int:
    """Number of samples; messages name the split.

    Raises:
        UsageError: it has none, or is not map-style.
    """
    name = f"the {split} split: {type(data).__name__}" if split else type(data).__name__
    if not hasattr(data, "__len__") or not hasattr(data, "__getitem__"):
        raise UsageError(f"{name} is no map-style data set", "give it __len__ and __getitem__")
    with user_code(f"{name}.__len__()", None, _MEND):
        size = len(cast(Sized, data))
    if not size:
        raise UsageError(f"{name} is an empty data set", "check what the task's data() reads")
    return size


@dataclass(frozen=True)
class Loading:
    """How batches come from a data set to where they are used.

    Attributes:
        workers: processes that load; 0 for this one alone.
        device: where tensors go.
        channels_last: whether images, tensors of 4 axes, are laid out so.
        several: how many inputs the network takes if its example is a tuple: those of a batch come in one, too.
    """

    workers: int
    device: torch.device
    channels_last: bool
    several: int | None = None

    def pairs(self, data: Dataset[Any], batches: Iterable[Batch]) -> Iterator[tuple[Any, Any]]:
        """Inputs and targets of each batch: what its samples collate to, or the batch that `__getitems__` gives.

        Augmentation in a worker is seeded batch by batch, so that it does not depend on where an epoch was resumed;
        without workers it draws from this process's random numbers.

        Raises:
            UsageError: the data set fails, gives something else than pairs, or other inputs than the network takes.
        """
        loader = DataLoader(
            _Source(data),
            batch_sampler=batches,  # type: ignore[arg-type]  # it is only iterated over
            num_workers=self.workers,
            collate_fn=collate,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # the global one would be drawn from
        )
        name = type(data).__name__
        with user_code(f"reading a batch of {name}", None, _MEND):  # what is done with the batches is not in there
            for batch in loader:
                if not isinstance(batch, list | tuple) or len(batch) != 2:
                    raise UsageError(
                        f"{name}: expected batches of (inputs, targets), got {type(batch).__name__}",
                        "let the task's data give pairs",
                    )
                yield self._inputs(batch[0], name), self.placed(batch[1])

    def _inputs(self, inputs: Any, name: str) -> Any:
        """The inputs of a batch on the device, in a tuple where the network takes several."""
        placed = self.placed(inputs)
        if self.several is None:
            return placed
        if not isinstance(placed, list) or len(placed) != self.several:
            got = len(placed) if isinstance(placed, list) else type(placed).__name__
            raise UsageError(
                f"{name}: expected a tuple of {self.several} inputs, like the task's example, got {got}",
                "let the task's data give as many inputs as its example has",
            )
        return tuple(placed)

    def placed(self, value: Any) -> Any:
        """The tensors in a list, a tuple or a dict, or a tensor itself, on the device."""
        if isinstance(value, Tensor):
            image = self.channels_last and value.ndim == 4
            value = value.to(self.device, non_blocking=True)
            return value.contiguous(memory_format=torch.channels_last) if image else value
        if isinstance(value, dict):
            return {key: self.placed(item) for key, item in value.items()}
        return [self.placed(item) for item in value] if isinstance(value, list | tuple) else value


def collate(samples: Any) -> Any:
    """A batch of a list of samples; anything else is a batch already."""
    return default_collate(samples) if isinstance(samples, list) else samples


class _Source(Dataset[Any]):
    """A data set that is asked for whole batches."""

    def __init__(self, data: Dataset[Any]):
        self.data = data

    def __getitems__(self, batch: Sequence[Any]) -> Any:
        seed, indices = batch
        if get_worker_info() is not None:
            seed_all(seed)
        if hasattr(self.data, "__getitems__"):
            return self.data.__getitems__(indices)
        return [self.data[index] for index in indices]
