"""From torch to files: the network as ONNX, its mask, and the pruned model with its certificate."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from onnxprune import api
from onnxprune.analysis import analyze
from onnxprune.bypass import without_zero_sums
from onnxprune.compare import ROUNDING
from onnxprune.cost import Cost
from onnxprune.errors import UsageError, VerificationError
from onnxprune.execution import random_inputs, relative_difference, run
from onnxprune.graph import Model
from onnxprune.mask import Mask
from onnxprune.report.files import MASK, PRUNED, document, write_text
from onnxprune.torch import checkpoint
from onnxprune.torch.binding import Binding
from onnxprune.torch.exporting import Example, export, on_cpu
from onnxprune.torch.filling import filled
from onnxprune.torch.gates import Gated
from onnxprune.verify import REMOVE, Certificate

DENSE, FOLDED, TRAINED = "dense.onnx", "folded.onnx", "trained.onnx"


@dataclass(frozen=True)
class HandOver:
    """What the files of a pruning say.

    Attributes:
        before, after: costs of the network.
        certificate: that the pruned model is the masked dense one.
    """

    before: Cost
    after: Cost
    certificate: Certificate


def exported(network: nn.Module, binding: Binding) -> Model:
    """A network as it is now, in its binding's export; gates are multiplied in."""
    return filled(binding, copy.deepcopy(network).fold() if isinstance(network, Gated) else network)


def hand_over(
    network: nn.Module, binding: Binding, mask: Mask, folder: Path, unfolded: Model | None = None
) -> HandOver:
    """Write the dense network, the mask and the pruned model, which is proven first.

    Args:
        network: as it is just before it loses the mask's units.
        binding: of the network.
        mask: for it.
        folder: where `dense.onnx`, `mask.json` and `pruned.onnx` go.
        unfolded: the dense network as it was before constants were folded, if they were: then it is `dense.onnx`, and
            `folded.onnx` is what the pruned model is proven against.

    Raises:
        VerificationError: the pruned model is not the masked dense one.
        OutputError: a file cannot be written.
    """
    dense = exported(network, binding)
    analysis = analyze(dense)
    pruned = api.apply(dense, mask, verify=False, analysis=analysis)
    certificate = api.verify(dense, pruned, mask, analysis=analysis)
    certificate.raise_for_failure()
    api.save(unfolded or dense, folder / DENSE)
    if unfolded is not None:
        api.save(dense, folder / FOLDED)
    write_text(folder / MASK, document(mask.to_json()))
    api.save(pruned, folder / PRUNED)
    return HandOver(analysis.cost, analyze(pruned).cost, certificate)


def export_trained(network: nn.Module, example: Example, folder: Path) -> Cost:
    """Write the trained network as `trained.onnx`; its cost.

    Raises:
        ModelError: it cannot be exported.
        VerificationError: without the sums that a dropped branch leaves it computes something else.
        OutputError: the file cannot be written.
    """
    plain = copy.deepcopy(network).cpu()
    model = _without_zeros(Model(export(plain.fold() if isinstance(plain, Gated) else plain, on_cpu(example))))
    api.save(model, folder / TRAINED)
    return analyze(model).cost


def _without_zeros(model: Model) -> Model:
    """The model without what a dropped branch leaves in an export: x + 0.

    Raises:
        VerificationError: the rest computes anything else.
    """
    smaller = without_zero_sums(analyze(model))
    if smaller is not model:
        feeds = [random_inputs(model, 0)]
        error = relative_difference(run(model, feeds)[0], run(smaller, feeds)[0])
        if error > ROUNDING:
            raise VerificationError(f"without sums with zeros the export differs by {error:.1e}", REMOVE)
    return smaller


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a checkpoint of ours, or of a state dict, by name; those in bfloat16, which NumPy lacks, in single
    precision, which has all of its numbers.

    Raises:
        UsageError: the file is missing.
        TrainingError: it is damaged, or holds what could run code.
    """
    state = _state(path)
    return {name: (t.float() if t.dtype == torch.bfloat16 else t).numpy() for name, t in state.items()}


def save_weights(network: nn.Module, path: Path) -> None:
    """Write a network's state dict.

    Raises:
        OutputError: the file cannot be written.
    """
    checkpoint.write(path, {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()})


def weights_fit(network: nn.Module, path: Path) -> bool:
    """Whether the weights in a file have the shapes of a network's.

    Raises:
        UsageError: the file is missing.
        TrainingError: it is damaged, or holds what could run code.
    """
    state, own = _state(path), network.state_dict()
    return state.keys() == own.keys() and all(state[name].shape == tensor.shape for name, tensor in own.items())


def _state(path: Path) -> dict[str, torch.Tensor]:
    content: Any = checkpoint.read(path, own=False)
    state = (content.get("plain") or content["model"]) if "format" in content else content
    return {name: tensor for name, tensor in state.items() if isinstance(tensor, torch.Tensor)}


def load_weights(network: nn.Module, path: Path) -> None:
    """Give a network the weights of a checkpoint of ours (`best.pt`; of a training without gates also `last.pt`) or of
    a state dict.

    Raises:
        UsageError: the file is missing, or its weights are another network's; names the first difference.
        TrainingError: it is damaged, or holds what could run code.
    """
    load_state(network, _state(path), str(path))


def load_state(network: nn.Module, state: Mapping[str, torch.Tensor], where: str) -> None:
    """Give a network the tensors of a state dict, which messages call `where`.

    Raises:
        UsageError: they are another network's; names the first difference.
    """
    own = network.state_dict()
    for name, tensor in own.items():
        if name not in state:
            raise UsageError(f"{where}: has no tensor {name!r}", "take weights of this very network")
        if state[name].shape != tensor.shape:
            raise UsageError(
                f"{where}: tensor {name!r} has shape {tuple(state[name].shape)}, expected {tuple(tensor.shape)}",
                "take weights of this very network; those of a pruned one need its mask",
            )
    if unknown := sorted(state.keys() - own.keys()):
        raise UsageError(f"{where}: the network has no tensor {unknown[0]!r}", "take weights of this very network")
    network.load_state_dict(state)
