"""Sums of weights over all but one axis: large tensors block by block, small ones by the hundred."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import prod

import numpy as np

from onnxprune.analysis import Analysis
from onnxprune.errors import ModelError
from onnxprune.external import is_external
from onnxprune.lazy import row_blocks
from onnxprune.tensors import stacked

# Tensors of at most this many elements are summed together with others of their shape, so many elements at a time.
_SMALL = 1 << 14
_AT_ONCE = 1 << 18

Power = Callable[..., np.ndarray]
Totals = dict[str, dict[int, np.ndarray]]


def axis_totals(analysis: Analysis, axes_of: Mapping[str, Iterable[int]], power: Power) -> Totals:
    """Sums of `power(weights)` over all but one axis, by tensor and each of its `axes_of`: floats of the axis' size.

    Raises:
        ModelError: a tensor holds NaN or infinity.
    """
    totals: Totals = {}
    graph = analysis.trace.graph
    alike: dict[tuple[int, tuple[int, ...], tuple[int, ...]], list[str]] = {}
    for name, axes in axes_of.items():
        tensor, dims = graph.stored[name], graph.shapes[name]
        if prod(dims) > _SMALL or is_external(tensor):
            totals[name] = _of_large(analysis, name, sorted(axes), power)
        else:
            alike.setdefault((tensor.data_type, dims, tuple(sorted(axes))), []).append(name)
    for (_, dims, axes), names in alike.items():
        step = max(1, _AT_ONCE // max(1, prod(dims)))
        for start in range(0, len(names), step):
            totals |= _of_small(analysis, names[start : start + step], axes, power)
    return totals


def _of_small(analysis: Analysis, names: list[str], axes: tuple[int, ...], power: Power) -> Totals:
    """Totals of tensors of one type and shape."""
    stored = analysis.trace.graph.stored
    stack = power(_wide(stacked([stored[name] for name in names], analysis.model.base)))
    sums = [_sum_over(stack, axis) for axis in axes]
    for total in sums:
        _check(names, total)
    return {name: dict(zip(axes, rows, strict=True)) for name, *rows in zip(names, *sums, strict=True)}


def _of_large(analysis: Analysis, name: str, axes: list[int], power: Power) -> dict[int, np.ndarray]:
    tensor = analysis.trace.graph.stored[name]
    totals = {axis: np.zeros(tensor.dims[axis]) for axis in axes}
    scratch: np.ndarray | None = None
    for start, rows in row_blocks(tensor, analysis.model.base):
        block = _wide(rows)
        scratch = np.empty(block.shape, block.dtype) if scratch is None else scratch
        size = power(block, out=scratch[: len(block)])[None]
        for axis in axes:
            part = _sum_over(size, axis)[0]
            if axis == 0:
                totals[0][start : start + len(part)] = part
            else:
                totals[axis] += part
    for total in totals.values():
        _check([name], total[None])
    return totals


def _wide(array: np.ndarray) -> np.ndarray:
    # Squares and sums of half precision overflow.
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)


def _check(names: list[str], totals: np.ndarray) -> None:
    finite = np.isfinite(totals).all(axis=1)
    if not finite.all():
        name = names[int(np.argmin(finite))]
        raise ModelError(f"tensor {name!r} holds NaN or infinity", "export the model with finite weights")


def _sum_over(stack: np.ndarray, axis: int) -> np.ndarray:
    """Sums over all axes but one, for every array of a stack: products with ones, which run at memory speed."""
    dims = stack.shape[1:]
    before, after = prod(dims[:axis]), prod(dims[axis + 1 :])
    cube = stack.reshape(len(stack), before, dims[axis], after)
    if after == 1:
        return (np.ones(before, cube.dtype) @ cube[..., 0]).astype(np.float64)
    rows = cube.reshape(-1, after) @ np.ones(after, cube.dtype)
    return rows.reshape(cube.shape[:3]).sum(axis=1, dtype=np.float64)
