"""Criteria: how much a unit matters, from the weights alone.

A score is one float per unit of a group; less goes first. The scores of a group have mean 1, so that units of
different groups can be ranked together. To add a criterion, add a row to `SCORES`.
"""

from collections.abc import Callable

import numpy as np

from onnxprune.analysis import Analysis
from onnxprune.groups import Group
from onnxprune.scores.magnitude import batch_norm, l1, l2
from onnxprune.scores.uniform import uniform

Score = Callable[[Analysis, int], dict[str, np.ndarray]]

SCORES: dict[str, Score] = {"l1": l1, "l2": l2, "bn": batch_norm, "random": uniform}

__all__ = ["SCORES", "Group", "Score"]
