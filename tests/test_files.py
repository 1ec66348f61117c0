"""Reading model files: what is refused, with which words."""

import random
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from onnxprune.errors import ModelError
from onnxprune.files import read_model
from onnxprune.tensors import stored_tensors, tensor_array
from tests.stored import WEIGHT, external, inline, model_of, stored, values, with_data


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"no\.onnx: no such file\n  fix: check the path"):
        read_model(tmp_path / "no.onnx")


def test_folder_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"expected an ONNX file, got a folder\n  fix: name the \.onnx"):
        read_model(tmp_path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an ONNX model: it has no ir_version and no graph and no opset_import"),
        (b"# a readme, not a model\n" * 9, "not an ONNX model"),
        (random.Random(0).randbytes(1000), "not an ONNX model"),
        (b"\x08\x08", "not an ONNX model: it has no graph and no opset_import"),
    ],
    ids=["empty", "text", "random", "version only"],
)
def test_what_is_not_onnx_is_refused(tmp_path, data, message):
    (tmp_path / "m.onnx").write_bytes(data)
    with pytest.raises(ModelError, match=rf"m\.onnx: {message}.*\n  fix: export the model again, or check that"):
        read_model(tmp_path / "m.onnx")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_truncated_model_is_refused(tmp_path, share):
    data = model_of([inline(WEIGHT)]).SerializeToString()
    (tmp_path / "m.onnx").write_bytes(data[: int(share * len(data))])
    with pytest.raises(ModelError, match=r"truncated or damaged|has no opset_import"):
        read_model(tmp_path / "m.onnx")


def test_mutated_models_are_read_or_refused_but_never_crash(tmp_path):
    path = with_data(tmp_path, external("w", [4, 6], "w.bin", 0, 96))
    good, rng, refused = path.read_bytes(), random.Random(0), 0
    for _ in range(500):
        data = bytearray(good)
        data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data)
        try:
            read_model(path)
        except ModelError:
            refused += 1
    assert 100 < refused < 500


RELU, TWICE = helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Relu", ["x"], ["y"])
CYCLE = [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"]), RELU]
UNSORTED = [helper.make_node("Relu", ["a"], ["y"]), helper.make_node("Relu", ["x"], ["a"])]


@pytest.mark.parametrize(
    ("nodes", "tensors", "message"),
    [
        ([helper.make_node("Relu", ["lost"], ["y"])], [inline(WEIGHT)], "input 'lost' of node"),
        (CYCLE, [inline(WEIGHT)], "topologically sorted, however input 'b'"),
        (UNSORTED, [inline(WEIGHT)], "topologically sorted, however input 'a'"),
        ([RELU, TWICE], [inline(WEIGHT)], "'y' has been used as output names multiple times"),
        ([RELU], [inline(WEIGHT), inline(WEIGHT)], "w initializer name is not unique"),
        ([RELU], [inline(WEIGHT, "y")], "'y' has been used"),
        ([helper.make_node("Conv", ["x"], ["y"])], [inline(WEIGHT)], "Conv.* has input size 1"),
        ([helper.make_node("Relux", ["x"], ["y"])], [inline(WEIGHT)], "No Op registered for Relux"),
    ],
)
def test_invalid_graph_is_refused_in_one_line(tmp_path, nodes, tensors, message):
    with pytest.raises(ModelError, match=f"^[^\n]*m.onnx: not valid ONNX: [^\n]*{message}[^\n]*\n  fix: export"):
        read_model(stored(tmp_path, model_of(tensors, nodes)))


@pytest.mark.parametrize("kept", [1000, 5000])
def test_weight_of_wrong_size_is_refused(tmp_path, kept):
    tensor = inline(np.zeros((20, 30), np.float32))
    tensor.raw_data = bytes(kept)
    with pytest.raises(ModelError, match=rf"tensor 'w': expected 2400 bytes, got {kept}"):
        read_model(stored(tmp_path, model_of([tensor])))


@pytest.mark.parametrize("kept", [0, 10])
def test_weight_without_enough_values_is_refused(tmp_path, kept):
    tensor = inline(np.zeros((20, 30), np.float32))
    tensor.raw_data = bytes(kept)
    with pytest.raises(ModelError, match=r"not valid ONNX: TensorProto \(tensor name: w\)"):
        read_model(stored(tmp_path, model_of([tensor])))


def test_model_without_weights_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"no weights: no initializer and no constant tensor\n  fix: export"):
        read_model(stored(tmp_path, model_of([])))


def test_weights_behind_constants_are_weights(tmp_path):
    nodes = [helper.make_node("Constant", [], ["c"], value=inline(WEIGHT)), RELU]
    assert [name for name, _ in stored_tensors(read_model(stored(tmp_path, model_of([], nodes))))] == ["c"]


def test_too_old_opset_is_refused(tmp_path):
    model = model_of([inline(WEIGHT)])
    model.opset_import[0].version = 6
    with pytest.raises(ModelError, match=r"m\.onnx: opset 6 is too old: expected at least 7.*\n  fix: convert it with"):
        read_model(stored(tmp_path, model))


def test_external_data_in_the_model_itself_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"m\.onnx: tensor 'w': its external data would be the model's own file"):
        read_model(stored(tmp_path, model_of([external("w", [1], "m.onnx", 0, 4)])))


def test_too_new_opset_is_refused(tmp_path):
    model, known = model_of([inline(WEIGHT)]), onnx.defs.onnx_opset_version()
    model.opset_import[0].version = known + 1
    with pytest.raises(ModelError, match=rf"opset {known + 1} is too new: expected at most {known}.*\n  fix: upgrade"):
        read_model(stored(tmp_path, model))


def test_too_new_ir_version_is_refused(tmp_path):
    model = model_of([inline(WEIGHT)])
    model.ir_version = onnx.IR_VERSION + 1
    with pytest.raises(ModelError, match=r"IR version \d+ is too new.*\n  fix: upgrade onnx"):
        read_model(stored(tmp_path, model))


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (external("w", [4, 6], "gone.bin"), r"gone\.bin: external data file not found\n  fix: copy the \.onnx togeth"),
        (external("w", [4, 6], ""), "an external tensor names no data file"),
        (external("w", [4, 7], "w.bin"), r"w\.bin: too short for tensor 'w': expected at least 112 bytes, got 96"),
        (external("w", [4, 6], "w.bin", 4, 96), "too short for tensor 'w': expected at least 100 bytes, got 96"),
        (external("w", [4, 6], "w.bin", 0, 48), "tensor 'w': shape and type need 96 bytes, the model says 48"),
        (external("w", [4, 6], "w.bin", -4, 96), "expected a byte count as offset, got '-4'"),
        (external("w", [4, 6], "/etc/hostname"), "outside the model's folder: expected a relative path"),
        (external("w", [4, 6], "C:\\w.bin"), "outside the model's folder: expected a relative path"),
        (
            external("w", [4, 6], "../w.bin"),
            r"'\.\./w\.bin' is outside the model's folder: it leads to .*\n  fix: move",
        ),
        (external("w", [4, 6], "a/../../w.bin"), "outside the model's folder"),
    ],
)
def test_bad_external_data_is_refused(tmp_path, tensor, message):
    (tmp_path / "w.bin").write_bytes(WEIGHT.tobytes())
    folder = tmp_path / "model"
    folder.mkdir()
    with pytest.raises(ModelError, match=message):
        read_model(with_data(folder, tensor))


@pytest.mark.parametrize("linked", ["w.bin", "sub/w.bin"])
def test_link_to_outside_is_refused(tmp_path, linked):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "w.bin").write_bytes(WEIGHT.tobytes())
    (tmp_path / "model").mkdir()
    link = tmp_path / "model" / Path(linked).parts[0]
    link.symlink_to(tmp_path / "secret" / ("w.bin" if linked == "w.bin" else ""))
    with pytest.raises(ModelError, match=r"is outside the model's folder: it leads to .*secret"):
        read_model(stored(tmp_path / "model", model_of([external("w", [4, 6], linked)])))


def test_links_inside_the_folder_and_a_linked_folder_are_fine(tmp_path):
    (tmp_path / "real").mkdir()
    with_data(tmp_path / "real", external("w", [4, 6], "sub/../link.bin"))
    (tmp_path / "real" / "link.bin").symlink_to("w.bin")
    (tmp_path / "alias").symlink_to("real")
    model = read_model(tmp_path / "alias" / "m.onnx")
    np.testing.assert_array_equal(values(model, tmp_path / "alias")["w"], WEIGHT)


def test_external_tensor_in_memory_needs_a_folder():
    with pytest.raises(ModelError, match=r"'w' has external data, but the model has no folder\n  fix: load the model"):
        tensor_array(external("w", [4, 6], "w.bin"), None)


def test_external_data_stays_a_reference(tmp_path):
    model = read_model(with_data(tmp_path, external("w", [4, 6], "w.bin", 0, 96)))
    assert not model.graph.initializer[0].raw_data
    mapped = values(model, tmp_path)["w"]
    assert not mapped.flags.writeable
    np.testing.assert_array_equal(mapped, WEIGHT)
