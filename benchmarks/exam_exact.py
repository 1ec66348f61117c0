"""The exam's 26 models at keep 0.5: exact by the independent oracle, and as much removed as the best rival removes.

Every model is pruned once with the command line, by l1 and verified; the oracle judges the file. Random masks of
three seeds follow, each judged on inputs of its own seed.
"""

import sys
import tempfile
from functools import partial
from pathlib import Path
from types import ModuleType

import onnxprune
from benchmarks.common import (
    KEEP,
    add_jobs,
    add_models,
    all_of,
    arguments,
    command_line,
    judge,
    load_module,
    record,
    zoo_models,
)
from benchmarks.peers import PEERS
from benchmarks.record import Benchmark, Check, Column, Record, Row

SEEDS = (0, 1, 2)

BENCHMARK = Benchmark(
    name="exam_exact",
    claim="Parameters removed at keep 0.5 (%), exact by the oracle",
    columns=(
        Column("model", "name"),
        Column("onnxprune", "removed", ".1f"),
        Column("onnxsim", "onnxsim", ".1f"),
        Column("Torch-Pruning", "torch_pruning", ".1f"),
        Column("required", "required", ".1f"),
        Column("enough", "enough"),
        Column("exact", "exact"),
        Column("largest error", "error", ".1e"),
        Column("random masks exact", "random"),
    ),
    needs=("exam", "zoo"),
)


def prune_by_command(path: Path, out: Path) -> None:
    """`onnxprune prune MODEL --keep 0.5 -o OUT`, which verifies before it writes."""
    done = command_line("prune", path, "--keep", KEEP, "-o", out, "--json")
    if done.returncode:
        raise RuntimeError(f"exit {done.returncode}: {done.stdout or done.stderr}")


def random_masks(path: Path, out: Path, oracle: ModuleType) -> list[Row]:
    """The oracle's findings on a random mask of every seed, on inputs of the same seed."""
    analysis = onnxprune.analyze(onnxprune.load(path))
    found = []
    for seed in SEEDS:
        mask = onnxprune.choose(analysis, keep=KEEP, score="random", seed=seed)
        onnxprune.save(onnxprune.apply(analysis.model, mask, verify=False, analysis=analysis), out)
        found.append(judge(oracle, path, out, seed))
    return found


def measure(name: str, path: Path, exam: Path) -> Row:
    """One model's row."""
    oracle = load_module(exam / "oracle.py")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "pruned.onnx"
        prune_by_command(path, out)
        found = judge(oracle, path, out)
        chance = random_masks(path, Path(folder) / "random.onnx", oracle)
    peer = PEERS[name]
    return {
        "removed": found["removed"],
        "onnxsim": peer.onnxsim,
        "torch_pruning": peer.torch_pruning,
        "required": peer.required,
        "enough": peer.required is None or found["removed"] >= peer.required,
        "exact": found["exact"],
        "error": max(f["reldiff"] for f in (found, *chance)),
        "alive": min(f["alive"] for f in (found, *chance)),
        "random": f"{sum(f['exact'] for f in chance)} of {len(chance)}",
        "random_exact": all(f["exact"] for f in chance),
    }


def checks(results: Record) -> list[Check]:
    """What the claim requires of the whole table."""
    figures = {"exact": "models exact by the oracle", "random_exact": f"models exact under {len(SEEDS)} random masks"}
    figures |= {"enough": "models with enough removed"}
    return [all_of(figure, results.flags(key), len(PEERS)) for key, figure in figures.items()]


def main() -> int:
    """Measure all models; 1 if the claim fails."""
    parser = arguments(BENCHMARK)
    add_models(parser)
    add_jobs(parser, "10 GB of memory for the oracle")
    args = parser.parse_args()
    results = record(BENCHMARK, args, keep=KEEP, seeds=SEEDS)
    models = zoo_models(args.zoo, args.models, list(PEERS))
    results.add_all({name: partial(measure, name, path, args.exam) for name, path in models.items()}, args.jobs)
    return results.finish(checks(results))


if __name__ == "__main__":
    sys.exit(main())
