"""PyTorch as a runtime: models converted to modules, and run eagerly or compiled, on the CPU."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch._dynamo.utils import counters

from onnxprune.environment import describe, installed
from onnxprune.errors import ModelError
from onnxprune.execution import Feeds, Outputs, relative_difference, run
from onnxprune.graph import Graph, Model
from onnxprune.latency.children import run_alone
from onnxprune.latency.runtimes.base import (
    Apart,
    Facts,
    Missing,
    Setting,
    does_not_run,
    refuse_foreign,
    refuse_precision,
)
from onnxprune.torch.conversion import convert, converter

PRECISIONS = {"fp32": None, "fp16": torch.float16, "bf16": torch.bfloat16}
TOLERANCE = 1e-3
"""Largest difference from onnxruntime's outputs in single precision, relative to their range."""
HITS, MISSES = "fxgraph_cache_hit", "fxgraph_cache_miss"


class TorchRuntime:
    """Modules that a converter makes of models.

    Args:
        name: of the runtime.
        compiled: by torch.compile; then the first run takes the time for it.
    """

    accepts = ("threads", "precision")

    def __init__(self, name: str, compiled: bool):
        self.name, self._compiled = name, compiled

    @property
    def version(self) -> str:
        """Of torch."""
        return f"torch {torch.__version__}"

    def missing(self) -> Missing | None:
        """Whether the converter is missing."""
        try:
            converter()
        except ImportError as error:
            return Missing(f"onnx2torch cannot be used ({error})", "pip install 'onnxprune[torch-runtime]'")
        return None

    def prepare(self, model: Model, feeds: Feeds, setting: Setting) -> Converted:
        """A module that has run once, and whose outputs are onnxruntime's.

        Raises:
            UsageError: the converter is not installed, or a setting is not known.
            ModelError: an operator is not converted, the module does not run, or its outputs differ.
        """
        refuse_foreign(self.name, setting, self.accepts)
        refuse_precision(self.name, setting, PRECISIONS)
        if missing := self.missing():
            raise missing.error(self.name)
        if setting.threads:
            torch.set_num_threads(setting.threads)
        before = {name: counters["inductor"][name] for name in (HITS, MISSES)}
        start = time.perf_counter()
        module = convert(model)
        converted = Converted(module, [feeds[value.name] for value in Graph(model).inputs], self._compiled, setting)
        built = time.perf_counter()
        self._run(model, converted)
        first = time.perf_counter() - built
        self._check(model, feeds, converted)
        converted.facts = Facts(
            {"torch": sum(node.op == "call_module" for node in module.graph.nodes)},
            built - start,
            first,
            {"compiled": self._compiled, "autocast": setting.precision, "threads": torch.get_num_threads()},
            versions={name: str(installed(name)) for name in ("torch", "onnx2torch")},
            device=str(describe()["cpu"]),
            cache=_cache_state(before) if self._compiled else "none",
        )
        return converted

    def _run(self, model: Model, converted: Converted) -> None:
        try:
            converted.run()
        except Exception as error:  # torch raises RuntimeError, and types of its own from the compiler
            raise does_not_run(model, self.name, error) from error

    def _check(self, model: Model, feeds: Feeds, converted: Converted) -> None:
        """Compare with onnxruntime, in a process of its own, so that its memory does not count."""
        expected = run_alone(_by_onnxruntime, model, feeds)
        found = converted.exact()
        if [x.shape for x in expected] != [x.shape for x in found]:
            what = f"has outputs of shapes {[x.shape for x in found]}, onnxruntime's are {[x.shape for x in expected]}"
        elif (difference := relative_difference(expected, found)) > TOLERANCE:
            what = f"differs from onnxruntime by {difference:.1e} of the outputs' range, more than {TOLERANCE:g}"
        else:
            return
        raise ModelError(f"{model.path or 'the model'}: converted to torch it {what}", "take another runtime")


class Converted:
    """A module and its inputs.

    Attributes:
        facts: how it was prepared.
    """

    facts: Facts

    def __init__(self, module: Any, arrays: Sequence[Any], compiled: bool, setting: Setting):
        self._inputs = [torch.from_numpy(array) for array in arrays]
        self._module = torch.compile(module, dynamic=False) if compiled else module
        self._precision = PRECISIONS[setting.precision]
        self._last: Any = None

    def run(self) -> None:
        """One inference, to its end."""
        with torch.inference_mode(), self._autocast():
            self._last = self._module(*self._inputs)

    def outputs(self) -> Outputs:
        """What the last run gave."""
        return _arrays(self._last)

    def apart(self) -> Apart | None:
        """None: the host is the device."""
        return None

    def exact(self) -> Outputs:
        """What it computes in single precision."""
        if self._precision is None:
            return self.outputs()
        with torch.inference_mode():
            return _arrays(self._module(*self._inputs))

    def _autocast(self) -> AbstractContextManager[Any]:
        return nullcontext() if self._precision is None else torch.autocast("cpu", dtype=self._precision)


def _by_onnxruntime(model: Model, feeds: Feeds) -> Outputs:
    return run(model, [feeds])[0]


def _arrays(value: Any) -> Outputs:
    return [tensor.float().numpy() if tensor.dtype is torch.bfloat16 else tensor.numpy() for tensor in _flat(value)]


def _flat(value: Any) -> Iterator[torch.Tensor]:
    """The tensors in tuples and lists of them."""
    if isinstance(value, Iterable) and not isinstance(value, torch.Tensor):
        for each in value:
            yield from _flat(each)
    else:
        yield value


def _cache_state(before: dict[str, int]) -> str:
    """Whether the compiler found all that it needed on the disk."""
    hits, misses = (counters["inductor"][name] - before[name] for name in (HITS, MISSES))
    return "warm" if hits and not misses else "cold"


EAGER, COMPILED = TorchRuntime("torch", False), TorchRuntime("torch-compile", True)
