"""The widths of a model's channel groups in pruned forms of it, read off their weights: no mask is needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onnxprune.analysis import Analysis
from onnxprune.graph import Model
from onnxprune.groups import Group, Member


@dataclass(frozen=True)
class GroupWidths:
    """Units of a channel group of the first model, and how many of them other models have.

    Attributes:
        group: its name.
        size: units in the first model.
        kept: by the other models' names; None where they have no tensors of these names, or such as do not fit.
    """

    group: str
    size: int
    kept: Mapping[str, int | None]


def group_widths(first: Analysis, others: Mapping[str, Model]) -> tuple[GroupWidths, ...]:
    """The widths of a model's groups in others, by name, read off tensors of the same names.

    Pruning keeps names, so that this needs no mask. Nothing, if no other model is a pruned form of the first.
    """
    owners = Counter((member.tensor, member.axis) for group in first.groups for member in group.members)
    dims = {name: _sizes(model) for name, model in others.items()}
    found = []
    for group in first.groups:
        # Of an axis that several groups make (heads x head width) its size does not tell how many each has left.
        own = [m for m in group.members if owners[m.tensor, m.axis] == 1 and m.size == m.multiplicity * group.size]
        kept = {name: _kept(group, own, sizes) for name, sizes in dims.items()}
        found.append(GroupWidths(group.name, group.size, kept))
    known = any(kept is not None for width in found for kept in width.kept.values())
    return tuple(found) if known else ()


def _sizes(model: Model) -> dict[str, tuple[int, ...]]:
    return {tensor.name: tuple(tensor.dims) for tensor in model.proto.graph.initializer}


def _kept(group: Group, members: Sequence[Member], sizes: Mapping[str, tuple[int, ...]]) -> int | None:
    """Units that are left, if all tensors say the same."""
    present = [m for m in members if len(sizes.get(m.tensor, ())) > m.axis]
    counts = {divmod(sizes[m.tensor][m.axis], m.multiplicity) for m in present}
    count, rest = counts.pop() if len(counts) == 1 else (0, 1)
    return count if not rest and count <= group.size else None
