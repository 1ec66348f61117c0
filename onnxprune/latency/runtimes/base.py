"""What a runtime is to those who measure: it prepares a model, which then runs, one inference at a time."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

from onnxprune.errors import ModelError, UsageError, first_line
from onnxprune.execution import Feeds, Outputs
from onnxprune.graph import Model

SEARCHES = ("exhaustive", "heuristic", "default")
"""How cuDNN chooses its convolutions: it tries all, goes by rules, or takes the first."""


@dataclass(frozen=True)
class Range:
    """The sizes of a symbolic dimension that an engine is built for, and the one that it is tuned for."""

    low: int
    best: int
    high: int

    def __post_init__(self) -> None:
        if not 1 <= self.low <= self.best <= self.high:
            raise UsageError(f"the range {self.low}:{self.best}:{self.high} does not rise", "for example 1:8:64")


@dataclass(frozen=True)
class Setting:
    """How models are to run.

    Attributes:
        threads: of an operator on the CPU; 0 leaves it to the runtime.
        device: number of the GPU.
        tf32: let a GPU multiply single precision in TF32.
        nhwc: let a GPU compute convolutions with channels last.
        search: how cuDNN chooses its convolutions, one of `SEARCHES`.
        graph: replay a recorded CUDA graph instead of launching operators.
        binding: keep inputs and outputs on the device, so that copies are not timed.
        precision: of TensorRT's engine.
        cache: folder for engines and timings of TensorRT, or None.
        ranges: sizes of symbolic dimensions that TensorRT's engines are built for, by name; else those that are run.
        fallback: let operators that a runtime lacks run on the CPU.
        profile: the beginning of the path of onnxruntime's profile, or None.
        optimized: where onnxruntime writes the graph that it runs, or None.
    """

    threads: int = 0
    device: int = 0
    tf32: bool = False
    nhwc: bool = False
    search: str = "exhaustive"
    graph: bool = False
    binding: bool = True
    precision: str = "fp32"
    cache: Path | None = None
    ranges: Mapping[str, Range] = field(default_factory=dict)
    fallback: bool = False
    profile: Path | None = None
    optimized: Path | None = None

    def __post_init__(self) -> None:
        if self.search not in SEARCHES:
            raise UsageError(f"cuDNN's search is {self.search!r}", f"choose from: {', '.join(SEARCHES)}")


@dataclass(frozen=True)
class Missing:
    """Why a runtime cannot be used here, and what would help."""

    why: str
    fix: str

    def error(self, name: str) -> UsageError:
        """As an error."""
        return UsageError(f"runtime {name!r}: {self.why}", self.fix)


@dataclass(frozen=True)
class Facts:
    """What is known of a prepared model.

    Attributes:
        placement: nodes by the provider that runs them, as the runtime counts them after its optimisations; empty
            where it does not tell.
        build: seconds until it could run.
        first: seconds of the first run.
        options: as the runtime has them.
        nodes: the provider of every node of the runtime's own graph, by the node's name there; empty where it does not
            tell.
        versions: of the runtime and of the libraries that it has loaded, by name.
        device: name of what runs the model, with its number and id where it is a GPU; empty where that is not known.
        memory: most bytes that the model's build and first run have taken on the GPU; None on a CPU, whose memory is
            measured in a process of its own (see `latency.memory`), and where it is not known.
        cache: of engines: `none` in use, `cold` (this one was built) or `warm` (it was there).
    """

    placement: Mapping[str, int]
    build: float
    first: float
    options: Mapping[str, Any] = field(default_factory=dict)
    nodes: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    device: str = ""
    memory: int | None = None
    cache: str = "none"


@dataclass(frozen=True)
class Apart:
    """Where the time of a run on a GPU goes: medians of a few runs, in seconds.

    Attributes:
        host: until all is launched and the caller could go on.
        device: from the first to the last of what the device does, copies left out where inputs are bound.
        copy: of the inputs to the device and of the outputs back.
    """

    host: float
    device: float
    copy: float


def refuse_foreign(runtime: str, setting: Setting, takes: Collection[str]) -> None:
    """Refuse what a runtime would ignore.

    Raises:
        UsageError: something is set that it does not take.
    """
    plain = Setting()
    for name in (each.name for each in fields(Setting)):
        if name not in takes and (got := getattr(setting, name)) != getattr(plain, name):
            raise UsageError(
                f"runtime {runtime!r} does not take {name} ({got!r})", f"leave it out; it takes {', '.join(takes)}"
            )


def refuse_precision(runtime: str, setting: Setting, known: Collection[str]) -> None:
    """Refuse a precision that a runtime has not.

    Raises:
        UsageError: the setting has such a one.
    """
    if setting.precision not in known:
        raise UsageError(
            f"runtime {runtime!r} does not know the precision {setting.precision!r}",
            f"choose from: {', '.join(known)}; or export the model in this precision",
        )


class Prepared(Protocol):
    """A model that is ready to run on its inputs."""

    @property
    def facts(self) -> Facts:
        """How it was prepared."""

    def run(self) -> None:
        """One inference, to its end."""

    def outputs(self) -> Outputs:
        """What the last run gave."""

    def apart(self) -> Apart | None:
        """The times of host, device and copies apart; None where the host is the device, or it cannot be told."""


class Runtime(Protocol):
    """Runs models."""

    @property
    def name(self) -> str:
        """As it is asked for."""

    @property
    def version(self) -> str:
        """Of what is installed; empty for none."""

    @property
    def accepts(self) -> Collection[str]:
        """Fields of a setting that mean something to it; another one that is set is an error."""

    def missing(self) -> Missing | None:
        """Why it cannot be used here; None if it can."""

    def prepare(self, model: Model, feeds: Feeds, setting: Setting) -> Prepared:
        """Load a model and run it once.

        Raises:
            UsageError: the runtime cannot be used here, or not with this setting.
            ModelError: it cannot run the model, or would run a part of it elsewhere.
        """


NO_MEMORY = ("out of memory", "bad_alloc", "failed to allocate", "not enough memory", "std::bad_array")
"""How runtimes say that memory has run out, in small letters."""


def does_not_run(model: Model, runtime: str, error: Exception) -> ModelError:
    """The error for a model that a runtime refuses."""
    what = f"{model.path or 'the model'} does not run in {runtime}: {first_line(error)}"
    short = any(word in str(error).lower() for word in NO_MEMORY)
    return ModelError(
        what, "use a smaller batch, or a device with more memory" if short else "give --size, or export again"
    )
