"""Timing as verbs do it: every plan in a process of its own, with a bar."""

from __future__ import annotations

from collections.abc import Sequence

from onnxprune.cli.output import Output
from onnxprune.cli.work import refuse_unknown_sizes
from onnxprune.graph import Model
from onnxprune.latency import Plan
from onnxprune.latency.sweep import Part, sweep


def timed(
    models: Sequence[Model], plans: Sequence[Plan], out: Output, *, memory: bool, layers: bool = False
) -> tuple[Part, ...]:
    """What came of every plan; of several some may have failed.

    Raises:
        OnnxPruneError: the only one failed.
        UsageError: a size is for a dimension that a model does not have, or one has no size.
    """
    for model in models:
        for plan in plans:
            refuse_unknown_sizes(model, plan.sizes)
    with out.bar("timing") as progress:
        parts = sweep(models, plans, progress, memory=memory, layers=layers)
    if len(parts) == 1 and parts[0].error is not None:
        raise parts[0].error
    return parts
