"""TensorRT: what is ours of it, over a module and a driver that pretend to be NVIDIA's. Nothing here ran on a GPU."""

import sys
from types import ModuleType

import numpy as np
import onnx
import pytest
from onnx import helper

import onnxprune
from onnxprune.environment import installed
from onnxprune.errors import ModelError, UsageError
from onnxprune.execution import random_inputs, relative_difference, run
from onnxprune.latency import Plan, Setting, compare
from onnxprune.latency.runtimes import cuda, runtime
from onnxprune.latency.runtimes.base import Range
from onnxprune.latency.runtimes.ort_tensorrt import profile_options
from onnxprune.latency.runtimes.profiles import profiles
from tests.latency import pretended_tensorrt
from tests.latency.drivers import build_driver, needs_compiler
from tests.latency.test_paired import perceptron

pytestmark = needs_compiler


@pytest.fixture
def tensorrt(tmp_path, monkeypatch):
    """The module as a version of it."""

    def install(version="10.9.0"):
        module = ModuleType("tensorrt")
        vars(module).update(vars(pretended_tensorrt), __version__=version)
        if int(version.partition(".")[0]) > 10:
            module.BuilderFlag = type("BuilderFlag", (), {"TF32": pretended_tensorrt.BuilderFlag.TF32})
        monkeypatch.setitem(sys.modules, "tensorrt", module)
        (tmp_path / version).mkdir()
        pretended_tensorrt.install(tmp_path / version, version)
        monkeypatch.syspath_prepend(str(tmp_path / version))
        monkeypatch.setattr(cuda, "DRIVER", str(build_driver(tmp_path)))
        pretended_tensorrt.BUILT.clear()
        pretended_tensorrt.LOGGERS.clear()
        installed.cache_clear()
        return runtime("tensorrt")

    yield install
    installed.cache_clear()


def network(width=8, name="net"):
    proto = perceptron(width)
    proto.graph.name = name
    return onnxprune.Model(proto)


def feeds(model, batch=2):
    return random_inputs(model, 0, {"batch": batch})


def test_it_computes_what_the_model_says(tensorrt):
    model = network()
    engine, x = tensorrt(), feeds(network())
    prepared = engine.prepare(model, x, Setting())
    assert relative_difference(run(model, [x])[0], prepared.outputs()) < 1e-6
    facts = prepared.facts
    assert facts.placement == {"TensorRT": 3} and facts.cache == "none" and facts.memory > 0
    assert facts.versions["tensorrt"] == "10.9.0" and facts.device.startswith("Pretended GPU (0, GPU-")
    assert facts.build > 0 and facts.first > 0 and prepared.apart().device == pytest.approx(0.002)


@pytest.mark.parametrize(
    ("changed", "flags"),
    [({}, []), ({"tf32": True}, ["TF32"]), ({"precision": "fp16"}, ["FP16"]), ({"precision": "bf16"}, ["BF16"])],
)
def test_settings_are_the_builders_flags(tensorrt, changed, flags):
    tensorrt().prepare(network(), feeds(network()), Setting(**changed))
    assert pretended_tensorrt.BUILT[0]["flags"] == flags


def test_profiles_are_what_is_run_or_a_range(tensorrt):
    engine = tensorrt()
    engine.prepare(network(), feeds(network(), 4), Setting())
    engine.prepare(network(), feeds(network(), 4), Setting(ranges={"batch": Range(1, 8, 64)}))
    assert [built["profile"]["x"] for built in pretended_tensorrt.BUILT] == [
        [[4, 64]] * 3,
        [[1, 64], [8, 64], [64, 64]],
    ]


def test_engines_are_kept_by_all_that_they_depend_on(tensorrt, tmp_path):
    engine, kept = tensorrt(), Setting(cache=tmp_path / "cache")
    states = [engine.prepare(network(), feeds(network()), kept).facts.cache for _ in range(2)]
    assert states == ["cold", "warm"] and len(pretended_tensorrt.BUILT) == 1
    for model, batch, how in ((network(9), 2, {}), (network(), 3, {}), (network(), 2, {"tf32": True})):
        assert (
            engine.prepare(model, feeds(model, batch), Setting(cache=tmp_path / "cache", **how)).facts.cache == "cold"
        )
    assert [built["timings"] for built in pretended_tensorrt.BUILT] == [b"timed;" * k for k in range(4)]


def test_an_engine_of_another_version_is_built_anew(tensorrt, tmp_path):
    how = Setting(cache=tmp_path / "cache")
    assert tensorrt("10.9.0").prepare(network(), feeds(network()), how).facts.cache == "cold"
    assert tensorrt("10.10.0").prepare(network(), feeds(network()), how).facts.cache == "cold"


def test_an_engine_of_another_device_is_built_anew(tensorrt, tmp_path, monkeypatch):
    engine, how = tensorrt(), Setting(cache=tmp_path / "cache")
    assert engine.prepare(network(), feeds(network()), how).facts.cache == "cold"
    monkeypatch.setattr(cuda.Gpu, "name", "Another GPU")
    assert engine.prepare(network(), feeds(network()), how).facts.cache == "cold"


def test_a_torn_engine_is_told(tensorrt, tmp_path):
    engine, how = tensorrt(), Setting(cache=tmp_path / "cache")
    engine.prepare(network(), feeds(network()), how)
    (kept,) = (tmp_path / "cache").glob("*.engine")
    kept.write_bytes(b"torn")
    with pytest.raises(ModelError, match="TensorRT loads no engine: magic tag does not match"):
        engine.prepare(network(), feeds(network()), how)


def test_an_operator_that_it_lacks_is_named(tensorrt):
    model = network()
    model.proto.graph.node.append(helper.make_node("Det", ["y"], ["z"], "what"))
    with pytest.raises(ModelError, match=r"No importer registered \(node 'what', operator Det\)"):
        tensorrt().prepare(model, feeds(model), Setting())


def test_an_engine_that_is_not_built_is_told_in_a_line(tensorrt):
    model = network(name="refuse")
    with pytest.raises(ModelError, match="the model: TensorRT builds no engine: no tactic fits"):
        tensorrt().prepare(model, feeds(model), Setting())


def test_version_11_takes_no_precision(tensorrt):
    engine = tensorrt("11.4.0")
    with pytest.raises(UsageError, match=r"TensorRT 11\.4\.0 computes in the model's own types") as caught:
        engine.prepare(network(), feeds(network()), Setting(precision="fp16"))
    assert "AutoCast" in caught.value.fix
    assert engine.prepare(network(), feeds(network()), Setting()).facts.versions["tensorrt"] == "11.4.0"


def test_an_output_without_a_type_or_a_size_is_refused(tensorrt):
    half = perceptron(8)
    half.graph.node[-1].output[0] = half.graph.output[0].name = "half"
    with pytest.raises(ModelError, match="output 'half': Could not resolve"):
        tensorrt().prepare(onnxprune.Model(half), feeds(network()), Setting())
    open_ = perceptron(8)
    open_.graph.node.append(helper.make_node("NonZero", ["y"], ["n"]))
    open_.graph.output.append(helper.make_tensor_value_info("n", onnx.TensorProto.INT64, [2, "found"]))
    with pytest.raises(ModelError, match="the size of output 'n' depends on the inputs' values"):
        runtime("tensorrt").prepare(onnxprune.Model(open_), feeds(network()), Setting())


def test_models_take_turns(tensorrt):
    tensorrt()
    found = compare([network(8), network(512)], Plan(rounds=5, warm_up=1, runtime="tensorrt", sizes={"batch": 8}))
    assert found.runtime == "tensorrt 10.9.0" and found.models[0].memory > 0 and found.models[1].apart is not None


@pytest.mark.parametrize("changed", [{"graph": True}, {"binding": False}, {"nhwc": True}, {"threads": 2}])
def test_settings_that_it_has_not_are_refused(tensorrt, changed):
    with pytest.raises(UsageError, match=f"runtime 'tensorrt' does not take {next(iter(changed))}"):
        tensorrt().prepare(network(), feeds(network()), Setting(**changed))


def test_ranges_are_checked():
    model = network()
    with pytest.raises(UsageError, match="the range 8:1:64 does not rise"):
        Range(8, 1, 64)
    with pytest.raises(UsageError, match="no input has the dimension 'width'; symbolic ones: batch"):
        profiles(model, feeds(model), {"width": Range(1, 1, 1)})
    with pytest.raises(UsageError, match=r"x\[0\] is run at 2, and its engine is built for 4 to 8"):
        profiles(model, feeds(model), {"batch": Range(4, 4, 8)})


def test_profiles_are_options_of_onnxruntimes_provider():
    model = network()
    assert profile_options(profiles(model, feeds(model), {"batch": Range(1, 2, 4)})) == {
        "trt_profile_min_shapes": "x:1x64",
        "trt_profile_opt_shapes": "x:2x64",
        "trt_profile_max_shapes": "x:4x64",
    }
    assert profile_options({}) == {}
    fixed = onnxprune.Model(model.proto)
    fixed.proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    assert profiles(fixed, {"x": np.zeros((2, 64))}, {}) == {}
