"""The trainings of `gpu_bed`, each in a folder of its own, and how long each is; rows share them."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset, Subset

from benchmarks.slices import Clock, OutOfTime
from models.resnet_cifar import resnet56
from models.tasks import Cifar10
from models.vgg_cifar import vgg16_bn, vgg19_bn
from onnxprune.mask import read_mask
from onnxprune.resources import Resource
from onnxprune.torch.checkpoint import read, write
from onnxprune.torch.data.cifar import cifar
from onnxprune.torch.data.images import Splits
from onnxprune.torch.forecast import Array, EarlyBird, FixedEpoch, Selection
from onnxprune.torch.handover import MASK, load_weights
from onnxprune.torch.jobs import OUTCOME, Outcome, Place, ended, started, trained
from onnxprune.torch.loop import BEST, LAST
from onnxprune.torch.methods import Chips, chip, fine_tune
from onnxprune.torch.recipe import Recipe
from onnxprune.torch.shrinking import shrink
from onnxprune.torch.slim import Slimming, slim
from onnxprune.torch.task import Split, Task

VALIDATION = 0.02
"""Of the training images: nothing is chosen by them but ChipNet's mask, and every image counts."""
WEIGHTS = "weights.pt"
VGG = Recipe(160, batch=64, lr=0.1, weight_decay=1e-4, schedule="step")
"""Of network slimming (Liu et al. 2017, section 4), to train and to fine-tune."""
RESNET = Recipe(200, batch=128, lr=0.1, weight_decay=5e-4)
SOFT = Recipe(20, batch=128, lr=1e-3, optimizer="adamw", weight_decay=1e-3, schedule="constant")
"""To learn ChipNet's gates (Tiwari et al. 2021, section 4)."""

FOUND = Recipe(150, batch=128, lr=0.01, weight_decay=5e-3, schedule="step", milestones=(1 / 3, 2 / 3))
"""To fine-tune what a search has found (Lin et al. 2020, section 4.1)."""

STAGES: Mapping[str, Recipe] = {
    "vgg16/dense": VGG,
    "vgg16/found/fine": FOUND,
    "resnet56/found/fine": FOUND,
    "vgg19/sparse": VGG,
    "vgg19/fine": VGG,
    "vgg16/sparse": VGG,
    "vgg16/fine": VGG,
    "vgg16/early": VGG,
    "resnet56/dense": RESNET,
    "resnet56/sparse": replace(RESNET, epochs=80),
    "resnet56/fine": replace(RESNET, epochs=160),
    "resnet56/chip/soft": SOFT,
    "resnet56/chip/fine": replace(RESNET, epochs=160, lr=0.05),
}
NETWORKS: Mapping[str, Callable[[], nn.Module]] = {"vgg16": vgg16_bn, "vgg19": vgg19_bn, "resnet56": resnet56}
LATEST = 1 / 8
"""Share of the epochs by which early pruning prunes in any case: 20 of 160."""

Figures = dict[str, Any]
Target = Mapping[Resource, float]


@cache
def splits_in(folder: Path) -> Splits:
    """CIFAR-10, read once for all trainings."""
    return cifar(folder, VALIDATION)


class Most(Cifar10):
    """CIFAR-10 with nearly all of its training images."""

    @cached_property
    def splits(self) -> Splits:
        assert self.folder is not None
        return splits_in(self.folder)

    def data(self, split: Split) -> Dataset:
        data = super().data(split)
        few = split != "train" and self.images is not None and self.images < len(data)
        return Subset(data, range(self.images)) if few else data


@dataclass(frozen=True)
class Settled:
    """A trigger: when the selection has settled, or at an epoch, whichever comes first."""

    latest: int

    def __call__(self, history: Array, select: Selection) -> bool:
        return len(history) >= self.latest or EarlyBird()(history, select)


@dataclass(frozen=True)
class Bed:
    """Where and how trainings run.

    Attributes:
        data: folder of CIFAR-10.
        work: has a folder for each training.
        clock: says when to stop.
        seed: of all.
        epochs: of a training at most, or None for all.
        images: of every split at most, or None for all.
        evaluations: of a search.
        workers: processes that load data, if there is a GPU.
    """

    data: Path
    work: Path
    clock: Clock
    seed: int = 0
    epochs: int | None = None
    images: int | None = None
    evaluations: int = 400
    workers: int = 0

    def task(self, network: str) -> Task:
        """To tell the ten classes apart."""
        return Most(NETWORKS[network], self.data, self.images)

    def recipe(self, stage: str) -> Recipe:
        """The recipe of a training here: shorter if it is to be; on a GPU in bfloat16, channels last."""
        whole, gpu = STAGES[stage], torch.cuda.is_available()
        epochs = min(whole.epochs, self.epochs or whole.epochs)
        here = replace(whole, epochs=epochs, seed=self.seed)
        return replace(here, amp="bf16", channels_last=True, workers=self.workers) if gpu else here

    def dense(self, network: str) -> Figures:
        """The whole network; others start from its weights."""
        name = f"{network}/dense"
        return self._stage(name, lambda place: fine_tune(self.task(network), self.recipe(name), place))

    def sparse(self, network: str, target: Target, strength: float, start: str | None = None) -> Figures:
        """With the pull, from another training's weights or from none; then units go, by the last scales."""
        name, weights = f"{network}/sparse", self.work / network / start / WEIGHTS if start else None
        recipe = self.recipe(name)
        how = Slimming(target, FixedEpoch(recipe.epochs), strength=strength)
        return self._stage(name, lambda place: slim(self.task(network), recipe, how, replace(place, weights=weights)))

    def early(self, network: str, target: Target, strength: float) -> Figures:
        """With the pull until the selection has settled, then what a moving average says to be small goes."""
        name = f"{network}/early"
        recipe = self.recipe(name)
        trigger = Settled(max(1, int(LATEST * recipe.epochs)))
        how = Slimming(target, trigger, forecaster="sma", strength=strength)
        return self._stage(name, lambda place: slim(self.task(network), recipe, how, place))

    def fine(self, network: str) -> Figures:
        """The small network that `sparse` left, with a schedule of its own."""
        name, before = f"{network}/fine", self.work / network / "sparse"

        def job(place: Place) -> Outcome:
            task, recipe = self.task(network), self.recipe(name)
            module, binding = started(task, recipe, place)
            shrink(module, binding, read_mask(before / MASK))
            load_weights(module, before / WEIGHTS)
            return ended(trained(task, module, recipe, [], place, place.folder), place.folder)

        return self._stage(name, job)

    def found(self, network: str) -> Figures:
        """The structure that a search from `dense` on has found."""
        name, weights = f"{network}/found", self.work / network / "dense" / WEIGHTS
        mask, task, recipe = self.work / network / "search" / MASK, self.task(network), self.recipe(f"{name}/fine")
        return self._stage(name, lambda place: fine_tune(task, recipe, replace(place, weights=weights), mask))

    def chip(self, network: str, resource: Resource, target: float) -> Figures:
        """ChipNet, from the weights of `dense`."""
        name, weights = f"{network}/chip", self.work / network / "dense" / WEIGHTS
        soft, fine = self.recipe(f"{name}/soft"), self.recipe(f"{name}/fine")
        chips = Chips(resource, target)
        return self._stage(
            name, lambda place: chip(self.task(network), soft, fine, chips, replace(place, weights=weights))
        )

    def _stage(self, name: str, job: Callable[[Place], Outcome]) -> Figures:
        """The figures of a training, which is begun, or gone on with, if need be.

        Raises:
            OutOfTime: it is not done.
        """
        folder = self.work / name
        if not (folder / OUTCOME).exists() or any(folder.rglob(LAST)):
            if not job(Place(folder, resume=True, until=self.clock.left())).finished:
                raise OutOfTime
            lighten(folder)
        return dict(json.loads((folder / OUTCOME).read_text(encoding="utf-8")))


def lighten(folder: Path) -> None:
    """Of a training that is done keep the weights of the end alone, as a state dict; of its parts nothing."""
    for last in folder.rglob(LAST):
        if last.parent == folder:
            write(folder / WEIGHTS, read(last)["model"])
        last.with_name(BEST).unlink(missing_ok=True)
        last.unlink()
