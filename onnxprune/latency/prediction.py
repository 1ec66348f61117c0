"""How long any structure of a network takes, without running it: the sum of its segments' times.

NetAdapt (Yang et al. 2018, arXiv 1804.03230, section 3.2) adds up a table of layers. Here a segment is measured when a
structure first needs it at such sizes, in the runtime that is asked about, in turns with the same segment of the whole
network: a machine's speed drifts by more than what is looked for. What the latter takes is measured where it stands,
in the whole network, if the runtime tells: alone it misses what is fused into it, its layout and its caches. Segments
of one kind share their times. What a run takes beside them is measured on whole models.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from onnxprune import api
from onnxprune.analysis import Analysis
from onnxprune.errors import ModelError
from onnxprune.forms import Atom, atoms
from onnxprune.graph import Model
from onnxprune.latency.attribution import in_place
from onnxprune.latency.paired import compare
from onnxprune.latency.parts import PROFILED, part_seconds
from onnxprune.latency.runtimes import Setting
from onnxprune.latency.segments import Cutter, Segment, find_segments
from onnxprune.latency.statistic import Interval, pooled
from onnxprune.latency.table import Key, Table
from onnxprune.latency.turns import Plan
from onnxprune.mask import make_mask

Units = Mapping[str, np.ndarray]
"""Which units of a group stay: bool `(size,)` by name; groups that are not named stay whole."""
DEFAULT = Setting()
CALIBRATION, SURE = 3.0, 0.004
"""Seconds for which whole models are timed, or until their ratio is known to within this."""
WELL, MOST = 0.0075, 4
"""A ratio is known well enough if it is to within this share of it; and how often it is measured at most, with as many
seeds from 0 on."""
WIDTHS = (0.75, 0.5, 0.25)
"""Shares of all groups at which they are."""
LEAST_BESIDE, MOST_BESIDE = -0.2, 100.0
"""What a run takes beside its operators, at least and at most, in times of these. Profiled ones take longer, which
makes it negative where there are many small ones."""
EVEN = 8
"""Smaller models have widths of multiples of this, as far as groups allow: odd ones have costs of their own."""


class Latency:
    """Predicted and measured times of the structures of one network.

    Args:
        analysis: of the network.
        engine: the runtime's name.
        setting: of the runtime.
        table: a file for what is measured, to be used again; or None.

    Raises:
        UsageError: the file is of another device, runtime or setting.
    """

    def __init__(self, analysis: Analysis, engine: str = "cpu", setting: Setting = DEFAULT, table: Path | None = None):
        self.analysis, self.engine, self.setting = analysis, engine, setting
        self.segments = find_segments(analysis)
        self._cutter = Cutter(analysis)
        self._full = self.counts({})
        self._kinds = [self._kind(segment) for segment in self.segments]
        self._table = Table(engine, setting, table)
        self._model = hashlib.sha256("\n".join(self._kinds).encode()).hexdigest()[:16]

    @property
    def unmeasured(self) -> set[str]:
        """Names of segments that do not run by themselves: taken to be as fast at any width, or for nothing where the
        runtime does not tell what they take in the whole network.
        """
        failed = {kind for (kind, _), seconds in self._table.seconds.items() if seconds is None}
        return {segment.name for segment, kind in zip(self.segments, self._kinds, strict=True) if kind in failed}

    @property
    def beside(self) -> float:
        """Seconds that a run takes beside its segments, by smaller models whose ratios to the whole are timed.

        (small + beside) / (whole + beside) is such a ratio; the median of what they say counts.
        """
        known = self._table.beside
        if self._model not in known:
            said = [self._beside_by(share) for share in WIDTHS]
            known[self._model] = float(np.clip(np.median(said), LEAST_BESIDE * self.whole, MOST_BESIDE * self.whole))
            self._table.flush()
        return known[self._model]

    @cached_property
    def whole(self) -> float:
        """Seconds of all segments of the whole network."""
        return float(self._places.sum())

    @cached_property
    def _places(self) -> np.ndarray:
        """What the segments of the whole network take where they stand: float `(segments,)`."""
        known, alone = self._table.places, np.nan_to_num(self._before)
        if self.engine != PROFILED:
            return alone
        if self._model not in known:
            known[self._model] = self._in_place(alone).tolist()
        return np.array(known[self._model])

    def _in_place(self, alone: np.ndarray) -> np.ndarray:
        try:
            return in_place(self.analysis, self.segments, alone, self.setting.threads)
        except ModelError:  # operators in loops run as often as data says
            return alone

    def share(self, units: Units) -> float:
        """The time of a structure by the whole network's, predicted."""
        return self.share_at(float(self.seconds(units).sum()))

    def share_at(self, seconds: float) -> float:
        """The same, if its segments take so many seconds."""
        return max(seconds + self.beside, seconds / 2) / (self.whole + self.beside)

    def measured(self, units: Units) -> float:
        """The same, timed: the median of the ratios of whole models that take turns."""
        return self.ratio(units).median

    def ratio(self, units: Units, seed: int = 0, sure: float = SURE) -> Interval:
        """The same with its interval; `seed` of the order and the input; `sure`: how well it need not be known."""
        plan = self._plan(CALIBRATION, tolerance=sure, seed=seed)
        return compare([self.analysis, self.pruned(units)], plan).models[1].ratio

    def again(self, units: Units, first: Interval) -> Interval:
        """A structure's ratio, measured once more, and more often, until it is known well enough, as one."""
        found, well = [first], WELL * first.median
        for seed in range(1, MOST):
            found.append(self.ratio(units, seed=seed, sure=min(SURE, well)))
            if (ratio := pooled(found)).half_width <= well:
                break
        return ratio

    def correction(self, units: Units) -> float:
        """What predictions are off by, as this structure tells: measured by predicted; kept in the table."""
        known, kept = self._table.corrections, repr([*self.counts(units).values()])
        key = f"{self._model} {hashlib.sha256(kept.encode()).hexdigest()[:16]}"
        if key not in known:
            known[key] = self.again(units, self.ratio(units)).median / self.share(units)
            self._table.flush()
        return known[key]

    def _plan(self, seconds: float, **how: Any) -> Plan:
        return Plan(seconds, runtime=self.engine, setting=self.setting, sizes=self.analysis.sizes, **how)

    def run(self) -> float:
        """Seconds of a run of the whole network, measured now."""
        return compare([self.analysis] * 2, self._plan(CALIBRATION)).models[0].seconds.median

    @property
    def first_run(self) -> float:
        """The same, measured when it was first asked for; kept in the table."""
        known = self._table.runs
        if self._model not in known:
            known[self._model] = self.run()
            self._table.flush()
        return known[self._model]

    def seconds(self, units: Units, segments: Iterable[int] | None = None) -> np.ndarray:
        """Seconds of some segments, or of all, by number: float `(segments,)`. What is not known yet is measured."""
        numbers = list(range(len(self.segments)) if segments is None else segments)
        before, now = self._before[numbers], self._alone(units, numbers)
        known = np.isfinite(now) & (before > 0)
        return self._places[numbers] * np.divide(now, before, where=known, out=np.ones(len(numbers)))

    @cached_property
    def _before(self) -> np.ndarray:
        """What all segments of the whole network take by themselves (see `_alone`)."""
        return self._alone({}, range(len(self.segments)))

    def _alone(self, units: Units, numbers: Sequence[int]) -> np.ndarray:
        """What segments take by themselves, measured if it is not known: float `(segments,)`, not a number for those
        that do not run.
        """
        kept = self.counts(units)
        keys = {number: self._key(number, kept) for number in numbers}
        missing = {key: number for number, key in keys.items() if key not in self._table.seconds}
        if missing:
            pruned = self._unpruned if kept == self._full else self.pruned(units)
            for key, number in missing.items():
                self._table.add({key: self._time(pruned, number, kept)})
            self._table.flush()
        found = (self._table.seconds[key] for key in keys.values())
        return np.array([np.nan if seconds is None else seconds for seconds in found])

    def _key(self, number: int, kept: Mapping[Atom, int]) -> Key:
        return self._kinds[number], self.segments[number].sizes(kept)

    def _kind(self, segment: Segment) -> str:
        return f"{self._cutter.kind(segment)} of {'x'.join(map(str, segment.sizes(self._full)))}"

    @cached_property
    def touching(self) -> dict[str, list[int]]:
        """Numbers of the segments that every group lies on, by its name."""
        found: dict[str, list[int]] = {group.name: [] for group in self.analysis.groups}
        for number, segment in enumerate(self.segments):
            lying = {atom for form in segment.forms for atom in atoms(form)}
            for name in {self.analysis.owner[atom] for atom in lying & self.analysis.owner.keys()}:
                found[name].append(number)
        return found

    def counts(self, units: Units) -> dict[Atom, int]:
        """Elements of every atom that stay."""
        counts: dict[Atom, int] = {}
        for group in self.analysis.groups:
            counts |= group.counts(units.get(group.name, np.ones(group.size, bool)))
        return counts

    def pruned(self, units: Units) -> Model:
        """The structure as a model."""
        mask = make_mask(self.analysis, dict(units), {})
        return api.apply(self.analysis.original, mask, verify=False, analysis=self.analysis)

    def flush(self) -> None:
        """Write what was measured to the table's file."""
        self._table.flush()

    def _beside_by(self, share: float) -> float:
        """What one smaller model says; infinite if it is not faster."""
        units = {group.name: evenly(group.size, _smaller(group.size, share)) for group in self.analysis.groups}
        ratio, small = self.measured(units), float(self.seconds(units).sum())
        return (small - ratio * self.whole) / (ratio - 1) if ratio < 1 else np.inf

    def _time(self, pruned: Model, number: int, kept: Mapping[Atom, int]) -> float | None:
        """Of a segment that is not the whole network's what it takes by that one, in turns, times what that took."""
        segment, usual = self.segments[number], self._table.seconds.get(self._key(number, self._full))
        parts = [self._cutter.cut(pruned, segment, kept)]
        if usual:
            parts.append(self._cutter.cut(self._unpruned, segment, self._full))
        try:
            own, *whole = part_seconds(parts, self.engine, self.setting)
        except ModelError:
            return None
        if not usual or not whole[0]:
            return own
        # A run's time by the clock, less that of one that does nothing, may be next to nothing: no ratio of it is sure.
        return own / whole[0] * usual if self.engine == PROFILED else max(0.0, usual + own - whole[0])

    @cached_property
    def _unpruned(self) -> Model:
        return self.pruned({})


def _smaller(size: int, share: float) -> int:
    """A share of a size, rounded up to an even width if that is smaller than it."""
    even = EVEN * ceil(share * size / EVEN)
    return even if even < size else ceil(share * size)


def evenly(size: int, width: int) -> np.ndarray:
    """`width` of `size` units, evenly spread, so that all parts of a group lose alike: bool `(size,)`."""
    marks = np.arange(size + 1) * width // size
    return np.diff(marks) > 0
