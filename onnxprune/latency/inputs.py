"""What models are run on: random numbers, or the user's own, of sizes that are all known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from onnx import ValueInfoProto, helper

from onnxprune.errors import UsageError
from onnxprune.execution import Feeds, read_arrays
from onnxprune.graph import Graph, Model

ALL = "*"
"""Stands for every dimension that is not named otherwise."""
Shapes = Mapping[str, Sequence[int]]


def refuse_open(model: Model, sizes: Mapping[str, int]) -> None:
    """Refuse to guess the size of a dimension.

    Raises:
        UsageError: an input has dimensions of no size; it names them.
    """
    if ALL in sizes:
        return
    found = [f"{value.name}[{axis}] ({name or 'no name'})" for value, axis, name in _open(model) if name not in sizes]
    if found:
        raise UsageError(
            f"{model.path or 'the model'}: what is the size of {', '.join(found)}?",
            f"give --size {next((n for _, _, n in _open(model) if n and n not in sizes), ALL)}=N, --shape or --inputs",
        )


def sizes_of(model: Model, shapes: Shapes) -> dict[str, int]:
    """The sizes of symbolic dimensions for inputs of given shapes; `*` is for those without a name.

    Raises:
        UsageError: a shape does not fit the model, or one dimension would have two sizes.
    """
    known = {value.name: value for value in Graph(model).inputs}
    if unknown := [name for name in shapes if name not in known]:
        raise UsageError(
            f"{model.path or 'the model'} has no input {unknown[0]!r}; it has {', '.join(known) or 'none'}",
            "check the name",
        )
    found: dict[str, int] = {}
    for name, shape in shapes.items():
        _fit(known[name], shape)
        for _, axis, dimension in _open_of(known[name]):
            size, named = shape[axis], dimension or ALL
            if found.setdefault(named, size) != size:
                raise UsageError(
                    f"{name}[{axis}] ({dimension or 'no name'}) is {size}, and {found[named]} elsewhere",
                    "give a dimension one size; export the model with a name for each that differs",
                )
    return found


def read_inputs(path: Path) -> Feeds:
    """The arrays of an .npz file by name.

    Raises:
        UsageError: it cannot be read, or holds what is not an array of numbers.
    """
    try:
        return read_arrays(path)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path}: no inputs by name ({error})", "write it with numpy: np.savez('inputs.npz', x=array)"
        ) from error


def check_inputs(model: Model, feeds: Mapping[str, np.ndarray]) -> dict[str, int]:
    """The sizes of symbolic dimensions that given inputs have.

    Raises:
        UsageError: an input is missing or unknown, or has another shape or type than the model's.
    """
    for value in Graph(model).inputs:
        if value.name not in feeds:
            raise UsageError(
                f"the inputs lack {value.name!r}; there are {', '.join(feeds) or 'none'}", "add an array of this name"
            )
        kind = np.dtype(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
        if (got := feeds[value.name].dtype) != kind:
            raise UsageError(f"input {value.name!r} is {got}, expected {kind}", f"convert it: array.astype('{kind}')")
    return sizes_of(model, {name: array.shape for name, array in feeds.items()})


def _fit(value: ValueInfoProto, shape: Sequence[int]) -> None:
    expected = [d.dim_value or d.dim_param or "?" for d in value.type.tensor_type.shape.dim]
    fits = len(expected) == len(shape) and all(
        not isinstance(e, int) or e == size for e, size in zip(expected, shape, strict=False)
    )
    if not fits:
        raise UsageError(
            f"input {value.name!r}: shape {'x'.join(map(str, shape))} does not fit {'x'.join(map(str, expected))}",
            "give it the sizes that the model states",
        )


def _open(model: Model) -> Iterator[tuple[ValueInfoProto, int, str]]:
    """Dimensions of a model's inputs that state no size: the input, the axis and the name, empty for none."""
    for value in Graph(model).inputs:
        yield from _open_of(value)


def _open_of(value: ValueInfoProto) -> Iterator[tuple[ValueInfoProto, int, str]]:
    for axis, dimension in enumerate(value.type.tensor_type.shape.dim):
        if not dimension.dim_value:
            yield value, axis, dimension.dim_param
