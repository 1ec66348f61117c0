"""Which of several models is faster, when they take turns on the same input (see `turns`).

The first model takes part twice: what it differs from itself by is the floor below which no difference means anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onnxprune.analysis import analyze
from onnxprune.cost import Cost
from onnxprune.errors import UsageError
from onnxprune.execution import Outputs, random_inputs, relative_difference
from onnxprune.graph import Graph, Model
from onnxprune.latency.disk import disk_bytes
from onnxprune.latency.machine import Watch
from onnxprune.latency.runtimes import Facts, runtime
from onnxprune.latency.statistic import Interval, median_interval, quantile_interval, spread
from onnxprune.latency.turns import Plan, Progress, measure

NOISY = 0.1
PERCENTILES = {"p90": 0.9, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True)
class Timing:
    """One model's part of a comparison.

    Attributes:
        name: its file name.
        seconds: of one run.
        percentiles: p90, p95 and p99 of it; the ends of intervals that so few runs cannot tell are infinite.
        slowest: the longest run.
        ratio: its time by the first model's, within rounds.
        spread: interquartile range by median; above 0.1 the measurement is noisy.
        params, macs: its cost.
        bytes: its size on disk, data files included.
        difference: largest difference from the first model's outputs relative to their range; None where their
            shapes differ.
        build, first: seconds until it could run, and of the first run.
        placement: its nodes by what runs them, as the runtime counts them.
    """

    name: str
    seconds: Interval
    percentiles: Mapping[str, Interval]
    slowest: float
    ratio: Interval
    spread: float
    params: int
    macs: int
    bytes: int
    difference: float | None
    build: float
    first: float
    placement: Mapping[str, int]


@dataclass(frozen=True)
class Comparison:
    """Models timed side by side; the first is what the others are compared with.

    Attributes:
        models: the timings, in order.
        floor: the first model's time by its own.
        rounds, warm_up: how often each ran, timed and untimed.
        stopped: why it ended.
        runtime: that ran them, with its version.
        options: of the runtime, as it has them.
        threads, seed, sizes: of the plan.
        machine: what it did meanwhile (see `machine`).
    """

    models: tuple[Timing, ...]
    floor: Interval
    rounds: int
    warm_up: int
    stopped: str
    runtime: str
    options: Mapping[str, Any]
    threads: int
    seed: int
    sizes: Mapping[str, int]
    machine: Mapping[str, Any]

    @property
    def noisy(self) -> bool:
        """Whether some model's times are spread too widely to be trusted much."""
        return any(t.spread > NOISY for t in self.models)

    def to_json(self) -> dict[str, Any]:
        """The comparison as plain data."""
        return asdict(self) | {"noisy": self.noisy}


def compare(models: Sequence[Model], plan: Plan | None = None, progress: Progress | None = None) -> Comparison:
    """Time models side by side.

    Args:
        models: two or more from `load`, with the same inputs.
        plan: how to measure.
        progress: is told the share that is done, from 0 to 1.

    Raises:
        UsageError: fewer than two models, their inputs differ, or the runtime cannot be used.
        ModelError: a model does not run, or not on the device that was asked for.
    """
    plan = plan or Plan()
    if len(models) < 2:
        raise UsageError(f"expected two or more models to compare, got {len(models)}", "name another one")
    _check_inputs(models)
    engine, feeds = runtime(plan.runtime), random_inputs(models[0], plan.seed, plan.sizes)
    prepared = [engine.prepare(model, feeds, plan.setting) for model in (*models, models[0])]
    outputs = [p.outputs() for p in prepared[:-1]]
    with Watch() as watch:
        times, warm_up, stopped = measure([p.run for p in prepared], plan, progress or (lambda share: None))
    costs = [analyze(model, sizes=plan.sizes).cost for model in models]
    timings = tuple(
        _timing(model, name, times[:, [0, k]], cost, _difference(outputs[0], outputs[k]), prepared[k].facts)
        for k, (model, name, cost) in enumerate(zip(models, _names(models), costs, strict=True))
    )
    return Comparison(
        models=timings,
        floor=median_interval(times[:, -1] / times[:, 0]),
        rounds=len(times),
        warm_up=warm_up,
        stopped=stopped,
        runtime=engine.version,
        options=dict(prepared[0].facts.options),
        threads=plan.setting.threads,
        seed=plan.seed,
        sizes=dict(plan.sizes),
        machine=watch.found(),
    )


def _check_inputs(models: Sequence[Model]) -> None:
    first, *others = [{v.name: _describe(v) for v in Graph(model).inputs} for model in models]
    for model, other in zip(models[1:], others, strict=True):
        if other != first:
            raise UsageError(
                f"{model.path}: its inputs are {_listed(other)}, those of {models[0].path} are {_listed(first)}",
                "compare models that take the same inputs",
            )


def _describe(value: Any) -> str:
    kind = value.type.tensor_type
    return f"{kind.elem_type}:{[d.dim_value or d.dim_param for d in kind.shape.dim]}"


def _listed(inputs: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {text.partition(':')[2]}" for name, text in inputs.items()) or "none"


def _difference(first: Outputs, other: Outputs) -> float | None:
    if [x.shape for x in first] != [x.shape for x in other]:
        return None
    return relative_difference(first, other)


def _names(models: Sequence[Model]) -> list[str]:
    """File names, or paths where two models' files are called alike."""
    paths = [model.path or Path("model") for model in models]
    names = [path.name for path in paths]
    names = names if len(set(names)) == len(names) else [str(path) for path in paths]
    return [name if name not in names[:k] else f"{name} ({k + 1})" for k, name in enumerate(names)]


def _timing(model: Model, name: str, times: np.ndarray, cost: Cost, difference: float | None, facts: Facts) -> Timing:
    """`times` has shape `(rounds, 2)`: of the first model and of this one."""
    first, own = times.T
    return Timing(
        name=name,
        seconds=median_interval(own),
        percentiles={label: quantile_interval(own, share) for label, share in PERCENTILES.items()},
        slowest=float(own.max()),
        ratio=median_interval(own / first),
        spread=spread(own),
        params=cost.params,
        macs=cost.macs,
        bytes=disk_bytes(model.path) if model.path else model.proto.ByteSize(),
        difference=difference,
        build=facts.build,
        first=facts.first,
        placement=dict(facts.placement),
    )
