"""The facts of one pruning, as plain frozen data: whatever shows them reads them here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from onnxprune.analysis import Analysis
from onnxprune.environment import describe
from onnxprune.forms import reason_of
from onnxprune.groups import FrozenAxis
from onnxprune.latency import Comparison
from onnxprune.latency.disk import disk_bytes
from onnxprune.mask import Mask, dropped_by, masked_cost
from onnxprune.trace import Reason
from onnxprune.verify import Certificate

FORMAT, VERSION = "onnxprune-report", 1


@dataclass(frozen=True)
class Figures:
    """What a model costs.

    Attributes:
        params: elements of its floating-point tensors.
        macs: multiply-accumulates of one run.
        bytes: on the disk, data files included; None where it is not on the disk.
    """

    params: int
    macs: int
    bytes: int | None = None


@dataclass(frozen=True)
class Width:
    """How many units of a group there were and stay."""

    group: str
    size: int
    kept: int


@dataclass(frozen=True)
class FrozenReason:
    """Axes that are frozen for the same reason.

    Attributes:
        op: the operator that froze them, empty where none did.
        reason: in words.
        axes: how many stored axes.
        example: one of the nodes (or tensors) that froze them.
    """

    op: str
    reason: str
    axes: int
    example: str


@dataclass(frozen=True)
class Accuracy:
    """A quality that was measured on the same samples before and after, such as top-1 accuracy in [0, 1]."""

    name: str
    before: float
    after: float
    samples: int


@dataclass(frozen=True)
class Report:
    """One pruning.

    Attributes:
        model, output: file names of the original and of what was written.
        before, after: their costs.
        widths: of all groups, in the graph's order; those that go with a dropped branch keep nothing.
        frozen: why the other axes stay, the most frequent reason first.
        method: how the mask was made.
        certificate: None where nothing was verified.
        accuracy, timing: where they were measured.
        environment: versions and hardware.
        branches: names of the residual branches that are dropped whole.
    """

    model: str
    output: str
    before: Figures
    after: Figures
    widths: tuple[Width, ...]
    frozen: tuple[FrozenReason, ...]
    method: Mapping[str, Any]
    certificate: Certificate | None = None
    accuracy: Accuracy | None = None
    timing: Comparison | None = None
    environment: Mapping[str, str | int] = field(default_factory=describe)
    branches: tuple[str, ...] = ()

    @property
    def pruned_groups(self) -> int:
        """Groups that lose something."""
        return sum(w.kept < w.size for w in self.widths)

    @property
    def title(self) -> str:
        """What became what."""
        return f"{self.model} → {self.output}" if self.output else self.model

    @property
    def verdict(self) -> str:
        """What the certificate says, in a sentence."""
        if self.certificate is None:
            return "Not verified."
        if not self.certificate.exact:
            return "NOT exact: the pruned model is not the masked original."
        also = " and the dropped branches" if self.branches else ""
        return (
            f"Exact: the pruned model computes what the original computes with the removed channels' consumers{also} "
            f"zeroed (largest error {self.certificate.error:.1e} of the output's range)."
        )

    def to_json(self) -> dict[str, Any]:
        """The report as plain data."""
        content = asdict(self) | {"timing": self.timing.to_json() if self.timing else None}
        return {"format": FORMAT, "version": VERSION, **content}


def report_on(
    analysis: Analysis, mask: Mask, output: Path | None = None, certificate: Certificate | None = None
) -> Report:
    """The report of a mask that was made, or of the pruned model that was saved to `output`.

    Raises:
        MaskError: the mask does not fit the model.
    """
    source = analysis.model.path
    return Report(
        model=source.name if source else "model",
        output=output.name if output else "",
        before=Figures(analysis.cost.params, analysis.cost.macs, disk_bytes(source) if source and output else None),
        after=figures_after(analysis, mask, disk_bytes(output) if output else None),
        widths=widths(analysis, mask),
        frozen=frozen_reasons(analysis),
        method=mask.provenance,
        certificate=certificate,
        branches=mask.branches,
    )


def widths(analysis: Analysis, mask: Mask) -> tuple[Width, ...]:
    """Sizes and kept units of all groups under a mask, by the analysis's names.

    Raises:
        MaskError: it drops a branch that the model does not have.
    """
    gone = dropped_by(analysis, mask).tensors
    lost = {g.name for g in analysis.groups if g.members and all(m.tensor in gone for m in g.members)}
    pairs = zip(analysis.groups, mask.groups, strict=True)
    return tuple(Width(g.name, g.size, 0 if g.name in lost else int(entry.kept.sum())) for g, entry in pairs)


def figures_after(analysis: Analysis, mask: Mask, file_bytes: int | None = None) -> Figures:
    """What the model costs under a mask; it need not have been applied.

    Raises:
        MaskError: the mask does not fit the model.
    """
    cost = masked_cost(analysis, mask)
    return Figures(cost.params, cost.macs, file_bytes)


def reason_for(analysis: Analysis, axis: FrozenAxis) -> Reason:
    """Why a stored axis is frozen, with the operator and the node apart."""
    forms = analysis.trace.forms.get(axis.tensor) or ()
    found = reason_of(forms[axis.axis])
    return found if isinstance(found, Reason) else Reason("", axis.tensor, axis.reason)


def frozen_reasons(analysis: Analysis) -> tuple[FrozenReason, ...]:
    """The frozen axes of a model by reason, the most frequent first."""
    places: dict[tuple[str, str], list[str]] = {}
    for axis in analysis.frozen:
        reason = reason_for(analysis, axis)
        places.setdefault((reason.op, reason.text), []).append(reason.node)
    rows = [FrozenReason(op, text, len(nodes), nodes[0]) for (op, text), nodes in places.items()]
    return tuple(sorted(rows, key=lambda row: -row.axes))
