"""Profiles of onnxruntime: how long each operator of its optimised graph takes."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto

from onnxprune.errors import ModelError
from onnxprune.execution import random_inputs
from onnxprune.graph import Model
from onnxprune.latency.runtimes import Setting
from onnxprune.latency.runtimes.ort_cpu import ORT_CPU

WARM_UP, LEAST, MOST, SECONDS = 2, 6, 500, 0.04
"""Untimed runs, timed ones at least and at most, and for how long there are more than the least."""
SUFFIX = "_kernel_time"
MARK = "#"
"""Begins the names that nodes get here: many have none, or the same."""


@dataclass(frozen=True)
class Kernel:
    """A node of the optimised graph, in the order in which they run.

    Attributes:
        node: of the main graph; what runs within its branches or its body is part of its time.
        seconds: of all timed runs: float `(runs,)`.
    """

    node: NodeProto
    seconds: np.ndarray

    @property
    def op(self) -> str:
        """What it computes."""
        return self.node.op_type


def name_of(index: int) -> str:
    """What the node at this place of the model's graph is called in its profile."""
    return f"{MARK}{index}"


def profile(
    model: Model, threads: int = 0, sizes: Mapping[str, int] | None = None, seconds: float = SECONDS
) -> list[Kernel]:
    """Run a model on random inputs, on the CPU, and see what takes how long.

    Args:
        model: to run.
        threads: of an operator; 0 leaves it to onnxruntime.
        sizes: of symbolic dimensions.
        seconds: for how long (6 to 500 runs).

    Raises:
        ModelError: it does not run, or not the same operators every time.
    """
    return profiles([model], threads, sizes, seconds)[0]


def profiles(
    models: Sequence[Model], threads: int = 0, sizes: Mapping[str, int] | None = None, seconds: float = SECONDS
) -> list[list[Kernel]]:
    """The profiles of models that run in turns, so that what drifts meanwhile is the same for all (see `profile`)."""
    with TemporaryDirectory() as folder:
        paths = [Path(folder) / str(number) for number in range(len(models))]
        sessions = [
            ORT_CPU.prepare(
                _renamed(model),
                random_inputs(model, 0, sizes),
                Setting(threads=threads, profile=path, optimized=path.with_suffix(".onnx")),
            )
            for model, path in zip(models, paths, strict=True)
        ]
        runs, end = 1, time.perf_counter() + seconds
        while runs < WARM_UP + LEAST or (runs < WARM_UP + MOST and time.perf_counter() < end):
            for session in sessions:
                session.run()
            runs += 1
        return [
            _kernels(json.loads(Path(session.profile).read_text()), _nodes(path.with_suffix(".onnx")), runs)
            for session, path in zip(sessions, paths, strict=True)
        ]


def _nodes(path: Path) -> Sequence[NodeProto]:
    return onnx.load(path, load_external_data=False).graph.node


def _renamed(model: Model) -> Model:
    """The model with nodes that are named by their places."""
    proto = ModelProto()
    proto.CopyFrom(model.proto)
    for index, node in enumerate(proto.graph.node):
        node.name = name_of(index)
    return Model(proto, model.path, model.arrays, model.mapped)


def _kernels(events: Sequence[Mapping[str, Any]], nodes: Sequence[NodeProto], runs: int) -> list[Kernel]:
    """The times of the main graph's nodes; of those that are called alike, in order."""
    known: dict[str, list[NodeProto]] = {}
    for node in nodes:
        known.setdefault(node.name, []).append(node)
    spent: dict[str, list[float]] = {}
    for event in events:
        name = event["name"].removesuffix(SUFFIX)
        if event.get("cat") == "Node" and event["name"].endswith(SUFFIX) and name in known:
            spent.setdefault(name, []).append(event["dur"] * 1e-6)
    if uneven := [name for name, times in spent.items() if len(times) != runs * len(known[name])]:
        raise ModelError(
            f"operator {uneven[0]!r} ran {len(spent[uneven[0]])} times in {runs} runs of the model",
            "time the model as a whole",
        )
    pairs = [
        (node, np.reshape(times, (runs, -1))[WARM_UP:, k])
        for name, times in spent.items()
        for k, node in enumerate(known[name])
    ]
    return [Kernel(node, seconds) for node, seconds in pairs]
