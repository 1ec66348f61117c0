"""One search in one process, in four, and on a Ray cluster: the same bit for bit, also when something is killed.

    python -m benchmarks.search_executors [--kills 20]

The fitness is the surrogate with noise from each evaluation's own seed. Workers kill themselves by SIGKILL in random
evaluations, the driver in others; it is started again with `--resume` until it comes to its end.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import all_of, arguments, record
from benchmarks.record import ROOT, Benchmark, Column, Row
from benchmarks.surrogate import DIMENSIONS, LEVELS, Surrogate, Unlucky
from onnxprune.search.bees import bees
from onnxprune.search.crew import Workers
from onnxprune.search.evaluation import Evaluation, Executor, Maker
from onnxprune.search.executors import InProcess, Processes
from onnxprune.search.grid import Grid, Space
from onnxprune.search.journal import Journal
from onnxprune.search.remote import Cluster, Remote
from onnxprune.search.run import Budget, search
from onnxprune.search.sampler import Sampler

GRID = Grid((tuple(range(1, LEVELS + 1)),) * DIMENSIONS)
EVALUATIONS, NOISE = 120, 0.05
EXECUTORS: dict[str, Callable[[Maker], Executor]] = {
    "one process": InProcess,
    "4 processes": lambda maker: Processes(maker, Workers(4)),
    "Ray, 2 workers": lambda maker: Remote(maker, Workers(2), Cluster(cpus=0.5)),
}

BENCHMARK = Benchmark(
    name="search_executors",
    claim="120 evaluations wherever they are judged, and whatever is killed: the same search",
    columns=(
        Column("search", "name"),
        Column("evaluations", "evaluations", "d"),
        Column("same as in one process", "same"),
        Column("killed", "killed", "d"),
        Column("lost", "lost", "d"),
        Column("repeated", "repeated", "d"),
    ),
    rivals=("ray",),
)


def found(executor: Executor, journal: Journal | None = None) -> list[dict[str, Any]]:
    """All but the times of a search's evaluations."""
    sampler = Sampler(bees(Space(GRID), np.random.default_rng(0)))
    with executor:
        return [plain(e) for e in search(sampler, executor, Budget(EVALUATIONS), journal)]


def plain(evaluation: Evaluation) -> dict[str, Any]:
    """What must be the same."""
    names = ("number", "structure", "seed", "figures", "failure")
    return {name: getattr(evaluation, name) for name in names}


def counted(folder: Path, killed: int) -> Row:
    """Evaluations that were lost, and those that came to their end more than once."""
    finished = [int(line) for line in (folder / "finished").read_text().split()]
    return {"killed": killed, "lost": EVALUATIONS - len(set(finished)), "repeated": len(finished) - len(set(finished))}


def measure(name: str) -> Row:
    """One kind of executor, nothing killed."""
    own = found(EXECUTORS[name](Surrogate(NOISE)))
    same = own == found(InProcess(Surrogate(NOISE)))
    return {"evaluations": len(own), "same": same, "killed": 0, "lost": EVALUATIONS - len(own), "repeated": 0}


def workers_killed(name: str, kills: int) -> Row:
    """Workers die in random evaluations."""
    with tempfile.TemporaryDirectory() as folder:
        maker = Unlucky(Path(folder), chosen(kills), noise=NOISE)
        own = found(EXECUTORS[name](maker))
        same = own == found(InProcess(Surrogate(NOISE)))
        return {"evaluations": len(own), "same": same, **counted(Path(folder), kills)}


def driver_killed(kills: int) -> Row:
    """The driver dies in random evaluations, and is started again."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.search_executors", "--child", folder, "--kills", str(kills)]
        died = 0
        while (ended := subprocess.run(command, cwd=ROOT, check=False).returncode) != 0:
            died += 1
            if ended > 0:
                raise RuntimeError(f"the driver ended with status {ended}")
        with Journal(Path(folder) / "journal", {}, resume=True) as journal:
            own = json.loads(json.dumps([plain(journal.known[n, 0]) for n in range(EVALUATIONS)]))
        same = own == json.loads(json.dumps(found(InProcess(Surrogate(NOISE)))))
        return {"evaluations": len(own), "same": same, **counted(Path(folder), died)}


def child(folder: Path, kills: int) -> None:
    """A driver that dies."""
    with Journal(folder / "journal", {}, resume=True) as journal:
        found(InProcess(Unlucky(folder, chosen(kills), noise=NOISE)), journal)


def chosen(kills: int) -> tuple[int, ...]:
    """Evaluations in which something dies."""
    return tuple(sorted(random.Random(0).sample(range(EVALUATIONS), kills)))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = arguments(BENCHMARK)
    parser.add_argument("--kills", type=int, default=20, help="of workers, and of the driver (20)")
    parser.add_argument("--child", type=Path, default=None, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    """Search in all ways; 1 if anything differs."""
    args = parse()
    if args.child:
        child(args.child, args.kills)
        return 0
    results = record(BENCHMARK, args, kills=args.kills, evaluations=EVALUATIONS)
    for name in EXECUTORS:
        results.add(name, partial(measure, name))
    for name in list(EXECUTORS)[1:]:
        results.add(f"{name}, workers killed", partial(workers_killed, name, args.kills))
    results.add("one process, driver killed", partial(driver_killed, args.kills))
    whole = [row.get("lost") == 0 and row.get("repeated") == 0 for row in results.rows.values()]
    checks = [
        all_of("searches that are the same bit for bit", results.flags("same"), 6),
        all_of("searches that lose and repeat nothing", whole, 6),
    ]
    return results.finish(checks)


if __name__ == "__main__":
    sys.exit(main())
