"""ONNX models of torch modules, by any of torch's exporters."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import onnx
import torch
from onnx import ModelProto
from torch import Tensor, nn

from onnxprune.errors import ModelError, UsageError, first_line

Mode = Literal["dynamo", "dynamo-unoptimized", "torchscript", "torchscript-preserve"]
Example = Tensor | tuple[Tensor, ...]

_OPERATOR = re.compile(r"operator '([^']+)'|target=torch\.ops\.([\w.]+)")
_UNTRACED = "Failed to export the model with torch.export"
_TRACEABLE = "take sizes from shapes, do not branch on the values of tensors, or try another export mode or opset"


@dataclass(frozen=True)
class Exporter:
    """One way to export.

    Attributes:
        dynamo: by `torch.export` instead of TorchScript.
        keeps_names: BatchNorm stays apart from convolutions, and parameters keep their names and values.
        options: what `torch.onnx.export` is told.
        opset: of the model.
    """

    dynamo: bool
    keeps_names: bool
    options: dict[str, Any]
    opset: int


_PRESERVE = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
EXPORTERS: dict[Mode, Exporter] = {
    "dynamo": Exporter(True, False, {"optimize": True, "verbose": False}, 20),
    "dynamo-unoptimized": Exporter(True, True, {"optimize": False, "verbose": False}, 20),
    "torchscript": Exporter(False, False, {}, 17),
    "torchscript-preserve": Exporter(False, True, _PRESERVE, 17),
}


def export(
    module: nn.Module,
    example: Example,
    *,
    mode: Mode = "torchscript-preserve",
    inputs: tuple[str, ...] = (),
    outputs: tuple[str, ...] = (),
    opset: int | None = None,
) -> ModelProto:
    """The ONNX model of a module in evaluation mode, with a dynamic batch (axis 0 of every input and output).

    TorchScript follows the one branch that the example takes where `forward` branches on values; torch warns then.

    Args:
        module: is left as it was, in the mode that it had.
        example: inputs of the shapes that all axes but the batch keep, in a tuple if there are several.
        mode: `torchscript-preserve` and `dynamo-unoptimized` keep all names and BatchNorms; the others are torch's
            defaults, which fold BatchNorm into convolutions and rename what they fold.
        inputs, outputs: names of the graph's inputs and outputs (by default `input`, `input1` ... and `output` ...).
        opset: version of the ONNX operators.

    Raises:
        ModelError: the module cannot be exported, or run; names the operator where torch does.
        UsageError: there is no such mode.
    """
    if mode not in EXPORTERS:
        raise UsageError(f"unknown export mode {mode!r}, expected one of {', '.join(EXPORTERS)}", "check its spelling")
    exporter, examples = EXPORTERS[mode], example if isinstance(example, tuple) else (example,)
    inputs = inputs or tuple(f"input{k or ''}" for k in range(len(examples)))
    with _quiet(), evaluation(module):
        outputs = outputs or tuple(f"output{k or ''}" for k in range(_result_count(module, examples)))
        options = {"input_names": list(inputs), "output_names": list(outputs), "opset_version": opset or exporter.opset}
        write = _by_dynamo if exporter.dynamo else _by_torchscript
        try:
            return write(module, examples, options | exporter.options)
        except Exception as error:  # exporters let pass what `forward` raises, and have a dozen types of their own
            raise _untranslatable(module, error) from error


def distinct(module: nn.Module) -> nn.Module:
    """A copy on the CPU, in evaluation mode, in which no two parameters or statistics are equal.

    Exporters merge tensors of equal values, as an untrained network's BatchNorms have, and what is merged is tied.
    Only the structure of the copy is of use.
    """
    twin = in_single(module).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in (*twin.parameters(), *_statistics(twin)):
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return twin


def in_single(module: nn.Module) -> nn.Module:
    """A copy on the CPU, in single precision."""
    return copy.deepcopy(module).cpu().float()


def on_cpu(example: Example) -> Example:
    """The example as copies on the CPU take it, in single precision."""
    if isinstance(example, tuple):
        return tuple(on_cpu(x) for x in example)  # type: ignore[misc]  # tensors all
    return example.detach().cpu().float() if example.is_floating_point() else example.detach().cpu()


def _statistics(module: nn.Module) -> Iterator[Tensor]:
    for norm in module.modules():
        if isinstance(norm, nn.modules.batchnorm._NormBase):
            yield from (b for b in (norm.running_mean, norm.running_var) if b is not None)


def _by_torchscript(module: nn.Module, examples: tuple[Tensor, ...], options: dict[str, Any]) -> ModelProto:
    file = io.BytesIO()
    axes = {name: {0: "batch"} for name in (*options["input_names"], *options["output_names"])}
    torch.onnx.export(module, examples, file, dynamo=False, dynamic_axes=axes, **options)  # type: ignore[arg-type]
    return onnx.load_model_from_string(file.getvalue())


def _by_dynamo(module: nn.Module, examples: tuple[Tensor, ...], options: dict[str, Any]) -> ModelProto:
    # An example of one element would make the batch a constant.
    examples = tuple(torch.cat([x, x]) if len(x) == 1 else x for x in examples)
    batch = torch.export.Dim("batch")
    shapes = tuple({0: batch} for _ in examples)
    with contextlib.redirect_stderr(io.StringIO()):  # where it fails, it prints every graph that it tried
        program = torch.onnx.export(module, examples, dynamo=True, dynamic_shapes=shapes, **options)
    assert program is not None  # with dynamo it never is
    return program.model_proto


@torch.no_grad()
def _result_count(module: nn.Module, examples: tuple[Tensor, ...]) -> int:
    try:
        count = len(tensors_in(module(*examples)))
    except Exception as error:
        raise ModelError(
            f"{type(module).__name__} fails on the example: {first_line(error)}",
            "give inputs as `forward` takes them, where the module is, in a tuple if there are several",
        ) from error
    if not count:
        raise ModelError(f"{type(module).__name__} returns no tensors", "return a tensor, or a tuple or dict of them")
    return count


def tensors_in(result: Any) -> list[Tensor]:
    """The tensors in a module's result, in order."""
    if isinstance(result, Tensor):
        return [result]
    parts = result.values() if isinstance(result, Mapping) else result if isinstance(result, list | tuple) else ()
    return [tensor for part in parts for tensor in tensors_in(part)]


@contextlib.contextmanager
def evaluation(module: nn.Module) -> Iterator[None]:
    """The module in evaluation mode; every submodule gets its own mode back."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch tells of itself: that TorchScript is deprecated, that dynamo lacks a package, what it tries.

    What it tells of the module, that a trace depends on values, is let through. Standard output is left to results:
    what `forward` prints goes where errors go.
    """
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with _no_graphs(), contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("default", torch.jit.TracerWarning)
            warnings.filterwarnings("ignore", category=torch.jit.TracerWarning, module=r"torch\.")
            yield
    finally:
        logging.disable(level)


@contextlib.contextmanager
def _no_graphs() -> Iterator[None]:
    """Without the graph that torch (2.13) prints where an export by TorchScript fails.

    It comes from C++, where `redirect_stdout` does not reach, and torch turns the switch for it on by itself.
    """
    print_graph = torch._C._jit_onnx_log
    torch._C._jit_onnx_log = lambda *parts: None
    try:
        yield
    finally:
        torch._C._jit_onnx_log = print_graph


def _untranslatable(module: nn.Module, error: Exception) -> ModelError:
    name, text = type(module).__name__, f"{error} {error.__cause__ or ''}"
    if found := _OPERATOR.search(text):
        operator = found.group(1) or found.group(2)
        return ModelError(
            f"{name} cannot be exported to ONNX: operator {operator} has no translation",
            "replace the operator in `forward`, or try another export mode or opset",
        )
    cause = error.__cause__ if _UNTRACED in text and error.__cause__ else error
    return ModelError(f"{name} cannot be exported to ONNX: {first_line(cause)}", _TRACEABLE)
