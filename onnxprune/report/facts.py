"""What makes a measured time reproducible: one row for every fact, told by every report, known or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from onnxprune.latency import Comparison, Interval, Timing
from onnxprune.report.cells import Lines, Table, short, table, text

UNKNOWN = "unknown"
LIBRARIES = ("CUDA", "cuDNN", "TensorRT", "driver")
"""Whose versions matter on a GPU."""

Told = Callable[[Comparison], str | Sequence[str]]


class Fact(NamedTuple):
    """A fact: its name, the fields of the comparison's JSON that hold it, and what it is in words."""

    name: str
    fields: tuple[str, ...]
    told: Told


def each(tell: Callable[[Timing], str]) -> Told:
    """A fact of every model; told once where it is the same of all."""

    def told(comparison: Comparison) -> Sequence[str]:
        found = {timing.name: tell(timing) for timing in comparison.models}
        if len(set(found.values())) == 1:
            return [next(iter(found.values()))]
        return [f"{name}: {words}" for name, words in found.items()]

    return told


def facts_table(comparison: Comparison) -> Table:
    """All facts."""
    rows = [(fact.name, Lines(tuple(_lines(fact.told(comparison))))) for fact in FACTS]
    return table("Facts of the measurement", [text("fact"), text("found")], rows)


def nodes_table(comparison: Comparison) -> Iterator[Table]:
    """What runs each node of the runtime's own graphs, folded; nothing where it does not tell."""
    rows = [(t.name, node, provider) for t in comparison.models for node, provider in t.nodes.items()]
    if not rows:
        return
    columns = [text("model"), text("node, after the runtime's optimisations"), text("runs on")]
    yield table("Provider of every node", columns, rows, folded=True)


def _lines(told: str | Sequence[str]) -> Sequence[str]:
    return [told or UNKNOWN] if isinstance(told, str) else [words or UNKNOWN for words in told] or [UNKNOWN]


# Of a model ----------------------------------------------------------------------------------------------------------


def _files(t: Timing) -> str:
    (_, first), *data = t.sha256.items() or [("", "")]
    return ", ".join([first, *(f"{name} {digest}" for name, digest in data)])


def _placed(t: Timing) -> str:
    return ", ".join(f"{count} nodes on {name}" for name, count in t.placement.items())


def _percentiles(t: Timing) -> str:
    parts = [f"{name} {_interval(found)}" for name, found in {"p50": t.seconds, **t.percentiles}.items()]
    # What share the longest run covers is what can be said of it: no interval can (see `latency.statistic`).
    sure = f" (95% sure to cover {100 * t.covered:.4g}% of runs)" if t.covered else ""
    return f"{', '.join(parts)}, max {1e3 * t.slowest:.4g}{sure} ms"


def _interval(found: Interval) -> str:
    low, high = (f"{1e3 * v:.4g}" if abs(v) != float("inf") else "?" for v in (found.low, found.high))
    return f"{1e3 * found.median:.4g} ({low} to {high})"


def _apart(t: Timing) -> str:
    if t.apart is None:
        return ""
    return ", ".join(f"{name} {1e3 * getattr(t.apart, name):.4g} ms" for name in ("host", "device", "copy"))


def _starts(t: Timing) -> str:
    return f"build {1e3 * t.build:.4g} ms, first run {1e3 * t.first:.4g} ms"


def _differs(t: Timing) -> str:
    return "its shapes are others" if t.difference is None else f"{t.difference:.1e} of their range"


# Of all --------------------------------------------------------------------------------------------------------------


def _shapes(c: Comparison) -> Sequence[str]:
    return [f"{given.name} {'x'.join(map(str, given.shape)) or 'scalar'}" for given in c.inputs]


def _types(c: Comparison) -> Sequence[str]:
    precision = f"; computed in {c.precision}" if c.precision else ""
    return [f"{given.name} {given.dtype}{precision}" for given in c.inputs]


def _provider(c: Comparison) -> Sequence[str]:
    return [f"asked for: {c.asked or UNKNOWN}", *_lines(each(_placed)(c))]


def _versions(c: Comparison) -> str:
    known = {name.lower() for name in c.versions}
    missing = "not used" if _on_cpu(c) else UNKNOWN
    told = [version if version.startswith(name) else f"{name} {version}" for name, version in c.versions.items()]
    return ", ".join(told + [f"{name} {missing}" for name in LIBRARIES if name.lower() not in known])


def _on_cpu(c: Comparison) -> bool:
    return c.binding is None


def _both(tell: Callable[[Mapping[str, Any]], str]) -> Told:
    """What is known of the CPU, and of the GPU where one is used."""

    def told(c: Comparison) -> Sequence[str]:
        found = [f"CPU: {tell(c.machine)}"]
        return found if _on_cpu(c) else [*found, f"GPU: {tell(c.machine.get('gpu') or {})}"]

    return told


def _clocks(m: Mapping[str, Any]) -> str:
    memory = f", memory {_ends(m['memory_clock_mhz'], 'MHz')}" if "memory_clock_mhz" in m else ""
    return _ends(m.get("clock_mhz"), "MHz") + memory


def _heat(m: Mapping[str, Any]) -> str:
    slowed = m.get("throttling", m.get("throttlings"))
    words = (
        ", ".join(slowed) or "none" if isinstance(slowed, list) else UNKNOWN if slowed is None else f"{slowed} times"
    )
    limit = f" of {m['power_limit_w']:g} W" if m.get("power_limit_w") else ""
    power, heat = _ends(m.get("power_w"), "W"), _ends(m.get("temperature_c"), "°C")
    return f"power {power}{limit}, temperature {heat}, throttling {words}"


def _ends(values: Any, unit: str) -> str:
    if values is None:
        return UNKNOWN
    if isinstance(values, int | float):
        return f"{values:g} {unit}"
    low, high = values
    return f"{low:g} {unit}" if low == high else f"{low:g} to {high:g} {unit}"


def _others(m: Mapping[str, Any]) -> str:
    found = m.get("other_processes")
    if isinstance(found, int):
        return f"{found} use it"
    cores = m.get("cores_busy_with_other_work")
    busy = "" if cores is None else f"{cores:g} cores busy with other work"
    named = ", ".join(f"{row['name']} {row['cores']:g}" for row in found or ())
    return busy + (f" ({named})" if named else "") or UNKNOWN


def _threads(c: Comparison) -> str:
    cores = c.machine.get("affinity")
    pinned = UNKNOWN if cores is None else f"cores {', '.join(map(str, cores))}"
    return f"{c.threads or 'as many as the runtime takes'}; allowed on {pinned}"


def _warm_up(c: Comparison) -> str:
    return f"{c.warm_up_rule or UNKNOWN} ({c.warm_up} rounds were)"


def _samples(c: Comparison) -> str:
    anew = f"; all were prepared anew {len(c.batches)} times" if len(c.batches) > 1 else "; all were prepared once"
    return f"{c.rounds} runs of every model, in rounds of random order{anew if c.batches else ''}"


def _stop(c: Comparison) -> str:
    return f"{c.stop_rule or UNKNOWN}; it ended {c.stopped}"


def _binding(c: Comparison) -> str:
    if c.binding is None:
        return "not used: inputs and outputs are in the memory that the runtime works in"
    return "on: inputs and outputs stay on the device" if c.binding else "off: copies are timed"


def _graph(c: Comparison) -> str:
    return "not used: there is none on a CPU" if c.graph is None else "replayed" if c.graph else "off"


def _cache(c: Comparison) -> Sequence[str]:
    return [*(f"engines: {words}" for words in _lines(each(lambda t: t.cache)(c))), f"data: {TURNS}"]


TURNS = "as the other models leave it, which run in between"


def _ratios(c: Comparison) -> Sequence[str]:
    told = [f"{t.name}: {_ratio(t.ratio)}" for t in c.models[1:]]
    return [*told, f"{c.models[0].name} by itself (A/A floor): {_ratio(c.floor)}"]


def _ratio(found: Interval) -> str:
    return f"{found.median:.4f} ({found.low:.4f} to {found.high:.4f})"


FACTS = (
    Fact("model SHA-256", ("models[].sha256",), each(_files)),
    Fact("opset", ("models[].opset",), each(lambda t: UNKNOWN if t.opset is None else str(t.opset))),
    Fact("input shapes", ("inputs[].shape",), _shapes),
    Fact("data types", ("inputs[].dtype", "precision"), _types),
    Fact("input data", ("data", "seed"), lambda c: f"{c.data or UNKNOWN}; seed {c.seed}"),
    Fact("provider", ("asked", "models[].placement", "models[].nodes"), _provider),
    Fact(
        "nodes that fell back",
        ("models[].fallback",),
        each(lambda t: UNKNOWN if t.fallback is None else str(t.fallback)),
    ),
    Fact("provider options", ("options",), lambda c: _options(c.options)),
    Fact("versions", ("runtime", "versions"), _versions),
    Fact("device", ("device",), lambda c: c.device),
    Fact("clocks are", ("machine.clocks",), _both(lambda m: m.get("clocks") or UNKNOWN)),
    Fact("clocks seen", ("machine.clock_mhz",), _both(_clocks)),
    Fact(
        "power, temperature, throttling",
        ("machine.power_w", "machine.temperature_c", "machine.throttlings"),
        _both(_heat),
    ),
    Fact("other processes", ("machine.other_processes", "machine.cores_busy_with_other_work"), _both(_others)),
    Fact("threads", ("threads", "machine.affinity"), _threads),
    Fact("warm-up, untimed", ("warm_up_rule", "warm_up"), _warm_up),
    Fact("samples", ("rounds", "batches"), _samples),
    Fact("stop rule", ("stop_rule", "stopped"), _stop),
    Fact(
        "percentiles (95% intervals)",
        ("models[].seconds", "models[].percentiles", "models[].slowest", "models[].covered"),
        each(_percentiles),
    ),
    Fact("host, device and copies apart", ("models[].apart",), lambda c: _apart_of(c)),
    Fact("I/O binding", ("binding",), _binding),
    Fact("CUDA graph", ("graph",), _graph),
    Fact("caches, cold or warm", ("models[].cache",), _cache),
    Fact("build and first run", ("models[].build", "models[].first"), each(_starts)),
    Fact(
        "peak memory",
        ("models[].memory",),
        each(lambda t: UNKNOWN if t.memory is None else short(t.memory, "B")),
    ),
    Fact("ratio within rounds (95% interval)", ("models[].ratio", "floor"), _ratios),
    Fact("outputs against the first model's", ("models[].difference",), each(_differs)),
)
"""In the order in which they are told."""


def _options(options: Mapping[str, Any]) -> Sequence[str]:
    """Those of every provider, or of a runtime that has one set."""
    if not options:
        return ["none told"]
    nested = {name: value for name, value in options.items() if isinstance(value, Mapping)}
    told = [f"{name}: {_listed(value)}" for name, value in nested.items()]
    flat = {name: value for name, value in options.items() if name not in nested}
    return told + ([_listed(flat)] if flat else [])


def _listed(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in options.items()) or "none"


def _apart_of(c: Comparison) -> Sequence[str]:
    if _on_cpu(c):
        return ["the host is the device, and nothing is copied: all of it is the time above"]
    return each(_apart)(c)
