"""torch as a runtime: its outputs are onnxruntime's, in every opset, or the operator is named."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import onnxprune
from onnxprune.errors import ModelError, UsageError
from onnxprune.execution import random_inputs, relative_difference
from onnxprune.latency import Plan, Setting, compare
from onnxprune.latency.children import run_alone
from onnxprune.latency.runtimes import Elsewhere, runtime
from onnxprune.torch import runtime as module
from onnxprune.torch.conversion import convert
from tests.latency.test_paired import perceptron

OPSETS = (17, 18, 20, 22)


@pytest.fixture(autouse=True)
def here(monkeypatch):
    """Have onnxruntime compute in this process, which is quicker; one test does not."""
    monkeypatch.setattr(module, "run_alone", lambda work, *args: work(*args))


def made(nodes, tensors=None, opset=17, shape=(2, 3, 8, 8), outputs=("y",)):
    """A model of some nodes between `x` and outputs of unknown sizes."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    known = {name: numpy_helper.from_array(np.asarray(array), name) for name, array in (tensors or {}).items()}
    graph = helper.make_graph(nodes, "net", [x], [onnx.ValueInfoProto(name=n) for n in outputs], list(known.values()))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return onnxprune.Model(onnx.shape_inference.infer_shapes(model))


def reduced(op, opset, axes=(2, 3)):
    if opset < 18:
        return [helper.make_node(op, ["x"], ["y"], axes=list(axes), keepdims=0)], {}
    return [helper.make_node(op, ["x", "axes"], ["y"], keepdims=0)], {"axes": np.array(axes, np.int64)}


def prepared(model, setting=None, name="torch"):
    return runtime(name).prepare(model, random_inputs(model, 0), setting or Setting(threads=1))


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("op", ["ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare"])
def test_reductions_of_every_opset(op, opset):
    nodes, tensors = reduced(op, opset)
    assert prepared(made(nodes, tensors, opset)).outputs()[0].shape == (2, 3)


@pytest.mark.parametrize("opset", OPSETS)
def test_common_operators_of_every_opset(opset):
    rng = np.random.default_rng(0)
    tensors = {"w": rng.standard_normal((6, 3, 3, 3)).astype(np.float32), "shape": np.array([0, 6, -1], np.int64)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1] * 4),
        helper.make_node("AveragePool", ["a"], ["b"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Reshape", ["b", "shape"], ["c"], allowzero=0),
        helper.make_node("Transpose", ["c"], ["d"], perm=[0, 2, 1]),
        helper.make_node("Softmax", ["d"], ["y"], axis=-1),
    ]
    assert prepared(made(nodes, tensors, opset)).outputs()[0].shape == (2, 16, 6)


def test_a_split_into_a_number_of_parts():
    nodes = [helper.make_node("Split", ["x"], ["a", "b"], axis=1, num_outputs=2), helper.make_node("Neg", ["b"], ["y"])]
    assert prepared(made(nodes, opset=18, shape=(2, 5))).outputs()[0].shape == (2, 2)


@pytest.mark.parametrize("kind", ["none", "tanh"])
def test_gelu(kind):
    prepared(made([helper.make_node("Gelu", ["x"], ["y"], approximate=kind)], opset=20))


def test_an_attribute_that_is_newer_is_not_dropped():
    plain = helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[2, 2])
    assert prepared(made([plain], opset=19)).outputs()[0].shape == (2, 3, 7, 7)
    node = helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[2, 2], dilations=[2, 2])
    with pytest.raises(ModelError, match="node 'y': operator AveragePool of opset 19 is not converted to torch"):
        prepared(made([node], opset=19))


def test_an_operator_that_is_not_converted_is_named():
    with pytest.raises(ModelError, match="node 'name': operator Det of opset 17 is not converted to torch"):
        prepared(made([helper.make_node("Det", ["x"], ["y"], "name")]))


def test_outputs_that_differ_from_onnxruntimes_are_an_error(monkeypatch):
    model = onnxprune.Model(perceptron(8))
    right = convert(model)
    monkeypatch.setattr(module, "convert", lambda model: torch.fx.symbolic_trace(Off(right)))
    with pytest.raises(ModelError, match="converted to torch it differs from onnxruntime by"):
        prepared(model)


class Off(torch.nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x) + 0.1


def test_facts_with_onnxruntime_in_a_process_of_its_own(monkeypatch):
    monkeypatch.setattr(module, "run_alone", run_alone)
    facts = prepared(onnxprune.Model(perceptron(8))).facts
    assert facts.placement == {"torch": 3} and facts.cache == "none" and facts.device
    assert facts.versions.keys() == {"torch", "onnx2torch"} and facts.options["compiled"] is False


def test_low_precision_is_another_result():
    model = onnxprune.Model(perceptron(256))
    exact, rough = (prepared(model, Setting(threads=1, precision=p)).outputs() for p in ("fp32", "bf16"))
    assert 1e-5 < relative_difference(exact, rough) < 0.1 and rough[0].dtype == np.float32


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    model = onnxprune.Model(perceptron(8))
    first = prepared(model, name="torch-compile")
    assert first.facts.options["compiled"] is True and first.facts.cache == "cold"
    assert relative_difference(prepared(model).outputs(), first.outputs()) < 1e-5


def test_models_take_turns_in_torch():
    models = [onnxprune.Model(perceptron(width)) for width in (8, 2048)]
    found = compare(
        models, Plan(rounds=11, warm_up=2, runtime="torch", setting=Setting(threads=1), sizes={"batch": 64})
    )
    assert found.models[1].ratio.low > 1 and found.runtime == f"torch {torch.__version__}"


@pytest.mark.parametrize("changed", [{"tf32": True}, {"precision": "fp8"}])
def test_settings_that_it_has_not_are_refused(changed):
    with pytest.raises(UsageError, match="runtime 'torch' does not"):
        prepared(onnxprune.Model(perceptron(8)), Setting(**changed))


def test_a_runtime_whose_library_is_missing_is_told():
    lost = Elsewhere("lost", "onnxprune.torch.nowhere", "EAGER", "torch", "torch-runtime")
    assert lost.version == ""
    with pytest.raises(UsageError, match="runtime 'lost': torch cannot be used") as caught:
        lost.prepare(onnxprune.Model(perceptron(8)), {}, Setting())
    assert caught.value.fix == "pip install 'onnxprune[torch-runtime]'"
