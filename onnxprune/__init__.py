"""onnxprune: structured pruning of ONNX models, exact by construction.

>>> from onnxprune import load, analyze, choose, apply, save
>>> model = load("model.onnx")
>>> analysis = analyze(model)
>>> mask = choose(analysis, keep=0.5)
>>> save(apply(model, mask), "small.onnx")
"""

from onnxprune.analysis import Analysis, analyze
from onnxprune.api import apply, load, save
from onnxprune.branches import Branch
from onnxprune.budget import choose, choose_branches
from onnxprune.errors import MaskError, ModelError, OnnxPruneError, OutputError, UsageError, VerificationError
from onnxprune.graph import Model
from onnxprune.groups import Group
from onnxprune.mask import Mask, read_mask
from onnxprune.verify import Certificate, verify

__all__ = [
    "Analysis",
    "Branch",
    "Certificate",
    "Group",
    "Mask",
    "MaskError",
    "Model",
    "ModelError",
    "OnnxPruneError",
    "OutputError",
    "UsageError",
    "VerificationError",
    "analyze",
    "apply",
    "choose",
    "choose_branches",
    "load",
    "read_mask",
    "save",
    "verify",
]
