"""What `torchrun` runs in a test: slimming and ChipNet in several processes, and what each came to; and a whole job."""

import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import distributed, nn

from onnxprune.mask import Mask, removed_units
from onnxprune.ranking import rank as ranked
from onnxprune.torch.binding import bind
from onnxprune.torch.chipnet import ChipGates, ChipNet
from onnxprune.torch.forecast import FixedEpoch
from onnxprune.torch.hooks import Hook
from onnxprune.torch.jobs import Place
from onnxprune.torch.loop import train
from onnxprune.torch.methods import Chips, chip
from onnxprune.torch.recipe import Recipe
from onnxprune.torch.scales import Scales
from onnxprune.torch.slimming import PruneOnce, Sparsity
from onnxprune.torch.tasks import Digits

RECIPE = Recipe(2, batch=256, lr=0.05, device="cpu")
MACS = {"macs": 0.5}


def trained(network: nn.Module, hooks: list[Hook], folder: Path) -> None:
    """A file of the final weights, and of the masks that were applied or found, from every process."""
    run = train(Digits(), network, RECIPE, hooks, folder=folder)
    masks: list[Mask | None] = run.masks or [hook.mask for hook in hooks if isinstance(hook, ChipNet)]
    removed = [torch.from_numpy(removed_units(mask)) for mask in masks if mask is not None]
    state = dict(network.named_parameters()) | {f"removed {k}": m for k, m in enumerate(removed)}
    torch.save(state, folder.with_suffix(f".{distributed.get_rank()}"))


def main(folder: Path) -> None:
    """One training with each method."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    task = Digits()
    network = task.model()
    binding = bind(network, task.example())
    scales = Scales(network, binding)
    sparsity = Sparsity(scales, 1e-3)
    prune = PruneOnce(sparsity, lambda v: ranked(binding.analysis, scales.by_group(v), MACS), FixedEpoch(1))
    trained(network, [sparsity, prune], folder / "slim")

    gated = ChipGates(task.model(), binding)
    trained(gated, [ChipNet(gated, "macs", 0.5, lr=0.5, stage=1, recalibrate=2)], folder / "chip")

    # Two trainings of the same parameters, which are made smaller in between.
    chip(task, RECIPE, replace(RECIPE, epochs=1), Chips("macs", 0.5, lr=0.5), Place(folder / "job"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
