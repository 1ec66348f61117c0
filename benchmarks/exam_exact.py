"""The exam's 26 models at keep 0.5: exact by the independent oracle, and as much removed as the best rival removes.

Every model is pruned once by l1, verified and saved; the oracle judges the saved file. Three random masks per model
follow, each judged on inputs of its own seed. With `--cli` the l1 file comes from the command line.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import onnxprune
from benchmarks.common import add_models, all_of, arguments, command_line, judge, load_module, record, zoo_models
from benchmarks.peers import PEERS
from benchmarks.record import Benchmark, Check, Column, Record, Row
from onnxprune.analysis import Analysis

KEEP = 0.5
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


def prune_by_library(path: Path, out: Path) -> Analysis:
    """Prune a file by l1 into another, verified."""
    model = onnxprune.load(path)
    analysis = onnxprune.analyze(model)
    mask = onnxprune.choose(analysis, keep=KEEP, score="l1")
    onnxprune.save(onnxprune.apply(model, mask, analysis=analysis), out)
    return analysis


def prune_by_command(path: Path, out: Path) -> Analysis:
    """The same with the command line."""
    done = command_line("prune", path, "--keep", KEEP, "-o", out, "--json")
    if done.returncode:
        raise RuntimeError(f"exit {done.returncode}: {done.stderr or done.stdout}")
    return onnxprune.analyze(onnxprune.load(path))


def random_masks(analysis: Analysis, path: Path, out: Path, oracle: ModuleType) -> list[Row]:
    """The oracle's findings on a random mask of every seed, on inputs of the same seed."""
    found = []
    for seed in SEEDS:
        mask = onnxprune.choose(analysis, keep=KEEP, score="random", seed=seed)
        onnxprune.save(onnxprune.apply(analysis.model, mask, verify=False, analysis=analysis), out)
        found.append(judge(oracle, path, out, seed))
    return found


def measure(name: str, path: Path, oracle: ModuleType, cli: bool) -> Row:
    """One model's row."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "pruned.onnx"
        analysis = (prune_by_command if cli else prune_by_library)(path, out)
        found = judge(oracle, path, out)
        chance = random_masks(analysis, path, Path(folder) / "random.onnx", oracle)
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


def parse() -> argparse.Namespace:
    """The command line."""
    parser = arguments(BENCHMARK)
    add_models(parser)
    parser.add_argument("--cli", action="store_true", help="prune with the `onnxprune` command, not the library")
    return parser.parse_args()


def main() -> int:
    """Measure all models; 1 if the claim fails."""
    args = parse()
    oracle = load_module(args.exam / "oracle.py")
    results = record(BENCHMARK, args, keep=KEEP, seeds=SEEDS, cli=args.cli)
    for name, path in zoo_models(args.zoo, args.models, list(PEERS)).items():
        results.add(name, lambda name=name, path=path: measure(name, path, oracle, args.cli))
    return results.finish(checks(results))


if __name__ == "__main__":
    sys.exit(main())
