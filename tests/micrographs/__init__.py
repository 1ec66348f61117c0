"""Small graphs, one trap each: `REGISTRY` maps a name to the builder of its `Case`."""

from . import attention, convolution, detection, legacy, mixing, movement, normalization, reshaping, sharing, wiring
from .build import REGISTRY, Case, Cut

THEMES = (attention, convolution, detection, legacy, mixing, movement, normalization, reshaping, sharing, wiring)

__all__ = ["REGISTRY", "THEMES", "Case", "Cut"]
