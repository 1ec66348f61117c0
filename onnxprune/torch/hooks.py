"""`Hook`: what a method adds to the training loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from onnxprune.torch.run import Run


class Hook:
    """What a method adds to the loop: nothing, unless it overrides some of these.

    In a step they are called in this order: forward, `penalty`, backward, `after_backward`, clipping, the optimizer,
    `after_step`; several hooks one after the other. A loop of one's own may call them likewise.
    """

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Further optimizer groups, such as gates without weight decay; asked for once, before training.

        Parameters of the network that are in one of them are in no other group. The dicts stay those in the optimizer.
        """
        return []

    def penalty(self) -> Tensor | None:
        """What is added to the loss, in full precision."""
        return None

    def after_backward(self) -> None:
        """Sub-gradients are added here: gradients are unscaled, averaged over processes and not yet clipped."""

    def after_step(self) -> None:
        """Proximal steps are made here."""

    def after_epoch(self, run: Run) -> Mapping[str, float]:
        """Figures for the logs; may call `run.shrink(mask)`. The network is evaluated after it."""
        return {}

    def settings(self) -> dict[str, Any]:
        """What it was made with, as plain data: a training is only resumed with the same."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs: tensors, numbers, strings, and lists and dicts of these."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the state over; called when the masks are applied, and before the network's weights are loaded."""
