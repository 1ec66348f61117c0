"""The recipe: what it refuses, its JSON, learning rates and optimizers."""

import json
from typing import Any

import pytest
from torch import nn
from torch.optim import SGD, AdamW

from onnxprune.errors import UsageError
from onnxprune.torch.recipe import Recipe, make_optimizer

BAD: list[tuple[dict[str, Any], str]] = [
    ({"epochs": 0}, r"epochs is 0, expected a whole number of at least 1"),
    ({"epochs": True}, r"epochs is True, expected a whole number"),
    ({"batch": 2.0}, r"batch is 2\.0, expected a whole number of at least 1"),
    ({"lr": 0}, r"lr is 0, expected a number above 0"),
    ({"lr": float("nan")}, r"lr is nan, expected a number above 0"),
    ({"optimizer": "adam"}, r"optimizer is 'adam', expected one of sgd, adamw"),
    ({"momentum": 1}, r"momentum is 1, expected a number from 0 to below 1"),
    ({"weight_decay": -1}, r"weight_decay is -1, expected a number of at least 0"),
    ({"decay_norms": 1}, r"decay_norms is 1, expected True or False"),
    ({"schedule": "linear"}, r"schedule is 'linear', expected one of cosine, step, constant"),
    ({"milestones": (0.5, 0.5)}, r"milestones is \(0\.5, 0\.5\), expected ascending shares"),
    ({"milestones": (30, 60)}, r"milestones is \(30, 60\), expected ascending shares"),
    ({"factor": "0.1"}, r"factor is '0\.1', expected a number above 0"),
    ({"warmup": -0.5}, r"warmup is -0\.5, expected a number of at least 0"),
    ({"warmup": 4}, r"warmup is 4, expected fewer epochs than all 4"),
    ({"clip": 0}, r"clip is 0, expected a number above 0, or None"),
    ({"amp": "fp8"}, r"amp is 'fp8', expected one of bf16, fp16, or None"),
    ({"channels_last": None}, r"channels_last is None, expected True or False"),
    ({"ema": 1.0}, r"ema is 1\.0, expected a number from 0 to below 1, or None"),
    ({"seed": -1}, r"seed is -1, expected a whole number of at least 0"),
    ({"workers": -1}, r"workers is -1, expected a whole number of at least 0"),
    ({"device": "tpu"}, r"device is 'tpu', expected one of auto, cpu, cuda"),
]


@pytest.mark.parametrize(("changes", "message"), BAD, ids=[f"{k}={v}" for c, _ in BAD for k, v in c.items()])
def test_bad_values_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Recipe(**{"epochs": 4} | changes)


def test_every_field_is_checked() -> None:
    assert {name for changes, _ in BAD for name in changes} == set(Recipe(1).to_json())


def test_json_gives_the_recipe_back() -> None:
    recipe = Recipe(3, schedule="step", milestones=(0.25, 0.5), clip=1.5, amp="bf16", ema=0.99)
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe
    assert Recipe.from_json({"epochs": 3}) == Recipe(3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epochs": 1, "batch_size": 2}, "unknown field 'batch_size'"),
        ({"batch": 2}, "expected the field 'epochs'"),
        ({"epochs": 1, "milestones": 0.5}, "milestones is 0.5, expected ascending"),
    ],
)
def test_bad_json_is_refused(content: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Recipe.from_json(content)


@pytest.mark.parametrize(
    ("changes", "rates"),
    [
        ({}, [1, 0.853553, 0.5, 0.146447]),
        ({"schedule": "constant"}, [1, 1, 1, 1]),
        ({"schedule": "step", "milestones": (0.25, 0.75)}, [1, 0.1, 0.1, 0.01]),
        ({"warmup": 2, "schedule": "constant"}, [0.1, 0.6, 1, 1]),
        ({"warmup": 2}, [0.1, 0.6, 1, 0.5]),
    ],
    ids=str,
)
def test_rates_at_the_beginnings_of_epochs(changes: dict[str, Any], rates: list[float]) -> None:
    recipe = Recipe(4, **changes)
    assert [recipe.rate(step, 5) for step in (0, 5, 10, 15)] == pytest.approx(rates, rel=1e-5)


def test_rates_change_within_an_epoch_and_never_exceed_the_peak() -> None:
    rates = [Recipe(4, warmup=0.5).rate(step, 5) for step in range(20)]
    assert rates[:3] == pytest.approx([0.4, 0.8, 1.0]) and max(rates) <= 1
    assert rates[2:] == sorted(set(rates[2:]), reverse=True)


@pytest.mark.parametrize(
    ("changes", "kind", "expected"),
    [
        ({"momentum": 0.8}, SGD, {"momentum": 0.8, "nesterov": True}),
        ({"momentum": 0.0}, SGD, {"momentum": 0.0, "nesterov": False}),
        ({"optimizer": "adamw", "momentum": 0.85}, AdamW, {"betas": (0.85, 0.999)}),
    ],
)
def test_the_optimizer_is_the_recipes(changes: dict[str, Any], kind: type, expected: dict[str, Any]) -> None:
    optimizer = make_optimizer(Recipe(1, lr=0.3, weight_decay=0.02, **changes), nn.Linear(2, 2))
    assert type(optimizer) is kind
    assert optimizer.param_groups[0].items() >= ({"lr": 0.3, "weight_decay": 0.02} | expected).items()
