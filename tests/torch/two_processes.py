"""What `torchrun` runs in a test: a training without BatchNorm or chance that gets smaller, whole and cut."""

import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn

from onnxprune.torch.hooks import Hook
from onnxprune.torch.loop import train
from tests.torch.training import (
    CLASSES,
    FEATURES,
    HIDDEN,
    Classify,
    Points,
    Smaller,
    StopAfter,
    Stopped,
    everything,
    fresh,
    recipe,
)


class Still(Points):
    """Points that do not move about."""

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.x[index], self.y[index]


class Gate(nn.Module):
    """Multiplies with a parameter that is a hook's."""

    def __init__(self) -> None:
        super().__init__()
        self.held = [nn.Parameter(torch.ones(()))]

    def forward(self, x: Tensor) -> Tensor:
        return x * (self.held[0] if self.training else self.held[0].data)  # exporters want a constant


class Plain(Classify):
    """A network whose result does not depend on how a batch is split."""

    points = Still

    def model(self) -> nn.Module:
        first, last = nn.Linear(FEATURES, HIDDEN), nn.Linear(HIDDEN, CLASSES)
        return nn.Sequential(first, nn.Identity(), nn.ReLU(), Gate(), last)


class Gates(Hook):
    """Trains the gate."""

    def __init__(self, network: nn.Sequential):
        self.gate = network[3].held[0]

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": [self.gate], "weight_decay": 0.0}]

    def state_dict(self) -> dict[str, Any]:
        return {"gate": self.gate.detach()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.gate.data.copy_(state["gate"])


def trained(folder: Path, stop: int = 0) -> dict[str, Any]:
    """All that a training ends with, after `stop` steps or at the end."""
    task = Plain()
    network = fresh(task)
    hooks = [Gates(network), Smaller(), StopAfter(stop)]
    save_every = 0 if stop else 60
    run = train(task, network, recipe(clip=0.5, lr=0.2), hooks, folder=folder, resume=True, save_every=save_every)
    return everything(run, hooks)


def main(folder: Path) -> None:
    """Two trainings, and a file of what each came to in every process."""
    torch.set_num_threads(1)
    whole = trained(folder / "two")
    with suppress(Stopped):
        trained(folder / "cut", stop=8)
    cut, rank = trained(folder / "cut"), distributed.get_rank()
    torch.save(whole, folder / f"whole{rank}.pt")
    torch.save(cut, folder / f"cut{rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
