"""Models made ready to be timed: the runtime, the inputs, and the processors that they may use."""

from __future__ import annotations

import gc
import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np

from onnxprune.coupling import input_shape
from onnxprune.errors import UsageError
from onnxprune.execution import Feeds, Outputs, random_inputs
from onnxprune.graph import Graph, Model
from onnxprune.latency.inputs import check_inputs
from onnxprune.latency.runtimes import Facts, Prepared, runtime
from onnxprune.latency.runtimes.base import Apart
from onnxprune.latency.turns import Plan, Runs


def feeds_for(model: Model, plan: Plan) -> Feeds:
    """The plan's own inputs, checked, or random ones.

    Raises:
        UsageError: the plan's do not fit the model.
    """
    if plan.inputs is None:
        return random_inputs(model, plan.seed, plan.sizes)
    check_inputs(model, plan.inputs)
    return dict(plan.inputs)


def items(model: Model, plan: Plan) -> int:
    """How many items a run computes: the leading size of the first input that has one, else 1."""
    given = plan.inputs or {}
    shapes = (given[v.name].shape if v.name in given else input_shape(v, plan.sizes) for v in Graph(model).inputs)
    return next((shape[0] for shape in shapes if len(shape)), 1)


@dataclass(frozen=True)
class Seen:
    """What a prepared model tells before it is timed."""

    facts: Facts
    outputs: Outputs
    apart: Apart | None


@dataclass(frozen=True)
class Ready:
    """Models that can be timed.

    Attributes:
        seen: what each has told.
        instances: gives their runs, then those of others, made anew: see `measure`.
        build: seconds that it took to prepare all, first runs and all that belongs to it included.
    """

    seen: tuple[Seen, ...]
    instances: Iterator[Runs]
    build: float

    @property
    def first(self) -> float:
        """Seconds of all first runs."""
        return sum(each.facts.first for each in self.seen)


def make_ready(models: Sequence[Model], feeds: Feeds, plan: Plan) -> Ready:
    """Prepare models in the plan's runtime.

    Raises:
        UsageError: the runtime cannot be used.
        ModelError: a model does not run there.
    """
    makers = [partial(runtime(plan.runtime).prepare, model, feeds, plan.setting) for model in models]
    start = time.perf_counter()
    prepared = {number: make() for number, make in enumerate(makers)}
    took = time.perf_counter() - start
    # Outputs may lie in memory that is the runtime's own, and keep all of it.
    seen = tuple(Seen(each.facts, [*map(np.array, each.outputs())], each.apart()) for each in prepared.values())
    return Ready(seen, renewed(makers, prepared), took)


def renewed(makers: Sequence[Callable[[], Prepared]], held: dict[int, Prepared]) -> Iterator[Runs]:
    """Runs of models that are prepared, then of others, made anew once those before are gone.

    Who comes first finds the best memory, so all do so in turns, and all follow all others.
    """
    count = len(makers)
    for number in itertools.count(1):
        yield [held[k].run for k in range(count)]
        held.clear()
        gc.collect()
        order = np.roll(np.arange(count), -number)[:: -1 if number // count % 2 else 1]
        held.update((k, makers[k]()) for k in order.tolist())


@contextmanager
def pinned(cpus: Sequence[int]) -> Iterator[None]:
    """Keep this process, and the threads that it starts, on some processors; all that it has, where none are named.

    Raises:
        UsageError: the system cannot do so, or this process may not use one of them.
    """
    if not cpus:
        yield
        return
    if not hasattr(os, "sched_setaffinity"):
        raise UsageError("this system does not pin processes to processors", "leave --cpus out")
    before = os.sched_getaffinity(0)
    if foreign := sorted({*cpus} - before):
        raise UsageError(
            f"--cpus: no processor {foreign[0]} here; there are {', '.join(map(str, sorted(before)))}",
            "choose from these",
        )
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def described(plan: Plan) -> str:
    """What is in the inputs, in words."""
    if plan.inputs is not None:
        return "the user's own"
    return "random: floats of a standard normal distribution, integers from 1 to 7, true"
