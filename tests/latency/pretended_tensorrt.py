"""A module `tensorrt` without a GPU: the names that onnxprune uses, as version 10's documentation has them, over
onnxruntime. An engine is the ONNX file with its profile and flags; it is run on the addresses that it was given.
"""

import ctypes
import json
from enum import Enum
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

BUILT: list[dict] = []
"""What was built: flags, profile and whether timings were there."""


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING = range(3)


LOGGERS: list[ILogger] = []


def first(logger):
    """TensorRT goes on with the first logger that it was given."""
    LOGGERS.append(logger)
    return LOGGERS[0]


class BuilderFlag(Enum):
    FP16, BF16, TF32 = range(3)


class TensorIOMode(Enum):
    NONE, INPUT, OUTPUT = range(3)


def nptype(kind):
    if kind == "bfloat16":
        raise TypeError("Could not resolve TensorRT datatype to an equivalent numpy datatype.")
    return np.dtype(kind)


class Network:
    def __init__(self):
        self.path = ""

    @property
    def num_inputs(self):
        return len(self.model.graph.input)

    def get_input(self, k):
        value = self.model.graph.input[k]
        return type("ITensor", (), {"name": value.name, "is_shape_tensor": False})()


class ParserError:
    def __init__(self, node):
        self.node = node

    def desc(self):
        return "No importer\nregistered"

    def node_name(self):
        return self.node.name

    def node_operator(self):
        return self.node.op_type


class OnnxParser:
    def __init__(self, network, logger):
        self.network, self.errors = network, []

    @property
    def num_errors(self):
        return len(self.errors)

    def get_error(self, k):
        return self.errors[k]

    def parse_from_file(self, path):
        self.network.model = onnx.load(path)
        for node in self.network.model.graph.node:
            if node.op_type == "Det":
                self.errors.append(ParserError(node))
        return not self.errors


class Profile:
    def __init__(self):
        self.shapes = {}

    def set_shape(self, name, low, best, high):
        self.shapes[name] = [list(low), list(best), list(high)]


class TimingCache:
    def __init__(self, content):
        self.content = content

    def serialize(self):
        return self.content + b"timed;"


class Config:
    def __init__(self):
        self.flags, self.profiles = {BuilderFlag.TF32}, []

    def set_flag(self, flag):
        self.flags.add(flag)

    def clear_flag(self, flag):
        self.flags.discard(flag)

    def add_optimization_profile(self, profile):
        self.profiles.append(profile)

    def create_timing_cache(self, content):
        return TimingCache(content)

    def set_timing_cache(self, cache, ignore_mismatch):
        assert ignore_mismatch is False
        self.cache = cache


class Builder:
    def __init__(self, logger):
        self.logger = first(logger)

    def create_network(self, flags):
        return Network()

    def create_builder_config(self):
        return Config()

    def create_optimization_profile(self):
        return Profile()

    def build_serialized_network(self, network, config):
        if "refuse" in network.model.graph.name:
            self.logger.log(ILogger.WARNING, "not this")
            self.logger.log(ILogger.ERROR, "no tactic\nfits")
            return None
        head = {"flags": sorted(f.name for f in config.flags), "profile": config.profiles[0].shapes}
        BUILT.append({**head, "timings": config.cache.content})
        return json.dumps(head).encode() + b"\0" + network.model.SerializeToString()


class Engine:
    def __init__(self, plan):
        head, _, model = plan.partition(b"\0")
        self.profile = json.loads(head)["profile"]
        self.model = onnx.load_from_string(model)
        self.session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        self.inputs, self.outputs = self.session.get_inputs(), self.session.get_outputs()
        self.num_layers, self.num_io_tensors = len(self.model.graph.node), len(self.inputs) + len(self.outputs)

    def get_tensor_name(self, k):
        return [*self.inputs, *self.outputs][k].name

    def get_tensor_mode(self, name):
        return TensorIOMode.INPUT if name in [each.name for each in self.inputs] else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name):
        return "bfloat16" if name == "half" else "float32"

    def is_shape_inference_io(self, name):
        return False

    def create_execution_context(self):
        return Context(self)


class Context:
    def __init__(self, engine):
        self.engine, self.shapes, self.addresses = engine, {}, {}

    def set_input_shape(self, name, shape):
        self.shapes[name] = tuple(shape)
        low, _, high = self.engine.profile.get(name, [shape] * 3)
        return all(a <= size <= b for a, size, b in zip(low, shape, high, strict=True))

    def set_tensor_address(self, name, address):
        self.addresses[name] = address

    def get_tensor_shape(self, name):
        sizes = {"batch": next(iter(self.shapes.values()))[0]}
        (output,) = (each for each in self.engine.outputs if each.name == name)
        return [sizes.get(d, -1) if isinstance(d, str) or d is None else d for d in output.shape]

    def execute_async_v3(self, stream):
        assert stream
        feeds = {name: self._array(name, shape) for name, shape in self.shapes.items()}
        for output, value in zip(self.engine.outputs, self.engine.session.run(None, feeds), strict=True):
            self._array(output.name, value.shape)[...] = value
        return True

    def _array(self, name, shape):
        kind = ctypes.c_float * int(np.prod(shape))
        return np.ctypeslib.as_array(kind.from_address(self.addresses[name])).reshape(shape)


class Runtime:
    def __init__(self, logger):
        self.logger = first(logger)

    def deserialize_cuda_engine(self, plan):
        if b"\0" not in plan:
            self.logger.log(ILogger.ERROR, "magic tag does not match")
            return None
        return Engine(plan)


def install(folder: Path, version: str) -> None:
    """What makes pip's metadata say that it is installed."""
    place = folder / f"tensorrt-{version}.dist-info"
    place.mkdir()
    (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: tensorrt\nVersion: {version}\n")
