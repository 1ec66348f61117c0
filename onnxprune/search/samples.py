"""Labelled samples for a model in a file: read, and tried on it before a search begins."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import ValueInfoProto, helper

from onnxprune.errors import ModelError, UsageError, first_line
from onnxprune.execution import Feeds, read_arrays, run
from onnxprune.graph import Graph, Model

BATCH = 100


@dataclass(frozen=True)
class Samples:
    """Labelled inputs.

    Attributes:
        inputs: for the model's first input: `(N, ...)`.
        labels: the class of each: int `(N,)`.
    """

    inputs: np.ndarray
    labels: np.ndarray


def read_samples(path: Path) -> Samples:
    """Samples from an `.npz` file with `inputs` and `labels`.

    Raises:
        UsageError: it is missing, no such file, or the arrays do not fit each other.
    """
    form = "give an .npz file with the arrays `inputs` and `labels`"
    try:
        found = read_arrays(path)
        inputs, labels = found["inputs"], found["labels"]
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such file", "check the path") from error
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"{path}: cannot be read: {first_line(error)}", form) from error
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer) or inputs.shape[:1] != labels.shape:
        raise UsageError(
            f"{path}: inputs {inputs.shape} and labels {labels.dtype} {labels.shape}, expected as many integer labels",
            "give one class number for every input",
        )
    if not len(labels):
        raise UsageError(f"{path}: has no samples", "give some")
    return Samples(inputs, labels)


def fitting(model: Model, samples: Samples, *, any_batch: bool = False) -> Samples:
    """Samples of the type that a model takes, which is tried on the first batch.

    Args:
        model: a classifier of one input.
        samples: to be given to it.
        any_batch: let its batches have a fixed size, too: enough to score by, not to measure statistics.

    Raises:
        ModelError: the model has several inputs or a batch of a fixed size, or is no classifier.
        UsageError: the samples do not fit it: other types or shapes, or labels that are none of its classes.
    """
    value = _only_input(model)
    if (fixed := _fixed_batch(model)) and not any_batch:
        raise ModelError(
            f"the model takes batches of {fixed} alone, expected any size", "export it with a dynamic batch"
        )
    kind = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    if not np.can_cast(samples.inputs.dtype, kind, "same_kind"):
        raise UsageError(f"samples are {samples.inputs.dtype}, expected {kind} as the model takes", "convert them")
    wanted = [d.dim_value or d.dim_param or "?" for d in value.type.tensor_type.shape.dim]
    got = samples.inputs.shape
    if len(got) != len(wanted) or any(isinstance(w, int) and w != g for w, g in zip(wanted[1:], got[1:], strict=True)):
        raise UsageError(f"samples have shape {got}, expected {tuple(wanted)} as the model takes", "convert them")
    fit = Samples(samples.inputs.astype(kind, copy=False), samples.labels)
    classes = outputs_of(model, fit.inputs[:BATCH]).shape[1]
    if not 0 <= fit.labels.min() <= fit.labels.max() < classes:
        raise UsageError(
            f"labels from {fit.labels.min()} to {fit.labels.max()}, expected 0 to {classes - 1}: the model has "
            f"{classes} classes",
            "number the classes as the model does",
        )
    return fit


def _only_input(model: Model) -> ValueInfoProto:
    """The input that samples are for."""
    inputs = Graph(model).inputs
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs)
        raise ModelError(
            f"the model has {len(inputs)} inputs ({names}), expected one", "give a classifier of one input"
        )
    return inputs[0]


def _fixed_batch(model: Model) -> int:
    """The size of its batches if they can have no other, or 0."""
    dims = Graph(model).inputs[0].type.tensor_type.shape.dim
    return int(dims[0].dim_value) if len(dims) else 0


def outputs_of(model: Model, inputs: np.ndarray) -> np.ndarray:
    """Scores of all classes: the first output, `(N, classes)`.

    Raises:
        ModelError: it does not run, or the output has another form.
    """
    size = _fixed_batch(model)
    missing = -len(inputs) % size if size else 0
    whole = np.concatenate([inputs, np.repeat(inputs[-1:], missing, 0)]) if missing else inputs
    outputs = [found[0] for found in run(model, feeds_of(model, batches_of(whole, size or BATCH)), fast=True)]
    if any(out.ndim != 2 for out in outputs):
        raise ModelError(f"the first output has shape {outputs[0].shape}, expected (N, classes)", "give a classifier")
    return np.concatenate(outputs)[: len(inputs)]


def accuracy(model: Model, samples: Samples) -> float:
    """The share of samples whose class has the highest output, in [0, 1].

    Args:
        model: a classifier.
        samples: those that `fitting` gives.

    Raises:
        ModelError: it does not run, or the output has another form.
    """
    return float(np.mean(outputs_of(model, samples.inputs).argmax(1) == samples.labels))


def batches_of(inputs: np.ndarray, size: int = BATCH) -> list[np.ndarray]:
    """Inputs in parts of at most so many."""
    return [inputs[k : k + size] for k in range(0, len(inputs), size)]


def feeds_of(model: Model, batches: list[np.ndarray]) -> list[Feeds]:
    """Batches as onnxruntime takes them: for the first input."""
    name = Graph(model).inputs[0].name
    return [{name: batch} for batch in batches]
