"""A search with its controls: every sampler on the same budget, for several seeds, and what they found together."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from onnxprune.errors import UsageError
from onnxprune.search.bees import PUBLISHED, Colony, bees
from onnxprune.search.comparison import BEES, Found, compared, failures, proposers, winner
from onnxprune.search.controls import evolution, random, uniform
from onnxprune.search.evaluation import Evaluation, Executor
from onnxprune.search.grid import Space
from onnxprune.search.halving import WHOLE, ladder
from onnxprune.search.journal import Journal
from onnxprune.search.released import released_bees
from onnxprune.search.run import HOPELESS, Budget, all_failed, attempt, hopeless
from onnxprune.search.sampler import Sampler, Steps
from onnxprune.search.structures import Structures
from onnxprune.search.widths import Compat

__all__ = ["BEES", "CHANCE", "CONTROLS", "Found", "Plan", "Show", "campaign", "compared", "proposers", "told", "winner"]
CHANCE, EVEN = "random", "uniform"
CONTROLS: dict[str, Callable[[Space, np.random.Generator], Steps]] = {
    CHANCE: random,
    EVEN: uniform,
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
        rungs: of successive halving: see `halving`.
        fitness: what judges, as the journal tells it from others.
        efforts: how many shares of effort the fitness tells apart: one that trains for E epochs E, one that ignores the
            share of effort 1. Rungs that would be the same to it are one.

    Raises:
        UsageError: a control is unknown, seeds are none, or halving would spare nothing.
    """

    evaluations: int = 100
    seeds: tuple[int, ...] = (0,)
    colony: Colony = PUBLISHED
    controls: tuple[str, ...] = tuple(CONTROLS)
    compat: Compat | None = None
    rungs: tuple[float, ...] = WHOLE
    fitness: Mapping[str, Any] = field(default_factory=dict)
    efforts: int = 1

    def __post_init__(self) -> None:
        if unknown := [name for name in self.controls if name not in CONTROLS]:
            raise UsageError(f"unknown control {unknown[0]!r}", f"choose from: {', '.join(CONTROLS)}")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise UsageError(
                f"seeds {list(self.seeds)}, expected at least one, all different, none below 0", "for example --seeds 3"
            )
        ladder(self.rungs, self.efforts)

    def budget(self, seed: int) -> Budget:
        """Of every sampler."""
        return Budget(self.evaluations, seed, ladder(self.rungs, self.efforts))

    def sampler(self, name: str, structures: Structures, seed: int) -> Sampler:
        """A fresh one, with random numbers of its own: no two samplers begin with the same structures."""
        rng = np.random.default_rng([seed, crc32(name.encode())])
        space = Space(structures.grid, structures.scaled if name == EVEN else structures.repair)
        if name == BEES:
            algorithm = released_bees if self.compat == "released" else bees
            return Sampler(algorithm(space, rng, self.colony))
        return Sampler(CONTROLS[name](space, rng))

    def of(self, name: str, structures: Structures, seed: int) -> dict[str, Any]:
        """What tells one search from others."""
        colony = {"colony": asdict(self.colony), "compat": self.compat} if name == BEES else {}
        network = {"network": structures.analysis.fingerprint, "grid": structures.grid.widths}
        how = {"target": structures.limits, "score": structures.score, "fitness": dict(self.fitness)}
        return {"sampler": name, "seed": seed, "rungs": self.budget(seed).rungs, **colony, **network, **how}


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

    A sampler that has judged the whole grid, or has nothing new to propose (uniform widths are few), ends earlier; so
    does one of which the first `HOPELESS` evaluations failed. The others go on.

    Args:
        structures: where to search.
        executor: judges, on every seed the same.
        plan: how.
        folder: gets a journal `<sampler>-<seed>.jsonl` for every search.
        resume: go on from these journals.
        show: told of progress.

    Raises:
        UsageError: a journal is of another search.
        TrainingError: everything fails; tells the first failure.
    """
    found: Found = {}
    for name in (BEES, *plan.controls):
        for seed in plan.seeds:
            what = plan.of(name, structures, seed)
            told = None if show is None else _telling(show, name, seed)
            with ExitStack() as stack:
                journal = folder and stack.enter_context(Journal(folder / f"{name}-{seed}.jsonl", what, resume))
                sampler = plan.sampler(name, structures, seed)
                evaluations = attempt(sampler, executor, plan.budget(seed), journal or None, told)
            found.setdefault(name, []).append(evaluations)
            _check_hope(found, HOPELESS)
    _check_hope(found, 1)
    return found


def _check_hope(found: Found, enough: int) -> None:
    """Stop if so many evaluations failed, and none did not."""
    judged = [evaluation for seeds in found.values() for evaluations in seeds for evaluation in evaluations]
    if len(judged) >= enough and hopeless(judged):
        raise all_failed(judged)


def _telling(show: Show, name: str, seed: int) -> Callable[[Sequence[Evaluation]], None]:
    return lambda evaluations: show(name, seed, evaluations)


def told(found: Found, structures: Structures, first: Evaluation) -> dict[str, Any]:
    """The campaign in JSON: the widths of the first of all, and who proposed it; all comparisons; what failed."""
    return json.loads(
        json.dumps(
            {
                "winner": {
                    "structure": structures.named(first.structure),
                    "proposed_by": proposers(found, first),
                    **first.figures,
                    "limits": structures.limits,
                    "shares": structures.shares(first.structure),
                },
                "evaluations": {name: [len(evaluations) for evaluations in seeds] for name, seeds in found.items()},
                "failures": failures(found),
                "comparison": [{**asdict(row), "text": row.text} for row in compared(found)],
            }
        )
    )
