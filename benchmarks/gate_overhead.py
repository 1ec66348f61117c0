"""What gates cost: a training step of the gated network against one of the network itself, in turns."""

import sys
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.common import Stopwatch, add_repeats, arguments, at_most, in_turns, ratio, record, seconds
from benchmarks.networks import built
from benchmarks.record import Benchmark, Column, Row
from onnxprune.torch.binding import bind
from onnxprune.torch.chipnet import ChipGates, ChipNet
from onnxprune.torch.gates import Gated

BATCH = 128
LIMIT = 1.15

BENCHMARK = Benchmark(
    name="gate_overhead",
    claim=f"Seconds of a training step of ResNet-20, batch {BATCH}: forward, backward, SGD",
    columns=(
        Column("network", "name"),
        Column("seconds", "seconds", ".4f"),
        Column("by the plain step", "ratio", ".3f"),
    ),
    rivals=("torch",),
)


def stepper(network: nn.Module, hook: ChipNet | None = None) -> partial[None]:
    """A training step, to be called with a stopwatch."""
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)
    images, labels = torch.randn(BATCH, 3, 32, 32), torch.arange(BATCH) % 10
    return partial(step, network.train(), optimizer, images, labels, hook)


def step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    hook: ChipNet | None,
    watch: Stopwatch,
) -> None:
    """One training step on the watch."""
    with watch("step"):
        optimizer.zero_grad()
        loss = cross_entropy(network(images), labels)
        if hook is not None:
            loss = loss + hook.penalty()
        loss.backward()
        optimizer.step()


def measure(repeats: int) -> list[Row]:
    """The rows: plain, gated, with ChipNet's gates and losses."""
    sides = {}
    for name in ("plain", "gated", "ChipNet"):
        network, example = built("resnet20")
        if name == "plain":
            sides[name] = stepper(network)
        elif name == "gated":
            sides[name] = stepper(Gated(network, bind(network, example)))
        else:
            gates = ChipGates(network, bind(network, example))
            sides[name] = stepper(gates, ChipNet(gates, "macs", 0.5))
    watches = in_turns(sides, repeats)
    return [{"name": n, "seconds": seconds(w), "ratio": ratio(w, watches["plain"])} for n, w in watches.items()]


def main() -> int:
    """Measure; 1 if gates cost too much."""
    parser = arguments(BENCHMARK)
    add_repeats(parser, 20)
    args = parser.parse_args()
    results = record(BENCHMARK, args, repeats=args.repeats, batch=BATCH)
    for row in measure(args.repeats):
        results.add(row.pop("name"), lambda row=row: row)  # type: ignore[misc]
    gated = results.rows["gated"]["ratio"]
    return results.finish([at_most("time of a gated training step by that of a plain one", gated, LIMIT)])


if __name__ == "__main__":
    sys.exit(main())
