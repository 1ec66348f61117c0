"""The exporter keeps parameters apart, under their names, and the file computes what the module computes."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from models.export import export
from models.resnet_cifar import resnet20
from models.yolov3 import Convolutional, head, randomize


@pytest.fixture
def detector() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(Convolutional(3, 8, 3), Convolutional(8, 16, 3, stride=2), *head(16, 4, classes=1))
    randomize(model)
    return model.eval()


def test_parameters_keep_names_and_values(tmp_path, detector):
    export(detector, torch.zeros(1, 3, 16, 16), tmp_path / "m.onnx", ["image"], ["map"])
    kept = {t.name: numpy_helper.to_array(t) for t in onnx.load(tmp_path / "m.onnx").graph.initializer}
    named = {n: t for n, t in detector.state_dict().items() if not n.endswith("num_batches_tracked")}
    assert named.keys() <= kept.keys()
    assert all(np.array_equal(kept[n], t.numpy()) for n, t in named.items())


def test_batchnorm_stays_apart(tmp_path):
    export(resnet20(), torch.zeros(1, 3, 32, 32), tmp_path / "m.onnx", ["image"], ["logits"])
    ops = [n.op_type for n in onnx.load(tmp_path / "m.onnx").graph.node]
    assert ops.count("Conv") == ops.count("BatchNormalization") == 21


@pytest.mark.parametrize("opset", [13, 17])
def test_file_computes_what_the_module_computes(tmp_path, detector, opset):
    export(detector, torch.zeros(1, 3, 16, 16), tmp_path / "m.onnx", ["image"], ["map"], opset=opset)
    assert onnx.load(tmp_path / "m.onnx").opset_import[0].version == opset
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    batch = torch.randn(3, 3, 16, 16)
    (got,) = session.run(["map"], {"image": batch.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(got, detector(batch).numpy(), rtol=1e-4, atol=1e-5)


def test_mode_is_left_as_it_was(tmp_path, detector):
    detector.train()
    before = {n: t.clone() for n, t in detector.state_dict().items()}
    export(detector, torch.zeros(1, 3, 16, 16), tmp_path / "m.onnx", ["image"], ["map"])
    assert detector.training
    assert all(torch.equal(t, before[n]) for n, t in detector.state_dict().items())
