"""Which of several models is faster, when they take turns on the same input (see `turns`).

The first model takes part twice: what it differs from itself by is the floor below which no difference means anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from onnxprune.analysis import Analysis, analyze
from onnxprune.environment import own_version
from onnxprune.errors import UsageError
from onnxprune.execution import Feeds, Outputs, relative_difference
from onnxprune.graph import Graph, Model
from onnxprune.latency.disk import digests, disk_bytes
from onnxprune.latency.machine import Watch
from onnxprune.latency.memory import peak_memory
from onnxprune.latency.nvml import is_gpu, open_gpu
from onnxprune.latency.ready import Seen, described, feeds_for, make_ready, pinned
from onnxprune.latency.results import PERCENTILES, Comparison, Input, Timing
from onnxprune.latency.runtimes import Runtime, runtime
from onnxprune.latency.runtimes.sessions import Provider
from onnxprune.latency.statistic import covered, quantile_interval, spread, times_interval
from onnxprune.latency.turns import (
    AGAIN,
    MAX_ROUNDS,
    MIN_ROUNDS,
    MOST_WARM_UP,
    STEADY,
    WINDOW,
    Measured,
    Plan,
    Progress,
    measure,
)
from onnxprune.verify import model_digest

DIGITS = 9
"""Decimal places of seconds that are kept: clocks count nanoseconds."""


def compare(
    models: Sequence[Model | Analysis],
    plan: Plan | None = None,
    progress: Progress | None = None,
    *,
    memory: bool = False,
) -> Comparison:
    """Time models side by side.

    Args:
        models: two or more from `load`, with the same inputs; those that are analyzed already, with the plan's sizes,
            are not analyzed again.
        plan: how to measure.
        progress: is told the share that is done, from 0 to 1.
        memory: also measure what each takes, where its device does not tell, in a process of its own.

    Raises:
        UsageError: fewer than two models, their inputs differ, or the runtime cannot be used.
        ModelError: a model does not run, or not on the device that was asked for.
    """
    plan = plan or Plan()
    if plan.cpus:
        with pinned(plan.cpus):
            return compare(models, replace(plan, cpus=()), progress, memory=memory)
    files = [each.original if isinstance(each, Analysis) else each for each in models]
    check_models(files)
    engine, feeds = runtime(plan.runtime), feeds_for(files[0], plan)
    ready = make_ready((*files, files[0]), feeds, plan)
    seen, facts = ready.seen[:-1], ready.seen[0].facts
    took = [_peak(*each, plan, feeds) if memory else each[1].facts.memory for each in zip(files, seen, strict=True)]
    with Watch(open_gpu(facts.device)) as watch:
        count = plan.affordable(ready.build, ready.first)
        found = measure(ready.instances, plan, progress or (lambda share: None), count)
    analyses = [each if isinstance(each, Analysis) else analyze(each, sizes=plan.sizes) for each in models]
    timings = tuple(
        Timing(name=name, memory=memory, **_costs(analysis), **_measured(found, k), **_told(seen[k], seen[0], engine))
        for k, (name, memory, analysis) in enumerate(zip(names_of(files), took, analyses, strict=True))
    )
    return Comparison(
        models=timings,
        runtime=engine.version,
        options=dict(facts.options),
        machine=watch.found(),
        versions={**facts.versions, "onnxprune": own_version()},
        device=facts.device,
        **_taken(found),
        **_asked(plan, feeds, is_gpu(facts.device)),
    )


def _peak(model: Model, seen: Seen, plan: Plan, feeds: Feeds) -> int | None:
    """Most bytes that a model takes."""
    told = seen.facts.memory
    return peak_memory(model, plan.runtime, feeds, plan.setting) if told is None else told


def _taken(found: Measured) -> dict[str, Any]:
    """How all were measured, and what the first one differs from itself by."""
    return {
        "floor": found.ratio(-1),
        "again": _kept(found.times[:, -1]),
        "rounds": len(found.times),
        "batches": found.batches,
        "warm_up": found.warm_up,
        "stopped": found.why,
    }


def _asked(plan: Plan, feeds: Feeds, on_gpu: bool) -> dict[str, Any]:
    """What the plan says, as a comparison tells it."""
    return {
        "asked": plan.runtime,
        "precision": plan.setting.precision,
        "binding": plan.setting.binding if on_gpu else None,
        "graph": plan.setting.graph if on_gpu else None,
        "threads": plan.setting.threads,
        "seed": plan.seed,
        "sizes": dict(plan.sizes),
        "inputs": tuple(Input(name, array.shape, str(array.dtype)) for name, array in feeds.items()),
        "data": described(plan),
        "warm_up_rule": warm_up_rule(plan),
        "stop_rule": stop_rule(plan),
    }


def warm_up_rule(plan: Plan) -> str:
    """Which rounds are not timed, in words."""
    if plan.warm_up is not None:
        return f"{plan.warm_up} rounds of every instance"
    return (
        f"until the medians of the last two windows of {WINDOW} rounds differ by less than {STEADY:.0%}, "
        f"at most {MOST_WARM_UP} rounds, or for as many seconds as are timed; of instances made anew, {AGAIN} rounds"
    )


def stop_rule(plan: Plan) -> str:
    """When the timing ends, in words."""
    if plan.rounds is not None:
        return f"after {plan.rounds} rounds"
    early = f", or once all ratios are known to within {plan.tolerance:g}" if plan.tolerance is not None else ""
    return f"after {plan.seconds:g} s ({MIN_ROUNDS} to {MAX_ROUNDS} rounds){early}"


def check_models(models: Sequence[Model]) -> None:
    """Refuse what cannot be compared.

    Raises:
        UsageError: there are fewer than two models, or their inputs differ.
    """
    if len(models) < 2:
        raise UsageError(f"expected two or more models to compare, got {len(models)}", "name another one")
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


def names_of(models: Sequence[Model]) -> list[str]:
    """File names, or paths where two models' files are called alike."""
    paths = [model.path or Path("model") for model in models]
    names = [path.name for path in paths]
    names = names if len(set(names)) == len(names) else [str(path) for path in paths]
    return [name if name not in names[:k] else f"{name} ({k + 1})" for k, name in enumerate(names)]


def _costs(analysis: Analysis) -> dict[str, Any]:
    """What a model is."""
    model, cost = analysis.original, analysis.cost
    return {
        "params": cost.params,
        "macs": cost.macs,
        "bytes": disk_bytes(model.path) if model.path else model.proto.ByteSize(),
        "opset": analysis.trace.graph.opset,
        "sha256": digests(model.path) if model.path else {"model": model_digest(model)},
    }


def _measured(found: Measured, number: int) -> dict[str, Any]:
    """The statistics of a model's times."""
    own = found.times[:, number]
    return {
        "seconds": times_interval(own, found.batches),
        "percentiles": {label: quantile_interval(own, share) for label, share in PERCENTILES.items()},
        "slowest": float(own.max()),
        "covered": covered(len(own)),
        "ratio": found.ratio(number),
        "spread": spread(own),
        "times": _kept(own),
    }


def _kept(times: np.ndarray) -> tuple[float, ...]:
    return tuple(np.round(times, DIGITS).tolist())


def _told(own: Seen, first: Seen, engine: Runtime) -> dict[str, Any]:
    """What the runtime tells of a model, and what its outputs differ from the first one's by."""
    facts = own.facts
    places = {engine.provider, *engine.helpers} if isinstance(engine, Provider) else set(facts.placement)
    elsewhere = sum(count for name, count in facts.placement.items() if name not in places)
    return {
        "build": facts.build,
        "first": facts.first,
        "placement": dict(facts.placement),
        "fallback": elsewhere if facts.placement else None,
        "nodes": dict(facts.nodes),
        "cache": facts.cache,
        "apart": own.apart,
        "difference": _difference(first.outputs, own.outputs),
    }
