"""Random scores: the control every criterion must beat."""

import numpy as np

from onnxprune.analysis import Analysis


def uniform(analysis: Analysis, seed: int) -> dict[str, np.ndarray]:
    """Independent uniform scores for every unit of every group, from one seed."""
    chance = np.random.default_rng(seed)
    return {group.name: chance.random(group.size) for group in analysis.groups}
