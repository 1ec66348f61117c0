"""onnxruntime's providers: sessions that run on the device that was asked for, or not at all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from onnxprune.environment import check_runtime, describe
from onnxprune.errors import ModelError, UsageError
from onnxprune.execution import Feeds, runnable
from onnxprune.graph import Model
from onnxprune.latency.runtimes.base import (
    Facts,
    Missing,
    Setting,
    refuse_foreign,
    refuse_precision,
)
from onnxprune.latency.runtimes.cuda import Gpu, MemoryWatch, Stream
from onnxprune.latency.runtimes.files import digest
from onnxprune.latency.runtimes.ort_session import Session, placement, providers, told
from onnxprune.latency.runtimes.profiles import Profile, profiles
from onnxprune.latency.runtimes.versions import gpu_versions

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
        shapes: its options for the shapes that it is built for.
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
    shapes: Callable[[Mapping[str, Profile]], Mapping[str, Any]] = lambda profiles: {}
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

    @property
    def accepts(self) -> Sequence[str]:
        """Fields of a setting that mean something to it."""
        return (*self.takes, *ALWAYS)

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
        self._check(setting)
        gpu = Gpu(setting.device) if self.on_gpu else None
        with MemoryWatch(gpu) if gpu else nullcontext() as watch:
            prepared, facts = self._built(model, feeds, setting, gpu)
        found = session_versions(gpu)
        prepared.facts = replace(facts, memory=watch.taken if watch else None, versions=found)
        self._refuse_fallback(model, prepared.facts, setting)
        return prepared

    def _check(self, setting: Setting) -> None:
        refuse_foreign(self.name, setting, self.accepts)
        refuse_precision(self.name, setting, self.precisions)
        if setting.graph and not setting.binding:
            raise UsageError("a CUDA graph reads its inputs where they were recorded", "leave --no-binding out")
        if missing := self.missing():
            raise missing.error(self.name)

    def _built(self, model: Model, feeds: Feeds, setting: Setting, gpu: Gpu | None) -> tuple[Session, Facts]:
        stream = gpu.stream() if gpu else None
        start = time.perf_counter()
        with told(model), runnable(model) as source:
            folder = setting.cache and setting.cache / digest(source)
            cache = cache_state(folder)
            shapes = self.shapes(profiles(model, feeds, setting.ranges))
            options = {**self.options(replace(setting, cache=folder)), **shapes}
            session = self._open(source, setting, options, stream)
        prepared = Session(session, feeds, setting, stream)
        built = time.perf_counter()
        with told(model):
            prepared.run()
        first = time.perf_counter() - built
        return prepared, Facts(
            placement(session),
            built - start,
            first,
            session.get_provider_options(),
            nodes=providers(session),
            device=gpu.name if gpu else str(describe()["cpu"]),
            cache=cache,
        )

    def _open(self, source: str | bytes, setting: Setting, how: dict[str, Any], stream: Stream | None) -> Any:
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
        # All work goes to a stream of ours, so that its events tell the time of the device.
        own = {"user_compute_stream": str(stream.address)} if stream else {}
        also = [(name, {"device_id": str(setting.device), **own}) for name in self.helpers]
        session = ort.InferenceSession(source, options, providers=[(self.provider, {**how, **own}), *also])
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


def session_versions(gpu: Gpu | None) -> dict[str, str]:
    """Versions of onnxruntime and, on a GPU, of what it has loaded."""
    return {"onnxruntime": str(check_runtime()), **(gpu_versions(gpu) if gpu else {})}


def cache_state(folder: Path | None) -> str:
    """Of engines in a folder: `none` where there is no folder, `warm` with an engine in it, else `cold`."""
    if folder is None:
        return "none"
    return "warm" if any(folder.glob("*.engine")) else "cold"
