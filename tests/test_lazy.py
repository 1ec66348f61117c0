"""The values of stored tensors: every type and storage, whole and sliced."""

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper

from onnxprune.errors import ModelError
from onnxprune.external import CHUNK
from onnxprune.lazy import LazySlice, nonfinite_tensors
from onnxprune.tensors import tensor_array
from tests.stored import WEIGHT, external, inline, model_of

RELU = helper.make_node("Relu", ["x"], ["y"])


TYPES = ["float32", "float64", "float16", "int64", "int32", "int8", "uint16", "bool", "complex64"]
ML_TYPES = ["bfloat16", "float8_e4m3fn", "float8_e5m2fnuz", "int4", "uint4", "float4_e2m1fn"]


@pytest.mark.parametrize("place", ["raw", "typed", "external"])
@pytest.mark.parametrize("name", TYPES + ML_TYPES)
def test_every_type_is_read_and_sliced(tmp_path, name, place):
    array = (np.arange(35).reshape(5, 7) % 5).astype(np.dtype(getattr(ml_dtypes, name, name)))
    tensor = inline(array)
    if place == "typed" and name not in {"int4", "uint4", "float4_e2m1fn"}:
        tensor = helper.make_tensor("w", tensor.data_type, array.shape, array.ravel())
    if place == "external":
        (tmp_path / "w.bin").write_bytes(b"\0" * 3 + tensor.raw_data)
        data_type, size = tensor.data_type, len(tensor.raw_data)
        tensor = external("w", [5, 7], "w.bin", 3, size)
        tensor.data_type = data_type
    np.testing.assert_array_equal(tensor_array(tensor, tmp_path), array)
    cut = LazySlice(tensor, tmp_path, (np.array([0, 3, 4]), np.array([6, 1])))
    expected = array[[0, 3, 4]][:, [6, 1]]
    assert cut.shape == (3, 2) and cut.array().dtype == array.dtype
    np.testing.assert_array_equal(cut.array(), expected)
    assert b"".join(cut.chunks()) == inline(expected).raw_data


def test_bad_values_are_named():
    tensor = inline(WEIGHT)
    tensor.dims[0] = 5
    with pytest.raises(ModelError, match=r"tensor 'w': bad values: .*reshape"):
        tensor_array(tensor, None)


SHAPES = [(3,), (7, 5), (2, 3, 4, 5), (1, 6, 50), (2000, 400), (1, 1, 900_000), (3, 700_000), (70, 9000), (0, 4)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("share", [0.03, 0.5, 1.0])
def test_slices_of_external_tensors_equal_slices_in_memory(tmp_path, shape, share):
    rng = np.random.default_rng(0)
    array = rng.integers(0, 1 << 30, shape, dtype=np.int32).view(np.float32)
    (tmp_path / "w.bin").write_bytes(array.tobytes())
    tensor = external("w", list(shape), "w.bin")
    cuts: list[np.ndarray | None] = [np.flatnonzero(rng.random(size) < share) for size in shape]
    for index in (tuple(cuts), (*cuts[:-1], None), (None, *cuts[1:]), (), (cuts[0][::-1].copy(),)):
        expected = array
        for axis, keep in enumerate(index):
            expected = expected if keep is None else expected.take(keep, axis)
        pieces = [bytes(piece) for piece in LazySlice(tensor, tmp_path, index).chunks()]
        assert b"".join(pieces) == expected.tobytes()
        assert max(map(len, pieces), default=0) <= CHUNK
        assert LazySlice(tensor, tmp_path, index).array().shape == expected.shape


@pytest.mark.parametrize("index", [(np.array([4]),), (np.array([-1]),), (None, np.array([0, 6])), (None, None, None)])
def test_slice_past_the_end_is_refused(index):
    with pytest.raises(IndexError, match="tensor 'w'"):
        LazySlice(inline(WEIGHT), None, index)


def test_nonfinite_tensors_are_found_wherever_they_are(tmp_path):
    bad = WEIGHT.copy()
    bad[3, 5] = np.nan
    (tmp_path / "w.bin").write_bytes(bad.tobytes())
    tensors = [
        inline(WEIGHT, "good"),
        inline(bad, "raw"),
        inline(np.array([1, np.inf], ml_dtypes.bfloat16), "bf16"),
        helper.make_tensor("typed", TensorProto.FLOAT, [2], [1, -np.inf]),
        external("outside", [4, 6], "w.bin"),
        inline(np.array([1, 2]), "whole"),
    ]
    nodes = [helper.make_node("Constant", [], ["constant"], value=inline(bad)), RELU]
    assert nonfinite_tensors(model_of(tensors, nodes), tmp_path) == ["raw", "bf16", "typed", "outside", "constant"]
