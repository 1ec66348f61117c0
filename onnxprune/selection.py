"""Which groups are up for pruning: one factor of every product, and the uncoupled ones on request."""

from __future__ import annotations

from typing import Literal

from onnxprune.analysis import Analysis
from onnxprune.groups import Group

Factor = Literal["auto", "outer", "inner", "all"]

RESIZERS = {"Resize", "Upsample"}


def primary_groups(analysis: Analysis, factor: Factor = "auto") -> list[Group]:
    """Groups to prune: of an axis that is a product of groups, those of one factor alone.

    `auto` takes channels inside of convolution groups (so that their number stays), and heads rather than their
    width (whose size enters the attention's scale).
    """
    left_out: set[str] = set()
    if factor != "all":
        for factors in analysis.shared_axes():
            taken = _taken(factors, factor, analysis.convolution_groups)
            left_out |= frozenset().union(*factors) - factors[taken]
    return [g for g in analysis.groups if g.name not in left_out]


def _taken(factors: list[frozenset[str]], factor: Factor, convolution_groups: frozenset[str]) -> int:
    if factor == "inner":
        return len(factors) - 1
    if factor == "auto" and any(f & convolution_groups for f in factors):
        inside = [k for k, f in enumerate(factors) if not f & convolution_groups]
        return inside[0] if inside else 0
    return 0


def uncoupled_groups(analysis: Analysis) -> set[str]:
    """Groups that a single convolution or matrix makes and that are not resized on their way."""
    resized: set[str] = set()
    for node in analysis.trace.graph.nodes:
        if node.op in RESIZERS:
            resized |= analysis.groups_on(node.inputs[0])
    return {g.name for g in analysis.groups if len(g.producers) == 1 and g.name not in resized}
