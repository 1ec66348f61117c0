"""Turns: runs timed in rounds, after a warm-up, until enough is known.

A machine's speed drifts: clocks, caches, neighbours. Models that are timed one after another meet different machines,
so here they run in rounds, each in an order drawn at random, in which none follows itself: what a run leaves in the
caches for the next is then the same for all. Neighbours in time meet the same machine, and what is compared is the
ratio within a round.

Where weights and buffers come to lie in memory makes one instance of a model faster than another for as long as both
live (Mytkowicz et al. 2009, "Producing wrong data without doing anything obviously wrong"), so no number of rounds
tells it from a difference between models. Instances are made anew several times, and what differs between them counts
as noise (Kalibera and Jones 2013, "Rigorous benchmarking in reasonable time").
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from onnxprune.collector import no_collection
from onnxprune.errors import UsageError
from onnxprune.latency.runtimes import Setting
from onnxprune.latency.statistic import BATCHES, FEWEST, Interval, ratio_interval

MIN_ROUNDS = 11
MAX_ROUNDS = 5000
STEADY = 0.02
"""Warm-up ends when the medians of its last two windows differ by less than this."""
WINDOW = 5
LEAST_WARM_UP, MOST_WARM_UP = 3, 50
AGAIN = 3
"""Untimed rounds of instances after the first, when machine and runtime are warm already."""
LOOKS = 1.25
"""After how many times more rounds the intervals are looked at again."""
LEAST = 5
"""Rounds that every instance is worth making for."""

Progress = Callable[[float], None]
Runs = Sequence[Callable[[], object]]


@dataclass(frozen=True)
class Plan:
    """How to measure.

    Attributes:
        seconds: for about how long at most, warm-up and preparing left out (at least 11 rounds, at most 5000).
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
        instances: how many times every model is prepared anew, if that takes no longer than the timing and leaves
            enough rounds to each; else once.
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
    instances: int = BATCHES

    def __post_init__(self) -> None:
        if self.instances != 1 and not FEWEST <= self.instances <= BATCHES:
            known = f"1, or {FEWEST} to {BATCHES}"
            raise UsageError(f"{self.instances} instances, expected {known}", "fewer do not tell how instances differ")

    def affordable(self, build: float, run: float) -> int:
        """How many instances of all models are made, if that takes `build` seconds and a round `run`."""
        seconds = self.seconds if self.rounds is None else self.rounds * run
        rounds = seconds / max(run, 1e-9) if self.rounds is None else self.rounds
        most = min(seconds / max(build, 1e-9), rounds / LEAST)
        return count if (count := int(min(self.instances, most))) >= FEWEST else 1


@dataclass(frozen=True)
class Measured:
    """Times of runs.

    Attributes:
        times: seconds of every run, float `(rounds, models)`.
        batches: rounds of every instance of the models, in the order of `times`.
        warm_up: untimed rounds.
        why: it ended.
    """

    times: np.ndarray
    batches: tuple[int, ...]
    warm_up: int
    why: str

    def ratio(self, model: int) -> Interval:
        """The time of a model by the first one's."""
        return ratio_interval(self.times[:, model], self.times[:, 0], self.batches)


def measure(instances: Iterator[Runs], plan: Plan, progress: Progress, count: int = 1) -> Measured:
    """Time so many instances of models, one after the other: the models of each take turns."""
    rounds, batches, warm_up = list[list[float]](), list[int](), 0
    stop, orders = Stop(plan, count), _Orders(plan.seed)
    for number in range(count):
        runs = next(instances)
        with no_collection():
            warm_up += _warm_up(runs, plan, AGAIN if number else MOST_WARM_UP)
            before = len(rounds)
            for share in stop.shares(rounds):
                progress((number + share) / count)
                rounds.append(_round(runs, orders.draw(len(runs))))
        batches.append(len(rounds) - before)
        del runs  # so that the next ones find their memory free
        if count > 1 and stop.sure(rounds, batches):
            break
    progress(1.0)
    return Measured(np.array(rounds), tuple(batches), warm_up, stop.why)


def _warm_up(runs: Runs, plan: Plan, most: int) -> int:
    """Run untimed, as many rounds as planned, or until the times have settled; how many rounds that took."""
    times: list[float] = []
    while len(times) < (most if plan.warm_up is None else plan.warm_up):
        times.append(sum(_round(runs, range(len(runs)))))
        if plan.warm_up is not None:
            continue
        if len(times) >= LEAST_WARM_UP and plan.rounds is None and sum(times) > plan.seconds:
            break
        if len(times) >= 2 * WINDOW:
            before, now = np.median(times[-2 * WINDOW : -WINDOW]), np.median(times[-WINDOW:])
            if abs(now - before) < STEADY * now:
                break
    return len(times)


class Stop:
    """When to end: a share of the time, or of the rounds, belongs to each of `count` instances.

    Attributes:
        why: in words, once it has.
    """

    def __init__(self, plan: Plan, count: int = 1):
        self.plan, self.count = plan, count
        self.why, self._began, self._in_time = "", 0, False

    def shares(self, rounds: Sequence[Sequence[float]]) -> Iterator[float]:
        """The share of an instance that is done, before every round of it; `rounds` grows meanwhile."""
        self._began += 1
        plan, before, start = self.plan, len(rounds), time.perf_counter()
        least, most = (max(1, self._until(n) - before) for n in (MIN_ROUNDS, MAX_ROUNDS))
        look = least
        while (done := len(rounds) - before) < most:
            passed = (time.perf_counter() - start) * self.count / max(plan.seconds, 1e-9)
            if plan.rounds is None and done >= least:
                if passed >= 1:
                    self._in_time, self.why = True, f"after {plan.seconds:g} s"
                    return
                if self.count == 1 and done >= look:
                    look = int(LOOKS * done) + 1
                    if self.sure(rounds, [done]):
                        return
            yield min(done / least, 1.0 if plan.rounds else max(passed, done / most), 1.0)
        if not self._in_time:
            self.why = f"after {len(rounds)} rounds"

    def _until(self, usual: int) -> int:
        """How many rounds there are at the end of this instance, of so many in all where the plan has no number."""
        return -(-(self.plan.rounds or usual) * self._began // self.count)

    def sure(self, rounds: Sequence[Sequence[float]], batches: Sequence[int]) -> bool:
        """Whether all ratios are known well enough, after some whole instances."""
        tolerance = self.plan.tolerance
        if tolerance is None or self.plan.rounds is not None or (self.count > 1 and len(batches) < FEWEST):
            return False
        found = Measured(np.array(rounds), tuple(batches), 0, "")
        if all(found.ratio(k).half_width <= tolerance for k in range(1, len(rounds[0]))):
            self.why = f"all ratios are known to within {tolerance:g}"
            return True
        return False


class _Orders:
    """Random orders, none of which begins with what the one before has ended with."""

    def __init__(self, seed: int):
        self._chance, self._last = np.random.default_rng(seed), -1

    def draw(self, count: int) -> list[int]:
        """The next one, of so many."""
        while True:
            order: list[int] = self._chance.permutation(count).tolist()
            if count == 1 or order[0] != self._last:
                self._last = order[-1]
                return order


def _round(runs: Runs, order: Iterable[int]) -> list[float]:
    seconds = [0.0] * len(runs)
    for k in order:
        start = time.perf_counter()
        runs[k]()
        seconds[k] = time.perf_counter() - start
    return seconds
