"""onnxruntime's providers: sessions that run on the device that was asked for, or not at all."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from onnxprune.environment import check_runtime, describe
from onnxprune.errors import ModelError, OnnxPruneError, UsageError
from onnxprune.execution import Feeds, Outputs, runnable
from onnxprune.graph import Model
from onnxprune.latency.runtimes.base import Apart, Facts, Missing, Setting, does_not_run, refuse_foreign

CPU = "CPUExecutionProvider"
ALWAYS = ("precision", "fallback", "profile", "optimized")
RECORD = "session.record_ep_graph_assignment_info"


@dataclass(frozen=True)
class Provider:
    """An execution provider of onnxruntime as a runtime.

    Attributes:
        name: of the runtime.
        provider: onnxruntime's name.
        helpers: providers that may take what it lacks, and are no fallback.
        options: of the provider, from a setting.
        takes: fields of a setting that mean something to it.
        precisions: that it knows.
        needs: why it cannot be used although onnxruntime has it, and with which wheel it can.
        wheel: what to install.
        on_gpu: inputs and outputs can stay on the device.
    """

    name: str
    provider: str
    helpers: Sequence[str] = ()
    options: Callable[[Setting], Mapping[str, Any]] = lambda setting: {}
    takes: Sequence[str] = ("threads",)
    precisions: Sequence[str] = ("fp32",)
    needs: Callable[[], Missing | None] = lambda: None
    wheel: str = "onnxprune[cpu]"
    on_gpu: bool = False

    @property
    def version(self) -> str:
        """Of onnxruntime's wheel."""
        try:
            return str(check_runtime())
        except UsageError:
            return ""

    def missing(self) -> Missing | None:
        """Why the provider cannot be used here."""
        try:
            wheel = check_runtime()
        except UsageError as error:
            return Missing(error.what, error.fix)
        import onnxruntime as ort

        if self.provider not in (have := ort.get_available_providers()):
            return Missing(
                f"the installed {wheel} has no {self.provider}; it has {', '.join(have)}",
                f"pip uninstall -y {wheel.distribution} && pip install '{self.wheel}'",
            )
        return self.needs()

    def prepare(self, model: Model, feeds: Feeds, setting: Setting) -> Session:
        """A session that has run once.

        Raises:
            UsageError: the provider cannot be used here.
            ModelError: it cannot run the model, or leaves nodes to another provider.
        """
        refuse_foreign(self.name, setting, (*self.takes, *ALWAYS))
        if setting.precision not in self.precisions:
            fix = f"choose from: {', '.join(self.precisions)}; or export the model in this precision"
            raise UsageError(f"runtime {self.name!r} does not know the precision {setting.precision!r}", fix)
        if missing := self.missing():
            raise missing.error(self.name)
        start = time.perf_counter()
        with _told(model):
            session = self._open(model, setting)
        prepared = Session(session, feeds, self.on_gpu and setting.binding, setting.device)
        built = time.perf_counter()
        with _told(model):
            prepared.run()
        prepared.facts = Facts(
            placement(session),
            built - start,
            time.perf_counter() - built,
            session.get_provider_options(),
            nodes=providers(session),
            versions={"onnxruntime": str(check_runtime())},
            device="" if self.on_gpu else str(describe()["cpu"]),
        )
        self._refuse_fallback(model, prepared.facts, setting)
        return prepared

    def _open(self, model: Model, setting: Setting) -> Any:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = setting.threads
        # Threads that wait for more work in a busy loop would take the cores from the model whose turn is next.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        options.add_session_config_entry(RECORD, "1")
        if setting.profile is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(setting.profile)
        if setting.optimized is not None:
            options.optimized_model_filepath = str(setting.optimized)
        with runnable(model) as source:
            if setting.cache is not None:
                # TensorRT tells engines apart by less than their weights: every model has a folder of its own.
                setting = replace(setting, cache=setting.cache / _digest(source))
            providers: list[Any] = [(self.provider, dict(self.options(setting))), *self.helpers]
            session = ort.InferenceSession(source, options, providers=providers)
        session.disable_fallback()
        if self.provider not in session.get_providers():
            # onnxruntime goes on with the CPU, and only its log says why.
            raise UsageError(
                f"runtime {self.name!r}: {self.provider} did not start; a library that it needs is missing or broken",
                f"install its libraries, or set ORT_LOGGING_LEVEL=0 to see which; pip install '{self.wheel}'",
            )
        return session

    def _refuse_fallback(self, model: Model, facts: Facts, setting: Setting) -> None:
        own = (self.provider, *self.helpers)
        elsewhere = {name: count for name, count in facts.placement.items() if name not in own}
        if elsewhere and not setting.fallback:
            told = ", ".join(f"{count} on {name}" for name, count in elsewhere.items())
            raise ModelError(
                f"{model.path or 'the model'}: runtime {self.name!r} would leave nodes to others: {told}",
                "allow it with --fallback; the report tells which",
            )


class Session:
    """A session and its inputs.

    Attributes:
        facts: how it was prepared.
    """

    facts: Facts

    def __init__(self, session: Any, feeds: Feeds, bound: bool, device: int):
        self._session, self._feeds = session, feeds
        self._binding = _bound(session, feeds, device) if bound else None
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
        """None: not told yet."""
        return None

    @cached_property
    def profile(self) -> str:
        """The path of the finished profile, where one was asked for."""
        return str(self._session.end_profiling())


def _bound(session: Any, feeds: Feeds, device: int) -> Any:
    """Inputs and outputs that stay on the GPU."""
    import onnxruntime as ort

    binding = session.io_binding()
    for name, array in feeds.items():
        binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array, "cuda", device))
    for output in session.get_outputs():
        binding.bind_output(output.name, "cuda", device)
    binding.synchronize_inputs()
    return binding


def _digest(source: str | bytes) -> str:
    """A hash of a model that is given as a path or as its content."""
    found = hashlib.sha256()
    for file in [source] if isinstance(source, bytes) else sorted(Path(source).parent.iterdir()):
        found.update(file if isinstance(file, bytes) else file.read_bytes())
    return found.hexdigest()[:16]


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
def _told(model: Model) -> Iterator[None]:
    """Tells onnxruntime's errors, whose types are its own and none of them public."""
    try:
        yield
    except OnnxPruneError:
        raise
    except Exception as error:
        raise does_not_run(model, "onnxruntime", error) from error
