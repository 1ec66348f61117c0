"""Models made ready to be timed: the runtime, the inputs, and the processors that they may use."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from onnxprune.coupling import input_shape
from onnxprune.errors import UsageError
from onnxprune.execution import Feeds, random_inputs
from onnxprune.graph import Graph, Model
from onnxprune.latency.inputs import check_inputs
from onnxprune.latency.turns import Plan


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
