"""OpenVINO on the CPU."""

from __future__ import annotations

import time
from typing import Any

from onnxprune.environment import describe, installed
from onnxprune.errors import OnnxPruneError
from onnxprune.execution import Feeds, Outputs
from onnxprune.graph import Model
from onnxprune.latency.runtimes.base import (
    Apart,
    Facts,
    Missing,
    Setting,
    does_not_run,
    refuse_foreign,
    refuse_precision,
)
from onnxprune.latency.runtimes.files import model_file

PRECISIONS = {"fp32": "f32", "fp16": "f16", "bf16": "bf16"}
"""It would take bfloat16 by itself where the CPU has it, and time another model than was asked about."""


class OpenVino:
    """Compiled models of OpenVINO."""

    name = "openvino"
    accepts = ("threads", "precision")

    @property
    def version(self) -> str:
        """Of the installed package; empty for none."""
        version = installed("openvino")
        return f"openvino {version}" if version else ""

    def missing(self) -> Missing | None:
        """Whether the package is missing."""
        return None if self.version else Missing("openvino is not installed", "pip install 'onnxprune[openvino]'")

    def prepare(self, model: Model, feeds: Feeds, setting: Setting) -> Request:
        """A compiled model that has run once.

        Raises:
            UsageError: OpenVINO is not installed, or does not know the precision.
            ModelError: it cannot run the model.
        """
        refuse_foreign(self.name, setting, self.accepts)
        refuse_precision(self.name, setting, PRECISIONS)
        if missing := self.missing():
            raise missing.error(self.name)
        import openvino

        start, options = time.perf_counter(), _options(setting)
        try:
            core = openvino.Core()
            with model_file(model) as path:
                network = core.read_model(path)
            network.reshape({name: list(array.shape) for name, array in feeds.items()})
            compiled = core.compile_model(network, "CPU", options)
            built = time.perf_counter()
            request = Request(compiled, feeds)
            request.run()
        except OnnxPruneError:
            raise
        except Exception as error:  # OpenVINO raises RuntimeError and what its bindings make of C++'s
            raise does_not_run(model, "OpenVINO", error) from error
        places = {"CPU": len(compiled.get_runtime_model().get_ops())}
        request.facts = Facts(
            places,
            built - start,
            time.perf_counter() - built,
            options,
            versions={"openvino": str(installed("openvino"))},
            device=str(describe()["cpu"]),
        )
        return request


def _options(setting: Setting) -> dict[str, Any]:
    """What OpenVINO is asked for."""
    threads = {"INFERENCE_NUM_THREADS": setting.threads} if setting.threads else {}
    return {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": PRECISIONS[setting.precision], **threads}


class Request:
    """A compiled model and its inputs.

    Attributes:
        facts: how it was prepared.
    """

    facts: Facts

    def __init__(self, compiled: Any, feeds: Feeds):
        self._compiled, self._feeds = compiled, feeds
        self._request = compiled.create_infer_request()

    def run(self) -> None:
        """One inference, to its end."""
        self._request.infer(self._feeds, share_inputs=True, share_outputs=True)

    def outputs(self) -> Outputs:
        """What the last run gave."""
        return [self._request.get_output_tensor(k).data.copy() for k in range(len(self._compiled.outputs))]

    def apart(self) -> Apart | None:
        """None: the host is the device."""
        return None


OPENVINO = OpenVino()
