"""A tiny network on disk, and the command line run on it in this process."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import TensorProto, helper, numpy_helper

import onnxprune
from onnxprune import report
from onnxprune.cli import application
from onnxprune.mask import make_mask
from tests.micrographs import REGISTRY

Run = Callable[..., Result]


def network(width: int = 8, second: int = 6, seed: int = 0) -> onnx.ModelProto:
    """Conv, BatchNormalization, Relu, Conv, Relu, pool, Gemm; the batch has no fixed size."""
    rng = np.random.default_rng(seed)
    shapes = {"conv1.w": (width, 3, 3, 3), "conv2.w": (second, width, 3, 3), "fc.w": (5, second), "fc.b": (5,)}
    weights = {name: rng.standard_normal(shape) / 3 for name, shape in shapes.items()}
    weights |= {f"bn.{k}": rng.uniform(0.5, 1.5, width) for k in ("s", "b", "m", "v")}
    nodes = [
        helper.make_node("Conv", ["x", "conv1.w"], ["a"], "conv1"),
        helper.make_node("BatchNormalization", ["a", "bn.s", "bn.b", "bn.m", "bn.v"], ["b"], "bn"),
        helper.make_node("Relu", ["b"], ["c"], "relu1"),
        helper.make_node("Conv", ["c", "conv2.w"], ["d"], "conv2"),
        helper.make_node("Relu", ["d"], ["e"], "relu2"),
        helper.make_node("GlobalAveragePool", ["e"], ["f"], "pool"),
        helper.make_node("Flatten", ["f"], ["g"], "flat"),
        helper.make_node("Gemm", ["g", "fc.w", "fc.b"], ["y"], "fc", transB=1),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 8, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 5])
    tensors = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "net", [x], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of every file in a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def with_tensor(model: onnx.ModelProto, name: str, array: np.ndarray) -> onnx.ModelProto:
    """A copy of `model` in which the initializer `name` holds `array`."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    tensor = next(t for t in copy.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(array, name))
    return copy


def array_of(model: onnx.ModelProto, name: str) -> np.ndarray:
    """The values of an initializer."""
    return numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == name))


@pytest.fixture
def residual(folder: Path) -> Path:
    """The folder with a model of one residual branch, `w1`, and the mask that drops it."""
    model = onnxprune.Model(REGISTRY["residual"]().model)
    onnxprune.save(model, folder / "residual.onnx")
    mask = make_mask(onnxprune.analyze(model), {}, {"method": "hand"}, ["w1"])
    report.write_text(folder / "drop.json", report.document(mask.to_json()))
    return folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with the network in model.onnx."""
    monkeypatch.chdir(tmp_path)
    onnx.save(network(), tmp_path / "model.onnx")
    return tmp_path


@pytest.fixture
def run(folder: Path) -> Run:
    """Run the command line in the folder."""
    return lambda *words: CliRunner().invoke(application, [str(word) for word in words])


@pytest.fixture
def pruned(run: Run) -> Path:
    """The folder, with mask.json and small.onnx beside the network."""
    done = run("prune", "model.onnx", "--keep", 0.5, "-o", "small.onnx", "--save-mask", "mask.json")
    assert done.exit_code == 0, done.output
    return Path()


def document(result: Result) -> dict:
    """What a verb printed with --json: one document and nothing else."""
    content = json.loads(result.stdout)
    assert isinstance(content, dict)
    return content


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written to the user's cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
