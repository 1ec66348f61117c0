"""1 GiB of external data: pruning and saving it against copying it, and the most memory that takes.

The pruning runs in a process of its own, which reports its time (imports left out) and its peak memory. Either side
is timed with and without the flush to the disk (`os.fsync`) that crash-safe saving makes.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

import onnxprune
from benchmarks.common import (
    BUILD,
    Stopwatch,
    add_repeats,
    arguments,
    at_most,
    peak_memory,
    prune_in_steps,
    record,
    settle_disk,
)
from benchmarks.record import Benchmark, Check, Column, Record, Row

WIDTH = 4096
LAYERS = 16
SLOWEST = 2.0
MEMORY = 300.0

BENCHMARK = Benchmark(
    name="external",
    claim="1 GiB of external data: seconds to prune and save it, and to copy its file",
    columns=(
        Column("flushed to the disk", "name"),
        Column("load", "load", ".3f"),
        Column("analyze", "analyze", ".3f"),
        Column("choose", "choose", ".3f"),
        Column("apply", "apply", ".3f"),
        Column("save", "save", ".3f"),
        Column("onnxprune", "ours", ".2f"),
        Column("file copy", "copy", ".2f"),
        Column("ratio", "ratio", ".2f"),
        Column("peak memory, MB", "peak_mb", ".0f"),
    ),
)


def reference(layer: int, size: int) -> TensorProto:
    """A layer's weight as a reference into the data file."""
    tensor = TensorProto(name=f"w{layer}", data_type=TensorProto.FLOAT, dims=(WIDTH, WIDTH))
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "mlp.data"), ("offset", layer * size), ("length", size)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def build(folder: Path) -> Path:
    """A stack of matrix products and Relu whose weights, 1 GiB, lie in `mlp.data`."""
    rng = np.random.default_rng(0)
    with (folder / "mlp.data").open("wb") as file:
        for _ in range(LAYERS):
            file.write(rng.standard_normal((WIDTH, WIDTH), np.float32).tobytes())
    nodes = []
    for k in range(LAYERS):
        nodes.append(helper.make_node("MatMul", [f"t{k}", f"w{k}"], [f"m{k}"], f"matmul{k}"))
        nodes.append(helper.make_node("Relu", [f"m{k}"], [f"t{k + 1}"], f"relu{k}"))
    ends = [helper.make_tensor_value_info(name, 1, (1, WIDTH)) for name in ("t0", f"t{LAYERS}")]
    weights = [reference(k, 4 * WIDTH * WIDTH) for k in range(LAYERS)]
    graph = helper.make_graph(nodes, "mlp", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (folder / "mlp.onnx").write_bytes(model.SerializeToString())
    return folder / "mlp.onnx"


def child(path: Path, flushed: bool) -> None:
    """Prune and save in this process, and print what it took."""
    if not flushed:
        os.fsync = lambda file: None  # type: ignore[assignment]
    watch = Stopwatch()
    *_, pruned = prune_in_steps(path, watch)
    with watch("save"):
        onnxprune.save(pruned, path.with_name("pruned.onnx"))
    print(json.dumps(watch.laps | {"ours": watch.seconds, "peak_mb": peak_memory()}))


def prune(path: Path, flushed: bool) -> dict[str, float]:
    """Prune and save in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.external", "--child", str(path)]
    done = subprocess.run(command + ["--flushed"] * flushed, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return json.loads(done.stdout)


def copy(data: Path, flushed: bool) -> float:
    """Seconds to copy the data file."""
    target = data.with_name("copy.data")
    start = time.perf_counter()
    shutil.copyfile(data, target)
    if flushed:
        with target.open("rb+") as file:
            os.fsync(file.fileno())
    return time.perf_counter() - start


def measure(path: Path, flushed: bool, repeats: int) -> Row:
    """One row: medians over the rounds, of which the first only warms up."""
    rounds = []
    for _ in range(repeats + 1):
        settle_disk()
        copied = copy(path.with_suffix(".data"), flushed)
        path.with_name("copy.data").unlink()
        for old in path.parent.glob("pruned*"):
            old.unlink()  # to rename over a file flushes the new one on some file systems
        settle_disk()
        pruned = prune(path, flushed)
        rounds.append(pruned | {"copy": copied, "ratio": pruned["ours"] / copied})
    row = {key: statistics.median(r[key] for r in rounds[1:]) for key in rounds[0]}
    return row | {"peak_mb": max(r["peak_mb"] for r in rounds), "kept": kept_bytes(path)}


def kept_bytes(path: Path) -> float:
    """The share of the data that the pruned model still has."""
    tensors = onnx.load(path.with_name("pruned.onnx"), load_external_data=False).graph.initializer
    return sum(int(np.prod(t.dims)) for t in tensors) / (LAYERS * WIDTH * WIDTH)


def checks(results: Record) -> list[Check]:
    """Time against the copy, with and without flushing, and memory."""
    ratios = {row["name"]: row.get("ratio") for row in results.rows.values()}
    return [
        at_most("time by a file copy, both flushed", ratios.get("yes"), SLOWEST),
        at_most("time by a file copy, neither flushed", ratios.get("no"), SLOWEST),
        at_most("peak memory", max(results.column("peak_mb"), default=None), MEMORY, " MB"),
    ]


def parse() -> argparse.Namespace:
    """The command line."""
    parser = arguments(BENCHMARK)
    add_repeats(parser, 5)
    parser.add_argument("--folder", type=Path, default=BUILD, help="where 3 GiB of files go for the time of the run")
    parser.add_argument("--child", type=Path, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--flushed", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    """Measure both; 1 if the claim fails."""
    args = parse()
    if args.child:
        child(args.child, args.flushed)
        return 0
    results = record(BENCHMARK, args, repeats=args.repeats, layers=LAYERS, width=WIDTH)
    args.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path = build(Path(folder))
        for name, flushed in (("yes", True), ("no", False)):
            results.add(name, partial(measure, path, flushed, args.repeats))
    return results.finish(checks(results))


if __name__ == "__main__":
    sys.exit(main())
