"""What structures near a known one take, from curves alone: nothing is measured for it but the curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from onnxprune.latency.curves import Curves, Widths
from onnxprune.latency.prediction import Units


class Estimate:
    """Times by the whole network's, from those of one structure, the anchor, whose segments are measured.

    Args:
        curves: of the network's segments.
        units: of the anchor.
        widths: of the anchor: how many units of every group.
        factor: what the estimates are to be multiplied by.
    """

    def __init__(self, curves: Curves, units: Units, widths: Widths, factor: float = 1.0):
        self._curves, self._factor = curves, factor
        latency = self._latency = curves.latency
        self._anchor = latency.seconds(units)
        self._at_anchor = [
            [float(curves.curve(k, n).at(axis.size(widths))) for n, axis in enumerate(axes)]
            for k, axes in enumerate(curves.axes)
        ]
        self._beside, self._whole = latency.beside, latency.whole

    def share(self, widths: Widths) -> float:
        """The time of a structure."""
        spent = sum(float(self._segment(k, widths)) for k in range(len(self._anchor)))
        return self._factor * self._latency.share_at(spent)

    def along(self, name: str, levels: Sequence[int], widths: Widths) -> np.ndarray:
        """The part of the time that depends on one group, at some widths of it: float `(levels,)`."""
        varied: dict[str, int | np.ndarray] = {**widths, name: np.array(levels)}
        spent = sum((self._segment(k, varied) for k in self._latency.touching[name]), np.zeros(len(levels)))
        return self._factor * spent / (self._whole + self._beside)

    def _segment(self, number: int, widths: Mapping[str, int | np.ndarray]) -> np.ndarray:
        """Seconds of one segment; a width may be an array of widths."""
        seconds = np.asarray(self._anchor[number])
        for n, axis in enumerate(self._curves.axes[number]):
            now = self._curves.curve(number, n).at(axis.size(widths))  # type: ignore[arg-type]
            seconds = seconds * (now / max(self._at_anchor[number][n], 1e-12))
        return seconds
