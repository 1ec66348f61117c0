"""What verbs do alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from onnxprune import api
from onnxprune.analysis import Analysis
from onnxprune.budget import candidates
from onnxprune.cli.options import Clock, Selection
from onnxprune.cli.output import Output
from onnxprune.environment import check_runtime
from onnxprune.errors import ModelError, UsageError
from onnxprune.graph import Graph, Model
from onnxprune.latency.target import choose_within
from onnxprune.lazy import LazySlice, nonfinite_tensors
from onnxprune.mask import Mask
from onnxprune.report import Report
from onnxprune.tensors import stored_tensors
from onnxprune.verify import Certificate

Step = Callable[[str], None]


def load(path: Path, sizes: Mapping[str, int]) -> Model:
    """A model whose weights are numbers.

    Raises:
        ModelError: it cannot be read, or a tensor holds NaN.
        UsageError: a size is for a dimension that it does not have.
    """
    model = api.load(path)
    refuse_unknown_sizes(model, sizes)
    broken = [name for name in nonfinite_tensors(model.proto, model.base) if _has_nan(model, name)]
    if broken:
        more = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
        raise ModelError(f"{path}: tensor {broken[0]!r}{more} holds NaN", "export the model with finite weights")
    return model


def _has_nan(model: Model, name: str) -> bool:
    """Whether it is NaN that is not finite in a tensor: infinity is a fair constant, in attention masks for one."""
    tensors = (tensor for key, tensor in stored_tensors(model.proto) if key == name)
    return any(np.isnan(LazySlice(tensor, model.base).array()).any() for tensor in tensors)


def refuse_unknown_sizes(model: Model, sizes: Mapping[str, int]) -> None:
    """Refuse sizes of dimensions that no input has.

    Raises:
        UsageError: there is one.
    """
    known = {d.dim_param for v in Graph(model).inputs for d in v.type.tensor_type.shape.dim if d.dim_param}
    if unknown := sorted(sizes.keys() - known - {"*"}):
        listed = ", ".join(sorted(known)) or "none"
        raise UsageError(f"--size {unknown[0]}: no input has this dimension; symbolic ones: {listed}", "check its name")


def choose(analysis: Analysis, selection: Selection, clock: Clock, out: Output) -> tuple[Mask, dict[str, Any]]:
    """What goes, and what was measured for it, as plain data.

    Raises:
        UsageError: an option makes no sense, or no structure meets the target.
    """
    limit = selection.latency
    if limit is None:
        shares = {"keep": selection.keep, "target": selection.others or None}
        return api.choose(analysis, **shares, **selection.options()), {}  # type: ignore[arg-type]
    latency, found = clock.latency(analysis), candidates(analysis, **selection.options())
    with out.stages() as told:
        share = share_of(limit, latency.run()) if isinstance(limit, timedelta) else limit
        kept = choose_within(latency, share, found, selection.others, told)
    return kept.mask, {"latency": kept.to_json()}


def share_of(limit: timedelta, whole: float) -> float:
    """What a time is of the whole network's, in seconds.

    Raises:
        UsageError: the whole network takes no longer.
    """
    seconds = limit.total_seconds()
    if seconds > whole:
        raise UsageError(
            f"--target latency={1e3 * seconds:.4g}ms: the whole network takes {1e3 * whole:.4g}ms as it is",
            "nothing has to go; ask for less",
        )
    return seconds / whole


def latency_words(found: Mapping[str, Any]) -> list[str]:
    """How a promise about time was kept, if one was given, in words."""
    if not found:
        return []
    found = found["latency"]
    ratio = found["ratio"]
    return [
        f"latency: {ratio['median']:.3f} of the whole network's ({ratio['low']:.3f} to {ratio['high']:.3f}, measured; "
        f"{found['predicted']:.3f} predicted), at most {found['asked']:.3f} asked for"
    ]


def prune(analysis: Analysis, mask: Mask, verified: bool, step: Step) -> tuple[Model, Certificate | None]:
    """The pruned model and, unless it is not wanted, its certificate.

    Raises:
        MaskError: the mask does not fit the model.
        VerificationError: the pruned model is not the masked original.
    """
    step("removing channels")
    pruned = api.apply(analysis.original, mask, verify=False, analysis=analysis)
    if not verified:
        return pruned, None
    step("verifying")
    certificate = api.verify(analysis.original, pruned, mask, analysis=analysis)
    certificate.raise_for_failure()
    return pruned, certificate


def require_runtime(verified: bool) -> None:
    """Refuse early what could not be verified at the end.

    Raises:
        UsageError: onnxruntime is missing, or two of its wheels are installed.
    """
    if verified:
        check_runtime()


def note_what_stays(report: Report, out: Output) -> None:
    """Say so where nothing is removed: a result that looks like success but is the same model."""
    if report.branches:
        return
    if not report.widths:
        out.note("nothing can be removed from this model; `onnxprune analyze` says why")
    elif not report.pruned_groups:
        out.note("nothing is removed: every group keeps all of its units")
