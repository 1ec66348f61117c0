"""Which parameters and buffers the stored tensors of an export hold, found by name and value."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from onnxprune.torch.norms import Norm

TOLERANCE = 1e-3
"""Relative, for values that an exporter computed in single precision."""

Arrays = Mapping[str, np.ndarray]
Places = dict[str, tuple["Place", ...]]


class Place(NamedTuple):
    """Where the elements of a stored tensor lie in a module.

    Attributes:
        parameter: a parameter or buffer, named as in `state_dict`.
        axes: for every axis of it the axis of the stored tensor that it is; None for an axis of one element.
        same: whether the values are the same; a folded BatchNorm only takes part in them.
    """

    parameter: str
    axes: tuple[int | None, ...]
    same: bool = True


@dataclass(frozen=True)
class Fold:
    """A stored weight that is a parameter with a BatchNorm multiplied in.

    Attributes:
        parameter: the parameter's place.
        axis: that of the stored tensor along which it was multiplied.
        scale: what with, float `(size,)`; NaN where that cannot be told, because the parameter is 0.
    """

    parameter: Place
    axis: int
    scale: np.ndarray


def match(stored: Arrays, state: Arrays, norms: Iterable[Norm]) -> Places:
    """The places of stored tensors; those that were not found are left out.

    Args:
        stored: stored tensors in the graph's order.
        state: parameters and buffers in the module's order.
        norms: the module's BatchNorms, which exporters fold into the layers before them.
    """
    places = _equal(stored, state)
    rest = {name: array for name, array in stored.items() if name not in places}
    alike, waiting = defaultdict(list), list(norms)
    for name, array in state.items():
        alike[array.size].append((name, array))
    for name, array in rest.items():
        fold = next(_folds(array, alike[array.size]), None)
        if fold is None:
            continue
        places[name] = (fold.parameter,)
        if norm := _folded_norm(fold, waiting):
            # Last to be taken again: a layer that is used twice is folded twice.
            waiting.append(waiting.pop(waiting.index(norm)))
            places[name] += tuple(Place(tensor, (fold.axis,), False) for tensor in norm.tensors)
            own = fold.parameter.parameter.removesuffix("weight") + "bias"
            held = (*([own] if own in state else []), *norm.tensors)
            if bias := _folded_bias(rest, places, norm, state.get(own)):
                places[bias] = places.get(bias, ()) + tuple(Place(tensor, (0,), False) for tensor in held)
    return {name: held for name, held in places.items() if held}


def _equal(stored: Arrays, state: Arrays) -> Places:
    """Tensors with the values of a parameter, as it is, reshaped or transposed; without places if it may be several."""
    tensors, parameters = defaultdict(list), defaultdict(list)
    for name, array in stored.items():
        tensors[_key(array)].append(name)
    for name, array in state.items():
        for form, axes in _layouts(array):
            parameters[_key(form)].append((name, axes))
    places: Places = {}
    for key, names in tensors.items():
        for name, found in _paired(names, parameters[key]) if key in parameters else ():
            places[name] = tuple(Place(p, _laid(stored[name].shape, state[p].shape, axes)) for p, axes in found)
    return places


def _key(array: np.ndarray) -> Hashable:
    """Equal for arrays of equal values that differ by axes of one element alone."""
    values = np.ascontiguousarray(array)
    return tuple(n for n in array.shape if n != 1), values.dtype.str, hashlib.blake2b(values.data).digest()


def _layouts(array: np.ndarray) -> Iterator[tuple[np.ndarray, tuple[int, ...]]]:
    """An array as exporters store it, each with the array's own axis for every axis.

    A symmetric matrix is taken to be stored as it is.
    """
    yield array, tuple(range(array.ndim))
    if array.ndim == 2 and 1 not in array.shape and not (len({*array.shape}) == 1 and (array == array.T).all()):
        yield array.T, (1, 0)


def _paired(names: list[str], held: list[tuple]) -> Iterator[tuple[str, list[tuple]]]:
    """Tensors of equal values, each with the parameters of these values that it holds.

    A tensor has the parameter of its name; others are paired in order, but for one tensor that stands for many
    parameters, or one parameter that is stored many times. Where numbers differ, nothing is guessed.
    """
    own = {name: [entry] for name in names for entry in held if entry[0] == name}
    others = [name for name in names if name not in own]
    rest = [entry for entry in held if entry[0] not in own]
    if len(names) == 1:
        own = {names[0]: held}
    elif len(held) == 1:
        own = dict.fromkeys(names, held)
    elif len(rest) == len(others):
        own |= {name: [entry] for name, entry in zip(others, rest, strict=True)}
    elif len(others) == 1 and rest:
        own[others[0]] = rest
    yield from ((name, own.get(name, [])) for name in names)


def _laid(stored: tuple[int, ...], parameter: tuple[int, ...], own: tuple[int, ...]) -> tuple[int | None, ...]:
    """For every axis of a parameter the stored axis; both run in the order `own`, but for axes of one element."""
    wide = iter(axis for axis, size in enumerate(stored) if size != 1)
    places = {axis: next(wide) for axis in own if parameter[axis] != 1}
    return tuple(places.get(axis) for axis in range(len(parameter)))


def _folds(array: np.ndarray, state: Iterable[tuple[str, np.ndarray]]) -> Iterator[Fold]:
    """Parameters that a stored weight is, but for a factor for each element of one axis."""
    for name, parameter in state if array.ndim > 1 else ():
        for form, axes in _layouts(parameter):
            if form.shape != array.shape:
                continue
            for axis in (0, 1):
                # Most differ in the first slice already.
                if _scale(array.take([0], axis), form.take([0], axis), axis) is None:
                    continue
                scale = _scale(array, form, axis)
                if scale is not None and not np.isnan(scale).all():
                    yield Fold(Place(name, _laid(array.shape, parameter.shape, axes), False), axis, scale)


def _scale(array: np.ndarray, parameter: np.ndarray, axis: int) -> np.ndarray | None:
    """The factors along `axis` that make one array the other, NaN where any would; None if there are none."""
    if array.size == array.shape[axis]:
        return None  # of single elements any array is a multiple
    others = tuple(k for k in range(array.ndim) if k != axis)
    square = np.square(parameter, dtype=np.float64).sum(others)
    scale = (array.astype(np.float64) * parameter).sum(others) / np.where(square, square, 1)
    shape = [1] * array.ndim
    shape[axis] = -1
    return np.where(square, scale, np.nan) if _close(array, parameter * scale.reshape(shape)) else None


def _close(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.abs(a - b).max() <= TOLERANCE * max(np.abs(a).max(), 1e-30))


def _folded_norm(fold: Fold, norms: list[Norm]) -> Norm | None:
    known, scale = ~np.isnan(fold.scale), np.nan_to_num(fold.scale)
    return next((n for n in norms if n.size == len(scale) and _close(n.factor * known, scale)), None)


def _folded_bias(stored: Arrays, taken: Places, norm: Norm, bias: np.ndarray | None) -> str | None:
    """The stored vector that a layer's bias and its BatchNorm became; one that is not taken yet if there is any."""
    value = norm.shift + (0 if bias is None else bias * norm.factor)
    found = [name for name, array in stored.items() if array.shape == value.shape and _close(array, value)]
    return min(found, key=lambda name: name in taken, default=None)
