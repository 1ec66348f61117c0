"""Which of several models is faster, in onnxruntime on the CPU, when they take turns on the same input.

A machine's speed drifts: clocks, caches, neighbours. Models that are timed one after another meet different machines,
so here they run in rounds, every round in the reverse order of the one before (A B, B A, ...). Neighbours in time meet
the same machine, and what is compared is the ratio within a round.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from onnxprune.analysis import analyze
from onnxprune.cost import Cost
from onnxprune.environment import check_runtime
from onnxprune.errors import UsageError
from onnxprune.execution import Feeds, Outputs, random_inputs, relative_difference
from onnxprune.graph import Graph, Model
from onnxprune.latency.disk import disk_bytes
from onnxprune.latency.session import does_not_run, open_session
from onnxprune.latency.statistic import Interval, median_interval, spread

MIN_ROUNDS = 11
MAX_ROUNDS = 5000
NOISY = 0.1

Progress = Callable[[float], None]


@dataclass(frozen=True)
class Plan:
    """How to measure.

    Attributes:
        seconds: for about how long, warm-up left out (at least 11 rounds, at most 5000).
        rounds: the exact number of rounds, whatever they take, or None.
        warm_up: untimed rounds at the start.
        threads: of every model; 0 leaves it to onnxruntime.
        sizes: sizes of symbolic dimensions by name; `*` is for all others.
        seed: of the random input.
    """

    seconds: float = 10.0
    rounds: int | None = None
    warm_up: int = 3
    threads: int = 0
    sizes: Mapping[str, int] = field(default_factory=dict)
    seed: int = 0


@dataclass(frozen=True)
class Timing:
    """One model's part of a comparison.

    Attributes:
        name: its file name.
        seconds: of one run.
        ratio: its time by the first model's, within rounds.
        spread: interquartile range by median; above 0.1 the measurement is noisy.
        params, macs: its cost.
        bytes: its size on disk, data files included.
        difference: largest difference from the first model's outputs relative to their range; None where their
            shapes differ.
    """

    name: str
    seconds: Interval
    ratio: Interval
    spread: float
    params: int
    macs: int
    bytes: int
    difference: float | None


@dataclass(frozen=True)
class Comparison:
    """Models timed side by side; the first is what the others are compared with."""

    models: tuple[Timing, ...]
    rounds: int
    warm_up: int
    threads: int
    seed: int
    sizes: Mapping[str, int]
    runtime: str

    @property
    def noisy(self) -> bool:
        """Whether some model's times are spread too widely to be trusted much."""
        return any(t.spread > NOISY for t in self.models)

    def to_json(self) -> dict[str, Any]:
        """The comparison as plain data."""
        return asdict(self) | {"sizes": dict(self.sizes), "noisy": self.noisy}


def compare(models: Sequence[Model], plan: Plan | None = None, progress: Progress | None = None) -> Comparison:
    """Time models side by side.

    Args:
        models: two or more from `load`, with the same inputs.
        plan: how to measure.
        progress: is told the share that is done, from 0 to 1.

    Raises:
        UsageError: fewer than two models, their inputs differ, or onnxruntime is not as it should be.
        ModelError: a model does not run.
    """
    plan = plan or Plan()
    info = check_runtime()
    if len(models) < 2:
        raise UsageError(f"expected two or more models to compare, got {len(models)}", "name another one")
    _check_inputs(models)
    feeds = random_inputs(models[0], plan.seed, plan.sizes)
    runs = [_runner(model, feeds, plan.threads) for model in models]
    outputs = [run() for run in runs]
    times = _measure(runs, plan, progress or (lambda share: None))
    costs = [analyze(model, sizes=plan.sizes).cost for model in models]
    names = _names(models)
    timings = tuple(
        _timing(models[k], names[k], times[:, [0, k]], costs[k], _difference(outputs[0], outputs[k]))
        for k in range(len(models))
    )
    return Comparison(timings, len(times), plan.warm_up, plan.threads, plan.seed, plan.sizes, str(info))


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


def _runner(model: Model, feeds: Feeds, threads: int) -> Callable[[], Outputs]:
    """A function that runs the model once, with onnxruntime's default optimisations."""
    session = open_session(model, threads)
    try:
        session.run(None, feeds)
    except Exception as error:  # onnxruntime raises types of its own, none of them public
        raise does_not_run(model, error) from error
    return lambda: session.run(None, feeds)


def _measure(runs: Sequence[Callable[[], Outputs]], plan: Plan, progress: Progress) -> np.ndarray:
    """Seconds of every run: float of shape `(rounds, models)`."""
    for _ in range(plan.warm_up):
        for run in runs:
            run()
    rounds: list[list[float]] = []
    for share in _shares(plan):
        progress(share)
        rounds.append(_round(runs, reverse=len(rounds) % 2 == 1))
    progress(1.0)
    return np.array(rounds)


def _shares(plan: Plan) -> Iterator[float]:
    """The share that is done, before every round."""
    start, done = time.perf_counter(), 0
    least, most = (plan.rounds, plan.rounds) if plan.rounds else (MIN_ROUNDS, MAX_ROUNDS)
    while done < most:
        passed = 1.0 if plan.rounds else (time.perf_counter() - start) / max(plan.seconds, 1e-9)
        if done >= least and passed >= 1:
            return
        yield min(done / least, passed, 1.0)
        done += 1


def _round(runs: Sequence[Callable[[], Outputs]], reverse: bool) -> list[float]:
    seconds = [0.0] * len(runs)
    for k in reversed(range(len(runs))) if reverse else range(len(runs)):
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
    return names if len(set(names)) == len(names) else [str(path) for path in paths]


def _timing(model: Model, name: str, times: np.ndarray, cost: Cost, difference: float | None) -> Timing:
    """`times` has shape `(rounds, 2)`: of the first model and of this one."""
    first, own = times.T
    return Timing(
        name=name,
        seconds=median_interval(own),
        ratio=median_interval(own / first),
        spread=spread(own),
        params=cost.params,
        macs=cost.macs,
        bytes=disk_bytes(model.path) if model.path else model.proto.ByteSize(),
        difference=difference,
    )
