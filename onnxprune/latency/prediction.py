"""How long any structure of a network takes, without building it: the sum of its segments' times.

NetAdapt (Yang et al. 2018, arXiv 1804.03230, section 3.2) adds up a table of layers. Here a segment is measured when a
structure first needs it at such a width, in the runtime that is asked about, and all of its operators but changes of
layout count. What a run takes beside them is measured on whole models.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from onnxprune import api
from onnxprune.analysis import Analysis
from onnxprune.errors import ModelError
from onnxprune.forms import Atom
from onnxprune.graph import Model
from onnxprune.latency.paired import compare
from onnxprune.latency.runtimes import Setting
from onnxprune.latency.segments import Cutter, Segment, find_segments
from onnxprune.latency.table import Table, kernel_seconds
from onnxprune.latency.turns import Plan
from onnxprune.mask import make_mask

Units = Mapping[str, np.ndarray]
"""Which units of a group stay: bool `(size,)` by name; groups that are not named stay whole."""
CALIBRATION = 2.0
"""Seconds for which whole models are timed."""
WIDTHS = (0.75, 0.5, 0.25)
"""Shares of all groups at which they are."""
MOST_FIXED = 100.0
"""What a run takes beside its operators, at most, in times of these."""


class Latency:
    """Predicted times of the structures of one network.

    Args:
        analysis: of the network.
        threads: of an operator; 0 leaves it to onnxruntime.
        table: a file for what is measured, to be used again; or None.

    Raises:
        UsageError: the file is of another model, machine or runtime.
    """

    def __init__(self, analysis: Analysis, threads: int = 0, table: Path | None = None):
        self.analysis, self.threads = analysis, threads
        self._segments = find_segments(analysis)
        self._cutter = Cutter(analysis)
        inputs = {value.name: analysis.trace.shape(value.name) for value in analysis.trace.graph.inputs}
        self._table = Table({"model": analysis.fingerprint, "inputs": inputs, "threads": threads}, table)

    @property
    def unmeasured(self) -> set[str]:
        """Names of segments that do not run by themselves; they count for nothing."""
        return {self._segments[key[0]].name for key, seconds in self._table.seconds.items() if seconds is None}

    def share(self, units: Units) -> float:
        """The time of a structure by the whole network's."""
        return (self._sum(units) + self._fixed()) / (self._sum({}) + self._fixed())

    def measured(self, units: Units) -> float:
        """The same, timed: the median of the ratios of whole models that take turns."""
        plan = Plan(seconds=CALIBRATION, setting=Setting(threads=self.threads), sizes=self.analysis.sizes)
        return compare([self.analysis.original, self._pruned(units)], plan).models[1].ratio.median

    def _fixed(self) -> float:
        """What a run takes beside its segments, by smaller models whose ratios to the whole are timed.

        (small + fixed) / (whole + fixed) is such a ratio; the median of what they say counts.
        """
        if self._table.fixed is None:
            whole = self._sum({})
            said = [self._fixed_by(share, whole) for share in WIDTHS]
            self._table.add({}, float(np.clip(np.median(said), 0, MOST_FIXED * whole)))
        return self._table.fixed or 0.0

    def _fixed_by(self, share: float, whole: float) -> float:
        """What one smaller model says; infinite if it is not faster."""
        units = {group.name: np.arange(group.size) < np.ceil(share * group.size) for group in self.analysis.groups}
        ratio, small = self.measured(units), self._sum(units)
        return (small - ratio * whole) / (ratio - 1) if ratio < 1 else np.inf

    def _sum(self, units: Units) -> float:
        kept = self._counts(units)
        keys = [(number, *(kept[atom] for atom in s.atoms)) for number, s in enumerate(self._segments)]
        if missing := [key for key in keys if key not in self._table.seconds]:
            pruned = self._pruned(units)
            self._table.add({key: self._time(pruned, self._segments[key[0]], kept) for key in missing})
        return sum(self._table.seconds[key] or 0.0 for key in keys)

    def _time(self, pruned: Model, segment: Segment, kept: Mapping[Atom, int]) -> float | None:
        try:
            return kernel_seconds(self._cutter.cut(pruned, segment, kept), self.threads)
        except ModelError:
            return None

    def _counts(self, units: Units) -> dict[Atom, int]:
        counts: dict[Atom, int] = {}
        for group in self.analysis.groups:
            counts |= group.counts(units.get(group.name, np.ones(group.size, bool)))
        return counts

    def _pruned(self, units: Units) -> Model:
        mask = make_mask(self.analysis, dict(units), {})
        return api.apply(self.analysis.original, mask, verify=False, analysis=self.analysis)
