"""Models cut from their bytes: the bytes are let go."""

import gc
import sys
from pathlib import Path

import pytest

from onnxprune.wire import detached, skeleton

MODEL = Path(__file__).parents[1] / "models" / "zoo" / "resnet11_cifar10.onnx"
CUTS = {"skeleton": skeleton, "detached": lambda data: detached(data, 1024, lambda tensor, offset, length: None)}


@pytest.mark.parametrize("cut", CUTS)
def test_data_are_let_go_without_a_garbage_collection(cut):
    data = MODEL.read_bytes()
    before, enabled = sys.getrefcount(data), gc.isenabled()
    gc.disable()
    try:
        CUTS[cut](data)
        assert sys.getrefcount(data) == before
    finally:
        if enabled:
            gc.enable()
