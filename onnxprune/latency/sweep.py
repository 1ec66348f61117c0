"""Models compared under several plans: runtimes, batches, shapes, precisions; each in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from onnxprune.errors import OnnxPruneError, UsageError
from onnxprune.graph import Model
from onnxprune.latency.children import run_alone
from onnxprune.latency.inputs import check_inputs, refuse_open
from onnxprune.latency.paired import check_models, compare
from onnxprune.latency.ready import items
from onnxprune.latency.results import Comparison
from onnxprune.latency.runtimes import runtime
from onnxprune.latency.statistic import Interval
from onnxprune.latency.turns import Plan, Progress


@dataclass(frozen=True)
class Part:
    """What came of one plan.

    Attributes:
        plan: how it was measured.
        items: that a run computes (the batch).
        found: the comparison, or None.
        error: why there is none.
    """

    plan: Plan
    items: int
    found: Comparison | None = None
    error: OnnxPruneError | None = None

    @property
    def name(self) -> str:
        """The runtime and what may be different from part to part."""
        sizes = [f"{name}={size}" for name, size in self.plan.sizes.items()]
        threads = [f"{self.plan.setting.threads} threads"] if self.plan.setting.threads else []
        return ", ".join([self.plan.runtime, *sizes, self.plan.setting.precision, *threads])

    @property
    def throughput(self) -> tuple[Interval, ...]:
        """Items in a second, of every model."""
        times = [timing.seconds for timing in self.found.models] if self.found else []
        return tuple(Interval(self.items / t.median, self.items / t.high, self.items / t.low) for t in times)

    def to_json(self) -> dict[str, Any]:
        """The part as plain data."""
        return {
            "runtime": self.plan.runtime,
            "sizes": dict(self.plan.sizes),
            "precision": self.plan.setting.precision,
            "threads": self.plan.setting.threads,
            "items": self.items,
            "items_per_second": [t.median for t in self.throughput],
            "error": self.error.what if self.error else None,
            "fix": self.error.fix if self.error else None,
            "comparison": self.found.to_json() if self.found else None,
        }


def sweep(
    models: Sequence[Model], plans: Sequence[Plan], progress: Progress | None = None, *, memory: bool = False
) -> tuple[Part, ...]:
    """Compare the same models under every plan.

    Each plan has a process of its own, one after the other; in it the models take turns as in `compare`. A process that
    dies, or a runtime that fails, is an error of its part alone.

    Args:
        models: two or more from `load`, with the same inputs.
        plans: how to measure.
        progress: is told the share that is done, from 0 to 1.
        memory: also measure what each model takes.

    Raises:
        UsageError: there is no plan, a runtime is not known, a dimension has no size, or inputs do not fit a model.
    """
    check_models(models)
    if not plans:
        raise UsageError("there is no plan to measure by", "give one or more")
    for plan in plans:
        _check(models, plan)
    tell = progress or (lambda share: None)
    parts = []
    for k, plan in enumerate(plans):
        parts.append(_part(models, plan, memory, lambda share, k=k: tell((k + share) / len(plans))))  # type: ignore[misc]
    return tuple(parts)


def _check(models: Sequence[Model], plan: Plan) -> None:
    """What would fail in every process alike fails before the first."""
    runtime(plan.runtime)
    for model in models:
        if plan.inputs is None:
            refuse_open(model, plan.sizes)
        else:
            check_inputs(model, plan.inputs)


def _part(models: Sequence[Model], plan: Plan, memory: bool, progress: Progress) -> Part:
    count = items(models[0], plan)
    try:
        return Part(plan, count, run_alone(_compare, list(models), plan, memory, progress=progress))
    except OnnxPruneError as error:
        return Part(plan, count, error=error)


def _compare(models: Sequence[Model], plan: Plan, memory: bool, progress: Progress) -> Comparison:
    return compare(models, plan, progress, memory=memory)
