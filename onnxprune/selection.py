"""Which groups are up for pruning: one factor of every product, and what the published strategies leave out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from onnxprune.analysis import Analysis
from onnxprune.groups import Group

Factor = Literal["auto", "outer", "inner", "all"]
Combine = Literal["max", "mean"]

RESIZERS = {"Resize", "Upsample"}


def primary_groups(analysis: Analysis, factor: Factor = "auto") -> list[Group]:
    """Groups to prune: of an axis that is a product of groups, those of one factor alone.

    `auto` takes channels inside of convolution groups (so that their number stays), and heads rather than their
    width (whose size enters the attention's scale).
    """
    chosen: set[str] = set()
    left_out: set[str] = set()
    # From the graph's start on: a channel shuffle turns outer into inner, and a factor taken on one axis is taken on
    # the next.
    for factors in reversed(list(analysis.shared_axes())) if factor != "all" else ():
        again = next((f for f in factors if f & chosen), None)
        taken = again or _preferred([f for f in factors if not f & left_out] or factors, factor, analysis)
        chosen |= taken
        left_out |= frozenset().union(*factors) - chosen
    return [g for g in analysis.groups if g.name not in left_out]


def _preferred(factors: list[frozenset[str]], factor: Factor, analysis: Analysis) -> frozenset[str]:
    if factor == "inner":
        return factors[-1]
    inside = [f for f in factors if f - analysis.convolution_groups]
    return inside[0] if factor == "auto" and inside else factors[0]


def uncoupled_groups(analysis: Analysis) -> set[str]:
    """Groups that a single convolution or matrix makes and that are not resized on their way."""
    resized: set[str] = set()
    for node in analysis.trace.graph.nodes:
        if node.op in RESIZERS:
            resized |= analysis.groups_on(node.inputs[0])
    return {g.name for g in analysis.groups if len(g.producers) == 1 and g.name not in resized}


@dataclass(frozen=True)
class Strategy:
    """What is pruned by learnt scales, and how a unit of several ones is judged.

    Attributes:
        uncoupled_only: leave out groups that a sum, or an upsampling, binds.
        combine: a unit of several scales has the largest of them (it stays if any layer wants it to: the union of
            SlimYOLOv3), or their mean.
        round_to: kept units are a multiple of this.
        branches: whole residual branches are dropped instead, by the mean of the scales that end them (see
            `torch.ends`); groups only say which scales are pulled.
    """

    uncoupled_only: bool = False
    combine: Combine = "max"
    round_to: int = 1
    branches: bool = False

    def groups(self, analysis: Analysis) -> set[str]:
        """Names of the groups that are pruned."""
        names = {group.name for group in primary_groups(analysis)}
        return names & uncoupled_groups(analysis) if self.uncoupled_only else names


STRATEGIES: dict[str, Strategy] = {
    "uncoupled": Strategy(uncoupled_only=True),
    "regular": Strategy(uncoupled_only=True, round_to=8),
    "shortcut": Strategy(combine="mean"),
    "slim": Strategy(),
    "layer": Strategy(branches=True),
}
"""Those of the published YOLOv3 pruners. Coupled channels go together in all of them; `layer` drops no channels."""
