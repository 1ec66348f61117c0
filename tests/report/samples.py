"""Reports with made-up times, for drawings and pages."""

from dataclasses import replace

import numpy as np

from onnxprune.latency import Attribution, Comparison, Part, Timing
from onnxprune.latency.paired import _measured
from onnxprune.latency.statistic import median_interval
from onnxprune.latency.turns import Measured
from onnxprune.report import Bench
from onnxprune.widths import GroupWidths
from tests.timings import comparison, timing

ROUNDS = 400
NASTY = '</text><script>alert("x")</script><img src=x onerror=alert(1)>&"'
"""A name that would do something if it was not escaped."""


def draw(name: str, median: float, seed: int, first: np.ndarray | None = None) -> tuple[Timing, np.ndarray]:
    """A model whose times scatter above a median, in seconds."""
    times = median * (0.95 + np.random.default_rng(seed).gamma(2.0, 0.05, ROUNDS))
    first = times if first is None else first
    told = {"nodes": {f"{name}/node": "CPUExecutionProvider"}, "placement": {"CPUExecutionProvider": 1}}
    both = Measured(np.array([first, times]).T, (ROUNDS,), 0, "")
    return replace(timing(name, median, 1.0, median, median), **_measured(both, 1), **told), times


def timed(*medians: float, names: tuple[str, ...] = ()) -> Comparison:
    """Models of these medians, in seconds."""
    names = names or tuple(f"m{k}.onnx" for k in range(len(medians)))
    first, times = draw(names[0], medians[0], 0)
    others = [draw(name, m, k, times)[0] for k, (name, m) in enumerate(zip(names[1:], medians[1:], strict=True), 1)]
    again = draw("again", medians[0], 99)[1]
    found = comparison(first, *others)
    return replace(found, rounds=ROUNDS, again=tuple(again.tolist()), floor=median_interval(again / times))


def profiled(*shares: float) -> Attribution:
    """Parts that take so many seconds."""
    return Attribution(tuple(Part((f"/layer{k}/Conv",), "Conv", s, {f"w{k}": 1.0}) for k, s in enumerate(shares)))


def bench(names: tuple[str, ...] = ("dense.onnx", "small.onnx", "same.onnx")) -> Bench:
    """A report with all that one may have."""
    found = timed(0.004, 0.002, 0.004, names=names)
    layers = {
        name: profiled(*(factor * s for s in (1e-3, 2e-3, 5e-4)))
        for name, factor in zip(names, (1, 0.5, 1), strict=True)
    }
    widths = tuple(GroupWidths(f"w{k}", 64, {names[1]: 32 + k, names[2]: None}) for k in range(3))
    accuracy = dict(zip(names, (0.93, 0.91, 0.90), strict=True))
    return Bench(found, layers, widths, accuracy, ("small.onnx: p50 is 0.5x, and p50 > 0.4x was to fail",))
