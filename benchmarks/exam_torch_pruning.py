"""Our four steps on the exported file against Torch-Pruning's graph, pruner and step on the torch module.

One process, in turns. Our time includes reading and checking the file (its own column), the rival's module is in memory
already. Torch-Pruning changes its module, so that every round gets a copy, made off the clock. Where it needs
more than `LIMIT` seconds, these are what is compared with: its figure is a lower bound. Models on which it fails are
listed with the reason and stay out of the median.
"""

import contextlib
import copy
import signal
import statistics
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.common import (
    KEEP,
    Stopwatch,
    add_models,
    add_repeats,
    arguments,
    in_turns,
    laps,
    load_module,
    prune_in_steps,
    ratio,
    record,
    seconds,
    zoo_models,
)
from benchmarks.peers import PEERS
from benchmarks.record import Benchmark, Check, Column, Record, Row

LIMIT = 60
REQUIRED = 10.0

BENCHMARK = Benchmark(
    name="exam_torch_pruning",
    claim="Seconds to prune at keep 0.5: onnxprune on the file, Torch-Pruning (graph, pruner, step) on the module",
    columns=(
        Column("model", "name"),
        Column("load", "load", ".3f"),
        Column("onnxprune", "ours", ".3f"),
        Column("Torch-Pruning", "theirs", ".2f"),
        Column("times faster", "faster", ".1f"),
        Column("removed by Torch-Pruning (%)", "removed", ".1f"),
        Column("stopped by", "stopped"),
    ),
    needs=("exam", "zoo"),
    rivals=("torch", "torchvision", "torch-pruning"),
)


class TooSlowError(Exception):
    """The rival did not end within `LIMIT` seconds."""


@contextlib.contextmanager
def time_limit() -> Iterator[None]:
    """Stop the block after `LIMIT` seconds."""

    def stop(*_: object) -> None:
        raise TooSlowError(f"more than {LIMIT} s")

    old = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LIMIT)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)


def build(name: str) -> tuple[Any, Any]:
    """A torchvision module in evaluation mode that returns one tensor, and its example input."""
    import torch
    import torchvision

    options: dict[str, Any] = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    options |= {"weights_backbone": None} if name.startswith(("fcn", "deeplab", "lraspp")) else {}
    module = torchvision.models.get_model(name, weights=None, **options).eval()
    size = 299 if name == "inception_v3" else 224
    return module, torch.randn(1, 3, size, size)


def last_layer(module: Any) -> Any:
    """The classifier, whose outputs are the classes."""
    from torch import nn

    layers = [m for m in module.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    classes = [m for m in layers if getattr(m, "out_features", getattr(m, "out_channels", 0)) in (1000, 21)]
    return classes[-1]


def first_tensor(result: Any) -> Any:
    """One tensor of what a module returns."""
    return next(iter(result.values())) if isinstance(result, dict) else result


def rival(module: Any, example: Any, watch: Stopwatch) -> Any:
    """Torch-Pruning's pruning of a copy of a module."""
    import torch_pruning as tp

    module = copy.deepcopy(module)
    with time_limit(), watch("prune"):
        pruner = tp.pruner.BasePruner(
            module,
            example,
            importance=tp.importance.MagnitudeImportance(p=1),
            pruning_ratio=1 - KEEP,
            ignored_layers=[last_layer(module)],
            output_transform=first_tensor,
        )
        pruner.step()
    return module


def params(module: Any) -> int:
    """Number of a module's parameters."""
    return sum(p.numel() for p in module.parameters())


def measure(name: str, path: Path, repeats: int) -> Row:
    """One model's row."""
    module, example = build(name)
    try:
        left = params(rival(module, example, Stopwatch()))
    except TooSlowError as error:
        watches = in_turns({"ours": partial(prune_in_steps, path)}, repeats)["ours"]
        ours = seconds(watches)
        bound = {"ours": ours, "theirs": LIMIT, "faster": LIMIT / ours, "stopped": f"{error}: lower bounds"}
        return laps(watches) | bound
    except Exception as error:  # whatever stops the rival is its result
        lines = str(error).strip().splitlines() or [""]
        return {"stopped": f"{type(error).__name__}: {lines[0]}"[:100]}
    sides = {"ours": partial(prune_in_steps, path), "theirs": partial(rival, module, example)}
    watches = in_turns(sides, repeats)
    times = {side: seconds(w) for side, w in watches.items()}
    faster = 1 / ratio(watches["ours"], watches["theirs"])
    return laps(watches["ours"]) | times | {"faster": faster, "removed": 100 * (1 - left / params(module))}


def checks(results: Record) -> list[Check]:
    """The median over the models on which the rival works."""
    faster = results.column("faster")
    median = statistics.median(faster) if faster else 0.0
    figure = f"times faster than Torch-Pruning, median of the {len(faster)} models it does not fail on"
    return [Check(figure, f"≥ {REQUIRED:g}", f"{median:.1f}", median >= REQUIRED)]


def main() -> int:
    """Measure all models; 1 if the claim fails."""
    parser = arguments(BENCHMARK)
    add_models(parser)
    add_repeats(parser, 3)
    args = parser.parse_args()
    load_module(args.exam / "shim.py")
    results = record(BENCHMARK, args, keep=KEEP, repeats=args.repeats, limit_seconds=LIMIT)
    for name, path in zoo_models(args.zoo, args.models, list(PEERS)).items():
        results.add(name, partial(measure, name, path, args.repeats))
    return results.finish(checks(results))


if __name__ == "__main__":
    sys.exit(main())
