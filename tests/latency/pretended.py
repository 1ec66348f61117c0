"""A runtime that is made up: it pads channels to blocks, likes no odd ones, and is always as fast."""

from typing import Any

import numpy as np
import pytest

from onnxprune.graph import Model
from onnxprune.latency import prediction
from onnxprune.latency.prediction import Latency, Units
from onnxprune.latency.statistic import Interval

BLOCK, UNIT = 16, 1e-8
WHOLE = 0.01
"""Seconds of a whole network."""


def pretend(monkeypatch: pytest.MonkeyPatch, block: int = BLOCK, unit: float = UNIT) -> None:
    """Parts take their time; whole models nearly what their convolutions take, for they are together."""

    def padded(channels: int) -> int:
        return -(-channels // block) * block

    def seconds(model: Model, *about: Any) -> float:
        """Of every convolution the padded work, and a quarter more where channels are not multiples of four."""
        spent, stored = 1e-5, {tensor.name: tensor for tensor in model.proto.graph.initializer}
        for node in model.proto.graph.node:
            if node.op_type == "Conv":
                out, read, *kernel = stored[node.input[1]].dims
                odd = 1.0 + 0.25 * (block > 1 and bool(out % 4 or read % 4))
                spent += unit * odd * padded(out) * padded(read) * float(np.prod(kernel))
        return spent

    def ratio(self: Latency, units: Units, *about: Any, **how: Any) -> Interval:
        whole, own = (1e-4 + 0.9 * seconds(model) ** 1.02 for model in (self.pruned({}), self.pruned(units)))
        return Interval(own / whole, own / whole - 0.002, own / whole + 0.002)

    monkeypatch.setattr(prediction, "part_seconds", lambda models, *about: [seconds(model) for model in models])
    monkeypatch.setattr(prediction, "in_place", lambda analysis, segments, alone, threads: alone)
    monkeypatch.setattr(Latency, "ratio", ratio)
    monkeypatch.setattr(Latency, "run", lambda self: WHOLE)
