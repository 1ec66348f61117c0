"""ONNX files of the architectures here, with the names and values of their parameters kept.

Exporters like to fold BatchNorm into convolutions and to rename what they touch; pruning wants to see the
BatchNorms, and to find `layer1.0.conv1.weight` under that name. (Tensors of equal values, as an untrained
network's BatchNorm statistics are, still become one.)
"""

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn


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
    training = model.training
    with warnings.catch_warnings():
        # TorchScript is the one exporter that keeps every name; torch calls it deprecated at every use.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            model.eval(),
            (example,),
            path,
            opset_version=opset,
            dynamo=False,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes={name: {0: "batch"} for name in (*inputs, *outputs)},
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
        )
    model.train(training)
