"""The PyTorch side: masks learnt while training, on any module, through the same groups as everything else.

    from onnxprune.torch import Gated, bind, shrink

Names are imported when they are used, so that what needs no torch works without it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnxprune.torch.binding import Binding, bind
    from onnxprune.torch.chipnet import ChipGates, ChipNet
    from onnxprune.torch.ends import BranchScales
    from onnxprune.torch.exporting import export
    from onnxprune.torch.filling import filled
    from onnxprune.torch.gates import Gated
    from onnxprune.torch.hooks import Hook
    from onnxprune.torch.loop import train
    from onnxprune.torch.recipe import Recipe
    from onnxprune.torch.scales import Scales
    from onnxprune.torch.shrinking import shrink
    from onnxprune.torch.slimming import PruneOnce, Sparsity
    from onnxprune.torch.task import Accuracy, Metric, Task

_HOMES = {
    "Accuracy": "task",
    "BranchScales": "ends",
    "Binding": "binding",
    "ChipGates": "chipnet",
    "ChipNet": "chipnet",
    "Gated": "gates",
    "Hook": "hooks",
    "Metric": "task",
    "PruneOnce": "slimming",
    "Recipe": "recipe",
    "Scales": "scales",
    "Sparsity": "slimming",
    "Task": "task",
    "bind": "binding",
    "export": "exporting",
    "filled": "filling",
    "shrink": "shrinking",
    "train": "loop",
}

__all__ = [
    "Accuracy",
    "Binding",
    "BranchScales",
    "ChipGates",
    "ChipNet",
    "Gated",
    "Hook",
    "Metric",
    "PruneOnce",
    "Recipe",
    "Scales",
    "Sparsity",
    "Task",
    "bind",
    "export",
    "filled",
    "shrink",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
