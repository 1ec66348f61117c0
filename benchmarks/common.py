"""What the benchmarks share: their arguments, the four steps of a pruning, timing in turns, memory, the oracle."""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib.util
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx

import onnxprune
from benchmarks.record import RESULTS, Benchmark, Check, Record
from onnxprune.analysis import Analysis

KEEP = 0.5
BUILD = Path("build")
EXAM = Path("../shared/exam")

BESIDE = {"corpus": "corpus", "data": "data/cifar10"}
"""Folders that lie beside the exam's, unless others are named."""

ARGUMENTS: dict[str, dict[str, Any]] = {
    "exam": {"type": Path, "default": EXAM, "help": "folder of the exam (oracle.py)"},
    "zoo": {"type": Path, "default": BUILD / "zoo", "help": "folder of the exam's exported models"},
    "corpus": {
        "type": Path,
        "default": EXAM.parent / BESIDE["corpus"],
        "help": "folder of trained models and corpus.json",
    },
    "data": {"type": Path, "default": EXAM.parent / BESIDE["data"], "help": "folder of CIFAR-10"},
}


def arguments(benchmark: Benchmark) -> argparse.ArgumentParser:
    """A parser with the folders that the benchmark needs, `--results` and `--fresh`."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{benchmark.name}", description=benchmark.claim)
    for name in benchmark.needs:
        parser.add_argument(f"--{name}", **ARGUMENTS[name])
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the result file")
    parser.add_argument("--fresh", action="store_true", help="measure again what the result file holds already")
    return parser


def record(benchmark: Benchmark, args: argparse.Namespace, **options: Any) -> Record:
    """The record that a run continues, or a new one."""
    new = Record(benchmark, options, args.results)
    return new if args.fresh else new.resume()


def add_models(parser: argparse.ArgumentParser) -> None:
    """The option to run a few models only."""
    parser.add_argument("--models", nargs="+", default=None, metavar="NAME", help="models, such as resnet18 (all)")


def add_repeats(parser: argparse.ArgumentParser, default: int) -> None:
    """The option for the number of timed rounds."""
    parser.add_argument("--repeats", type=int, default=default, help=f"timed rounds ({default})")


def add_jobs(parser: argparse.ArgumentParser, needed: str) -> None:
    """The option for the number of processes; `needed` says what one of them may need."""
    parser.add_argument("--jobs", type=int, default=1, help=f"rows at a time (1); one may need {needed}")


def zoo_models(folder: Path, names: Sequence[str] | None, known: Sequence[str]) -> dict[str, Path]:
    """Files of the exam's models by name, in the exam's order."""
    return {name: folder / f"tv_{name}.onnx" for name in known if names is None or name in names}


def load_module(path: Path) -> ModuleType:
    """A Python file outside of the project, such as the exam's oracle, as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.exists():
        raise SystemExit(f"{path.name} is not there; fix: give its folder with --{path.parent.name}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # what it registers elsewhere lives as long as it does
    spec.loader.exec_module(module)
    return module


def judge(
    oracle: ModuleType, original: Path, pruned: Path, seed: int = 0, sizes: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """The oracle's finding on two files, with the share of parameters that went, in percent."""
    found = oracle.check(onnx.load(original), onnx.load(pruned), seed, sizes=dict(sizes or {}))
    return found | {"removed": 100 * (1 - found["params_after"] / max(1, found["params_before"]))}


def command_line(*words: object) -> subprocess.CompletedProcess[str]:
    """Run the `onnxprune` command of this environment."""
    command = [sys.executable, "-m", "onnxprune.cli", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


class Stopwatch:
    """Seconds spent inside `with watch("step"):`, by step."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, lap: str) -> Iterator[None]:
        """Add the time of the block to a lap."""
        start = time.perf_counter()
        yield
        self.laps[lap] = self.laps.get(lap, 0.0) + time.perf_counter() - start

    @property
    def seconds(self) -> float:
        """All laps together."""
        return sum(self.laps.values())


Side = Callable[[Stopwatch], object]


def prune_in_steps(path: Path, watch: Stopwatch) -> tuple[Analysis, onnxprune.Mask, onnxprune.Model]:
    """Load, analyze, choose (l1, keep 0.5) and apply, unverified, each on the watch."""
    with watch("load"):
        model = onnxprune.load(path)
    with watch("analyze"):
        analysis = onnxprune.analyze(model)
    with watch("choose"):
        mask = onnxprune.choose(analysis, keep=KEEP, score="l1")
    with watch("apply"):
        pruned = onnxprune.apply(model, mask, verify=False, analysis=analysis)
    return analysis, mask, pruned


def in_turns(
    sides: Mapping[str, Side], repeats: int, between: Callable[[], object] = gc.collect
) -> dict[str, list[Stopwatch]]:
    """Time sides in turns, after one round that warms up: by side, its stopwatches.

    Neighbours in time meet the same machine, so that ratios within a round are what is compared. `between` runs
    untimed before every call.
    """
    watches: dict[str, list[Stopwatch]] = {name: [] for name in sides}
    for turn in range(repeats + 1):
        for name in list(sides)[:: 1 if turn % 2 else -1]:
            between()
            watch = Stopwatch()
            sides[name](watch)
            if turn:
                watches[name].append(watch)
    return watches


def seconds(watches: Sequence[Stopwatch]) -> float:
    """The median of the whole times."""
    return statistics.median(w.seconds for w in watches)


def laps(watches: Sequence[Stopwatch]) -> dict[str, float]:
    """The median of every lap."""
    return {lap: statistics.median(w.laps[lap] for w in watches) for lap in watches[0].laps}


def ratio(ours: Sequence[Stopwatch], theirs: Sequence[Stopwatch]) -> float:
    """The median over the rounds of our time by theirs."""
    return statistics.median(a.seconds / b.seconds for a, b in zip(ours, theirs, strict=True))


def peak_memory() -> float:
    """The most memory that this process has held, in MB.

    Linux hands `ru_maxrss` on from the process that started this one, so its own figure is read where there is one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e6


def settle_disk() -> None:
    """Collect garbage and write out what earlier rounds left, so that no side pays for another."""
    gc.collect()
    os.sync()


def at_most(figure: str, measured: float | None, limit: float, unit: str = "x") -> Check:
    """The check that a figure is at most `limit`; nothing measured is a failure."""
    text = "nothing measured" if measured is None else f"{measured:.2f}{unit}"
    return Check(figure, f"≤ {limit:g}{unit}", text, measured is not None and measured <= limit)


def at_least(figure: str, measured: float | None, limit: float, unit: str = "x") -> Check:
    """The check that a figure is at least `limit`; nothing measured is a failure."""
    text = "nothing measured" if measured is None else f"{measured:.2f}{unit}"
    return Check(figure, f"≥ {limit:g}{unit}", text, measured is not None and measured >= limit)


def all_of(figure: str, good: Sequence[bool], expected: int) -> Check:
    """The check that a figure holds for every one of the expected cases."""
    return Check(figure, f"{expected} of {expected}", f"{sum(good)} of {len(good)}", sum(good) == expected == len(good))
