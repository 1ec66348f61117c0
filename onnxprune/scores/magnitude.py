"""Magnitude of the weights that make a unit: filters' norms (Li et al. 2017, arXiv 1608.08710) and |gamma| of BatchNorm
(Liu et al. 2017, arXiv 1708.06519).

The members of a coupled group are brought to mean 1 each and averaged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate

import numpy as np

from onnxprune.analysis import Analysis
from onnxprune.errors import UsageError
from onnxprune.forms import Form, resolve
from onnxprune.groups import Group, unit_index
from onnxprune.scores.sums import Power, Totals, axis_totals

Root = Callable[[np.ndarray], np.ndarray]
Places = Mapping[str, list[tuple[str, int]]]


def l1(analysis: Analysis, seed: int) -> dict[str, np.ndarray]:
    """Sum of absolute weights of the filters that make a unit."""
    return _scores(analysis, np.abs, lambda total: total)


def l2(analysis: Analysis, seed: int) -> dict[str, np.ndarray]:
    """Euclidean norm of the filters that make a unit."""
    return _scores(analysis, np.square, np.sqrt)


def batch_norm(analysis: Analysis, seed: int) -> dict[str, np.ndarray]:
    """Absolute BatchNorm scale of a unit; groups without a BatchNorm are scored by l1.

    Raises:
        UsageError: the model has no BatchNorm at all (exporters fold it into the convolution).
    """
    nodes = [n for n in analysis.trace.graph.nodes if n.op == "BatchNormalization"]
    scales = {n.inputs[1] for n in nodes}
    found = {g.name: [(m.tensor, m.axis) for m in g.members if m.tensor in scales] for g in analysis.groups}
    if not any(found.values()):
        raise UsageError(
            "--score bn: no prunable group has a BatchNormalization",
            "export with training=PRESERVE and without constant folding, or use --score l1",
        )
    plain = [g for g in analysis.groups if not found[g.name]]
    return _sum(analysis, found, np.abs, lambda total: total) | _scores(analysis, np.abs, lambda t: t, plain)


def _scores(
    analysis: Analysis,
    power: Power,
    root: Root,
    groups: Iterable[Group] | None = None,
) -> dict[str, np.ndarray]:
    wanted = analysis.groups if groups is None else groups
    return _sum(analysis, {g.name: _makers(analysis, g) for g in wanted}, power, root)


def _makers(analysis: Analysis, group: Group) -> list[tuple[str, int]]:
    """Stored weights that make the group; failing that, all that it lies on."""
    shapes = analysis.trace.graph.shapes
    made = [(m.tensor, m.axis) for m in group.members if m.makes and len(shapes[m.tensor]) > 1]
    return made or [(m.tensor, m.axis) for m in group.members]


def _sum(analysis: Analysis, members: Places, power: Power, root: Root) -> dict[str, np.ndarray]:
    """Scores by group from the tensors' axes that count for each: one pass over all units, not one per group."""
    axes_of: dict[str, set[int]] = {}
    for places in members.values():
        for tensor, axis in places:
            axes_of.setdefault(tensor, set()).add(axis)
    totals = axis_totals(analysis, axes_of, power)
    groups = [g for g in analysis.groups if g.name in members]
    parts = [(k, tensor, axis) for k, g in enumerate(groups) for tensor, axis in members[g.name]]
    sizes = np.array([g.size for g in groups], np.int64)
    owner = np.array([k for k, *_ in parts], np.int64)
    scores = _normal(root(_by_unit(analysis, groups, parts, totals)), sizes[owner])
    return dict(zip((g.name for g in groups), _mean(scores, owner, sizes), strict=True))


def _by_unit(analysis: Analysis, groups: list[Group], parts: list[tuple[int, str, int]], totals: Totals) -> np.ndarray:
    """Elements' totals added up by unit: for every part the units of its group, end to end."""
    if not parts:
        return np.zeros(0)
    elements = [totals[tensor][axis] for _, tensor, axis in parts]
    starts = _starts([groups[k].size for k, *_ in parts])
    # Nearly always the elements are the units; what differs is written over below.
    first = _starts([len(e) for e in elements])
    index = np.arange(first[-1]) + np.repeat(np.subtract(starts[:-1], first[:-1]), np.diff(first))
    for part, (k, tensor, axis) in enumerate(parts):
        form: Form = (analysis.trace.forms[tensor] or ())[axis]
        if len(groups[k].atoms) > 1 or resolve(form) is not groups[k].atoms[0]:
            own = unit_index(form, groups[k].first_units)
            index[first[part] : first[part + 1]] = np.where(own >= 0, own + starts[part], starts[-1])
    return np.bincount(index, np.concatenate(elements), minlength=starts[-1] + 1)[:-1]


def _starts(sizes: Iterable[int]) -> list[int]:
    return list(accumulate(sizes, initial=0))


def _normal(scores: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Parts of these sizes, each brought to mean 1."""
    if not len(sizes):
        return scores
    means = np.add.reduceat(scores, np.cumsum(sizes) - sizes) / sizes
    scores = np.where(np.repeat(means > 0, sizes), scores, 1.0)
    return scores / np.repeat(np.where(means > 0, means, 1.0), sizes)


def _mean(scores: np.ndarray, owner: np.ndarray, sizes: np.ndarray) -> Iterator[np.ndarray]:
    """For every group the mean of its parts, unit by unit; ones where it has no part."""
    starts = np.cumsum(sizes) - sizes
    widths = sizes[owner]
    unit = np.arange(len(scores)) + np.repeat(starts[owner] - (np.cumsum(widths) - widths), widths)
    times = np.repeat(np.bincount(owner, minlength=len(sizes)), sizes)
    total = np.bincount(unit, scores, minlength=len(times))
    means = np.where(times > 0, total, 1.0) / np.maximum(times, 1)
    return (means[start:stop] for start, stop in zip(starts.tolist(), (starts + sizes).tolist(), strict=True))
