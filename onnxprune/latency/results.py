"""What a comparison of models has found: plain data, written as JSON and read back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from onnxprune.errors import UsageError
from onnxprune.latency.runtimes.base import Apart
from onnxprune.latency.statistic import Interval

FORMAT, VERSION = "onnxprune-bench", 1
NOISY = 0.1
PERCENTILES = {"p90": 0.9, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True)
class Timing:
    """One model's part of a comparison. What the runtime does not tell is None, or empty.

    Attributes:
        name: its file name.
        seconds: of one run.
        percentiles: p90, p95 and p99 of it; the ends of intervals that so few runs cannot tell are infinite.
        slowest: the longest run.
        covered: the share of all runs that take no longer than that, at least, with 95% confidence.
        ratio: its time by the first model's, within rounds.
        spread: interquartile range by median; above 0.1 the measurement is noisy.
        params, macs: its cost.
        bytes: its size on disk, data files included.
        difference: largest difference from the first model's outputs relative to their range; None where their
            shapes differ.
        build, first: seconds until it could run, and of the first run.
        placement: its nodes by what runs them, as the runtime counts them.
        fallback: how many of them run elsewhere than was asked for.
        nodes: what runs each node of the runtime's own graph, by name.
        opset: version of the default operator set.
        sha256: of its file and of its data files, by name.
        memory: most bytes that it has taken.
        cache: of engines: `none`, `cold` or `warm`.
        apart: times of host, device and copies.
        times: of every round, in seconds.
    """

    name: str
    seconds: Interval
    percentiles: Mapping[str, Interval]
    slowest: float
    ratio: Interval
    spread: float
    params: int
    macs: int
    bytes: int
    difference: float | None
    build: float
    first: float
    placement: Mapping[str, int]
    covered: float = 0.0
    fallback: int | None = None
    nodes: Mapping[str, str] = field(default_factory=dict)
    opset: int | None = None
    sha256: Mapping[str, str] = field(default_factory=dict)
    memory: int | None = None
    cache: str = "none"
    apart: Apart | None = None
    times: tuple[float, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Input:
    """What all models were given at one of their inputs."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Comparison:
    """Models timed side by side; the first is what the others are compared with.

    Attributes:
        models: the timings, in order.
        floor: the first model's time by its own.
        rounds, warm_up: how often each ran, timed and untimed.
        batches: rounds of every instance of the models, which were prepared anew for each.
        stopped: why it ended.
        runtime: that ran them, with its version.
        options: of the runtime, as it has them.
        threads, seed, sizes: of the plan.
        machine: what it did meanwhile (see `machine`).
        asked: name of the runtime that was asked for.
        precision: that it was to compute in.
        binding, graph: whether inputs and outputs stayed on the device, and a CUDA graph was replayed; None where the
            runtime has no such thing.
        inputs, data: their shapes and types, and what was in them.
        warm_up_rule, stop_rule: in words.
        versions: of the runtime and what it has loaded, by name.
        device: name of what ran them, with its number and id where it is a GPU.
        again: seconds of the first model's second runs, in every round.
    """

    models: tuple[Timing, ...]
    floor: Interval
    rounds: int
    warm_up: int
    stopped: str
    runtime: str
    options: Mapping[str, Any]
    threads: int
    seed: int
    sizes: Mapping[str, int]
    machine: Mapping[str, Any]
    asked: str = ""
    precision: str = ""
    binding: bool | None = None
    graph: bool | None = None
    inputs: tuple[Input, ...] = ()
    data: str = ""
    warm_up_rule: str = ""
    stop_rule: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    device: str = ""
    batches: tuple[int, ...] = ()
    again: tuple[float, ...] = field(default=(), repr=False)

    @property
    def noisy(self) -> bool:
        """Whether some model's times are spread too widely to be trusted much."""
        return any(t.spread > NOISY for t in self.models)

    def to_json(self) -> dict[str, Any]:
        """The comparison as plain data."""
        return {"format": FORMAT, "version": VERSION, **asdict(self), "noisy": self.noisy}


def read_comparison(path: Path) -> Comparison:
    """A comparison from the JSON that `to_json` gave, other fields in it or not.

    Raises:
        UsageError: the file cannot be read, or is no comparison.
    """
    try:
        content = json.loads(path.read_text())
        if (content["format"], content["version"]) != (FORMAT, VERSION):
            raise ValueError(f"it is {content['format']} {content['version']}, expected {FORMAT} {VERSION}")
        known = {f.name: content[f.name] for f in fields(Comparison) if f.name in content}
        inputs = tuple(Input(each["name"], tuple(each["shape"]), each["dtype"]) for each in content["inputs"])
        more = {"floor": _interval(content["floor"]), "inputs": inputs, "again": tuple(content["again"])}
        more["batches"] = tuple(content.get("batches", ()))
        return Comparison(**{**known, **more, "models": tuple(map(_timing, content["models"]))})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        why = f"{error} is missing" if isinstance(error, KeyError) else getattr(error, "strerror", None) or error
        fix = "give what `onnxprune bench --report FILE.json` has written"
        raise UsageError(f"{path}: no comparison: {why}", fix) from error


def _timing(content: Mapping[str, Any]) -> Timing:
    known = {f.name: content[f.name] for f in fields(Timing) if f.name in content}
    apart = content["apart"]
    more = {
        "seconds": _interval(content["seconds"]),
        "percentiles": {name: _interval(each) for name, each in content["percentiles"].items()},
        "ratio": _interval(content["ratio"]),
        "apart": None if apart is None else Apart(**apart),
        "times": tuple(content["times"]),
    }
    return Timing(**{**known, **more})


def _interval(content: Mapping[str, Any]) -> Interval:
    """Ends that are open are null in JSON."""
    low, high = content["low"], content["high"]
    return Interval(content["median"], -math.inf if low is None else low, math.inf if high is None else high)
