"""The Python interface: load, analyze, choose, apply, verify, save. The command line is a thin skin over it."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from onnxprune.analysis import Analysis, analyze
from onnxprune.budget import choose, choose_branches
from onnxprune.external import file_map
from onnxprune.files import read_model, write_model
from onnxprune.graph import Model
from onnxprune.mask import Mask
from onnxprune.slicing import slice_model
from onnxprune.verify import Certificate, verify

__all__ = ["analyze", "apply", "choose", "choose_branches", "load", "save", "verify"]


def load(path: str | PathLike[str]) -> Model:
    """Read and check a model; data in external files stays there until it is needed.

    Raises:
        ModelError: the file is missing, damaged, not valid ONNX, too new, or refers outside of its folder.
    """
    return Model(read_model(Path(path)), Path(path), mapped=file_map(Path(path)))


def apply(model: Model, mask: Mask, *, verify: bool = True, analysis: Analysis | None = None) -> Model:
    """Remove a mask's channels from a model, and the residual branches that it drops.

    Args:
        model: the original; it is not changed.
        mask: from `choose` or a mask file.
        verify: prove the result equal to the masked original (see `verify`).
        analysis: of this model, where it is at hand already.

    Raises:
        MaskError: the mask is for another model, empties a group, or leaves sizes that the graph can not state.
        VerificationError: the pruned model is not the masked original.
    """
    analysis = analysis or analyze(model, fold=mask.fold)
    pruned = slice_model(analysis, mask)
    if verify:
        certify(model, pruned, mask, analysis).raise_for_failure()
    return pruned


def certify(model: Model, pruned: Model, mask: Mask, analysis: Analysis) -> Certificate:
    """`verify`, under a name that `apply`'s option does not hide."""
    return verify(model, pruned, mask, analysis=analysis)


def save(model: Model, path: str | PathLike[str]) -> None:
    """Write a model, crash-safe: the path holds the old file or the new one, whole.

    Raises:
        OutputError: the path can not be written, or is the input.
    """
    write_model(model.proto, Path(path), model.arrays, model.path)
