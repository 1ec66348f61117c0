"""A module's values in the place of those that an export of it stores."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from onnx import ModelProto, helper, numpy_helper
from torch import Tensor

from onnxprune.errors import ModelError
from onnxprune.graph import Model
from onnxprune.tensors import stored_tensors
from onnxprune.torch.exporting import EXPORTERS
from onnxprune.torch.matching import Place

KEEPING = "bind with mode=" + " or ".join(repr(mode) for mode, exporter in EXPORTERS.items() if exporter.keeps_names)
"""What helps where an export changes values."""


def with_values(model: Model, places: Mapping[str, tuple[Place, ...]], own: Mapping[str, Tensor]) -> Model:
    """The export with other values of parameters and buffers.

    Args:
        model: an export that keeps parameters as they are; it is not changed.
        places: what its stored tensors hold.
        own: the values, by name.

    Raises:
        ModelError: it holds several parameters as one tensor that are not equal any more, or a shape is another one.
    """
    proto = ModelProto()
    proto.CopyFrom(model.proto)
    for name, tensor in stored_tensors(proto):
        if held := places.get(name):
            kind = helper.tensor_dtype_to_np_dtype(tensor.data_type)
            value = _value(own, held, name, tuple(tensor.dims))
            tensor.CopyFrom(numpy_helper.from_array(value.astype(kind), tensor.name))
    return Model(proto)


def _value(own: Mapping[str, Tensor], held: tuple[Place, ...], name: str, dims: tuple[int, ...]) -> np.ndarray:
    """The values of the parameters in a stored tensor, which holds one, or several equal ones."""
    values = [_laid(own, place, name, dims) for place in held]
    for place, value in zip(held, values, strict=True):
        if not place.same or not torch.equal(value, values[0]):
            raise ModelError(
                f"the export holds {place.parameter!r} with other values, in {name!r}",
                f"{KEEPING}, without an analysis of your own",
            )
    return values[0].numpy()


def _laid(own: Mapping[str, Tensor], place: Place, name: str, dims: tuple[int, ...]) -> Tensor:
    """A parameter's value as the stored tensor holds it."""
    value = own[place.parameter].detach().cpu().float()
    wide = sorted((stored, axis) for axis, stored in enumerate(place.axes) if stored is not None)
    order = [axis for _, axis in wide]
    if any(value.shape[axis] != dims[stored] for stored, axis in wide) or value.numel() != int(np.prod(dims)):
        raise ModelError(
            f"parameter {place.parameter!r} has shape {tuple(value.shape)}, the export holds it as {name!r} of shape "
            f"{dims}",
            "bind the module as it is now",
        )
    return value.permute(*order, *(axis for axis in range(value.ndim) if axis not in order)).reshape(dims)
