"""Turns: runs timed in rounds, after a warm-up, until enough is known.

A machine's speed drifts: clocks, caches, neighbours. Models that are timed one after another meet different machines,
so here they run in rounds, each in an order drawn at random, in which none follows itself: what a run leaves in the
caches for the next is then the same for all. Neighbours in time meet the same machine, and what is compared is the
ratio within a round.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from onnxprune.latency.runtimes import Setting
from onnxprune.latency.statistic import median_interval

MIN_ROUNDS = 11
MAX_ROUNDS = 5000
STEADY = 0.02
"""Warm-up ends when the medians of its last two windows differ by less than this."""
WINDOW = 5
MOST_WARM_UP = 50
LOOKS = 1.25
"""After how many times more rounds the intervals are looked at again."""

Progress = Callable[[float], None]
Runs = Sequence[Callable[[], object]]


@dataclass(frozen=True)
class Plan:
    """How to measure.

    Attributes:
        seconds: for about how long at most, warm-up left out (at least 11 rounds, at most 5000).
        rounds: the exact number of rounds, whatever they take, or None.
        tolerance: stop earlier, when all ratios are known to within this (half of the 95% interval), or None. Looking
            again and again makes intervals miss somewhat more often than they say.
        warm_up: untimed rounds at the start, or None for as many as the times take to settle.
        runtime: one of `RUNTIMES`.
        setting: of the runtime.
        sizes: sizes of symbolic dimensions by name; `*` is for all others.
        seed: of the random input.
        inputs: the user's own by name, instead of random ones; or None.
        cpus: numbers of the processors that may be used; none for all that this process has.
    """

    seconds: float = 10.0
    rounds: int | None = None
    tolerance: float | None = None
    warm_up: int | None = None
    runtime: str = "cpu"
    setting: Setting = field(default_factory=Setting)
    sizes: Mapping[str, int] = field(default_factory=dict)
    seed: int = 0
    inputs: Mapping[str, np.ndarray] | None = None
    cpus: tuple[int, ...] = ()


def measure(runs: Runs, plan: Plan, progress: Progress) -> tuple[np.ndarray, int, str]:
    """Seconds of every run: float of shape `(rounds, models)`; untimed rounds; and why it ended."""
    warm_up = _warm_up(runs, plan.warm_up)
    rounds: list[list[float]] = []
    stop, orders = Stop(plan), _orders(len(runs), plan.seed)
    for share in stop.shares(rounds):
        progress(share)
        rounds.append(_round(runs, next(orders)))
    progress(1.0)
    return np.array(rounds), warm_up, stop.why


def _warm_up(runs: Runs, count: int | None) -> int:
    """Run untimed, so many rounds, or until the times have settled; how many rounds that took."""
    times: list[float] = []
    while len(times) < (MOST_WARM_UP if count is None else count):
        times.append(sum(_round(runs, range(len(runs)))))
        if count is None and len(times) >= 2 * WINDOW:
            before, now = np.median(times[-2 * WINDOW : -WINDOW]), np.median(times[-WINDOW:])
            if abs(now - before) < STEADY * now:
                break
    return len(times)


class Stop:
    """When to end.

    Attributes:
        why: in words, once it has.
    """

    def __init__(self, plan: Plan):
        self.plan, self.why = plan, ""

    def shares(self, rounds: Sequence[Sequence[float]]) -> Iterator[float]:
        """The share that is done, before every round; `rounds` grows meanwhile."""
        plan, start, look = self.plan, time.perf_counter(), MIN_ROUNDS
        most = plan.rounds or MAX_ROUNDS
        while len(rounds) < most:
            passed = 0.0 if plan.rounds else (time.perf_counter() - start) / max(plan.seconds, 1e-9)
            if plan.rounds is None and len(rounds) >= MIN_ROUNDS:
                if passed >= 1:
                    self.why = f"after {plan.seconds:g} s"
                    return
                if plan.tolerance is not None and len(rounds) >= look:
                    look = int(LOOKS * len(rounds)) + 1
                    if self._sure(np.array(rounds)):
                        self.why = f"all ratios are known to within {plan.tolerance:g}"
                        return
            least = plan.rounds or MIN_ROUNDS
            yield min(len(rounds) / least, max(passed, len(rounds) / most), 1.0)
        self.why = f"after {most} rounds"

    def _sure(self, times: np.ndarray) -> bool:
        ratios = (times[:, k] / times[:, 0] for k in range(1, times.shape[1]))
        return all(median_interval(r).half_width <= (self.plan.tolerance or 0) for r in ratios)


def _orders(count: int, seed: int) -> Iterator[Sequence[int]]:
    """Random orders, none of which begins with what the one before has ended with."""
    chance, last = np.random.default_rng(seed), -1
    while True:
        order = chance.permutation(count).tolist()
        if count == 1 or order[0] != last:
            last = order[-1]
            yield order


def _round(runs: Runs, order: Iterable[int]) -> list[float]:
    seconds = [0.0] * len(runs)
    for k in order:
        start = time.perf_counter()
        runs[k]()
        seconds[k] = time.perf_counter() - start
    return seconds
