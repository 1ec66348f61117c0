"""Statistics of BatchNorms, measured anew after channels went: those of training are of another network.

Li et al. 2020 (EagleEye, arXiv 2007.02491): without it the accuracy of a network right after pruning says little about
the accuracy that fine-tuning will reach.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from onnxprune.torch.usercode import called


@torch.no_grad()
def recalibrate(network: nn.Module, batches: Iterable[Any]) -> None:
    """Set running means and variances of all BatchNorms to their averages over batches of inputs, by their sizes.

    All else of the network is as in evaluation: dropout does nothing, no weight changes.

    Raises:
        UsageError: the network fails on a batch.
    """
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
    modes, momenta = [(m, m.training) for m in network.modules()], [m.momentum for m in norms]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
    seen = 0
    try:
        for inputs in batches:
            seen += (size := _samples(inputs))
            for norm in norms:
                norm.momentum = size / seen  # the new batch's part of the average so far
            called(network, inputs)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, mode in modes:
            module.training = mode


def _samples(inputs: Any) -> int:
    """How many samples a batch has: the first axis of its first tensor."""
    while not isinstance(inputs, Tensor):
        inputs = next(iter(inputs.values() if isinstance(inputs, dict) else inputs))
    return len(inputs)


@contextlib.contextmanager
def kept_statistics(network: nn.Module) -> Iterator[None]:
    """The network's buffers are afterwards what they were before."""
    before: dict[str, Tensor] = {name: b.clone() for name, b in network.named_buffers()}
    try:
        yield
    finally:
        for name, buffer in network.named_buffers():
            buffer.copy_(before[name])
