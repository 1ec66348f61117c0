"""What `apply` leaves alone: everything of a file but the sizes of what is cut."""

import json
from importlib.metadata import version

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import onnxprune
from onnxprune.mask import make_mask
from tests.independent import run, tensors
from tests.micrographs import REGISTRY
from tests.micrographs.build import ints, weights
from tests.pruning import model_of

BODY = """
    a = Conv (x, w0, b0)
    s = Sigmoid (a)
    y = Conv (s, w1)
"""
ARRAYS = weights(w0=(8, 3, 1, 1), b0=(8,), w1=(5, 8, 1, 1))
IMAGE = "float[N, 3, 8, 8] x"
KEPT = np.array([1, 0, 1, 1, 0, 0, 1, 0], bool)


def documented() -> onnxprune.Model:
    """A model with a text in every place that ONNX has for one."""
    proto = model_of(BODY, ARRAYS, IMAGE, domains=', "com.example": 3').proto
    proto.producer_name, proto.producer_version, proto.domain = "maker", "1.2", "com.example"
    proto.model_version, proto.doc_string = 7, "about the model"
    proto.metadata_props.add(key="author", value="somebody")
    graph = proto.graph
    graph.name, graph.doc_string = "net", "about the graph"
    graph.metadata_props.add(key="graph", value="note")
    for k, node in enumerate(graph.node):
        node.name, node.doc_string = f"node/{k}", f"about node {k}"
        node.metadata_props.add(key="node", value=str(k))
    for thing in (*graph.initializer, *graph.input, *graph.output):
        thing.doc_string = f"about {thing.name}"
        thing.metadata_props.add(key="thing", value=thing.name)
    graph.value_info.extend([helper.make_tensor_value_info(n, 1, ["N", 8, 8, 8], f"about {n}") for n in ("a", "s")])
    note = graph.quantization_annotation.add(tensor_name="w0")
    note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="scale")
    return onnxprune.Model(proto)


def pruned(model: onnxprune.Model, kept: dict[str, np.ndarray] | None = None) -> onnx.ModelProto:
    analysis = onnxprune.analyze(model)
    mask = make_mask(analysis, kept or {analysis.groups[0].name: KEPT}, {"method": "hand"})
    return onnxprune.apply(model, mask, verify=False, analysis=analysis).proto


def without_sizes(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy without what pruning may change: the numbers in tensors, their sizes, and the metadata entry."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        tensor.ClearField("dims")
        tensor.ClearField("raw_data")
    for info in copy.graph.value_info:
        info.type.tensor_type.shape.dim[1].ClearField("dim_value")
    for index, entry in enumerate(copy.metadata_props):
        if entry.key == "onnxprune":
            del copy.metadata_props[index]
    return copy


def test_all_that_is_not_a_size_survives() -> None:
    model = documented()
    after = pruned(model)
    assert without_sizes(after) == without_sizes(model.proto)
    onnx.checker.check_model(after, full_check=True)


def test_the_weights_are_the_kept_slices() -> None:
    found = tensors(pruned(documented()))
    assert found.keys() == ARRAYS.keys()
    assert (found["w0"] == ARRAYS["w0"][KEPT]).all() and (found["b0"] == ARRAYS["b0"][KEPT]).all()
    assert (found["w1"] == ARRAYS["w1"][:, KEPT]).all()


def test_value_infos_state_the_new_sizes() -> None:
    after = pruned(documented()).graph
    stated = {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in after.value_info}
    assert stated == {"a": ["N", 4, 8, 8], "s": ["N", 4, 8, 8]}
    assert [d.dim_param or d.dim_value for d in after.input[0].type.tensor_type.shape.dim] == ["N", 3, 8, 8]


def test_the_input_is_not_changed() -> None:
    model = documented()
    before = model.proto.SerializeToString(deterministic=True)
    after = pruned(model)
    after.graph.node[0].name = "changed"
    after.graph.initializer[2].doc_string = "changed"
    assert model.proto.SerializeToString(deterministic=True) == before


def test_where_nothing_goes_all_stays() -> None:
    model = documented()
    after = pruned(model, {"w0": np.ones(8, bool)})
    entry = after.metadata_props.pop()
    assert entry.key == "onnxprune"
    assert after.SerializeToString(deterministic=True) == model.proto.SerializeToString(deterministic=True)


# The provenance -------------------------------------------------------------------------------------------------


def test_the_provenance_is_in_the_metadata() -> None:
    model = model_of(BODY, ARRAYS, IMAGE)
    analysis = onnxprune.analyze(model)
    mask = onnxprune.choose(analysis, keep=0.5, score="random", seed=5)
    (entry,) = onnxprune.apply(model, mask).proto.metadata_props
    told = json.loads(entry.value)
    assert entry.key == "onnxprune"
    assert told.items() >= {"method": "random", "seed": 5, "keep": 0.5, "by_structure": False}.items()
    assert told["mask"] == mask.digest and told["fingerprint"] == analysis.fingerprint
    assert told["version"] == version("onnxprune")


def test_a_second_pruning_tells_of_itself() -> None:
    """One entry, of the last pruning; others stay."""
    first = onnxprune.Model(pruned(documented()))
    second = pruned(first, {"w0": np.array([1, 1, 0, 1], bool)})
    assert [entry.key for entry in second.metadata_props] == ["author", "onnxprune"]
    assert json.loads(second.metadata_props[1].value)["fingerprint"] == onnxprune.analyze(first).fingerprint
    assert tensors(second)["w0"].shape == (3, 3, 1, 1)


# Where weights are kept -----------------------------------------------------------------------------------------


def with_constants(model: onnxprune.Model) -> onnxprune.Model:
    """The weights as values of Constant nodes."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    for tensor in reversed(proto.graph.initializer):
        node = helper.make_node(
            "Constant", [], [tensor.name], f"constant/{tensor.name}", doc_string="kept", value=tensor
        )
        proto.graph.node.insert(0, node)
    del proto.graph.initializer[:]
    return onnxprune.Model(proto)


def test_constant_nodes_are_cut_where_they_are() -> None:
    plain = model_of(BODY, ARRAYS, IMAGE)
    after, expected = pruned(with_constants(plain)), tensors(pruned(plain))
    assert not after.graph.initializer
    assert [n.name for n in after.graph.node[:3]] == [f"constant/{name}" for name in ARRAYS]
    assert all(n.doc_string == "kept" for n in after.graph.node[:3])
    found = tensors(after)
    assert all((found[name] == expected[name]).all() for name in ARRAYS)


def as_floats(tensor: onnx.TensorProto) -> None:
    values = numpy_helper.to_array(tensor).ravel().tolist()
    tensor.ClearField("raw_data")
    tensor.float_data.extend(values)


def test_values_outside_of_raw_data_are_cut() -> None:
    plain = model_of(BODY, ARRAYS, IMAGE)
    expected = tensors(pruned(plain))
    for tensor in plain.proto.graph.initializer:
        as_floats(tensor)
    found = tensors(pruned(plain))
    assert all((found[name] == expected[name]).all() for name in ARRAYS)


@pytest.mark.parametrize("kind", [np.float16, np.float64])
def test_types_stay(kind: type) -> None:
    name = {np.float16: "float16", np.float64: "double"}[kind]
    arrays = {key: array.astype(kind) for key, array in ARRAYS.items()}
    after = pruned(model_of(BODY, arrays, f"{name}[N, 3, 8, 8] x", outputs=f"{name} y"))
    assert {array.dtype for array in tensors(after).values()} == {np.dtype(kind)}


SHARED = """
    a = Conv (x, w0)
    b = Conv (x, v0)
    r = Reshape (a, to)
    s = Reshape (b, to)
    p = MatMul (u, r)
    q = MatMul (v, s)
    y = Add (p, q)
"""
VIEWS = weights(w0=(8, 3, 1, 1), v0=(8, 3, 1, 1), u=(5, 8), v=(5, 8)) | ints(to=[2, 8, 64])


def test_a_shared_constant_is_rewritten_once_or_copied_for_one_reader() -> None:
    model = model_of(SHARED, VIEWS, "float[2, 3, 8, 8] x")
    both, one = pruned(model, {"w0": KEPT, "v0": KEPT}), pruned(model, {"w0": KEPT})
    assert tensors(both).keys() == VIEWS.keys() and tensors(both)["to"].tolist() == [2, 4, 64]
    assert tensors(one)["to"].tolist() == [2, 8, 64]
    (own,) = tensors(one).keys() - VIEWS.keys()
    assert own.startswith("to/") and tensors(one)[own].tolist() == [2, 4, 64]
    for proto in (both, one):
        feeds = {"x": np.ones((2, 3, 8, 8), np.float32)}
        assert run(proto, feeds)[0].shape == (2, 5, 64)


def test_a_weight_of_two_layers_is_cut_once() -> None:
    case = REGISTRY["weight_in_series"]()
    after = tensors(pruned(onnxprune.Model(case.model)))
    whole = tensors(case.model)
    assert (after["shared"] == whole["shared"][KEPT][:, KEPT]).all() and after.keys() == whole.keys()
