"""Models compared under several plans: runtimes, batches, shapes, precisions; each in a process of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from onnxprune.analysis import analyze
from onnxprune.errors import OnnxPruneError, UsageError
from onnxprune.graph import Model
from onnxprune.latency.attribution import Attribution, attribute
from onnxprune.latency.children import run_alone
from onnxprune.latency.inputs import check_inputs, refuse_open
from onnxprune.latency.paired import check_models, compare, names_of
from onnxprune.latency.ready import items
from onnxprune.latency.results import Comparison
from onnxprune.latency.runtimes import runtime
from onnxprune.latency.statistic import Interval
from onnxprune.latency.turns import Plan, Progress
from onnxprune.widths import GroupWidths, group_widths


@dataclass(frozen=True)
class Part:
    """What came of one plan.

    Attributes:
        plan: how it was measured.
        items: that a run computes (the batch).
        found: the comparison, or None.
        error: why there is none.
        layers: where the time of every model goes, by name, if that was asked for.
        widths: of the first model's channel groups in the others.
    """

    plan: Plan
    items: int
    found: Comparison | None = None
    error: OnnxPruneError | None = None
    layers: Mapping[str, Attribution] = field(default_factory=dict)
    widths: tuple[GroupWidths, ...] = ()

    @property
    def name(self) -> str:
        """The runtime and what may be different from part to part."""
        sizes = [f"{name}={size}" for name, size in self.plan.sizes.items()]
        threads = [f"threads={self.plan.setting.threads}"] if self.plan.setting.threads else []
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
    models: Sequence[Model],
    plans: Sequence[Plan],
    progress: Progress | None = None,
    *,
    memory: bool = False,
    layers: bool = False,
) -> tuple[Part, ...]:
    """Compare the same models under every plan.

    Each plan has a process of its own, one after the other; in it the models take turns as in `compare`. A process that
    dies, or a runtime that fails, is an error of its part alone.

    Args:
        models: two or more from `load`, with the same inputs.
        plans: how to measure.
        progress: is told the share that is done, from 0 to 1.
        memory: also measure what each model takes.
        layers: also profile every model, in onnxruntime on the CPU.

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
        parts.append(_part(models, plan, memory, layers, lambda share, k=k: tell((k + share) / len(plans))))  # type: ignore[misc]
    return tuple(parts)


def _check(models: Sequence[Model], plan: Plan) -> None:
    """What would fail in every process alike fails before the first."""
    runtime(plan.runtime)
    for model in models:
        if plan.inputs is None:
            refuse_open(model, plan.sizes)
        else:
            check_inputs(model, plan.inputs)


def _part(models: Sequence[Model], plan: Plan, memory: bool, layers: bool, progress: Progress) -> Part:
    count = items(models[0], plan)
    try:
        found = run_alone(measured, list(models), plan, memory, layers, progress=progress)
    except OnnxPruneError as error:
        return Part(plan, count, error=error)
    return Part(plan, count, found.comparison, layers=found.layers, widths=found.widths)


class Measured(NamedTuple):
    """All that is found out of models in one process, where each is analyzed once."""

    comparison: Comparison
    layers: Mapping[str, Attribution]
    widths: tuple[GroupWidths, ...]


def measured(models: Sequence[Model], plan: Plan, memory: bool, layers: bool, progress: Progress) -> Measured:
    """Compare models, and tell where their time goes and what is left of their groups."""
    analyses = [analyze(model, sizes=plan.sizes) for model in models]
    found = compare(analyses, plan, progress, memory=memory)
    names = names_of(models)
    named = dict(zip(names, analyses, strict=True))
    spent = {name: attribute(each, plan.setting.threads) for name, each in named.items()} if layers else {}
    return Measured(found, spent, group_widths(analyses[0], dict(zip(names[1:], models[1:], strict=True))))
