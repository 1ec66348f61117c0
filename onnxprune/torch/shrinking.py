"""`shrink`: a mask's channels removed from the module itself, so that training on costs what the small one costs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from onnxprune.errors import ModelError
from onnxprune.mask import Mask, fit_mask
from onnxprune.slicing import Edits
from onnxprune.torch.binding import Binding, bind, named_tensors
from onnxprune.torch.exporting import Example, first_line, in_single, tensors_in
from onnxprune.torch.gates import Gated

TOLERANCE = 1e-4
"""Largest difference from the gated module, relative to the output's range."""

Index = dict[int, np.ndarray]
Sizes = dict[str, int]
"""Values of a module's attributes."""

_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm)


def _norm_sizes(part: Any, channels: int) -> Sizes:
    """Within a group of GroupNorm no channel ever goes, so groups get fewer as channels do."""
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
    (_NORMS, lambda m: _norm_sizes(m, len(next(t for t in _own(m) if t.ndim)))),
    ((nn.PReLU,), lambda m: {"num_parameters": len(m.weight)}),
    ((nn.Embedding,), lambda m: {"num_embeddings": m.weight.shape[0], "embedding_dim": m.weight.shape[1]}),
)


def shrink(module: nn.Module, binding: Binding, mask: Mask, optimizer: Optimizer | None = None) -> Binding:
    """Remove a mask's channels from a module, in place; every parameter stays the same object.

    It is done to a copy first, which must then compute what the gated module computes, in evaluation mode.

    Args:
        module: the bound module, or a `Gated` one, whose gates are multiplied into the weights and opened.
        binding: of the module as it is.
        mask: for this network.
        optimizer: its state for the module's parameters is sliced alike; where some of it has another shape than the
            parameter, all of it for this parameter is dropped.

    Returns:
        The binding of the smaller module.

    Raises:
        MaskError: the mask is for another network, empties a group, or removes what cannot be gated.
        ModelError: `forward` states sizes that do not follow from parameters; the module is unchanged.
    """
    net = module.module if isinstance(module, Gated) else module
    kept, _ = fit_mask(binding.analysis, mask)
    edits = Edits(binding.analysis.trace, kept)
    bare = _tried(net, binding, mask, edits)
    if isinstance(module, Gated):
        module.fold()
    _remove(net, binding, edits, optimizer)
    for name, sizes in bare.items():
        _state(net.get_submodule(name), sizes)
    smaller = bind(net, binding.example, mode=binding.mode)
    if isinstance(module, Gated):
        module.rebind(smaller)
        if optimizer is not None:
            optimizer.state.pop(module.gates, None)
    return smaller


def smaller(module: nn.Module, binding: Binding, mask: Mask) -> nn.Module:
    """A smaller copy of a bound module, unlike `shrink` without a trial: for many masks of a module that was tried.

    Raises:
        MaskError: the mask is for another network, or empties a group.
    """
    kept, _ = fit_mask(binding.analysis, mask)
    small = copy.deepcopy(module)
    _remove(small, binding, Edits(binding.analysis.trace, kept))
    return small


def _remove(net: nn.Module, binding: Binding, edits: Edits, optimizer: Optimizer | None = None) -> None:
    tensors = named_tensors(net)
    for name, index in _cuts(binding, edits).items():
        tensor = tensors[name]
        if optimizer is not None and tensor in optimizer.state:
            _slice_state(optimizer.state, tensor, index)
        tensor.data = _taken(tensor.data, index)
        tensor.grad = None
    for name, groups in _group_counts(binding, edits).items():
        _state(net.get_submodule(name.rpartition(".")[0]), {"groups": groups})
    for part in net.modules():
        stated = next((sizes for kinds, sizes in _STATED if isinstance(part, kinds)), None)
        if stated is not None and _own(part):
            _state(part, stated(part))


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


def _own(part: nn.Module) -> list[Tensor]:
    """The parameters and buffers of a module without its submodules."""
    return [*part.parameters(recurse=False), *part.buffers(recurse=False)]


def _state(part: nn.Module, sizes: Sizes) -> None:
    for attribute, size in sizes.items():
        setattr(part, attribute, size)


@torch.no_grad()
def _tried(net: nn.Module, binding: Binding, mask: Mask, edits: Edits) -> dict[str, Sizes]:
    """Refuse where the smaller module would fail, or compute anything but what the gated one computes.

    Returns what normalisations without parameters, by their names, have to state: it is seen as they are called.
    """
    gated, small, inputs = Gated(in_single(net), binding), in_single(net), _inputs(binding.example)
    gated.set_mask(mask)
    bare = {name: part for name, part in small.named_modules() if isinstance(part, _NORMS) and not _own(part)}
    for part in bare.values():
        part.register_forward_pre_hook(lambda part, args: _state(part, _norm_sizes(part, args[0].shape[1])))
    with torch.random.fork_rng(devices=[]):
        wanted = tensors_in(gated.eval()(*inputs))
        with _refusing(net, binding):
            _remove(small, binding, edits)
            found = tensors_in(small.eval()(*inputs))
            worst = max(difference(a, b) for a, b in zip(wanted, found, strict=True))
        if not worst <= TOLERANCE:
            raise _refusal(net, binding, f"differs from the gated one by {worst:.1e} of the outputs' range")
        _try_training(gated, small, inputs, _refusing(net, binding, " in training mode"))
    names = ("num_features", "num_groups", "num_channels")
    return {name: {n: getattr(part, n) for n in names if hasattr(part, n)} for name, part in bare.items()}


def _inputs(example: Example) -> tuple[Tensor, ...]:
    """The example's inputs and noise, as a blank example would prove little."""
    generator = torch.Generator().manual_seed(0)
    examples = example if isinstance(example, tuple) else (example,)
    return tuple(x + torch.rand(x.shape, generator=generator) if x.is_floating_point() else x for x in examples)


def _try_training(
    gated: nn.Module, small: nn.Module, inputs: tuple[Tensor, ...], refusing: AbstractContextManager[None]
) -> None:
    """What `forward` does in training mode alone, such as auxiliary heads, must have followed as well."""
    inputs = tuple(torch.cat([x, x]) if x.ndim else x for x in inputs)  # BatchNorm wants more than one sample
    try:
        wanted = [tuple(t.shape) for t in tensors_in(gated.train()(*inputs))]
    except Exception:
        return  # it takes more than the example then, such as targets
    with refusing:
        found = [tuple(t.shape) for t in tensors_in(small.train()(*inputs))]
        if found != wanted:
            raise ValueError(f"it gives outputs of {found}, expected {wanted}")


def difference(wanted: Tensor, found: Tensor) -> float:
    """Largest difference relative to the range of `wanted`; infinite for another shape or NaN."""
    wanted, found = wanted.double(), found.double()
    if wanted.shape != found.shape or not (wanted.isfinite().all() and found.isfinite().all()):
        return float("inf")
    if not wanted.numel():
        return 0.0
    return float((wanted - found).abs().max() / wanted.abs().max().clamp(min=1e-30))


@contextmanager
def _refusing(net: nn.Module, binding: Binding, when: str = "") -> Iterator[None]:
    try:
        yield
    except Exception as error:  # whatever `forward` may raise
        raise _refusal(net, binding, f"fails{when}: {first_line(error)}") from error


def _refusal(net: nn.Module, binding: Binding, what: str) -> ModelError:
    constants = f"; it also computes with {', '.join(map(repr, binding.unmapped))}" if binding.unmapped else ""
    return ModelError(
        f"{type(net).__name__} cannot be made smaller: the smaller module {what}{constants}",
        "`forward` states sizes: take them from tensors' shapes there, or train on gated (onnxprune.torch.Gated) and "
        "prune the exported model, where stated sizes follow",
    )
