"""Gated, made smaller, and pruned as ONNX: three ways to remove the same channels, on every network of `models/`.

Masks are random, about half of every group. Before, the scales of the removed channels are set to zero and the
constants that these channels still emit are folded into a carrier where that is exact (`onnxprune.torch.constants`),
so that the network with zeroed scales is the fourth way.
"""

import copy
import sys
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import onnxprune
from benchmarks.common import all_of, arguments, record
from benchmarks.networks import NETWORKS, built
from benchmarks.record import Benchmark, Check, Column, Record, Row
from onnxprune.execution import relative_difference, run
from onnxprune.mask import Mask, make_mask
from onnxprune.torch.binding import Binding, bind
from onnxprune.torch.constants import fold_constants
from onnxprune.torch.exporting import tensors_in
from onnxprune.torch.filling import filled
from onnxprune.torch.gates import Gated
from onnxprune.torch.shrinking import shrink

LIMIT = 1e-4
SEEDS = (0, 1, 2)

BENCHMARK = Benchmark(
    name="torch_exact",
    claim="Largest difference from the gated network, by the outputs' range, under three random masks",
    columns=(
        Column("network", "name"),
        Column("groups", "groups"),
        Column("params kept (%)", "kept", ".1f"),
        Column("groups with folded constants", "folded"),
        Column("made smaller", "small", ".1e"),
        Column("pruned ONNX", "onnx", ".1e"),
        Column("scales zeroed", "zeroed", ".1e"),
    ),
    rivals=("torch",),
)


def random_mask(binding: Binding, seed: int) -> Mask:
    """About half of the units of every group; at least one stays and one goes."""
    rng = np.random.default_rng(seed)
    kept = {}
    for group in binding.analysis.groups:
        kept[group.name] = rng.random(group.size) < 0.5
        first, second = rng.permutation(group.size)[:2]
        kept[group.name][first], kept[group.name][second] = True, False
    return make_mask(binding.analysis, kept, {"method": "random", "seed": seed})


def arrays(result: Any) -> list[np.ndarray]:
    """A network's outputs."""
    return [tensor.numpy() for tensor in tensors_in(result)]


@torch.no_grad()
def zero_scales(network: nn.Module, binding: Binding, mask: Mask) -> None:
    """Set the scales of all units that a mask removes to zero."""
    for group, entry in zip(binding.analysis.groups, mask.groups, strict=True):
        for lying in binding.scales_of(group):
            gone = (lying.units >= 0) & ~entry.kept[lying.units]
            network.get_parameter(lying.parameter)[torch.from_numpy(gone)] = 0


@torch.no_grad()
def one_mask(network: nn.Module, binding: Binding, seed: int, image: Tensor) -> Row:
    """The differences under one random mask."""
    mask, dead, network = random_mask(binding, seed), copy.deepcopy(network), copy.deepcopy(network)
    folding = fold_constants(network, binding, mask)
    zero_scales(dead, binding, mask)
    gated = Gated(network, binding).eval()
    zeroed = arrays(dead(image))
    gated.set_mask(folding.mask)
    wanted = arrays(gated(image))
    model = filled(binding, network)
    pruned = onnxprune.apply(
        model, folding.mask, verify=False
    )  # compared below; folded, the mask alone changes nothing
    found = run(pruned, [{"input": image.numpy()}])[0]
    small = copy.deepcopy(network)
    shrink(small, binding, folding.mask)
    sizes = [sum(p.numel() for p in module.parameters()) for module in (small, network)]
    # Groups that keep their constants compute something else by design.
    whole = not folding.left
    return {
        "kept": 100 * sizes[0] / sizes[1],
        "folded": len(folding.carriers),
        "small": relative_difference(wanted, arrays(small.eval()(image))),
        "onnx": relative_difference(wanted, found),
        "zeroed": relative_difference(wanted, zeroed) if whole else None,
    }


def measure(name: str) -> Row:
    """One network's row: the worst of three masks."""
    network, example = built(name)
    binding = bind(network, example)
    rows = [one_mask(network, binding, seed, torch.randn(3, *example.shape[1:])) for seed in SEEDS]
    zeroed = [row["zeroed"] for row in rows if row["zeroed"] is not None]
    return {
        "groups": len(binding.analysis.groups),
        "kept": float(np.mean([row["kept"] for row in rows])),
        "folded": " ".join(str(row["folded"]) for row in rows),
        "small": max(row["small"] for row in rows),
        "onnx": max(row["onnx"] for row in rows),
        "zeroed": max(zeroed) if zeroed else None,
    }


def checks(results: Record) -> list[Check]:
    """What the claim requires of the whole table."""
    worst = [max(row["small"], row["onnx"], row["zeroed"] or 0) <= LIMIT for row in results.rows.values()]
    return [all_of(f"networks whose gated, smaller and pruned forms agree to {LIMIT:g}", worst, len(NETWORKS))]


def main() -> int:
    """Measure all networks; 1 if the claim fails."""
    parser = arguments(BENCHMARK)
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS), help="some of them")
    args = parser.parse_args()
    results = record(BENCHMARK, args, seeds=SEEDS)
    for name in args.networks:
        results.add(name, partial(measure, name))
    return results.finish(checks(results))


if __name__ == "__main__":
    sys.exit(main())
