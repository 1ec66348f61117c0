"""TensorRT's engines: built from ONNX files, and kept on the disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from onnxprune.errors import ModelError, UsageError
from onnxprune.execution import Feeds
from onnxprune.latency.runtimes.base import Setting
from onnxprune.latency.runtimes.profiles import Profile
from onnxprune.saving import write_whole

FLAGS = {"fp16": "FP16", "bf16": "BF16"}
TIMINGS = "timings"


@dataclass(frozen=True)
class Store:
    """A folder of engines and of what TensorRT has timed to build them.

    Attributes:
        folder: or None, to keep nothing.
        about: all that an engine depends on: the model's digest, options, profiles, the device, versions.
    """

    folder: Path | None
    about: Mapping[str, Any]

    @property
    def path(self) -> Path | None:
        """The engine's file."""
        text = json.dumps(self.about, sort_keys=True, default=str)
        return self.folder and self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.engine"

    @property
    def timings(self) -> Path | None:
        """The file of timings, one for a device and a version."""
        about = {name: self.about[name] for name in ("device", "tensorrt")}
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:24]
        return self.folder and self.folder / f"{digest}.{TIMINGS}"

    def read(self, path: Path | None) -> bytes | None:
        """What is in a file; None if it is not there."""
        return path.read_bytes() if path is not None and path.exists() else None

    def write(self, path: Path | None, content: bytes) -> None:
        """Write a file whole, or not at all.

        Raises:
            OutputError: it cannot be written.
        """
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, content)


def check_precision(trt: Any, setting: Setting) -> None:
    """Refuse what this version of TensorRT leaves to the model's own types.

    Raises:
        UsageError: it is version 11 or newer, and a lower precision is asked for.
    """
    flag = FLAGS.get(setting.precision)
    if flag is not None and not hasattr(trt.BuilderFlag, flag):
        raise UsageError(
            f"TensorRT {trt.__version__} computes in the model's own types and takes no precision, got "
            f"{setting.precision!r}",
            "convert the model (ModelOpt's AutoCast), or install an older one: pip install 'tensorrt<11'",
        )


@dataclass(frozen=True)
class Order:
    """What an engine is built from and for.

    Attributes:
        path: of the ONNX file; its data lies beside it.
        setting: precision and TF32.
        profiles: shapes of inputs with symbolic dimensions.
        feeds: the values that inputs which hold shapes are built for.
    """

    path: str
    setting: Setting
    profiles: Mapping[str, Profile]
    feeds: Feeds


def build(trt: Any, order: Order, store: Store) -> bytes:
    """An engine, serialized; what TensorRT times for it is kept in the store.

    Raises:
        ModelError: TensorRT cannot take the model; with the operator where there is one.
    """
    logger, errors = journal(trt)
    errors.clear()
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(order.path):
        raise ModelError(f"TensorRT does not take the model: {_parser_error(parser)}", "take another runtime")
    config = builder.create_builder_config()
    _set_flags(trt, config, order.setting)
    config.add_optimization_profile(_profile(builder, network, order))
    timings = config.create_timing_cache(store.read(store.timings) or b"")
    config.set_timing_cache(timings, False)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise ModelError(f"TensorRT builds no engine: {journal(trt).last}", "take another runtime, or a smaller batch")
    store.write(store.timings, bytes(timings.serialize()))
    return bytes(engine)


class Journal(NamedTuple):
    """TensorRT's logger, and the errors that it was told."""

    logger: Any
    errors: list[str]

    @property
    def last(self) -> str:
        """The last error in a line."""
        return " ".join(self.errors[-1].split()) if self.errors else "it does not say why"


@cache
def journal(trt: Any) -> Journal:
    """The one of this process: TensorRT goes on with the first logger that it was ever given."""
    errors: list[str] = []

    class Log(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                errors.append(text)

    return Journal(Log(), errors)


def _set_flags(trt: Any, config: Any, setting: Setting) -> None:
    if setting.precision in FLAGS:
        config.set_flag(getattr(trt.BuilderFlag, FLAGS[setting.precision]))
    # It is on by default, which would time another precision than was asked about.
    (config.set_flag if setting.tf32 else config.clear_flag)(trt.BuilderFlag.TF32)


def _profile(builder: Any, network: Any, order: Order) -> Any:
    profile = builder.create_optimization_profile()
    for name, shapes in order.profiles.items():
        profile.set_shape(name, shapes.low, shapes.best, shapes.high)
    for tensor in (network.get_input(k) for k in range(network.num_inputs)):
        if tensor.is_shape_tensor:
            values = tuple(np.ravel(order.feeds[tensor.name]).tolist())
            profile.set_shape_input(tensor.name, values, values, values)
    return profile


def _parser_error(parser: Any) -> str:
    errors = [parser.get_error(k) for k in range(parser.num_errors)]
    told = (f"{error.desc()} (node {error.node_name()!r}, operator {error.node_operator()})" for error in errors)
    return " ".join(next(told, "the parser does not say why").split())
