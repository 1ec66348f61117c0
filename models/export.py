"""ONNX files of the architectures here, with the names and values of their parameters kept.

Exporters like to fold BatchNorm into convolutions and to rename what they touch; pruning wants to see the
BatchNorms, and to find `layer1.0.conv1.weight` under that name. (Tensors of equal values, as an untrained
network's BatchNorm statistics are, still become one.)
"""

from collections.abc import Sequence
from pathlib import Path

import onnx
from torch import Tensor, nn

from onnxprune.torch import exporting


def export(
    model: nn.Module, example: Tensor, path: Path, inputs: Sequence[str], outputs: Sequence[str], opset: int = 17
) -> None:
    """Write `model`, in evaluation mode, to `path` with a dynamic batch (axis 0 of every input and output).

    Args:
        model: is left in the mode (training or evaluation) that it had.
        example: an input of the shape that all other axes keep.
        path: of the ONNX file; its folder exists.
        inputs: names of the graph's inputs.
        outputs: names of the graph's outputs, in the order in which `forward` returns them.
        opset: version of the ONNX operators.
    """
    onnx.save(exporting.export(model, example, inputs=tuple(inputs), outputs=tuple(outputs), opset=opset), path)
