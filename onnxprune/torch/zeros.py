"""Dropped branches in a module: submodules that give zeros in the place of those that only the branches need.

A `forward` is any Python and cannot lose the sum x + f(x) itself; but where the submodules of f give zeros of their
input's shape, f(x) is zero in most networks, and x goes on alone. Whether it does is tried by `shrinking`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import takewhile
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from onnxprune.branches import Dropped, drop
from onnxprune.torch.binding import Binding, named_tensors

Path = tuple[str, ...]
"""A submodule's name, taken apart."""


class Zeros(nn.Module):
    """Gives zeros of its first argument's shape, whatever else it is called with."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """As a product, which an export holds as such."""
        return x * 0.0


def replaceable(net: nn.Module, binding: Binding, dropped: Dropped) -> list[tuple[str, ...]]:
    """Names of the submodules that might give zeros, in the order in which this is to be tried.

    A submodule is up for it if all of its stored tensors go. Of every branch it is first the smallest one that holds
    all of the branch's layers (which may hold the sum as well, and is wrong then), next the parts of that one, then the
    layers, and in the end what the first one lies in, with what it does to the branch's result.
    """
    free, graph = _free(net, binding, dropped), binding.analysis.trace.graph
    levels: list[list[Path]] = [[], [], [], []]
    for branch in dropped.branches:
        read = {n for index in drop(graph, [branch]).nodes for n in graph.nodes_by_index[index].inputs}
        owners = _owners(binding, read & dropped.tensors)
        whole = _common(owners)
        # One that holds others is the block itself, with a parameter of its own, which stays.
        layers = [p for p in owners if not any(p == other[: len(p)] and p != other for other in owners)]
        parts = [next((p for p in _down(layer, len(whole) + 1) if p in free), layer) for layer in layers]
        for level, paths in zip(levels, ([whole], parts, layers, [whole[:-1]]), strict=True):
            level += paths if all(p in free for p in paths) else [p for p in parts if p in free]
    return list(dict.fromkeys(map(_outermost, levels)))


def _free(net: nn.Module, binding: Binding, dropped: Dropped) -> set[Path]:
    """The submodules all of whose stored tensors go."""
    tensors = named_tensors(net)
    held = {n: {id(tensors[p.parameter]) for p in places} for n, places in binding.places.items()}
    gone = set[int]().union(*(ids for n, ids in held.items() if n in dropped.tensors))
    stay = set[int]().union(*(ids for n, ids in held.items() if n not in dropped.tensors))
    found = set()
    for name, part in net.named_modules():
        own = {id(t) for t in (*part.parameters(), *part.buffers())}
        if name and own & gone and not own & stay:
            found.add(tuple(name.split(".")))
    return found


def _owners(binding: Binding, tensors: Iterable[str]) -> list[Path]:
    """The submodules that hold parameters of these stored tensors."""
    names = (place.parameter for tensor in tensors for place in binding.places.get(tensor, ()))
    return sorted({tuple(name.split(".")[:-1]) for name in names})


def _common(paths: Iterable[Path]) -> Path:
    """The names that all of them begin with."""
    return tuple(names[0] for names in takewhile(lambda names: len(set(names)) == 1, zip(*paths, strict=False)))


def _down(path: Path, start: int) -> Iterator[Path]:
    """The submodule of so many names on the way to one, and those below it."""
    return (path[:length] for length in range(start, len(path) + 1))


def _outermost(paths: Iterable[Path]) -> tuple[str, ...]:
    """Names of the submodules that do not lie in another one of these."""
    own = set(paths)
    return tuple(sorted(".".join(p) for p in own if not any(p[:k] in own for k in range(1, len(p)))))


def replace_by_zeros(net: nn.Module, names: Collection[str], optimizer: Optimizer | None = None) -> None:
    """Put zeros in the place of submodules, under all of their names; what they held leaves the optimizer."""
    parts = {id(net.get_submodule(name)) for name in names}
    before = list(net.parameters())
    for name, part in list(net.named_modules(remove_duplicate=False)):
        if id(part) in parts:
            parent, _, own = name.rpartition(".")
            setattr(net.get_submodule(parent), own, Zeros())
    stay = {id(p) for p in net.parameters()}
    _forget([p for p in before if id(p) not in stay], optimizer)


def _forget(parameters: Iterable[nn.Parameter], optimizer: Optimizer | None) -> None:
    gone = {id(p): p for p in parameters}
    for parameter in gone.values():
        parameter.grad = None
        if optimizer is not None:
            optimizer.state.pop(parameter, None)
    for group in optimizer.param_groups if optimizer is not None else ():
        group["params"] = [p for p in group["params"] if id(p) not in gone]
