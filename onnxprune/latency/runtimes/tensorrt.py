"""TensorRT itself, version 10 or newer, without onnxruntime around it."""

from __future__ import annotations

import time
from importlib import import_module
from typing import Any

import numpy as np

from onnxprune.environment import installed
from onnxprune.errors import ModelError
from onnxprune.execution import Feeds, Outputs
from onnxprune.graph import Model
from onnxprune.latency.runtimes.base import (
    Apart,
    Facts,
    Missing,
    Setting,
    refuse_foreign,
    refuse_precision,
)
from onnxprune.latency.runtimes.cuda import Buffer, Gpu, MemoryWatch, Stream, no_gpu
from onnxprune.latency.runtimes.engines import Order, Store, build, check_precision, journal
from onnxprune.latency.runtimes.events import timed_apart
from onnxprune.latency.runtimes.files import digest, model_file
from onnxprune.latency.runtimes.profiles import profiles
from onnxprune.latency.runtimes.versions import gpu_versions

OLDEST = 10
PACKAGES = ("tensorrt", "tensorrt-cu13", "tensorrt-cu12")
PRECISIONS = ("fp32", "fp16", "bf16")
INSTALL = "pip install 'onnxprune[tensorrt]'"


class TensorRt:
    """Engines that TensorRT builds."""

    name = "tensorrt"
    accepts = ("device", "tf32", "precision", "cache", "ranges")
    on_gpu = True

    @property
    def version(self) -> str:
        """Of the installed package; empty for none."""
        return next((f"tensorrt {version}" for version in map(installed, PACKAGES) if version), "")

    def missing(self) -> Missing | None:
        """Whether the package, one of its libraries or the GPU is missing."""
        if not self.version:
            return Missing("tensorrt is not installed", INSTALL)
        try:
            trt = import_module("tensorrt")
        except (ImportError, OSError) as error:
            return Missing(f"the installed {self.version} does not load: {error}", INSTALL)
        if int(trt.__version__.partition(".")[0]) < OLDEST:
            return Missing(f"TensorRT {trt.__version__} is too old, expected {OLDEST} or newer", INSTALL)
        return no_gpu()

    def prepare(self, model: Model, feeds: Feeds, setting: Setting) -> Engine:
        """An engine, built or from the cache, that has run once.

        Raises:
            UsageError: TensorRT or the GPU cannot be used, or not with this setting.
            ModelError: TensorRT cannot take or run the model.
        """
        refuse_foreign(self.name, setting, self.accepts)
        refuse_precision(self.name, setting, PRECISIONS)
        if missing := self.missing():
            raise missing.error(self.name)
        trt = import_module("tensorrt")
        check_precision(trt, setting)
        gpu = Gpu(setting.device)
        with MemoryWatch(gpu) as watch:
            start = time.perf_counter()
            plan, cache = _plan(trt, model, feeds, setting, gpu)
            engine = Engine(trt, plan, feeds, gpu)
            built = time.perf_counter()
            engine.run()
            first = time.perf_counter() - built
        engine.facts = Facts(
            {"TensorRT": engine.layers},
            built - start,
            first,
            {"precision": setting.precision, "tf32": setting.tf32, "cache": setting.cache is not None},
            versions={"tensorrt": trt.__version__, **gpu_versions(gpu)},
            device=gpu.name,
            memory=watch.taken,
            cache=cache,
        )
        return engine


def _plan(trt: Any, model: Model, feeds: Feeds, setting: Setting, gpu: Gpu) -> tuple[bytes, str]:
    """The serialized engine, and whether it was in the cache."""
    shapes = profiles(model, feeds, setting.ranges)
    with model_file(model) as path:
        about: dict[str, Any] = {"model": digest(path), "device": gpu.name, "tensorrt": trt.__version__}
        about |= {"precision": setting.precision, "tf32": setting.tf32, "profiles": shapes}
        store = Store(setting.cache, {**about, "driver": gpu.driver_version})
        if (kept := store.read(store.path)) is not None:
            return kept, "warm"
        try:
            plan = build(trt, Order(path, setting, shapes, feeds), store)
        except ModelError as error:
            raise ModelError(f"{model.path or 'the model'}: {error.what}", error.fix) from error
    store.write(store.path, plan)
    return plan, "none" if store.folder is None else "cold"


class Engine:
    """An engine, its inputs and its outputs, all on the GPU.

    Args:
        trt: the module `tensorrt`.
        plan: the serialized engine.
        feeds: its inputs.
        gpu: that it was built for.

    Attributes:
        facts: how it was prepared.

    Raises:
        ModelError: the engine cannot be used, or the size of an output depends on what the inputs hold.
    """

    facts: Facts

    def __init__(self, trt: Any, plan: bytes, feeds: Feeds, gpu: Gpu):
        self._trt, self._feeds = trt, feeds
        self._runtime = trt.Runtime(journal(trt).logger)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise self._failed("loads no engine")
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise self._failed("starts no engine")
        self._stream: Stream = gpu.stream()
        self._buffers = {name: self._input(gpu, name) for name in feeds if name in self._names(trt.TensorIOMode.INPUT)}
        self._outputs = [self._output(gpu, name) for name in self._names(trt.TensorIOMode.OUTPUT)]

    @property
    def layers(self) -> int:
        """Of the engine."""
        return int(self._engine.num_layers)

    def run(self) -> None:
        """One inference, to its end."""
        self._launch()
        self._stream.wait()

    def outputs(self) -> Outputs:
        """What the last run gave."""
        return [buffer.read(shape, dtype) for buffer, shape, dtype in self._outputs]

    def apart(self) -> Apart | None:
        """The times of host, device and copies apart."""
        return timed_apart(self._stream, self._launch, self._copy)

    def _launch(self) -> None:
        if not self._context.execute_async_v3(self._stream.address):
            raise self._failed("does not run the engine")

    def _copy(self) -> None:
        for name, buffer in self._buffers.items():
            if buffer is not None:
                buffer.write(self._feeds[name])
        self.outputs()

    def _names(self, mode: Any) -> list[str]:
        names = [self._engine.get_tensor_name(k) for k in range(self._engine.num_io_tensors)]
        return [name for name in names if self._engine.get_tensor_mode(name) == mode]

    def _input(self, gpu: Gpu, name: str) -> Buffer | None:
        """An input on the GPU; None for one that holds a shape, which the host reads."""
        array = self._feeds[name]
        if not self._context.set_input_shape(name, array.shape):
            raise self._failed(f"refuses the shape {array.shape} of {name!r}")
        if self._engine.is_shape_inference_io(name):
            self._context.set_tensor_address(name, array.ctypes.data)
            return None
        buffer = gpu.buffer(array.nbytes)
        buffer.write(array)
        self._context.set_tensor_address(name, buffer.address)
        return buffer

    def _output(self, gpu: Gpu, name: str) -> tuple[Buffer, tuple[int, ...], Any]:
        shape = tuple(self._context.get_tensor_shape(name))
        if any(size < 0 for size in shape):
            raise ModelError(
                f"TensorRT: the size of output {name!r} depends on the inputs' values", "take another runtime"
            )
        try:
            dtype = np.dtype(self._trt.nptype(self._engine.get_tensor_dtype(name)))
        except TypeError as error:
            raise ModelError(
                f"TensorRT: output {name!r}: {error}", "export the model with outputs in float32"
            ) from error
        buffer = gpu.buffer(int(np.prod(shape)) * dtype.itemsize)
        self._context.set_tensor_address(name, buffer.address)
        return buffer, shape, dtype

    def _failed(self, what: str) -> ModelError:
        return ModelError(f"TensorRT {what}: {journal(self._trt).last}", "rebuild it")


TENSORRT = TensorRt()
