"""How good a structure is: what a smaller copy of the network scores on validation data, trained a little or not."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import nn

from onnxprune.mask import Mask
from onnxprune.torch.binding import Binding, bind
from onnxprune.torch.exporting import evaluation
from onnxprune.torch.fusing import fuse, fusible
from onnxprune.torch.handover import load_state
from onnxprune.torch.loop import train
from onnxprune.torch.progress import silence
from onnxprune.torch.recalibration import recalibrate
from onnxprune.torch.recipe import Recipe
from onnxprune.torch.run import autocast, device
from onnxprune.torch.sampling import Loading, Sampling, in_order, seeded, size_of
from onnxprune.torch.shrinking import shrink, smaller_copy
from onnxprune.torch.task import Task, guarded, load_task, several
from onnxprune.torch.usercode import called

IMAGES, CALIBRATION = 1_000, 256
"""Validation samples that are looked at, and training samples that statistics are measured on."""
CACHED = 32
"""So many validation samples are computed at a time on a CPU: what a layer leaves for the next then fits its cache."""


def begun(task: str, weights: Mapping[str, np.ndarray] | None, seed: int) -> tuple[nn.Module, Binding]:
    """A task's network, with weights by name or fresh ones by a seed, and its binding.

    Raises:
        UsageError: the task, or the weights, are not as they should be.
        ModelError: the network cannot be exported.
    """
    torch.manual_seed(seed)
    made = load_task(task)
    network = made.model()
    if weights is not None:
        load_state(network, {name: torch.from_numpy(array) for name, array in weights.items()}, "the weights")
    return network, bind(network, made.example())


def one_thread() -> None:
    """Compute on one thread: else results would depend on how many workers share the machine."""
    torch.set_num_threads(1)


class Recalibrated:
    """The score right after pruning, with the statistics of normalisations measured anew (EagleEye, Li et al. 2020,
    arXiv 2007.02491): no training.

    Args:
        task: gives data and metric.
        network: trained; it is not changed.
        binding: of the network.
        recipe: its batch, precision, memory format, device and seed are used.
        images: validation samples, the first of a permutation.
        calibration: training samples.
    """

    def __init__(
        self,
        task: Task,
        network: nn.Module,
        binding: Binding,
        recipe: Recipe,
        *,
        images: int = IMAGES,
        calibration: int = CALIBRATION,
    ):
        self.task, self.binding, self.recipe, self.device = guarded(task), binding, recipe, device(recipe)
        self.network = copy.deepcopy(network).to(self.device)
        self._loading = Loading(0, self.device, recipe.channels_last, several(self.task))
        with seeded(recipe.seed):
            size = min(recipe.batch, CACHED) if self.device.type == "cpu" else recipe.batch
            self._validation = self._batches("validation", images, size)
            self._calibration = [inputs for inputs, _ in self._batches("train", calibration, recipe.batch)]
        self._tried = False
        self._pairs = fusible(self.network)

    def __call__(self, mask: Mask, seed: int = 0, effort: float = 1.0) -> Mapping[str, float]:
        """The score of the smaller copy, with a share of all effort."""
        network = self.network_for(mask, seed, effort)
        fuse(network, self._pairs)
        return {"score": self.score(network)}

    def network_for(self, mask: Mask, seed: int = 0, effort: float = 1.0) -> nn.Module:
        """The smaller copy as it is judged."""
        return self.smaller(mask)

    def smaller(self, mask: Mask) -> nn.Module:
        """A smaller copy, with statistics of its own; the first one has to prove that it is what the mask says."""
        if self._tried:
            small = smaller_copy(self.network, self.binding, mask)
        else:
            small = copy.deepcopy(self.network)
            shrink(small, self.binding, mask)
            self._tried = True
        if self.channels_last:
            small.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        with autocast(self.recipe, self.device):
            recalibrate(small, self._calibration)
        return small

    @property
    def channels_last(self) -> bool:
        """Whether images are computed so; without training a CPU is faster by it."""
        return self.recipe.channels_last or self.device.type == "cpu"

    @torch.no_grad()
    def score(self, network: nn.Module) -> float:
        """The task's metric on the validation samples."""
        metric = self.task.metric()
        with evaluation(network):
            for inputs, targets in self._validation:
                with autocast(self.recipe, self.device):
                    outputs = called(network, inputs)
                metric.update(_in_full(outputs), targets)
        return float(metric.compute())

    def _batches(self, split: Any, count: int, size: int) -> list[tuple[Any, Any]]:
        """Batches of the first samples of a permutation, kept: they are used for every structure."""
        data = self.task.data(split)
        order = Sampling(size_of(data, split), 1, self.recipe.seed).order(0)[:count].tolist()
        batches = (batch._replace(indices=[order[k] for k in batch.indices]) for batch in in_order(len(order), size))
        return list(self._loading.pairs(data, batches))


def _in_full(outputs: Any) -> Any:
    """Outputs in the precision that metrics know: NumPy, for one, has no bfloat16."""
    if isinstance(outputs, torch.Tensor):
        return outputs.float() if outputs.is_floating_point() else outputs
    if isinstance(outputs, dict):
        return {name: _in_full(value) for name, value in outputs.items()}
    return type(outputs)(map(_in_full, outputs)) if isinstance(outputs, list | tuple) else outputs


class Trained(Recalibrated):
    """The score after some epochs of training by the recipe, as published (ABCPruner: 2 epochs)."""

    @property
    def channels_last(self) -> bool:
        """As the recipe says: gradients of such images are wrong on CPUs (see `train`)."""
        return self.recipe.channels_last

    def network_for(self, mask: Mask, seed: int = 0, effort: float = 1.0) -> nn.Module:
        """A smaller copy, trained for a share of the epochs, at least one."""
        small, epochs = self.smaller(mask), max(1, round(effort * self.recipe.epochs))
        with silence(), TemporaryDirectory() as folder:  # it is a part of a search, which shows how far it is
            train(self.task, small, replace(self.recipe, seed=seed, epochs=epochs), folder=folder)
        return small
