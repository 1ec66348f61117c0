"""What a smaller module has to compute, and whether it does: tried on copies, before anything is changed."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from onnxprune import api, execution
from onnxprune.errors import ModelError, first_line
from onnxprune.graph import Graph
from onnxprune.mask import Mask, dropped_by, make_mask
from onnxprune.slicing import Edits
from onnxprune.torch.binding import Binding
from onnxprune.torch.exporting import Example, in_single, tensors_in
from onnxprune.torch.filling import filled
from onnxprune.torch.gates import Gated
from onnxprune.torch.removing import NORMS, Sizes, norm_sizes, own_tensors, remove, state_sizes
from onnxprune.torch.zeros import replaceable

TOLERANCE = 1e-4
"""Largest difference from what is wanted, relative to the output's range."""

_STATING = (
    "`forward` states sizes: take them from tensors' shapes there, or train on gated (onnxprune.torch.Gated) and prune "
    "the exported model, where stated sizes follow"
)
_DOING_MORE = (
    "a dropped branch is not zero where its submodules give zeros, or `forward` states sizes: give the branch a "
    "submodule of its own, whose result is added, or apply the mask to the exported model"
)


@dataclass(frozen=True)
class Plan:
    """How a module is made smaller.

    Attributes:
        zeros: submodules to be replaced by zeros.
        bare: what normalisations without parameters, by their names, have to state.
    """

    zeros: tuple[str, ...]
    bare: dict[str, Sizes]


@dataclass(frozen=True)
class _Aim:
    """What the smaller module is compared with.

    Attributes:
        net: the module whose copies are made smaller.
        gated: it gives the shapes in training mode.
        inputs, wanted: what it gets and has to give.
        what, fix: what it is called, and what to do where there is no way.
    """

    net: nn.Module
    gated: Gated
    inputs: tuple[Tensor, ...]
    wanted: list[Tensor]
    what: str
    fix: str


def planned(net: nn.Module, binding: Binding, mask: Mask, edits: Edits) -> Plan:
    """The first plan by which the smaller module computes what it has to; the last one's refusal if there is none."""
    aim = _aim(net, binding, mask)
    tries = replaceable(net, binding, edits.dropped) if mask.branches else [()]
    for zeros in tries if len(mask.branches) > 1 else tries[:-1]:
        with suppress(ModelError):
            return _tried(aim, binding, edits, zeros)
    if len(mask.branches) > 1:  # of different kinds, perhaps
        apart = {name for branch in mask.branches for name in _planned_alone(net, binding, branch).zeros}
        return _tried(aim, binding, edits, tuple(sorted(apart)))
    return _tried(aim, binding, edits, tries[-1])


def _planned_alone(net: nn.Module, binding: Binding, branch: str) -> Plan:
    """The plan of dropping one branch and nothing else."""
    mask = make_mask(binding.analysis, {}, {}, [branch])
    return planned(net, binding, mask, Edits(binding.analysis.trace, {}, dropped_by(binding.analysis, mask)))


def droppable(module: nn.Module, binding: Binding) -> tuple[str, ...]:
    """Names of the residual branches that `shrink` can drop from a module.

    Raises:
        ModelError: it is none of them; says why of the last.
    """
    net = module.module if isinstance(module, Gated) else module
    names = tuple(branch.name for branch in binding.analysis.branches)
    mask = make_mask(binding.analysis, {}, {}, names)
    with suppress(ModelError):
        planned(net, binding, mask, Edits(binding.analysis.trace, {}, dropped_by(binding.analysis, mask)))
        return names
    found, refusal = list[str](), None
    for name in names:
        try:
            _planned_alone(net, binding, name)
            found.append(name)
        except ModelError as error:
            refusal = error
    if refusal and not found:
        raise refusal
    return tuple(found)


@torch.no_grad()
def _aim(net: nn.Module, binding: Binding, mask: Mask) -> _Aim:
    """The gated module; of dropped branches, which no gate reaches, the pruned export.

    Then all values are moved a little: a zero that a head begins with would let anything pass.
    """
    net = _stirred(in_single(net)) if mask.branches else in_single(net)
    gated, inputs = Gated(copy.deepcopy(net), binding), _inputs(binding.example)
    gated.set_mask(replace(mask, branches=()))
    if not mask.branches:
        with torch.random.fork_rng(devices=[]):
            return _Aim(net, gated, inputs, tensors_in(gated.eval()(*inputs)), "the gated one", _STATING)
    pruned = api.apply(filled(binding, net), mask, verify=False)
    feeds = {value.name: x.numpy() for value, x in zip(Graph(pruned).inputs, inputs, strict=True)}
    wanted = [torch.from_numpy(array) for array in execution.run(pruned, [feeds])[0]]
    what = f"the pruned export (without {', '.join(map(repr, mask.branches))})"
    return _Aim(net, gated, inputs, wanted, what, _DOING_MORE)


def _stirred(net: nn.Module) -> nn.Module:
    """The module with seeded noise on its parameters, of the size that they have, or of small ones."""
    generator = torch.Generator().manual_seed(0)
    for p in net.parameters():
        if p.is_floating_point() and p.numel():
            size = float(p.abs().mean()) or float(p[0].numel() if p.ndim else 1) ** -0.5
            p.add_(size / 2 * torch.randn(p.shape, generator=generator))
    return net


@torch.no_grad()
def _tried(aim: _Aim, binding: Binding, edits: Edits, zeros: tuple[str, ...]) -> Plan:
    """Refuse where the smaller module would fail, or compute anything but what it has to.

    What normalisations without parameters have to state is seen as they are called.
    """
    small = copy.deepcopy(aim.net)
    bare = {name: part for name, part in small.named_modules() if isinstance(part, NORMS) and not own_tensors(part)}
    for part in bare.values():
        part.register_forward_pre_hook(lambda part, args: state_sizes(part, norm_sizes(part, args[0].shape[1])))
    with torch.random.fork_rng(devices=[]):
        with _refusing(aim, binding):
            remove(small, binding, edits, zeros)
            found = tensors_in(small.eval()(*aim.inputs))
            worst = max(difference(a, b) for a, b in zip(aim.wanted, found, strict=True))
        if not worst <= TOLERANCE:
            raise _refusal(aim, binding, f"differs from {aim.what} by {worst:.1e} of the outputs' range")
        _try_training(aim.gated, small, aim.inputs, _refusing(aim, binding, " in training mode"))
    names, left = ("num_features", "num_groups", "num_channels"), dict(small.named_modules())
    stated = {name: {n: getattr(part, n) for n in names if hasattr(part, n)} for name, part in bare.items()}
    return Plan(zeros, {name: sizes for name, sizes in stated.items() if left.get(name) is bare[name]})


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
def _refusing(aim: _Aim, binding: Binding, when: str = "") -> Iterator[None]:
    try:
        yield
    except Exception as error:  # whatever `forward` may raise
        raise _refusal(aim, binding, f"fails{when}: {first_line(error)}") from error


def _refusal(aim: _Aim, binding: Binding, what: str) -> ModelError:
    constants = f"; it also computes with {', '.join(map(repr, binding.unmapped))}" if binding.unmapped else ""
    return ModelError(
        f"{type(aim.net).__name__} cannot be made smaller: the smaller module {what}{constants}",
        aim.fix,
    )
