"""Large tensors that stay in the model's own file: nothing shows, and a changed file is refused."""

import os
import shutil

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import onnxprune
from onnxprune import files, outgoing, wire
from onnxprune.embedded import inlined, self_contained
from onnxprune.errors import ModelError
from onnxprune.external import is_embedded, refer
from onnxprune.files import read_model, write_model
from onnxprune.verify import model_digest
from tests.micrographs import REGISTRY
from tests.stored import WEIGHT, inline, model_of, stored, values

NAMES = ["residual", "grouped", "attention_packed", "se_gate", "weight_in_series", "weights_scaled_over_inputs"]


@pytest.fixture(autouse=True)
def all_are_large(monkeypatch):
    monkeypatch.setattr(files, "_EMBEDDED", 1)
    monkeypatch.setattr(wire, "_SMALL", 1)


def embedded(proto):
    return [t.name for t in proto.graph.initializer if is_embedded(t)]


@pytest.mark.parametrize("name", NAMES)
def test_a_model_prunes_to_the_same_bytes_as_from_memory(tmp_path, name):
    path = stored(tmp_path, REGISTRY[name]().model)
    model, whole = onnxprune.load(path), onnxprune.Model(onnx.load(path))
    assert embedded(model.proto) and not embedded(whole.proto)
    small, expected = (
        onnxprune.apply(m, onnxprune.choose(onnxprune.analyze(m), keep=0.5), verify=True) for m in (model, whole)
    )
    assert small.proto.SerializeToString(deterministic=True) == expected.proto.SerializeToString(deterministic=True)
    assert onnxprune.verify(model, small, onnxprune.choose(onnxprune.analyze(model), keep=0.5)).exact
    assert model_digest(model) == model_digest(whole)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.BFLOAT16, TensorProto.INT4, TensorProto.DOUBLE])
def test_written_again_the_file_is_the_same(tmp_path, kind):
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    first, second = (inline(WEIGHT.astype(dtype), name) for name in ("w", "an odd name"))
    first.doc_string = "kept"
    source = stored(tmp_path, model_of([first, second, inline(np.array(2, np.int64), "scalar")]))
    model = read_model(source)
    assert embedded(model) == ["w", "an odd name", "scalar"]
    np.testing.assert_array_equal(values(model, tmp_path)["an odd name"], WEIGHT.astype(dtype))
    write_model(model, tmp_path / "n.onnx", {}, source)
    assert (tmp_path / "n.onnx").read_bytes() == source.read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["m.onnx", "n.onnx"]


def test_a_linked_model_file_is_read(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "models").mkdir()
    source = stored(tmp_path / "store", model_of([inline(WEIGHT)]))
    link = tmp_path / "models" / "linked.onnx"
    link.symlink_to(source)
    np.testing.assert_array_equal(values(read_model(link), link.parent)["w"], WEIGHT)


def test_self_contained_puts_all_back(tmp_path):
    whole = model_of([inline(WEIGHT), inline(WEIGHT + 1, "v")])
    model = read_model(stored(tmp_path, whole))
    assert self_contained(model, tmp_path) == whole
    assert embedded(model) == ["w", "v"]
    assert self_contained(whole, None) is whole


@pytest.mark.parametrize("change", ["rewritten", "replaced", "removed"])
def test_a_file_that_changed_since_is_refused(tmp_path, change):
    source = stored(tmp_path, model_of([inline(WEIGHT)]))
    model = read_model(source)
    os.utime(source, ns=(0, 0))
    if change == "replaced":
        shutil.copy(source, tmp_path / "other")
        os.replace(tmp_path / "other", source)
    elif change == "removed":
        source.unlink()
    with pytest.raises(ModelError, match=r"m\.onnx: the file is gone or has changed since it was read"):
        inlined(model.graph.initializer[0], tmp_path)
    with pytest.raises(ModelError, match=r"m\.onnx"):
        write_model(model, tmp_path / "n.onnx", {}, source)
    assert not (tmp_path / "n.onnx").exists()


def test_a_model_that_no_longer_fits_into_one_file_moves_its_weights_out(tmp_path, monkeypatch):
    monkeypatch.setattr(outgoing, "PROTOBUF_LIMIT", 5000)
    big = np.arange(2000, dtype=np.float32)
    source = stored(tmp_path, model_of([inline(big)]))
    write_model(read_model(source), tmp_path / "n.onnx", {}, source)
    written = onnx.load(tmp_path / "n.onnx", load_external_data=False).graph.initializer[0]
    assert {e.key: e.value for e in written.external_data}["location"].startswith("n-")
    np.testing.assert_array_equal(values(read_model(tmp_path / "n.onnx"), tmp_path)["w"], big)


def test_a_file_cannot_claim_to_be_read_already(tmp_path):
    """Embedded tensors may lie behind a link that leads out of the folder: only reading may make them."""
    (tmp_path / "secret").write_bytes(WEIGHT.tobytes())
    tensor = inline(WEIGHT)
    tensor.ClearField("raw_data")
    refer(tensor, "../secret", 0, WEIGHT.nbytes, "any stamp")
    (tmp_path / "model").mkdir()
    with pytest.raises(ModelError, match=r"m\.onnx: tensor 'w': its external data has an entry that must not be"):
        read_model(stored(tmp_path / "model", model_of([tensor])))


def test_folded_constants_are_computed_from_the_file(tmp_path):
    path = stored(tmp_path, REGISTRY["weights_scaled_over_inputs"]().model)
    models = onnxprune.load(path), onnxprune.Model(onnx.load(path))
    small, expected = (
        onnxprune.apply(m, onnxprune.choose(onnxprune.analyze(m, fold=True), keep=0.5), verify=True) for m in models
    )
    assert small.proto.SerializeToString(deterministic=True) == expected.proto.SerializeToString(deterministic=True)
