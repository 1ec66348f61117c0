"""`Run`: the state of one training."""

from __future__ import annotations

import gc
import math
import os
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from onnxprune.errors import UsageError
from onnxprune.mask import Mask
from onnxprune.torch.binding import bind
from onnxprune.torch.exporting import evaluation
from onnxprune.torch.gates import Gated
from onnxprune.torch.recalibration import recalibrate
from onnxprune.torch.recipe import AMP_TYPES, Recipe, make_optimizer
from onnxprune.torch.sampling import Loading, Sampling, in_order, size_of
from onnxprune.torch.shrinking import shrink
from onnxprune.torch.task import Split, Task, guarded, several
from onnxprune.torch.usercode import called

Shapes = list[list[Any]]
"""`[name, [size, ...]]` of every tensor of a state dict."""


class Schedule:
    """Sets the learning rate of every group: the one it began with, times a rate that depends on the step."""

    def __init__(self, optimizer: Optimizer, rate: Callable[[int], float]):
        self.optimizer, self.rate = optimizer, rate
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])

    def set(self, step: int) -> None:
        """The learning rates for a step, counted from 0."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * self.rate(step)

    @property
    def lr(self) -> float:
        """The first group's learning rate, as set last."""
        return float(self.optimizer.param_groups[0]["lr"])


class Run:
    """The state of one training.

    Attributes:
        task, recipe: as given, the task guarded.
        network: the module in training, on its device.
        shapes: of the network's tensors before any mask was applied.
        optimizer: over the network's parameters and `further` ones.
        scheduler: sets the learning rates.
        scaler: of the gradients; does nothing unless in fp16.
        average: the moving average of the network, if there is one.
        masks: those applied so far, in order.
        epoch: epochs that are finished; in `after_epoch` the one that ends is among them.
        batches: batches done of the next one.
        loss: sum over these batches of the loss.
        best: the best validation figure of the network since it was last made smaller; -inf for none.
        seconds: spent on training, over all slices.
        rank, processes: this process's number, and how many train together.
    """

    def __init__(self, task: Task, network: nn.Module, recipe: Recipe, further: Sequence[dict[str, Any]] = ()):
        self.task, self.recipe = guarded(task), recipe
        self.rank, self.processes = processes()
        self.device = device(recipe)
        self.shapes = shapes(network)
        self.network = network.to(self.device)
        if recipe.channels_last:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.loading = Loading(recipe.workers, self.device, recipe.channels_last, several(self.task))
        self._further = [p for group in further for p in group["params"]]
        for p in self._further:
            p.data = p.data.to(self.device)
        self._data: dict[Split, Any] = {}
        self.sampling = Sampling(self.size("train"), recipe.batch, recipe.seed, self.rank, self.processes)
        self.optimizer = make_optimizer(recipe, network, further)
        self.scheduler = Schedule(self.optimizer, lambda step: recipe.rate(step, self.sampling.steps))
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=recipe.amp == "fp16")
        self._wrapped: DistributedDataParallel | None = None
        self._wrapped_shapes: list[tuple[int, torch.Size]] = []
        self.masks: list[Mask] = []
        self.epoch = self.batches = 0
        self.loss, self.best, self.seconds = 0.0, -math.inf, 0.0
        self.average: AveragedModel | None = None
        self.refresh()

    @property
    def step(self) -> int:
        """Optimizer steps taken."""
        return self.epoch * self.sampling.steps + self.batches

    @property
    def finished(self) -> bool:
        """Whether all epochs are."""
        return self.epoch == self.recipe.epochs

    @property
    def evaluated(self) -> nn.Module:
        """What is evaluated, and kept if it is the best: the moving average, or else the network."""
        return self.network if self.average is None else self.average.module

    def data(self, split: Split) -> Any:
        """The task's data, made once."""
        if split not in self._data:
            self._data[split] = self.task.data(split)
        return self._data[split]

    def size(self, split: Split) -> int:
        """Samples of a split.

        Raises:
            UsageError: there are none.
        """
        return size_of(self.data(split), split)

    def autocast(self) -> torch.autocast:
        """The context of forward and loss; without effect unless the recipe asks for it."""
        return autocast(self.recipe, self.device)

    def forward(self, inputs: Any) -> Any:
        """The network's outputs; of several processes, backward will average the gradients."""
        return called(self._parallel(), inputs)

    def _parallel(self) -> nn.Module:
        """The network, wrapped if there are other processes; anew when its parameters changed since."""
        if self.processes == 1:
            return self.network
        now = [(id(p), p.shape) for p in self.network.parameters() if p.requires_grad]
        if self._wrapped is None or now != self._wrapped_shapes:
            self.unwrap()
            places = [self.device.index] if self.device.type == "cuda" else None
            self._wrapped, self._wrapped_shapes = DistributedDataParallel(self.network, places), now
        return self._wrapped

    def unwrap(self) -> None:
        """Let the wrapper go: it is part of cycles, and would wait for gradients of the shapes that it has seen, also
        in another training of the same parameters.
        """
        if self._wrapped is not None:
            self._wrapped = None
            gc.collect()

    @torch.no_grad()
    def average_gradients(self) -> None:
        """Average, over the processes, gradients of parameters that are not the network's."""
        if self.processes > 1:
            inside = {id(p) for p in self.network.parameters()}
            for p in self._further:
                if p.grad is not None and id(p) not in inside:
                    distributed.all_reduce(p.grad)
                    p.grad /= self.processes

    @torch.no_grad()
    def share_buffers(self) -> None:
        """Give all processes the first one's statistics of normalisations; each has its own."""
        if self.processes > 1:
            for buffer in self.network.buffers():
                distributed.broadcast(buffer, 0)

    @torch.no_grad()
    def refresh(self) -> None:
        """Begin a new moving average if the network has other tensors now: hooks may put gates in, or take them out."""
        decay = self.recipe.ema
        if decay is not None and (self.average is None or shapes(self.average.module) != shapes(self.network)):
            self.average = AveragedModel(self.network, multi_avg_fn=_moving(decay), use_buffers=True)

    @torch.no_grad()
    def evaluate(self, split: Split, network: nn.Module | None = None) -> float:
        """The task's metric on a split, in full precision; every process has to call it, the first one computes.

        Args:
            split: "validation", and at the very end, once, "test".
            network: instead of `evaluated`; on this device.

        Raises:
            UsageError: the split is empty, or the task or its network fails on it.
        """
        value = torch.zeros((), dtype=torch.float64, device=self.device)
        if self.rank == 0:
            value += self._measure(split, self.evaluated if network is None else network)
        if self.processes > 1:
            distributed.broadcast(value, 0)
        return value.item()

    def _measure(self, split: Split, network: nn.Module) -> float:
        data, metric = self.data(split), self.task.metric()
        with evaluation(network):
            for inputs, targets in self.loading.pairs(data, in_order(self.size(split), self.recipe.batch)):
                metric.update(called(network, inputs), targets)
        return float(metric.compute())

    def recalibrate(self, network: nn.Module, batches: int) -> None:
        """Measure the statistics of normalisations anew, on the first batches of the coming epoch.

        Every process has to call it; all get the first one's statistics.
        """
        coming = islice(self.sampling.batches(self.epoch), batches)
        with self.autocast():
            recalibrate(network, (inputs for inputs, _ in self.loading.pairs(self.data("train"), coming)))
        self.share_buffers()

    def shrink(self, mask: Mask) -> None:
        """Make the network smaller; every process has to call it, with the same mask.

        Parameters stay the same objects, with less in them; so does what the optimizer and the moving average hold.

        Raises:
            MaskError: the mask is for another network, or empties a group.
        """
        network = self.network
        binding = network.binding if isinstance(network, Gated) else bind(network, self.task.example())
        shrink(self.network, binding, mask, self.optimizer)
        if self.average is not None:
            shrink(self.average.module, binding, mask)
        self.masks.append(mask)
        self.best = -math.inf


def _moving(decay: float) -> Callable[[Any, Any, Any], None]:
    """Torch's moving average, except that integers (counts, indices) are copied: it would round some of them down."""
    average = get_ema_multi_avg_fn(decay)

    def update(averages: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        if averages[0].is_floating_point() or averages[0].is_complex():
            average(averages, current, count)
        else:
            torch._foreach_copy_(averages, current)

    return update


def shapes(network: nn.Module) -> Shapes:
    """Names and shapes of a network's tensors, which tell it from others."""
    return [[name, list(t.shape)] for name, t in network.state_dict().items() if isinstance(t, Tensor)]


def processes() -> tuple[int, int]:
    """This process's number and how many train together."""
    return (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)


def autocast(recipe: Recipe, device: torch.device) -> torch.autocast:
    """The context of a recipe's precision on a device; without effect in full precision."""
    kind = AMP_TYPES.get(recipe.amp or "", torch.bfloat16)
    return torch.autocast(device.type, kind, enabled=recipe.amp is not None)


def device(recipe: Recipe) -> torch.device:
    """Where to train.

    Raises:
        UsageError: there is no GPU that the recipe asks for.
    """
    there = torch.cuda.is_available()
    if recipe.device == "cuda" and not there:
        raise UsageError("recipe: device is 'cuda', but torch finds no GPU", "set device to 'auto' or 'cpu'")
    if recipe.device == "cpu" or not there:
        if recipe.amp == "fp16":
            raise UsageError("recipe: amp is 'fp16', which needs a GPU", "set amp to 'bf16' or None")
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
