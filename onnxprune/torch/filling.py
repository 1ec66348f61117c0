"""The ONNX model of a module as it is now, from the structure that was bound once."""

from __future__ import annotations

from torch import nn

from onnxprune.errors import ModelError
from onnxprune.graph import Model
from onnxprune.torch.binding import Binding, named_tensors
from onnxprune.torch.exporting import EXPORTERS
from onnxprune.torch.values import KEEPING, with_values


def filled(binding: Binding, module: nn.Module) -> Model:
    """The bound export with the module's present values: as if exported anew, but that equal tensors stay apart.

    Args:
        binding: of this module, in an export mode that keeps parameters as they are.
        module: the module.

    Raises:
        ModelError: the export changes the values of parameters (it folds BatchNorms), it holds several parameters as
            one tensor that are not equal any more, or the module has changed.
    """
    if not EXPORTERS[binding.mode].keeps_names:
        raise ModelError(f"mode {binding.mode!r} stores values that it computed from parameters", KEEPING)
    return with_values(binding.analysis.model, binding.places, named_tensors(module))
