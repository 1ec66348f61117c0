"""Magnitude of the weights that make a unit: filters' norms (Li et al. 2017, arXiv 1608.08710) and |gamma| of BatchNorm
(Liu et al. 2017, arXiv 1708.06519).

The members of a coupled group are brought to mean 1 each and averaged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from onnxprune.analysis import Analysis
from onnxprune.errors import ModelError, UsageError
from onnxprune.forms import Form
from onnxprune.groups import Group, unit_index
from onnxprune.lazy import LazySlice

# Rows of large tensors are read in blocks of about this many bytes.
BLOCK = 16 << 20
FLOATS = {1, 10, 11, 16}

Pending = dict[str, list[tuple[Group, int]]]


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
    power: Callable[..., np.ndarray],
    root: Callable[[np.ndarray], np.ndarray],
    groups: Iterable[Group] | None = None,
) -> dict[str, np.ndarray]:
    return _sum(analysis, {g.name: _makers(analysis, g) for g in groups or analysis.groups}, power, root)


def _makers(analysis: Analysis, group: Group) -> list[tuple[str, int]]:
    """Stored weights that make the group; failing that, all that it lies on."""
    stored = analysis.trace.graph.stored
    made = [(m.tensor, m.axis) for m in group.members if m.makes and len(stored[m.tensor].dims) > 1]
    return made or [(m.tensor, m.axis) for m in group.members]


def _sum(
    analysis: Analysis,
    members: dict[str, list[tuple[str, int]]],
    power: Callable[..., np.ndarray],
    root: Callable[[np.ndarray], np.ndarray],
) -> dict[str, np.ndarray]:
    groups = {g.name: g for g in analysis.groups}
    pending: dict[str, set[int]] = {}
    for axes in members.values():
        for tensor, axis in axes:
            pending.setdefault(tensor, set()).add(axis)
    totals = {name: axis_totals(analysis, name, sorted(axes), power) for name, axes in pending.items()}
    out = {}
    for name, axes in members.items():
        parts = [_normal(root(_by_unit(analysis, groups[name], t, a, totals[t][a]))) for t, a in axes]
        out[name] = np.mean(parts, axis=0) if parts else np.ones(groups[name].size)
    return out


def _by_unit(analysis: Analysis, group: Group, tensor: str, axis: int, elements: np.ndarray) -> np.ndarray:
    form: Form = (analysis.trace.forms[tensor] or ())[axis]
    index = unit_index(form, group.first_units)
    inside = index >= 0
    return np.bincount(index[inside], elements[inside], minlength=group.size)


def _normal(scores: np.ndarray) -> np.ndarray:
    mean = scores.mean()
    return scores / mean if mean > 0 else np.ones_like(scores)


def axis_totals(
    analysis: Analysis, name: str, axes: list[int], power: Callable[..., np.ndarray]
) -> dict[int, np.ndarray]:
    """Sums of `power(weights)` over all but one axis, for each of `axes`: float arrays of the axis' size.

    Raises:
        ModelError: the tensor holds NaN or infinity.
    """
    tensor = analysis.trace.graph.stored[name]
    totals = {axis: np.zeros(tensor.dims[axis]) for axis in axes}
    for start, block in row_blocks(analysis, name):
        # Squares and sums of half precision overflow.
        size = power(block if block.dtype in (np.float32, np.float64) else block.astype(np.float32))
        for axis in axes:
            part = _sum_over(size, axis)
            if axis == 0:
                totals[0][start : start + len(part)] = part
            else:
                totals[axis] += part
    for total in totals.values():
        if not np.isfinite(total).all():
            raise ModelError(f"tensor {name!r} holds NaN or infinity", "export the model with finite weights")
    return totals


def _sum_over(array: np.ndarray, axis: int) -> np.ndarray:
    """Sums over all axes but one, as products with ones, which run at memory speed."""
    before = int(np.prod(array.shape[:axis]))
    cube = np.ascontiguousarray(array).reshape(before, array.shape[axis], -1)
    if cube.shape[2] == 1:
        return (np.ones(before, cube.dtype) @ cube[:, :, 0]).astype(np.float64)
    ones = np.ones(cube.shape[2], cube.dtype)
    return (cube.reshape(-1, cube.shape[2]) @ ones).reshape(before, -1).sum(axis=0, dtype=np.float64)


def row_blocks(analysis: Analysis, name: str) -> Iterator[tuple[int, np.ndarray]]:
    """A stored tensor in blocks of rows, each with the number of its first row; large files are not mapped."""
    tensor = analysis.trace.graph.stored[name]
    rows = tensor.dims[0]
    row_bytes = 4 * int(np.prod(tensor.dims[1:], dtype=np.int64))
    if rows * row_bytes <= BLOCK or not tensor.external_data:
        yield 0, LazySlice(tensor, analysis.model.base).array()
        return
    step = max(1, BLOCK // row_bytes)
    for start in range(0, rows, step):
        index = np.arange(start, min(rows, start + step))
        yield start, LazySlice(tensor, analysis.model.base, (index,)).array()
