"""`verify`: the certificate that a pruned model is its masked original.

Three things are shown, each of which can fail:

1. the pruned file holds, bit for bit, what the mask says: the same graph with the kept slices of the same tensors;
2. run in onnxruntime without optimisations, its outputs equal those of the original whose removed channels are
   zeroed at their consumers, and whose dropped branches are multiplied by zero, on seeded random inputs;
3. the check itself is able to fail: outputs depend on the input, the mask changes them, and a reference with one
   wrong channel or branch is told apart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from onnxprune.analysis import Analysis, analyze
from onnxprune.branches import Branch, Dropped, bypassed
from onnxprune.compare import difference
from onnxprune.embedded import self_contained
from onnxprune.environment import check_runtime
from onnxprune.errors import ModelError, VerificationError
from onnxprune.execution import Outputs, observable, random_inputs, relative_difference, run
from onnxprune.graph import Graph, Model
from onnxprune.groups import Kept, keep_mask
from onnxprune.lazy import nonfinite_tensors
from onnxprune.mask import Mask, dropped_by, fit_mask
from onnxprune.slicing import slice_model
from onnxprune.surgery import masked_reference

TOLERANCE = {1: 1e-4, 10: 2e-2, 11: 1e-9, 16: 1e-1}
SEEDS = (0, 1)
ATTEMPTS = 32
BATCH = 3


@dataclass(frozen=True)
class Certificate:
    """What was shown of a pruned model.

    Attributes:
        exact: whether every check passed.
        same_graph: whether the file is the original's graph with the mask's slices; `first_difference` says where not.
        error: largest difference from the masked reference, relative to the output's range.
        tolerance: what is allowed (by the model's data type).
        mask_effect: largest difference between the original and the masked reference: what the mask changes.
        input_effect: largest difference between outputs for two inputs.
        corruption: largest difference made by a reference with one wrong channel, or branch; None where nothing is
            masked.
        seeds: of the random inputs.
        inner: tensors compared in place of outputs that are no floats.
        model, pruned, mask: SHA-256 hashes.
        approximate: what was let through that is not exact (nothing, at present).
    """

    exact: bool
    same_graph: bool
    first_difference: str
    error: float
    tolerance: float
    mask_effect: float
    input_effect: float
    corruption: float | None
    seeds: tuple[int, ...]
    model: str
    pruned: str
    mask: str
    runtime: str
    inner: tuple[str, ...] = ()
    approximate: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The certificate as plain data."""
        return asdict(self)

    def raise_for_failure(self) -> None:
        """Raise what failed.

        Raises:
            VerificationError: a check failed.
        """
        if self.exact:
            return
        if not self.same_graph:
            raise VerificationError(f"the pruned model is not what the mask says: {self.first_difference}", REMOVE)
        if self.error <= self.tolerance:
            raise VerificationError(
                f"the check could not have failed: another input changes the outputs by {self.input_effect:.2e} of "
                f"their range, the mask by {self.mask_effect:.2e}, one wrong channel or branch by {self.corruption}",
                "give sizes of symbolic dimensions at which the model works (--size NAME=N), or trained weights",
            )
        raise VerificationError(
            f"outputs differ from the masked original by {self.error:.2e} of their range "
            f"(allowed {self.tolerance:.0e}); mask effect {self.mask_effect:.2e}, inputs {self.input_effect:.2e}, "
            f"corrupted reference {self.corruption}",
            REMOVE,
        )


REMOVE = "do not use it; prune again from the original, and report this if it stays"


def verify(model: Model, pruned: Model, mask: Mask, *, analysis: Analysis | None = None) -> Certificate:
    """Compare a pruned model with its masked original.

    Raises:
        MaskError: the mask does not fit the model.
        ModelError: a model does not run.
    """
    analysis = analysis or analyze(model, fold=mask.fold)
    info = check_runtime()
    found = difference(slice_model(analysis, mask), pruned, computed=analysis.folded)
    tolerance = TOLERANCE.get(_float_kind(model), 1e-4)
    figures = _measure(analysis, pruned, mask, tolerance)
    able = mask.removes_nothing or _is_seen(figures["corruption"], figures["mask_effect"], tolerance)
    sound = figures["input_effect"] > tolerance and able
    return Certificate(
        exact=not found and figures["error"] <= tolerance and sound,
        same_graph=not found,
        first_difference=found,
        tolerance=tolerance,
        seeds=SEEDS,
        model=model_digest(model),
        pruned=model_digest(pruned),
        mask=mask.digest,
        runtime=str(info),
        **figures,
    )


def _is_seen(corruption: float, mask_effect: float, tolerance: float) -> bool:
    """A mask of dead channels or branches alone changes nothing; one wrong channel or branch must all the same."""
    return corruption > 0 and max(corruption, mask_effect) > tolerance


def _measure(analysis: Analysis, pruned: Model, mask: Mask, tolerance: float) -> dict[str, Any]:
    model, trace = analysis.original, analysis.trace
    kept, _ = fit_mask(analysis, mask)
    masking = Masking(kept, dropped_by(analysis, mask))
    inner = observable(trace)
    ahead = bypassed(trace.graph, masking.dropped)
    inner_after = tuple(ahead.get(name, name) for name in inner)
    feeds = [random_inputs(model, seed, analysis.sizes) for seed in SEEDS]
    dense = run(model, feeds, inner)
    _require_finite(dense, model)
    reference = model if mask.removes_nothing else masking.reference(analysis)
    masked = dense if mask.removes_nothing else run(reference, feeds, inner)
    small = run(pruned, feeds, inner_after)
    masked_more, small_more = _at_another_batch(analysis, (reference, inner), (pruned, inner_after))
    effect = max(relative_difference(a, b) for a, b in zip(dense, masked, strict=True))
    worst = None
    if not mask.removes_nothing:
        wrongs = (run(wrong, feeds[:1], inner)[0] for wrong in masking.wrong_references(analysis))
        worst = _corruption(masked[0], wrongs, lambda found: _is_seen(found, effect, tolerance))
    return {
        "error": max(relative_difference(a, b) for a, b in zip(masked + masked_more, small + small_more, strict=True)),
        "mask_effect": effect,
        "input_effect": relative_difference(dense[0], dense[1]),
        "corruption": worst,
        "inner": inner,
    }


@dataclass(frozen=True)
class Masking:
    """What a mask zeroes: channels where they are consumed, but for the kept ones, and dropped branches."""

    kept: Kept
    dropped: Dropped

    def reference(self, analysis: Analysis) -> Model:
        """The masked original."""
        return Model(masked_reference(analysis.original, analysis.trace, self.kept, None, self.dropped.branches))

    def wrong_references(self, analysis: Analysis) -> Iterator[Model]:
        """References with one thing wrong: a branch kept, a branch in whose place the rest of the sum is dropped, or a
        channel that is swapped with another one, at other places first."""
        trace, branches = analysis.trace, self.dropped.branches
        for wrong in _wrong_branches(branches):
            yield Model(masked_reference(analysis.original, trace, self.kept, None, wrong))
        alive = (c for c in reversed(trace.contractions) if c.node.index not in self.dropped.nodes)
        places = [c for c in alive if not keep_mask(c.form, self.kept).all()]
        for place, channel in ((place, channel) for channel in range(ATTEMPTS) for place in places):
            yield Model(masked_reference(analysis.original, trace, self.kept, (place, channel), branches))


def _wrong_branches(branches: tuple[Branch, ...]) -> Iterator[tuple[Branch, ...]]:
    for k, branch in islice(enumerate(branches), ATTEMPTS // 4):
        others = branches[:k] + branches[k + 1 :]
        yield others
        yield (*others, replace(branch, operand=1 - branch.operand))


def _corruption(masked: Outputs, wrongs: Iterable[Outputs], is_enough: Callable[[float], bool]) -> float:
    """The largest difference that a reference with one thing wrong makes, until one makes enough.

    Some channel or branch may really make no difference (a dead ReLU): others are tried.
    """
    worst = 0.0
    for wrong in islice(wrongs, ATTEMPTS):
        worst = max(worst, relative_difference(masked, wrong))
        if is_enough(worst):
            break
    return worst


Watched = tuple[Model, Sequence[str]]
"""A model, and the inner tensors to compare."""


def _at_another_batch(analysis: Analysis, reference: Watched, pruned: Watched) -> tuple[list[Outputs], list[Outputs]]:
    """Outputs of the masked reference and the pruned model for another batch size, where the inputs leave it open.

    What was read at one batch size must not have been written into the graph.
    """
    model = analysis.original
    dims = [v.type.tensor_type.shape.dim for v in Graph(model).inputs]
    names = {d[0].dim_param for d in dims if d and d[0].dim_param}
    if not names or reference[0] is model:
        return [], []
    feeds = [random_inputs(model, SEEDS[-1] + 1, {**analysis.sizes, **dict.fromkeys(names, BATCH)})]
    try:
        run(model, feeds)
    except ModelError:  # the original is made for one size only
        return [], []
    return run(reference[0], feeds, reference[1]), run(pruned[0], feeds, pruned[1])


def _require_finite(outputs: list[Outputs], model: Model) -> None:
    if all(np.isfinite(x).all() for out in outputs for x in out if x.dtype.kind == "f"):
        return
    names = nonfinite_tensors(model.proto, model.base)
    where = f"tensors {', '.join(map(repr, names[:3]))} hold NaN or infinity" if names else "by overflow"
    raise ModelError(f"the original's outputs are not finite: {where}", "export the model with finite weights")


def _float_kind(model: Model) -> int:
    kinds = [t.data_type for t in model.proto.graph.initializer if t.data_type in TOLERANCE]
    return max(set(kinds), key=kinds.count, default=1)


def model_digest(model: Model) -> str:
    """SHA-256 of a model as it would be serialized; of external tensors, of the references and the slices."""
    digest = hashlib.sha256(self_contained(model.proto, model.base).SerializeToString(deterministic=True))
    for name, part in sorted(model.arrays.items()):
        digest.update(f"{name}{[None if i is None else i.tolist() for i in part.index]}".encode())
    return digest.hexdigest()
