"""`Recipe`: how to train; and the optimizer and the learning rates that it asks for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from onnxprune.errors import UsageError
from onnxprune.torch.checking import (
    COUNT,
    FROM_ZERO,
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    YES_OR_NO,
    Rule,
    check,
    is_list,
    is_number,
    one_of,
    or_none,
    refused,
)

Algorithm = Literal["sgd", "adamw"]
Course = Literal["cosine", "step", "constant"]
Precision = Literal["bf16", "fp16"]
Device = Literal["auto", "cpu", "cuda"]

AMP_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        epochs: passes over the training data.
        batch: samples in a step, of all processes together; the rest of an epoch that fills no batch is left out.
        lr: the learning rate where the schedule is at its peak.
        optimizer: SGD with Nesterov momentum, or AdamW.
        momentum: of SGD; AdamW's first beta.
        weight_decay: of all parameters, those of hooks excepted that say otherwise.
        decay_norms: whether it is for normalisations and biases (parameters of one axis), too.
        schedule: of the learning rate, step by step: half a cosine to 0, or times `factor` at each milestone.
        milestones: shares of the epochs, ascending.
        warmup: epochs of linear growth before the schedule.
        clip: the largest norm of the whole gradient.
        amp: the type of autocast; fp16 needs a GPU.
        channels_last: memory format of images; on a GPU only (see `loop`).
        ema: decay of the moving average of weights and buffers by step; the average is then evaluated.
        seed: of everything random.
        workers: processes that load data, for each training process.
        device: "auto" takes a GPU if there is one.
    """

    epochs: int
    batch: int = 128
    lr: float = 0.1
    optimizer: Algorithm = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    decay_norms: bool = True
    schedule: Course = "cosine"
    milestones: tuple[float, ...] = (0.5, 0.75)
    factor: float = 0.1
    warmup: float = 0
    clip: float | None = None
    amp: Precision | None = None
    channels_last: bool = False
    ema: float | None = None
    seed: int = 0
    workers: int = 0
    device: Device = "auto"

    def __post_init__(self) -> None:
        check("recipe", self, _RULES)
        if self.warmup >= self.epochs:
            raise refused("recipe", "warmup", self.warmup, f"fewer epochs than all {self.epochs}")

    def to_json(self) -> dict[str, Any]:
        """All fields, as JSON gives them back."""
        return asdict(self) | {"milestones": list(self.milestones)}

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> Recipe:
        """The recipe with these fields; the rest is as by default.

        Raises:
            UsageError: a field is unknown or missing, or its value makes no sense.
        """
        known = [field.name for field in fields(Recipe)]
        for name in content:
            if name not in known:
                raise UsageError(f"recipe: unknown field {name!r}", f"choose from: {', '.join(known)}")
        if "epochs" not in content:
            raise UsageError("recipe: expected the field 'epochs'", "say how long to train")
        milestones = content.get("milestones", Recipe.milestones)
        return Recipe(**dict(content) | {"milestones": tuple(milestones) if is_list(milestones) else milestones})

    def rate(self, step: int, steps: int) -> float:
        """The learning rate over `lr` at a step, counted from 0, of an epoch having `steps`."""
        epoch = step / steps
        if epoch < self.warmup:
            return min(1.0, (step + 1) / (self.warmup * steps))
        return _SCHEDULES[self.schedule](self, epoch)


def require_trainable(network: nn.Module) -> None:
    """Refuse a network that cannot learn.

    Raises:
        UsageError: it has no parameter that is not frozen.
    """
    if not any(p.requires_grad for p in network.parameters()):
        count = len(list(network.parameters()))
        raise UsageError(
            f"{type(network).__name__}: nothing to train: none of its {count} parameters requires a gradient",
            "let the task's model() leave parameters unfrozen (requires_grad)",
        )


def make_optimizer(recipe: Recipe, network: nn.Module, further: Iterable[dict[str, Any]] = ()) -> Optimizer:
    """The optimizer over a network's parameters and further groups, whose parameters may be some of the network's.

    The groups' dicts stay the same objects, so that who made them can read the current learning rate there.

    Raises:
        UsageError: none of the network's parameters is trainable.
    """
    require_trainable(network)
    further = list(further)
    apart = {id(p) for group in further for p in group["params"]}
    own = [p for p in network.parameters() if id(p) not in apart]
    undecayed = [] if recipe.decay_norms else [p for p in own if p.ndim <= 1]
    rest = [p for p in own if recipe.decay_norms or p.ndim > 1]
    groups: list[dict[str, Any]] = [{"params": rest}, {"params": undecayed, "weight_decay": 0.0}, *further]
    return _OPTIMIZERS[recipe.optimizer]([group for group in groups if group["params"]], recipe)


def _sgd(groups: list[dict[str, Any]], recipe: Recipe) -> Optimizer:
    momentum = recipe.momentum
    return SGD(groups, recipe.lr, momentum, weight_decay=recipe.weight_decay, nesterov=momentum > 0)


def _adamw(groups: list[dict[str, Any]], recipe: Recipe) -> Optimizer:
    return AdamW(groups, recipe.lr, betas=(recipe.momentum, 0.999), weight_decay=recipe.weight_decay)


_OPTIMIZERS: dict[str, Callable[[list[dict[str, Any]], Recipe], Optimizer]] = {"sgd": _sgd, "adamw": _adamw}


def _cosine(recipe: Recipe, epoch: float) -> float:
    return (1 + math.cos(math.pi * (epoch - recipe.warmup) / (recipe.epochs - recipe.warmup))) / 2


def _steps(recipe: Recipe, epoch: float) -> float:
    return recipe.factor ** sum(epoch / recipe.epochs >= milestone for milestone in recipe.milestones)


_SCHEDULES: dict[str, Callable[[Recipe, float], float]] = {
    "cosine": _cosine,
    "step": _steps,
    "constant": lambda recipe, epoch: 1.0,
}


def _ascending(value: Any) -> bool:
    inside = is_list(value) and all(is_number(v, lambda v: 0 < v < 1) for v in value)
    return inside and list(value) == sorted(set(value))


_RULES: dict[str, Rule] = {
    "epochs": COUNT,
    "batch": COUNT,
    "lr": POSITIVE,
    "optimizer": one_of(get_args(Algorithm)),
    "momentum": SHARE,
    "weight_decay": NOT_NEGATIVE,
    "decay_norms": YES_OR_NO,
    "schedule": one_of(get_args(Course)),
    "milestones": ("ascending shares of the epochs, between 0 and 1", _ascending),
    "factor": POSITIVE,
    "warmup": NOT_NEGATIVE,
    "clip": or_none(POSITIVE),
    "amp": or_none(one_of(get_args(Precision))),
    "channels_last": YES_OR_NO,
    "ema": or_none(SHARE),
    "seed": FROM_ZERO,
    "workers": FROM_ZERO,
    "device": one_of(get_args(Device)),
}
