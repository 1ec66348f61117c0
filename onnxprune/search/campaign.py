"""A search with its controls: every sampler on the same budget, for several seeds, and how they compare."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from onnxprune.errors import UsageError
from onnxprune.search.bees import PUBLISHED, Colony, bees
from onnxprune.search.controls import evolution, random, uniform
from onnxprune.search.evaluation import Evaluation, Executor
from onnxprune.search.grid import Space
from onnxprune.search.journal import Journal
from onnxprune.search.released import released_bees
from onnxprune.search.run import Budget, best, search
from onnxprune.search.sampler import Sampler, Steps
from onnxprune.search.structures import Compat, Structures

BEES, CHANCE = "bees", "random"
CONTROLS: dict[str, Callable[[Space, np.random.Generator], Steps]] = {
    CHANCE: random,
    "uniform": uniform,
    "evolution": evolution,
}
Show = Callable[[str, int, Sequence[Evaluation]], None]
"""Told of the sampler, the seed and its evaluations so far."""


@dataclass(frozen=True)
class Plan:
    """How to search.

    Attributes:
        evaluations: of every sampler and seed.
        seeds: one search for each, of every sampler.
        colony: of the bees.
        controls: which of `CONTROLS` run, too.
        compat: "released" for the bees of the released code.
        rungs: of successive halving: see `Budget`.
        fitness: what judges, as the journal tells it from others.
    """

    evaluations: int = 100
    seeds: tuple[int, ...] = (0,)
    colony: Colony = PUBLISHED
    controls: tuple[str, ...] = tuple(CONTROLS)
    compat: Compat | None = None
    rungs: tuple[float, ...] = (1.0,)
    fitness: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if unknown := [name for name in self.controls if name not in CONTROLS]:
            raise UsageError(f"unknown control {unknown[0]!r}", f"choose from: {', '.join(CONTROLS)}")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise UsageError(f"seeds {list(self.seeds)}, expected at least one, all different", "for example --seeds 3")

    def sampler(self, name: str, structures: Structures, seed: int) -> Sampler:
        """A fresh one."""
        space, rng = Space(structures.grid, structures.repair), np.random.default_rng(seed)
        if name == BEES:
            algorithm = released_bees if self.compat == "released" else bees
            return Sampler(algorithm(space, rng, self.colony))
        return Sampler(CONTROLS[name](space, rng))

    def of(self, name: str, structures: Structures, seed: int) -> dict[str, Any]:
        """What tells one search from others."""
        colony = {"colony": asdict(self.colony), "compat": self.compat} if name == BEES else {}
        network = {"network": structures.analysis.fingerprint, "grid": structures.grid.widths}
        how = {"target": structures.limits, "score": structures.score, "fitness": dict(self.fitness)}
        return {"sampler": name, "seed": seed, "rungs": self.rungs, **colony, **network, **how}


Found = dict[str, list[list[Evaluation]]]
"""By sampler, the evaluations of every seed."""


def campaign(
    structures: Structures,
    executor: Executor,
    plan: Plan,
    folder: Path | None = None,
    *,
    resume: bool = False,
    show: Show | None = None,
) -> Found:
    """Search with the bees and with all controls, at equal evaluations.

    A sampler that has judged the whole grid, or has nothing new to propose (uniform widths are few), ends earlier.

    Args:
        structures: where to search.
        executor: judges, on every seed the same.
        plan: how.
        folder: gets a journal `<sampler>-<seed>.jsonl` for every search.
        resume: go on from these journals.
        show: told of progress.

    Raises:
        UsageError: a journal is of another search.
        TrainingError: everything fails.
    """
    found: Found = {}
    for name in (BEES, *plan.controls):
        for seed in plan.seeds:
            sampler = plan.sampler(name, structures, seed)
            with ExitStack() as stack:
                what = plan.of(name, structures, seed)
                journal = folder and stack.enter_context(Journal(folder / f"{name}-{seed}.jsonl", what, resume))
                told = None if show is None else _telling(show, name, seed)
                budget = Budget(plan.evaluations, seed, plan.rungs)
                evaluations = search(sampler, executor, budget, journal or None, told)
            found.setdefault(name, []).append(evaluations)
    return found


def _telling(show: Show, name: str, seed: int) -> Callable[[Sequence[Evaluation]], None]:
    return lambda evaluations: show(name, seed, evaluations)


def winner(found: Found, name: str = BEES) -> Evaluation:
    """The best evaluation of a sampler, of all seeds."""
    return best([best(evaluations) for evaluations in found[name]])


@dataclass(frozen=True)
class Comparison:
    """A sampler's best scores against the bees', seed by seed.

    Attributes:
        sampler: its name.
        scores: the best of every seed.
        mean, margin: of these, and half of their 95 % interval (Student's t); no margin with one seed.
        lead: of the bees over it, the mean over seeds, and half of its interval.
    """

    sampler: str
    scores: tuple[float, ...]
    mean: float
    margin: float | None
    lead: tuple[float, float | None]

    @property
    def text(self) -> str:
        """In words whether the bees are better."""
        lead, margin = self.lead
        if self.sampler == BEES:
            return ""
        if margin is None:
            return f"bees {'lead' if lead > 0 else 'do not win'} ({lead:+.4f}, one seed)"
        sure = abs(lead) > margin
        who = "bees win" if sure and lead > 0 else "bees lose" if sure else "no difference can be told"
        return f"{who} ({lead:+.4f} ± {margin:.4f})"


def compared(found: Found) -> list[Comparison]:
    """All samplers against the bees, by paired seeds."""
    ours = [best(evaluations).score for evaluations in found[BEES]]
    rows = []
    for name, seeds in found.items():
        scores = [best(evaluations).score for evaluations in seeds]
        lead = interval([a - b for a, b in zip(ours, scores, strict=True)])
        rows.append(Comparison(name, tuple(scores), *interval(scores), lead))
    return rows


def interval(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and half of the 95 % interval (Student's t)."""
    if len(values) < 2:
        return statistics.mean(values), None
    from scipy import stats

    wide = float(stats.t.ppf(0.975, len(values) - 1))
    return statistics.mean(values), wide * statistics.stdev(values) / len(values) ** 0.5


def told(found: Found, structures: Structures) -> dict[str, Any]:
    """The campaign in JSON: the winner's widths, and all comparisons."""
    first = winner(found)
    return json.loads(
        json.dumps(
            {
                "winner": {
                    "structure": structures.named(first.structure),
                    **first.figures,
                    "limits": structures.limits,
                    "shares": structures.shares(first.structure),
                },
                "evaluations": {name: [len(evaluations) for evaluations in seeds] for name, seeds in found.items()},
                "comparison": [{**asdict(row), "text": row.text} for row in compared(found)],
            }
        )
    )
