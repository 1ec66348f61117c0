"""A mask's channels taken out of a module, in place, and its branches replaced by zeros; whether that is right is not
tried here (see `shrinking`)."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from onnxprune.slicing import Edits
from onnxprune.torch.binding import Binding, named_tensors
from onnxprune.torch.zeros import replace_by_zeros

Index = dict[int, np.ndarray]
Sizes = dict[str, int]
"""Values of a module's attributes."""

NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm)


def norm_sizes(part: Any, channels: int) -> Sizes:
    """What a normalisation of so many channels states.

    Within a group of GroupNorm no channel ever goes, so groups get fewer as channels do.
    """
    if isinstance(part, nn.GroupNorm):
        return {"num_groups": channels * part.num_groups // part.num_channels, "num_channels": channels}
    return {"num_features": channels}


# What modules state of their parameters' shapes, by attribute; the first type that fits counts. A convolution's
# `groups` is edited before, as in the graph.
_STATED: tuple[tuple[tuple[type[nn.Module], ...], Callable[[Any], Sizes]], ...] = (
    ((nn.Linear,), lambda m: {"out_features": m.weight.shape[0], "in_features": m.weight.shape[1]}),
    (
        (nn.modules.conv._ConvTransposeNd,),
        lambda m: {"in_channels": m.weight.shape[0], "out_channels": m.weight.shape[1] * m.groups},
    ),
    (
        (nn.modules.conv._ConvNd,),
        lambda m: {"out_channels": m.weight.shape[0], "in_channels": m.weight.shape[1] * m.groups},
    ),
    (NORMS, lambda m: norm_sizes(m, len(next(t for t in own_tensors(m) if t.ndim)))),
    ((nn.PReLU,), lambda m: {"num_parameters": len(m.weight)}),
    ((nn.Embedding,), lambda m: {"num_embeddings": m.weight.shape[0], "embedding_dim": m.weight.shape[1]}),
)


def remove(
    net: nn.Module, binding: Binding, edits: Edits, parts: Collection[str] = (), optimizer: Optimizer | None = None
) -> None:
    """Remove what `edits` leaves out, and put zeros in the place of the submodules `parts`.

    Every parameter that stays is the same object; the optimizer's state is sliced alike, and loses what goes.
    """
    tensors = named_tensors(net)
    for name, index in _cuts(binding, edits).items():
        tensor = tensors[name]
        if optimizer is not None and tensor in optimizer.state:
            _slice_state(optimizer.state, tensor, index)
        tensor.data = _taken(tensor.data, index)
        tensor.grad = None
    for name, groups in _group_counts(binding, edits).items():
        state_sizes(net.get_submodule(name.rpartition(".")[0]), {"groups": groups})
    replace_by_zeros(net, parts, optimizer)
    for part in net.modules():
        stated = next((sizes for kinds, sizes in _STATED if isinstance(part, kinds)), None)
        if stated is not None and own_tensors(part):
            state_sizes(part, stated(part))


def _cuts(binding: Binding, edits: Edits) -> dict[str, Index]:
    """The kept elements of every axis of a parameter or buffer that shrinks."""
    cuts: dict[str, Index] = {}
    for name, kept in edits.index.items():
        for place in binding.places.get(name, ()):
            pairs = ((axis, kept[stored]) for axis, stored in enumerate(place.axes) if stored is not None)
            cuts.setdefault(place.parameter, {}).update({axis: keep for axis, keep in pairs if keep is not None})
    return cuts


def _slice_state(states: dict[Tensor, Any], parameter: Tensor, index: Index) -> None:
    state = states[parameter]
    shaped = {key: value for key, value in state.items() if isinstance(value, Tensor) and value.ndim}
    if all(value.shape == parameter.shape for value in shaped.values()):
        state |= {key: _taken(value, index) for key, value in shaped.items()}
    else:
        del states[parameter]


def _taken(tensor: Tensor, index: Index) -> Tensor:
    """The kept elements; axes stay in the order that they have in memory, such as channels last."""
    order = sorted(range(tensor.ndim), key=lambda axis: -tensor.stride()[axis])
    taken = tensor.permute(order)
    for axis, keep in index.items():
        taken = taken.index_select(order.index(axis), torch.from_numpy(keep).to(tensor.device))
    return taken.contiguous().permute([order.index(axis) for axis in range(tensor.ndim)])


def _group_counts(binding: Binding, edits: Edits) -> dict[str, int]:
    """New numbers of groups of convolutions, by the parameter that holds the weight."""
    counts: dict[str, int] = {}
    for (node, attribute), value in edits.attributes.items():
        if attribute == "group":
            weight = binding.analysis.trace.graph.nodes_by_index[node].inputs[1]
            counts |= {place.parameter: int(value.ravel()[0]) for place in binding.places.get(weight, ())[:1]}
    return counts


def own_tensors(part: nn.Module) -> list[Tensor]:
    """The parameters and buffers of a module without its submodules."""
    return [*part.parameters(recurse=False), *part.buffers(recurse=False)]


def state_sizes(part: nn.Module, sizes: Sizes) -> None:
    """Set a module's attributes."""
    for attribute, size in sizes.items():
        setattr(part, attribute, size)
