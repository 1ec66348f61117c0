"""Everything that can be missing or break under a benchmark, each really brought about: one line, a fix, exit status 2.

The command runs as a process of its own. A folder at the head of its path makes the machine a different one: another
driver, another package, a runtime that falls back or dies (`sitecustomize.py` is read by it and by all its children).
"""

import os
import re
import resource
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnxprune.latency import RUNTIMES
from tests.latency.drivers import COMPILER, build_driver
from tests.latency.test_paired import perceptron

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
PROVIDERS = "import onnxruntime\nonnxruntime.get_available_providers = lambda: ['CUDAExecutionProvider']\n"
ADDED = """
import os, signal
from onnxprune.latency.runtimes import RUNTIMES
from onnxprune.latency.runtimes.sessions import Provider

class Deadly(Provider):
    def prepare(self, model, feeds, setting):
        os.write(2, b"about to fall\\n")
        os.kill(os.getpid(), signal.SIGSEGV)

# A provider of every wheel, which takes none of these nodes: onnxruntime gives them to the CPU, and says nothing.
RUNTIMES["azure"] = Provider("azure", "AzureExecutionProvider")
RUNTIMES["deadly"] = Deadly("deadly", "CPUExecutionProvider")
"""
NO_OPENVINO = """
from importlib import metadata
real = metadata.version
def version(name):
    if name == "openvino":
        raise metadata.PackageNotFoundError(name)
    return real(name)
metadata.version = version
"""
ABOUT = "Metadata-Version: 2.1\nName: {}\nVersion: {}\n"
OLD = {
    "tensorrt/__init__.py": "__version__ = '8.6.1'\n",
    "tensorrt-8.6.1.dist-info/METADATA": ABOUT.format("tensorrt", "8.6.1"),
}
BROKEN = {
    "tensorrt/__init__.py": "import ctypes\nctypes.CDLL('libnvinfer.so.none')\n",
    "tensorrt-10.9.0.dist-info/METADATA": ABOUT.format("tensorrt", "10.9.0"),
}
TWO = {"onnxruntime_gpu-1.2.3.dist-info/METADATA": ABOUT.format("onnxruntime-gpu", "1.2.3")}


@dataclass(frozen=True)
class Case:
    """A failure.

    Attributes:
        words: after `bench`, the sizes of whose models are known.
        error, fix: patterns of what is told.
        files: that lie at the head of the path.
        driver: None for the machine's own, `broken` for a file that is none, or how many GPUs it has.
        models: files that are timed.
        size: what is said of it.
        memory: bytes of address space; 0 for all.
        survives: another runtime's results are shown.
    """

    words: str
    error: str
    fix: str
    files: Mapping[str, str] = field(default_factory=dict)
    driver: str | int | None = None
    models: tuple[str, ...] = ("model.onnx", "small.onnx")
    size: str = "--size batch=2"
    memory: int = 0
    survives: bool = False


CUDA = {"sitecustomize.py": PROVIDERS}
CASES = {
    "wrong wheel": Case("--runtime cuda", "the installed onnxruntime .* has no CUDAExecutionProvider", "pip uninstall"),
    "wrong wheel for TensorRT": Case("--runtime ort-tensorrt", "has no TensorrtExecutionProvider", "pip uninstall"),
    "two wheels": Case("", "several onnxruntime wheels are installed side by side", "pip uninstall", TWO),
    "no driver": Case("--runtime cuda", "there is no NVIDIA driver", "with an NVIDIA GPU", CUDA, "broken"),
    "no GPU": Case("--runtime cuda", "the NVIDIA driver finds no GPU", "nvidia-smi", CUDA, 0),
    "no such GPU": Case("--runtime cuda --device 3", "there is no GPU 3; there are 1", "--device 0 to 0", CUDA, 1),
    "missing library": Case("--runtime cuda", "CUDAExecutionProvider did not start", "install its libraries", CUDA, 1),
    "unknown provider": Case("--runtime fast", "'fast' is not one of", "bench --help"),
    "fallback": Case(
        "--runtime azure",
        "would leave nodes to others: [1-9]\\d* on CPUExecutionProvider",
        "--fallback",
        {"sitecustomize.py": ADDED},
    ),
    "a runtime that dies": Case(
        "--runtime cpu --runtime deadly",
        "died by SIGSEGV: about to fall",
        "another version",
        {"sitecustomize.py": ADDED},
        survives=True,
    ),
    "TensorRT is not installed": Case("--runtime tensorrt", "tensorrt is not installed", "onnxprune\\[tensorrt\\]"),
    "TensorRT without its library": Case("--runtime tensorrt", "does not load: libnvinfer.so.none", "pip", BROKEN),
    "old TensorRT": Case("--runtime tensorrt", "TensorRT 8.6.1 is too old, expected 10 or newer", "pip install", OLD),
    "OpenVINO is not installed": Case(
        "--runtime openvino", "openvino is not installed", "onnxprune\\[openvino\\]", {"sitecustomize.py": NO_OPENVINO}
    ),
    "an operator that torch lacks": Case(
        "--runtime torch",
        "operator GRU of opset 17 is not converted to torch",
        "another runtime",
        models=("gru.onnx",) * 2,
    ),
    "an operator that OpenVINO lacks": Case(
        "--runtime openvino", "does not run in OpenVINO: ", "export again", models=("foreign.onnx",) * 2
    ),
    "a model that fails": Case(
        "", "does not run in onnxruntime: .*Reshape", "export again", models=("fails.onnx",) * 2
    ),
    "out of memory": Case("", "out of memory", "smaller batch", size="--size batch=40000000", memory=4 << 30),
    "out of memory in a runtime": Case(
        "", "does not run in onnxruntime: .*alloc", "smaller batch", models=("hungry.onnx",) * 2, memory=4 << 30
    ),
    "no size": Case("", r"what is the size of x\[0\] \(batch\)\?", "--size batch=N", size=""),
    "no such dimension": Case("", "--size width: no input has this dimension", "check its name", size="--size width=2"),
    "a shape that does not fit": Case(
        "--shape x=2x63", "shape 2x63 does not fit batchx64", "sizes that the model", size=""
    ),
    "two sizes": Case("--shape x=3x64", "dimension 'batch' is both 2 and 3", "not two"),
    "inputs that do not fit": Case("--inputs wide.npz", "input 'x' is float64, expected float32", "astype", size=""),
    "no inputs": Case("--inputs none.npz", "none.npz: no inputs by name", "np.savez", size=""),
    "a setting it would ignore": Case("--tf32", "runtime 'cpu' does not take tf32", "leave it out"),
    "a precision it has not": Case("--precision fp16", "does not know the precision 'fp16'", "choose from: fp32"),
    "a graph without binding": Case(
        "--runtime cuda --cuda-graph --no-binding", "CUDA graph reads its inputs", "binding", CUDA, 1
    ),
    "a processor it has not": Case("--cpus 4096", "no processor 4096 here", "choose from these"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Models that run, and models that fail."""
    place = tmp_path_factory.mktemp("models")
    for name, width in (("model.onnx", 32), ("small.onnx", 8)):
        onnx.save(perceptron(width), place / name)
    np.savez(place / "wide.npz", x=np.zeros((2, 64)))
    rng = np.random.default_rng(0)
    weights = {"w": (1, 12, 64), "r": (1, 12, 4)}
    tensors = [onnx.numpy_helper.from_array(rng.random(s, np.float32), n) for n, s in weights.items()]
    gru = [
        helper.make_node("Unsqueeze", ["x", "axis"], ["u"]),
        helper.make_node("GRU", ["u", "w", "r"], ["y"], hidden_size=4),
    ]
    tensors.append(onnx.numpy_helper.from_array(np.array([0], np.int64), "axis"))
    _save(place / "gru.onnx", gru, tensors, 4)
    shape = onnx.numpy_helper.from_array(np.array([7, 11], np.int64), "shape")
    _save(place / "fails.onnx", [helper.make_node("Reshape", ["x", "shape"], ["y"], "reshape")], [shape], 2)
    wide = onnx.numpy_helper.from_array(np.array([50_000_000, 2, 64], np.int64), "wide")
    hungry = [helper.make_node("Expand", ["x", "wide"], ["e"]), helper.make_node("ReduceMax", ["e"], ["y"])]
    _save(place / "hungry.onnx", hungry, [wide], 3)
    det = [helper.make_node("Det", ["x"], ["d"]), helper.make_node("Mul", ["d", "two"], ["y"])]
    _save(place / "foreign.onnx", det, [onnx.numpy_helper.from_array(np.float32([2]), "two")], 1, ["batch", 64, 64])
    return place


def _save(path, nodes, tensors, rank, shape=("batch", 64)):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [f"d{k}" for k in range(rank)])
    graph = helper.make_graph(nodes, "net", [x], [y], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@pytest.mark.parametrize("name", CASES)
def test_it_is_told_in_a_line_with_a_fix_and_status_2(name, folder, tmp_path):
    case = CASES[name]
    done = _bench(case, folder, tmp_path)
    shown = done.stdout + done.stderr
    assert done.returncode == 2, shown
    assert "Traceback" not in shown and "internal error" not in shown
    if case.survives:
        assert "model.onnx" in done.stdout and "1 of 2 parts measured; 1 failed." in done.stdout
        assert re.search(case.error, done.stdout) and re.search(case.fix, done.stdout)
        return
    assert done.stdout == "", "nothing was timed in its place"
    error, fix = done.stderr.strip().splitlines()[-2:]
    assert re.match(f"error: .*({case.error})", error) and re.match(f"fix: .*{case.fix}", fix)


def _bench(case, folder, tmp_path):
    if isinstance(case.driver, int) and COMPILER is None:
        pytest.skip("there is no C compiler to build the driver with")
    for name, text in case.files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    if case.driver == "broken":
        (tmp_path / "libcuda.so.1").write_text("no library\n")
    elif case.driver is not None:
        build_driver(tmp_path, COUNT=case.driver)
    path = {"PYTHONPATH": os.pathsep.join([str(tmp_path), ROOT]), "LD_LIBRARY_PATH": str(tmp_path)}
    limit = (lambda: resource.setrlimit(resource.RLIMIT_AS, (case.memory,) * 2)) if case.memory else None
    words = [*case.models, *case.size.split(), *case.words.split(), "--runs", "2", "--no-memory"]
    command = [sys.executable, "-W", "ignore", "-m", "onnxprune.cli", "bench", *words]
    return subprocess.run(
        command, cwd=folder, env=os.environ | path, capture_output=True, text=True, preexec_fn=limit, timeout=300
    )


@pytest.mark.skipif("cuda" in [n for n, r in RUNTIMES.items() if r.missing() is None], reason="there is a GPU")
def test_a_sweep_over_runtimes_that_all_fail_shows_nothing(folder, tmp_path):
    done = _bench(Case("--runtime cuda --runtime tensorrt", "", ""), folder, tmp_path)
    assert done.returncode == 2 and "0 of 2 parts measured; 2 failed." in done.stdout
