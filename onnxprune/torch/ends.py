"""The scales that residual branches end in, by which whole branches are judged.

The layer pruning of YOLOv3 (layer_prune.py in github.com/tanluren/yolov3-channel-and-layer-pruning) ranks shortcuts by
the mean |gamma| of the BatchNorm just before them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from torch import nn

from onnxprune.branches import Branch
from onnxprune.errors import ModelError
from onnxprune.forms import atoms
from onnxprune.graph import Node
from onnxprune.torch.binding import Binding
from onnxprune.torch.gates import Gated
from onnxprune.torch.scales import Scales


@dataclass(frozen=True)
class End:
    """What judges a branch: scales of its own, or the units that its last layers read.

    Attributes:
        gammas: of the normalisations that end it.
        units: numbers of units, over all groups one after the other; looked at where there are no gammas.
    """

    gammas: tuple[nn.Parameter, ...]
    units: np.ndarray


class BranchScales:
    """The scale of every residual branch of a network, or of some.

    It is the mean |gamma| of the normalisations behind the branch's last layer (or layers, side by side); where there
    is none, the mean scale of the units that these layers read: those of the BatchNorm before them, or their gates.

    Attributes:
        names: of the branches, in the graph's order.
        scales: of the units.
    """

    def __init__(self, network: nn.Module, binding: Binding, scales: Scales, names: Collection[str] | None = None):
        """Of some branches, or all."""
        net = network.module if isinstance(network, Gated) else network
        self.scales = scales
        branches = [b for b in binding.analysis.branches if names is None or b.name in names]
        self.names = tuple(branch.name for branch in branches)
        self._ends = [_end(net, binding, scales, branch) for branch in branches]

    def read(self) -> np.ndarray:
        """The scale of every branch: float32 `(branches,)`."""
        units = self.scales.read()
        means = [np.concatenate(_absolute(end.gammas) or [units[end.units]]).mean() for end in self._ends]
        return np.array(means, np.float32)


def _absolute(gammas: tuple[nn.Parameter, ...]) -> list[np.ndarray]:
    return [gamma.detach().abs().float().cpu().numpy() for gamma in gammas]


def _end(net: nn.Module, binding: Binding, scales: Scales, branch: Branch) -> End:
    """Found backwards from the sum.

    Raises:
        ModelError: there is nothing that could judge the branch.
    """
    gammas, layers = _last(binding, branch)
    units = _read_by(layers, binding, scales)
    if not gammas and not units.size:
        raise ModelError(
            f"branch {branch.name!r} cannot be judged: no normalisation with scales ends it, and what its last layer "
            "reads has no scales either",
            "train the gated network (onnxprune.torch.Gated), whose gates are scales, or take another strategy",
        )
    return End(tuple(net.get_parameter(name) for name in gammas), units)


def _last(binding: Binding, branch: Branch) -> tuple[list[str], list[Node]]:
    """The scales, by name, and the layers that are met first on all ways back from the sum to x."""
    trace = binding.analysis.trace
    add, layers = trace.graph.nodes_by_index[branch.node], {work.node.index for work in trace.work}
    pending, seen = [add.inputs[branch.operand]], {add.inputs[1 - branch.operand]}
    gammas, found = dict[str, None](), list[Node]()
    while pending:
        node = trace.graph.producers.get(name := pending.pop())
        if node is None or name in seen:
            continue
        seen.add(name)
        held = [place.parameter for n in node.inputs for place in binding.places.get(n, ())]
        if own := [parameter for parameter in held if parameter in binding.scales]:
            gammas |= dict.fromkeys(own)
        elif node.index in layers:
            found.append(node)
        else:
            pending += node.inputs
    return list(gammas), found


def _read_by(layers: list[Node], binding: Binding, scales: Scales) -> np.ndarray:
    """Numbers of the units with scales that these layers sum over."""
    indices, analysis = {layer.index for layer in layers}, binding.analysis
    read = [c.form for c in analysis.trace.contractions if c.node.index in indices]
    names = {analysis.owner[a] for form in read for a in atoms(form) if a in analysis.owner}
    own = [np.arange(scales.first[g.name], scales.first[g.name] + g.size) for g in analysis.groups if g.name in names]
    units = np.concatenate([np.zeros(0, int), *own])
    return units[scales.own[units]]
