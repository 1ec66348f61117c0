"""Labelled samples: what can be read, and what fits a model."""

import io

import numpy as np
import pytest

import onnxprune
from onnxprune.errors import ModelError, UsageError
from onnxprune.search.samples import Samples, accuracy, fitting, outputs_of, read_samples
from tests.cli.conftest import network


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"inputs": np.zeros((3, 1))}, "cannot be read: .*labels"),
        ({"inputs": np.zeros((3, 1)), "labels": np.zeros(2, int)}, r"inputs \(3, 1\) and labels int64 \(2,\)"),
        ({"inputs": np.zeros((3, 1)), "labels": np.zeros(3)}, "expected as many integer labels"),
        ({"inputs": np.zeros(()), "labels": np.zeros((), int)}, r"inputs \(\) and labels int64 \(\)"),
        ({"inputs": np.zeros((0, 1)), "labels": np.zeros(0, int)}, "has no samples"),
    ],
)
def test_samples_that_are_none(tmp_path, arrays, message):
    np.savez(tmp_path / "s.npz", **arrays)
    with pytest.raises(UsageError, match=message):
        read_samples(tmp_path / "s.npz")


def one_array(array):
    """The bytes of an `.npy` file."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "s.npz: no such file"),
        (lambda path: path.write_bytes(b""), "cannot be read"),
        (lambda path: path.write_bytes(b"PK nothing"), "cannot be read"),
        (lambda path: path.mkdir(), "cannot be read"),
        (lambda path: path.write_bytes(one_array(np.zeros((3, 2)))), r"one array of shape \(3, 2\), expected several"),
    ],
)
def test_files_that_hold_no_samples(tmp_path, write, message):
    write(tmp_path / "s.npz")
    with pytest.raises(UsageError, match=message):
        read_samples(tmp_path / "s.npz")


def test_samples_get_the_type_that_the_model_takes():
    samples = Samples(np.zeros((7, 3, 8, 8)), np.arange(7) % 5)
    assert fitting(onnxprune.Model(network()), samples).inputs.dtype == np.float32


@pytest.mark.parametrize(
    ("inputs", "labels", "message"),
    [
        (np.zeros((4, 3, 8, 8), complex), [0, 1, 2, 3], "samples are complex128, expected float32"),
        (np.zeros((4, 1, 8, 8)), [0, 1, 2, 3], r"samples have shape \(4, 1, 8, 8\), expected \('batch', 3, 8, 8\)"),
        (np.zeros((4, 3, 8)), [0, 1, 2, 3], r"samples have shape \(4, 3, 8\)"),
        (np.zeros((4, 3, 8, 8)), [0, 1, 2, 5], "labels from 0 to 5, expected 0 to 4: the model has 5 classes"),
        (np.zeros((4, 3, 8, 8)), [-1, 1, 2, 3], "labels from -1 to 3"),
    ],
)
def test_samples_that_do_not_fit_the_model(inputs, labels, message):
    with pytest.raises(UsageError, match=message):
        fitting(onnxprune.Model(network()), Samples(inputs, np.array(labels)))


@pytest.mark.parametrize("batch", [1, 4, 7])
def test_batches_of_a_fixed_size_score_alike(batch):
    """The last one is filled up, and what fills it does not count."""
    free, fixed = network(), network()
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = batch
    inputs = np.random.default_rng(0).standard_normal((10, 3, 8, 8)).astype(np.float32)
    labels = outputs_of(onnxprune.Model(free), inputs).argmax(1)
    labels[3] = (labels[3] + 1) % 5
    samples = Samples(inputs, labels)
    assert accuracy(onnxprune.Model(fixed), fitting(onnxprune.Model(fixed), samples, any_batch=True)) == 0.9
    with pytest.raises(ModelError, match=f"batches of {batch} alone"):
        fitting(onnxprune.Model(fixed), samples)
