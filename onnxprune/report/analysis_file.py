"""`analysis.json`: everything that `analyze` finds, for programs. The fields are described in docs/files.md."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from onnxprune.analysis import Analysis
from onnxprune.cost import Cost
from onnxprune.groups import Group
from onnxprune.report.data import reason_for

FORMAT, VERSION = "onnxprune-analysis", 1


def analysis_document(analysis: Analysis) -> dict[str, Any]:
    """The file's content."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "fingerprint": analysis.fingerprint,
        "model": _model(analysis),
        "sizes": dict(analysis.sizes),
        "cost": asdict(analysis.cost),
        "least": _with_shares(least_cost(analysis), analysis.cost),
        "groups": [_group(analysis, group) for group in analysis.groups],
        "branches": list(_branches(analysis)),
        "products": [{"factors": factors} for factors in shared_axes(analysis)],
        "frozen": list(_frozen(analysis)),
    }


def least_cost(analysis: Analysis) -> Cost:
    """What is left when every group keeps one unit: the floor of any pruning."""
    first = {group.atoms[0] for group in analysis.groups}
    return analysis.costs.cost({atom: int(atom in first) for atom in analysis.owner})


def shared_axes(analysis: Analysis) -> list[list[list[str]]]:
    """Distinct axes that are products of groups: for each factor, outermost first, the names of its groups."""
    order = {group.name: k for k, group in enumerate(analysis.groups)}
    named = (tuple(tuple(sorted(factor, key=order.__getitem__)) for factor in axis) for axis in analysis.shared_axes())
    distinct = sorted(dict.fromkeys(named), key=lambda axis: [[order[name] for name in factor] for factor in axis])
    return [[list(factor) for factor in axis] for axis in distinct]


def _model(analysis: Analysis) -> dict[str, Any]:
    model, graph = analysis.model, analysis.trace.graph
    return {"file": model.path.name if model.path else "", "opset": graph.opset, "nodes": len(graph.nodes)}


def _with_shares(cost: Cost, whole: Cost) -> dict[str, Any]:
    shares = cost.share_of(whole)
    return asdict(cost) | {f"{name}_share": round(share, 6) for name, share in shares.items()}


def _group(analysis: Analysis, group: Group) -> dict[str, Any]:
    return {
        "name": group.name,
        "size": group.size,
        "unit": asdict(analysis.unit_cost(group)),
        "removable": _with_shares(analysis.removable(group), analysis.cost),
        "members": [member._asdict() for member in group.members],
        "producers": list(group.producers),
        "consumers": list(group.consumers),
    }


def _branches(analysis: Analysis) -> Iterator[dict[str, Any]]:
    for branch in analysis.branches:
        add = analysis.trace.graph.nodes_by_index[branch.node]
        saved = _with_shares(analysis.branch_cost(branch), analysis.cost)
        yield {"name": branch.name, "node": add.label, "removable": saved}


def _frozen(analysis: Analysis) -> Iterator[dict[str, Any]]:
    for axis in analysis.frozen:
        reason = reason_for(analysis, axis)
        place = {"tensor": axis.tensor, "axis": axis.axis, "size": axis.size}
        yield {**place, "op": reason.op, "node": reason.node, "reason": reason.text}
