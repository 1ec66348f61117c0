"""One of onnxruntime's sessions with its inputs: how it runs, and where its nodes do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from onnxprune.errors import OnnxPruneError
from onnxprune.execution import Feeds, Outputs
from onnxprune.graph import Model
from onnxprune.latency.runtimes.base import Apart, Facts, Setting, does_not_run
from onnxprune.latency.runtimes.binding import bound
from onnxprune.latency.runtimes.cuda import Stream
from onnxprune.latency.runtimes.events import timed_apart


class Session:
    """A session and its inputs.

    Args:
        session: onnxruntime's.
        feeds: its inputs.
        setting: whether they are bound.
        stream: of the GPU, or None for the CPU.

    Attributes:
        facts: how it was prepared.
    """

    facts: Facts

    def __init__(self, session: Any, feeds: Feeds, setting: Setting, stream: Stream | None):
        self._session, self._feeds, self._stream, self._device = session, feeds, stream, setting.device
        self._binding = bound(session, feeds, setting) if stream and setting.binding else None
        self._last: Outputs = []

    def run(self) -> None:
        """One inference, to its end."""
        if self._binding is None:
            self._last = self._session.run(None, self._feeds)
        else:
            self._session.run_with_iobinding(self._binding)
            self._binding.synchronize_outputs()

    def outputs(self) -> Outputs:
        """What the last run gave."""
        return self._last if self._binding is None else self._binding.copy_outputs_to_cpu()

    def apart(self) -> Apart | None:
        """The times of host, device and copies apart; None on the CPU, and where inputs and outputs are not bound."""
        if self._stream is None or self._binding is None:
            return None
        return timed_apart(self._stream, self._launch, self._copy)

    def _launch(self) -> None:
        """Start an inference, and do not wait for it."""
        import onnxruntime as ort

        options = ort.RunOptions()
        options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        self._session.run_with_iobinding(self._binding, options)

    def _copy(self) -> None:
        import onnxruntime as ort

        for array in self._feeds.values():
            ort.OrtValue.ortvalue_from_numpy(array, "cuda", self._device)
        self.outputs()

    @cached_property
    def profile(self) -> str:
        """The path of the finished profile, where one was asked for."""
        return str(self._session.end_profiling())


def placement(session: Any) -> dict[str, int]:
    """Nodes by provider, after onnxruntime's optimisations."""
    found: dict[str, int] = {}
    for part in session.get_provider_graph_assignment_info():
        found[part.ep_name] = found.get(part.ep_name, 0) + len(part.get_nodes())
    return found


def providers(session: Any) -> dict[str, str]:
    """The provider of every node, by the node's name after onnxruntime's optimisations."""
    parts = session.get_provider_graph_assignment_info()
    return {node.name: part.ep_name for part in parts for node in part.get_nodes()}


@contextmanager
def told(model: Model) -> Iterator[None]:
    """Tells onnxruntime's errors, whose types are its own and none of them public."""
    try:
        yield
    except OnnxPruneError:
        raise
    except Exception as error:
        raise does_not_run(model, "onnxruntime", error) from error
