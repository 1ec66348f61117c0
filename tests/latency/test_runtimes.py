"""Runtimes: that they run, say what ran where, and refuse what they cannot do instead of doing something else."""

import ctypes
from pathlib import Path

import numpy as np
import pytest

import onnxprune
from onnxprune.errors import ModelError, UsageError
from onnxprune.execution import random_inputs, relative_difference, run
from onnxprune.latency import RUNTIMES, Setting
from onnxprune.latency.runtimes import runtime, sessions
from onnxprune.latency.runtimes.base import Facts, Missing
from onnxprune.latency.runtimes.cuda import no_gpu
from onnxprune.latency.runtimes.files import digest
from onnxprune.latency.runtimes.ort_cuda import ORT_CUDA, cuda_options
from onnxprune.latency.runtimes.ort_tensorrt import tensorrt_options

ZOO = Path(__file__).parents[2] / "models" / "zoo" / "resnet11_cifar10.onnx"
HERE = [name for name, engine in RUNTIMES.items() if name != "torch-compile" and engine.missing() is None]
"""That can be used; to compile takes a minute, and is tested on a smaller model (tests/torch/test_runtime.py)."""


@pytest.fixture(scope="module")
def model():
    return onnxprune.load(ZOO)


@pytest.fixture(scope="module")
def feeds(model):
    return random_inputs(model, 0)


@pytest.mark.parametrize("name", HERE)
def test_it_computes_what_the_model_says(name, model, feeds):
    prepared = runtime(name).prepare(model, feeds, Setting(threads=1))
    prepared.run()
    assert relative_difference(run(model, [feeds])[0], prepared.outputs()) < 1e-4
    facts = prepared.facts
    assert facts.build > 0 and facts.first > 0 and sum(facts.placement.values()) > 10


@pytest.mark.parametrize("name", HERE)
def test_a_model_that_does_not_run_is_told_in_a_line(name, model, feeds):
    wrong = {input_: np.zeros((1, 5, 32, 32), np.float32) for input_ in feeds}
    with pytest.raises(ModelError, match="does not run in") as caught:
        runtime(name).prepare(model, wrong, Setting(threads=1))
    assert "\n" not in caught.value.what


def test_an_unknown_runtime_names_the_others():
    with pytest.raises(UsageError, match="unknown runtime 'fast'") as caught:
        runtime("fast")
    assert all(name in caught.value.fix for name in RUNTIMES)


@pytest.mark.skipif("cuda" in HERE, reason="there is a GPU")
@pytest.mark.parametrize("name", ["cuda", "ort-tensorrt"])
def test_a_wheel_without_the_provider_is_told_and_nothing_else_runs(name, model, feeds):
    with pytest.raises(UsageError, match=f"runtime '{name}': the installed onnxruntime .* has no .*Provider") as caught:
        runtime(name).prepare(model, feeds, Setting())
    assert "pip uninstall -y onnxruntime && pip install 'onnxprune[gpu]'" in caught.value.fix


def test_a_machine_without_a_driver_is_told(monkeypatch):
    def load(name):
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", load)
    assert "no NVIDIA driver" in no_gpu().why


@pytest.mark.parametrize(("start", "count"), [(1, 1), (0, 0)])
def test_a_driver_without_a_gpu_is_told(monkeypatch, start, count):
    class Driver:
        def cuInit(self, flags):
            return start

        def cuDeviceGetCount(self, pointer):
            pointer._obj.value = count
            return 0

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver())
    assert "finds no GPU" in no_gpu().why


def test_openvino_that_is_not_installed_is_told(monkeypatch, model, feeds):
    monkeypatch.setattr("onnxprune.latency.runtimes.openvino.installed", lambda name: None)
    with pytest.raises(UsageError, match="runtime 'openvino': openvino is not installed") as caught:
        runtime("openvino").prepare(model, feeds, Setting())
    assert caught.value.fix == "pip install 'onnxprune[openvino]'"


@pytest.mark.skipif("openvino" not in HERE, reason="openvino is not installed")
def test_openvino_refuses_precisions_that_it_does_not_know(model, feeds):
    with pytest.raises(UsageError, match="does not know the precision 'fp8'"):
        runtime("openvino").prepare(model, feeds, Setting(precision="fp8"))


def test_a_provider_that_did_not_start_is_no_success(monkeypatch, model, feeds):
    """onnxruntime falls back to the CPU with no more than a line in its log."""
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    cuda = sessions.Provider("cuda", "CUDAExecutionProvider", options=cuda_options, wheel="w")
    with pytest.warns(UserWarning, match="CUDAExecutionProvider"), pytest.raises(UsageError, match="did not start"):
        cuda.prepare(model, feeds, Setting())


def test_nodes_left_to_others_are_an_error_unless_allowed(model):
    facts = Facts({"CUDAExecutionProvider": 40, "CPUExecutionProvider": 2}, 1.0, 1.0)
    with pytest.raises(ModelError, match="would leave nodes to others: 2 on CPUExecutionProvider"):
        ORT_CUDA._refuse_fallback(model, facts, Setting())
    ORT_CUDA._refuse_fallback(model, facts, Setting(fallback=True))
    ORT_CUDA._refuse_fallback(model, Facts({"CUDAExecutionProvider": 42}, 1.0, 1.0), Setting())


def test_settings_reach_the_providers(tmp_path):
    options = cuda_options(Setting(device=1, tf32=True, nhwc=True, search="heuristic", graph=True))
    assert options == {
        "device_id": "1",
        "use_tf32": "1",
        "prefer_nhwc": "1",
        "cudnn_conv_algo_search": "HEURISTIC",
        "enable_cuda_graph": "1",
    }
    options = tensorrt_options(Setting(precision="fp16", cache=tmp_path))
    assert (
        options["trt_fp16_enable"] is True
        and options["trt_bf16_enable"] is False
        and options["trt_engine_cache_path"] == str(tmp_path)
    )
    assert "trt_engine_cache_enable" not in tensorrt_options(Setting())


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("cpu", {"tf32": True}),
        ("cuda", {"cache": Path("x")}),
        ("openvino", {"binding": False}),
        ("cpu", {"graph": True}),
    ],
)
def test_what_a_runtime_would_ignore_is_refused(name, changed, model, feeds):
    with pytest.raises(UsageError, match=f"runtime '{name}' does not take {next(iter(changed))}"):
        runtime(name).prepare(model, feeds, Setting(**changed))


def test_a_precision_that_a_runtime_has_not_is_refused(model, feeds):
    with pytest.raises(UsageError, match="does not know the precision 'fp16'"):
        runtime("cpu").prepare(model, feeds, Setting(precision="fp16"))


def test_engines_of_two_models_lie_apart():
    one, other = (digest(content) for content in (b"dense", b"pruned"))
    assert one != other and one == digest(b"dense")


def test_what_is_missing_is_an_error_with_a_fix():
    error = Missing("it is not there", "install it").error("cpu")
    assert (error.what, error.fix) == ("runtime 'cpu': it is not there", "install it")
