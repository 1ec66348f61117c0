"""BatchNorms folded into the convolutions before them: for evaluation alone, as exact as floats are, and faster."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

Pairs = tuple[tuple[str, str], ...]
"""Names of convolutions, and of the BatchNorms that alone read what they make."""


def fusible(network: nn.Module) -> Pairs:
    """What can be folded; nothing where the network's code cannot be followed."""
    try:
        graph = fx.symbolic_trace(network).graph
    except Exception:  # `forward` is anybody's code, and evaluation goes without
        return ()
    modules, uses = dict(network.named_modules()), Counter(str(node.target) for node in graph.nodes)
    found = []
    for node in graph.nodes:
        before = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
            continue
        names = str(before.target), str(node.target)
        if all(uses[name] == 1 for name in names) and _fit(modules[names[0]], modules[names[1]]):
            found.append(names)
    return tuple(found)


def _fit(convolution: nn.Module, norm: nn.Module) -> bool:
    return type(convolution) in _CONVOLUTIONS and type(norm) in _NORMS and norm.running_mean is not None


@torch.no_grad()
def fuse(network: nn.Module, pairs: Pairs) -> None:
    """Fold BatchNorms into convolutions, in place; the network is of use in evaluation alone, then."""
    for convolution, norm in pairs:
        both: list[Any] = [network.get_submodule(name).eval() for name in (convolution, norm)]
        network.set_submodule(convolution, fuse_conv_bn_eval(*both))
        network.set_submodule(norm, nn.Identity())
