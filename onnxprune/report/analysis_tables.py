"""The tables of an analysis: what can be removed, and why the rest cannot."""

from __future__ import annotations

from onnxprune.analysis import Analysis
from onnxprune.report.analysis_file import shared_axes
from onnxprune.report.cells import Table, number, table, text
from onnxprune.report.data import reason_for


def groups_table(analysis: Analysis) -> Table:
    """The groups of a model and what they weigh."""
    rows = []
    for group in analysis.groups:
        share = analysis.removable(group).share_of(analysis.cost)
        nodes = f"{len(group.producers)} → {len(group.consumers)}"
        row = (f"{group.size}", f"{share['params']:.1%}", f"{share['macs']:.1%}", f"{len(group.members)}", nodes)
        rows.append((group.name, *row))
    removable = (number("removable params"), number("removable MACs"))
    columns = [text("group"), number("units"), *removable, number("tensors"), text("nodes")]
    note = "Removable: what goes with all units but one, all else whole. Nodes: those that make → that consume it."
    return table("Groups", columns, rows, note)


def members_table(analysis: Analysis) -> Table:
    """The stored axes that every group lies on."""
    rows = [
        (g.name, f"{m.tensor}[{m.axis}]", f"{m.size}", f"{m.multiplicity}", "makes" if m.makes else "")
        for g in analysis.groups
        for m in g.members
    ]
    columns = [text("group"), text("tensor[axis]"), number("elements"), number("per unit"), text("role")]
    return table("Members", columns, rows)


def branches_table(analysis: Analysis) -> Table:
    """Residual branches that can be dropped whole, and what goes with them."""
    rows = []
    for branch in analysis.branches:
        share = analysis.branch_cost(branch).share_of(analysis.cost)
        label = analysis.trace.graph.nodes_by_index[branch.node].label
        rows.append((branch.name, f"{share['params']:.1%}", f"{share['macs']:.1%}", label))
    columns = [text("branch"), number("removable params"), number("removable MACs"), text("sum")]
    note = "Each is the f of a sum x + f(x), called as its last layer; a mask may drop it whole, and x goes on alone."
    return table("Residual branches", columns, rows, note)


def products_table(analysis: Analysis) -> Table:
    """Axes that are products of groups."""
    inner: dict[str, list[str]] = {}
    for outer, *rest in (["+".join(factor) for factor in axis] for axis in shared_axes(analysis)):
        inner.setdefault(outer, []).append(" x ".join(rest))
    rows = [(outer, ", ".join(products)) for outer, products in inner.items()]
    note = "Only one factor of an axis is pruned, unless --factor says otherwise."
    return table("Axes that are products of groups", [text("outer factor"), text("times each of")], rows, note)


def frozen_axes_table(analysis: Analysis) -> Table:
    """Every frozen axis, and who froze it."""
    rows = []
    for axis in analysis.frozen:
        reason = reason_for(analysis, axis)
        rows.append((f"{axis.tensor}[{axis.axis}]", f"{axis.size}", str(reason)))
    return table("Every frozen axis", [text("tensor[axis]"), number("elements"), text("reason")], rows)
