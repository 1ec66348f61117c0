"""Which of several models is faster, when they take turns on the same input.

A machine's speed drifts: clocks, caches, neighbours. Models that are timed one after another meet different machines,
so here they run in rounds, each in an order drawn at random, in which none follows itself: what a run leaves in the
caches for the next is then the same for all. Neighbours in time meet the same machine, and what is compared is the
ratio within a round. The first model takes part twice: what it differs from itself by is the floor below which no
difference means anything.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
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
from onnxprune.latency.runtimes import Facts, Setting, runtime
from onnxprune.latency.statistic import Interval, median_interval, quantile_interval, spread

MIN_ROUNDS = 11
MAX_ROUNDS = 5000
NOISY = 0.1
STEADY = 0.02
"""Warm-up ends when the medians of its last two windows differ by less than this."""
WINDOW = 5
MOST_WARM_UP = 50
LOOKS = 1.25
"""After how many times more rounds the intervals are looked at again."""
PERCENTILES = {"p90": 0.9, "p95": 0.95, "p99": 0.99}

Progress = Callable[[float], None]


@dataclass(frozen=True)
class Plan:
    """How to measure.

    Attributes:
        seconds: for about how long at most, warm-up left out (at least 11 rounds, at most 5000).
        rounds: the exact number of rounds, whatever they take, or None.
        tolerance: stop earlier, when all ratios are known to within this (half of the 95% interval), or None. Looking
            again and again makes intervals miss somewhat more often than they say.
        warm_up: untimed rounds at the start, or None for as many as the times take to settle.
        runtime: one of `RUNTIMES`.
        setting: of the runtime.
        sizes: sizes of symbolic dimensions by name; `*` is for all others.
        seed: of the random input.
    """

    seconds: float = 10.0
    rounds: int | None = None
    tolerance: float | None = None
    warm_up: int | None = None
    runtime: str = "cpu"
    setting: Setting = field(default_factory=Setting)
    sizes: Mapping[str, int] = field(default_factory=dict)
    seed: int = 0


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
        times, warm_up, stopped = _measure([p.run for p in prepared], plan, progress or (lambda share: None))
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


Runs = Sequence[Callable[[], object]]


def _measure(runs: Runs, plan: Plan, progress: Progress) -> tuple[np.ndarray, int, str]:
    """Seconds of every run: float of shape `(rounds, models)`; untimed rounds; and why it ended."""
    warm_up = _warm_up(runs, plan.warm_up)
    rounds: list[list[float]] = []
    stop, orders = _Stop(plan), _orders(len(runs), plan.seed)
    for share in stop.shares(rounds):
        progress(share)
        rounds.append(_round(runs, next(orders)))
    progress(1.0)
    return np.array(rounds), warm_up, stop.why


def _warm_up(runs: Runs, count: int | None) -> int:
    """Run untimed, so many rounds, or until the times have settled; how many rounds that took."""
    times: list[float] = []
    while len(times) < (MOST_WARM_UP if count is None else count):
        times.append(sum(_round(runs, range(len(runs)))))
        if count is None and len(times) >= 2 * WINDOW:
            before, now = np.median(times[-2 * WINDOW : -WINDOW]), np.median(times[-WINDOW:])
            if abs(now - before) < STEADY * now:
                break
    return len(times)


class _Stop:
    """When to end.

    Attributes:
        why: in words, once it has.
    """

    def __init__(self, plan: Plan):
        self.plan, self.why = plan, ""

    def shares(self, rounds: Sequence[Sequence[float]]) -> Iterator[float]:
        """The share that is done, before every round; `rounds` grows meanwhile."""
        plan, start, look = self.plan, time.perf_counter(), MIN_ROUNDS
        most = plan.rounds or MAX_ROUNDS
        while len(rounds) < most:
            passed = 0.0 if plan.rounds else (time.perf_counter() - start) / max(plan.seconds, 1e-9)
            if plan.rounds is None and len(rounds) >= MIN_ROUNDS:
                if passed >= 1:
                    self.why = f"after {plan.seconds:g} s"
                    return
                if plan.tolerance is not None and len(rounds) >= look:
                    look = int(LOOKS * len(rounds)) + 1
                    if self._sure(np.array(rounds)):
                        self.why = f"all ratios are known to within {plan.tolerance:g}"
                        return
            least = plan.rounds or MIN_ROUNDS
            yield min(len(rounds) / least, max(passed, len(rounds) / most), 1.0)
        self.why = f"after {most} rounds"

    def _sure(self, times: np.ndarray) -> bool:
        ratios = (times[:, k] / times[:, 0] for k in range(1, times.shape[1]))
        return all(median_interval(r).half_width <= (self.plan.tolerance or 0) for r in ratios)


def _orders(count: int, seed: int) -> Iterator[Sequence[int]]:
    """Random orders, none of which begins with what the one before has ended with."""
    chance, last = np.random.default_rng(seed), -1
    while True:
        order = chance.permutation(count).tolist()
        if count == 1 or order[0] != last:
            last = order[-1]
            yield order


def _round(runs: Runs, order: Iterable[int]) -> list[float]:
    seconds = [0.0] * len(runs)
    for k in order:
        start = time.perf_counter()
        runs[k]()
        seconds[k] = time.perf_counter() - start
    return seconds


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
