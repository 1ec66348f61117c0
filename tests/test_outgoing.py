"""Models written and read again: inline, external, sliced, spilled, in subgraphs."""

import os

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper

from onnxprune import outgoing
from onnxprune.files import read_model, write_model
from onnxprune.lazy import LazySlice
from onnxprune.tensors import stored_tensors, tensor_array
from onnxprune.wire import skeleton
from tests.stored import WEIGHT, external, inline, model_of, stored, values

RELU = helper.make_node("Relu", ["x"], ["y"])


def test_inline_model_is_written_as_it_is(tmp_path):
    model = model_of([inline(WEIGHT), helper.make_tensor("t", TensorProto.FLOAT, [3], [1, 2, 3])])
    model.metadata_props.add(key="who", value="me")
    source = stored(tmp_path, model)
    write_model(read_model(source), tmp_path / "out.onnx", {}, source)
    assert (tmp_path / "out.onnx").read_bytes() == source.read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["m.onnx", "out.onnx"]


def test_inline_tensors_take_slices(tmp_path):
    nodes = [helper.make_node("Constant", [], ["c"], value=inline(WEIGHT, "value")), RELU]
    model = model_of([inline(WEIGHT)], nodes)
    model.graph.initializer[0].doc_string = "kept"
    before = model.SerializeToString()
    cuts = {name: LazySlice(inline(WEIGHT), None, (None, np.array([0, 5]))) for name in ("w", "c")}
    write_model(model, tmp_path / "out.onnx", cuts, None)
    after = read_model(tmp_path / "out.onnx")
    for array in values(after, tmp_path).values():
        np.testing.assert_array_equal(array, WEIGHT[:, [0, 5]])
    assert len(values(after, tmp_path)) == 2
    assert after.graph.initializer[0].doc_string == "kept"
    assert model.SerializeToString() == before


def test_several_data_files_become_one_aligned_one(tmp_path):
    big = np.arange(400_000, dtype=np.float32).reshape(400, 1000)
    (tmp_path / "a.bin").write_bytes(b"\0" * 5 + WEIGHT.tobytes())
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.bin").write_bytes(big.tobytes())
    nodes = [helper.make_node("Constant", [], ["c"], value=external("", [24], "a.bin", 5)), RELU]
    tensors = [external("a", [4, 6], "a.bin", 5, 96), external("b", [400, 1000], "sub/b.bin"), inline(WEIGHT, "i")]
    source = stored(tmp_path, model_of(tensors, nodes))
    (tmp_path / "to").mkdir()
    rows = np.arange(0, 400, 3)
    model = read_model(source)
    write_model(
        model, tmp_path / "to" / "n.onnx", {"b": LazySlice(model.graph.initializer[1], tmp_path, (rows,))}, source
    )
    written = read_model(tmp_path / "to" / "n.onnx")
    expected = {"a": WEIGHT, "b": big[rows], "i": WEIGHT, "c": WEIGHT.ravel()}
    assert values(written, tmp_path / "to").keys() == expected.keys()
    for name, array in values(written, tmp_path / "to").items():
        np.testing.assert_array_equal(array, expected[name])
    places = [{entry.key: entry.value for entry in tensor.external_data} for tensor in written.graph.initializer]
    assert [place.get("offset") for place in places] == ["0", "4096", None]
    assert len(os.listdir(tmp_path / "to")) == 2
    onnx.checker.check_model(str(tmp_path / "to" / "n.onnx"))


def test_large_external_tensors_are_aligned_for_every_system(tmp_path):
    arrays = {name: np.full(300_000, value, np.float32) for value, name in enumerate("ab")}
    model = model_of([inline(array, name) for name, array in arrays.items()])
    onnx.save(model, str(tmp_path / "m.onnx"), save_as_external_data=True, location="all.bin")
    write_model(read_model(tmp_path / "m.onnx"), tmp_path / "n.onnx", {}, tmp_path / "m.onnx")
    written = read_model(tmp_path / "n.onnx")
    offsets = [
        int(entry.value) for t in written.graph.initializer for entry in t.external_data if entry.key == "offset"
    ]
    assert offsets == [0, 1_245_184] and not any(offset % 65536 for offset in offsets)
    np.testing.assert_array_equal(values(written, tmp_path)["b"], arrays["b"])


def test_tensors_of_subgraphs_are_written_too(tmp_path):
    (tmp_path / "w.bin").write_bytes(WEIGHT.tobytes())
    out = helper.make_tensor_value_info("o", TensorProto.FLOAT, [4, 6])
    branch = helper.make_graph(
        [helper.make_node("Identity", ["s"], ["o"])], "b", [], [out], [external("s", [4, 6], "w.bin")]
    )
    nodes = [helper.make_node("If", ["flag"], ["z"], then_branch=branch, else_branch=branch), RELU]
    source = stored(tmp_path, model_of([inline(np.array(True), "flag")], nodes))
    write_model(read_model(source), tmp_path / "n.onnx", {}, source)
    (tmp_path / "w.bin").unlink()
    arrays = [tensor_array(t, tmp_path) for name, t in stored_tensors(read_model(tmp_path / "n.onnx")) if name == "s"]
    np.testing.assert_array_equal(arrays, [WEIGHT, WEIGHT])


def test_model_beyond_the_protobuf_limit_goes_to_a_data_file(tmp_path, monkeypatch):
    monkeypatch.setattr(outgoing, "PROTOBUF_LIMIT", 5000)
    big = np.arange(2000, dtype=np.float32)
    write_model(model_of([inline(big), inline(WEIGHT, "small")]), tmp_path / "m.onnx", {}, None)
    written = read_model(tmp_path / "m.onnx")
    assert [t.data_location for t in written.graph.initializer] == [TensorProto.EXTERNAL, TensorProto.DEFAULT]
    np.testing.assert_array_equal(values(written, tmp_path)["w"], big)


def test_slice_of_an_unknown_tensor_is_refused(tmp_path):
    with pytest.raises(KeyError, match="no such tensors: nothing"):
        write_model(model_of([inline(WEIGHT)]), tmp_path / "m.onnx", {"nothing": LazySlice(inline(WEIGHT), None)}, None)
    assert os.listdir(tmp_path) == []


def test_skeleton_keeps_the_graph_and_drops_large_weights():
    nodes = [helper.make_node("Constant", [], ["c"], value=inline(np.zeros(5000, np.float32))), RELU]
    data = model_of([inline(np.zeros(10_000, np.float32)), inline(WEIGHT, "small")], nodes).SerializeToString()
    bones = skeleton(data)
    thin = ModelProto.FromString(bones.data)
    assert len(bones.data) < 500 and [header.raw_bytes for header in bones.headers] == [20_000, 40_000]
    assert [node.op_type for node in thin.graph.node] == ["Constant", "Relu"]
    assert [(t.name, list(t.dims)) for t in thin.graph.initializer] == [("w", [0]), ("small", [4, 6])]


@pytest.mark.parametrize("place", [0, 1, 60, 149, 150, 299])
@pytest.mark.parametrize("name", ["n", "location", "relocation of the " * 20])
def test_skeleton_finds_every_small_external_tensor(place, name):
    """Wherever it lies among many fields, whatever these are called."""
    nodes = [helper.make_node("Relu", [f"t{k}"], [f"t{k + 1}"], f"{name}{k}") for k in range(300)]
    nodes.insert(place, helper.make_node("Constant", [], ["c"], value=external("value", [1], "w.bin")))
    data = model_of([external("first", [2], "w.bin"), inline(WEIGHT), external("last", [3], "w.bin")], nodes)
    headers = skeleton(data.SerializeToString()).headers
    assert [list(h.tensor.dims) for h in headers if h.tensor.data_location] == [[1], [2], [3]]
