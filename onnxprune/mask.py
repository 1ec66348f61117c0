"""`Mask`: which units of which groups go, and its file.

The file (`mask.json`, format 1) is JSON for people:

    {"format": "onnxprune-mask", "version": 1,
     "fingerprint": "<hash of the model's structure>",
     "provenance": {"method": "l1", "seed": 0, ...},
     "groups": [{"name": "layer1.0.conv1", "size": 64, "structure": "<hash>", "removed": [[0, 4], [7, 8]]}]}

With `"branches": ["layer2.1.conv2"]` residual branches are dropped whole, too.

`removed` holds half-open ranges of unit numbers. `structure` tells a group by what makes and consumes it, so
that a mask fits another export of the same network, whatever its tensors are called there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate, chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from onnxprune.analysis import Analysis
from onnxprune.branches import NOTHING, Dropped, drop
from onnxprune.cost import Cost, CostModel
from onnxprune.errors import MaskError
from onnxprune.forms import Atom
from onnxprune.groups import Group

FORMAT, VERSION = "onnxprune-mask", 1


@dataclass(frozen=True, slots=True)
class GroupMask:
    """The removed units of one group, as half-open ranges."""

    name: str
    size: int
    structure: str
    removed: tuple[tuple[int, int], ...]

    @property
    def kept(self) -> np.ndarray:
        """bool of shape `(size,)`: which units stay."""
        return next(_kept_of_each([self]))


@dataclass(frozen=True)
class Mask:
    """Units to remove from every group of one network.

    Attributes:
        fingerprint: the structure of the network that it was made for.
        groups: one entry for every group of that network.
        provenance: how it was made: method, options, seed.
        branches: names of the residual branches that are dropped whole, in the graph's order.
    """

    fingerprint: str
    groups: tuple[GroupMask, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    branches: tuple[str, ...] = ()

    @property
    def fold(self) -> bool:
        """Whether it was made for the model with constant branches folded."""
        return bool(self.provenance.get("fold"))

    def to_json(self) -> dict[str, Any]:
        """The file's content."""
        groups = [
            {"name": g.name, "size": g.size, "structure": g.structure, "removed": [list(r) for r in g.removed]}
            for g in self.groups
        ]
        head = {"format": FORMAT, "version": VERSION, "fingerprint": self.fingerprint}
        branches = {"branches": list(self.branches)} if self.branches else {}
        return {**head, "provenance": dict(self.provenance), "groups": groups, **branches}

    @property
    def digest(self) -> str:
        """A hash of what is removed."""
        entries = [(g.size, len(g.removed), *chain.from_iterable(g.removed)) for g in self.groups]
        digest = hashlib.sha256(np.fromiter(chain.from_iterable(entries), "<i8").tobytes())
        digest.update(json.dumps(self.branches).encode() if self.branches else b"")
        return digest.hexdigest()

    @property
    def removes_nothing(self) -> bool:
        """Whether everything stays."""
        return not self.branches and not any(g.removed for g in self.groups)


def structure(group: Group) -> str:
    """A short hash of what a group is made and consumed by: sizes and numbers of layers, not names or layouts.

    Nor biases, which a folded BatchNorm brings along.
    """
    made = tuple(sorted({(m.size, m.multiplicity) for m in group.members if m.makes}))
    return _hash_of(group.size, made, len(group.producers), len(group.consumers))


@lru_cache(maxsize=1024)
def _hash_of(size: int, made: tuple[tuple[int, int], ...], producers: int, consumers: int) -> str:
    return hashlib.sha256(repr((size, list(made), producers, consumers)).encode()).hexdigest()[:12]


def make_mask(
    analysis: Analysis,
    kept: Mapping[str, np.ndarray],
    provenance: Mapping[str, Any],
    branches: Collection[str] = (),
) -> Mask:
    """A mask from the kept units of some groups (bool by group name) and the dropped branches; others stay whole."""
    chosen = [group.name for group in analysis.groups if group.name in kept]
    removed = dict(zip(chosen, removed_ranges([kept[name] for name in chosen]), strict=True))
    groups = [GroupMask(g.name, g.size, structure(g), removed.get(g.name, ())) for g in analysis.groups]
    names = tuple(b.name for b in analysis.branches if b.name in branches) if branches else ()
    return Mask(analysis.fingerprint, tuple(groups), provenance, names)


def removed_ranges(kept: Sequence[np.ndarray]) -> Iterator[tuple[tuple[int, int], ...]]:
    """For every array of kept units the half-open ranges of the others: `[0, 1, 1, 0, 0] -> ((0, 1), (3, 5))`."""
    if not kept:
        return
    # A kept unit before and after each array ends its ranges; its first unit then has the place `first`.
    first = np.cumsum([2, *[len(k) + 1 for k in kept]])[:-1] - 1
    flat = np.ones(first[-1] + len(kept[-1]) + 1, bool)
    units = np.ones(len(flat), bool)
    units[0] = units[-1] = units[first - 1] = False
    flat[units] = np.concatenate(kept)
    starts, stops = np.flatnonzero(np.diff(flat.astype(np.int8))).reshape(-1, 2).T + 1
    owner = np.searchsorted(first, starts, "right") - 1
    pairs = list(zip((starts - first[owner]).tolist(), (stops - first[owner]).tolist(), strict=True))
    ends = np.searchsorted(owner, np.arange(len(kept)), "right").tolist()
    yield from (tuple(pairs[start:stop]) for start, stop in pairwise([0, *ends]))


def read_mask(path: Path) -> Mask:
    """Read a mask file.

    Raises:
        MaskError: it is missing, no mask file, or of another version.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MaskError(f"{path}: cannot read the mask: {error.strerror}", "check the path") from error
    except (ValueError, RecursionError) as error:
        raise MaskError(f"{path}: not JSON: {error}", "make it with `onnxprune mask`") from error
    return parse_mask(content, str(path))


def parse_mask(content: Any, where: str) -> Mask:
    """The mask whose `to_json` gave this; `where` it comes from is named in errors.

    Raises:
        MaskError: it is no mask, or of another version.
    """
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise MaskError(f'{where}: not a mask file (expected "format": "{FORMAT}")', "make it with `onnxprune mask`")
    if content.get("version") != VERSION:
        raise MaskError(f"{where}: mask version {content.get('version')}, expected {VERSION}", "make the mask again")
    try:
        groups = tuple(_read_group(entry) for entry in content["groups"])
        branches = _read_branches(content.get("branches", []))
        return Mask(str(content["fingerprint"]), groups, dict(content.get("provenance", {})), branches)
    except (KeyError, TypeError, ValueError) as error:
        raise MaskError(f"{where}: a damaged mask file ({error})", "make it with `onnxprune mask`") from error


def _read_group(entry: Mapping[str, Any]) -> GroupMask:
    name, size = entry["name"], entry["size"]
    ends = [end for removed in entry["removed"] for end in removed]
    if any(type(n) is not int for n in (size, *ends)) or size < 1 or any(len(r) != 2 for r in entry["removed"]):
        raise ValueError(f"group {name!r}: sizes are whole numbers, ranges are pairs of them")
    if ends != sorted(ends) or any(a == b for a, b in entry["removed"]) or not all(0 <= e <= size for e in ends):
        raise ValueError(f"group {name!r} has removed units outside [0, {size}), or ranges that do not ascend")
    return GroupMask(str(name), size, str(entry["structure"]), tuple((a, b) for a, b in entry["removed"]))


def _read_branches(names: Any) -> tuple[str, ...]:
    if not isinstance(names, list) or any(type(n) is not str for n in names) or len(set(names)) < len(names):
        raise ValueError("branches are names, each given once")
    return tuple(names)


def fit_mask(analysis: Analysis, mask: Mask) -> tuple[dict[Atom, np.ndarray], bool]:
    """Kept elements of every atom under a mask, and whether it was matched by structure instead of by name.

    Raises:
        MaskError: the mask is for another network, or empties a group.
    """
    matched = mask.fingerprint != analysis.fingerprint
    ours, theirs = ([(g.name, g.size) for g in groups] for groups in (analysis.groups, mask.groups))
    if matched or ours != theirs:
        _match(analysis, mask)
    kept: dict[Atom, np.ndarray] = {}
    for group, entry, units in zip(analysis.groups, mask.groups, _kept_of_each(mask.groups), strict=True):
        if sum([stop - start for start, stop in entry.removed]) == group.size:
            raise MaskError(f"group {group.name!r}: the mask removes all {group.size} units", "keep at least one")
        if entry.removed and len(group.atoms) == 1:
            kept[group.atoms[0]] = units
        elif entry.removed:
            kept |= [(atom, units[start : start + atom.size]) for atom, start in group.first_units.items()]
    return kept, matched


def dropped_by(analysis: Analysis, mask: Mask) -> Dropped:
    """The branches that a mask drops, and what goes with them.

    Raises:
        MaskError: the network has no such branch; names the first.
    """
    if not mask.branches:
        return NOTHING
    own = {branch.name: branch for branch in analysis.branches}
    if unknown := [name for name in mask.branches if name not in own]:
        listed = ", ".join(map(repr, own)) or "none"
        raise MaskError(
            f"the mask drops branch {unknown[0]!r}, which the model does not have; its branches are {listed}",
            "make the mask from this model, or see its branches with `onnxprune analyze`",
        )
    return drop(analysis.trace.graph, [own[name] for name in mask.branches])


def masked_cost(analysis: Analysis, mask: Mask) -> Cost:
    """What the model costs under a mask; it need not have been applied.

    Raises:
        MaskError: the mask does not fit the model.
    """
    kept, _ = fit_mask(analysis, mask)
    costs = CostModel(analysis.trace, dropped_by(analysis, mask)) if mask.branches else analysis.costs
    return costs.cost({atom: int(units.sum()) for atom, units in kept.items()})


def removed_units(mask: Mask) -> np.ndarray:
    """Which units a mask removes: bool, those of all groups one after the other."""
    return ~np.concatenate([np.zeros(0, bool), *_kept_of_each(mask.groups)])


def _kept_of_each(groups: Sequence[GroupMask]) -> Iterator[np.ndarray]:
    """The units of every group that stay, as parts of one array."""
    starts = list(accumulate([g.size for g in groups], initial=0))
    flat = np.ones(starts[-1], bool)
    for group, offset in zip(groups, starts, strict=False):
        for start, stop in group.removed:
            flat[offset + start : offset + min(stop, group.size)] = False
    return (flat[start:stop] for start, stop in pairwise(starts))


def _match(analysis: Analysis, mask: Mask) -> None:
    """Refuse a mask whose groups, in order, are not those of the network."""
    fix = "make the mask from this model, or from another export of the same network"
    for group, entry in zip(analysis.groups, mask.groups, strict=False):
        if (entry.size, entry.structure) != (group.size, structure(group)):
            raise MaskError(
                f"the mask is for another model: its group {entry.name!r} ({entry.size} units) "
                f"does not fit the model's group {group.name!r} ({group.size} units)",
                fix,
            )
    if len(analysis.groups) != len(mask.groups):
        raise MaskError(
            f"the mask is for another model: it has {len(mask.groups)} groups, the model {len(analysis.groups)}", fix
        )
