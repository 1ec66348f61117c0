"""`onnxprune search`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from onnxprune.cli import options, training
from onnxprune.cli.application import Verb
from onnxprune.cli.judging import FileMaker, Kind, Scope, TaskMaker
from onnxprune.cli.options import choosing
from onnxprune.cli.output import Output
from onnxprune.cli.searched import Files, comparison, finish_file, finish_task, latency_told, progress, write_frontier
from onnxprune.errors import UsageError
from onnxprune.ranking import Limits
from onnxprune.scores import SCORES
from onnxprune.search.bees import Colony
from onnxprune.search.campaign import CONTROLS, Plan, campaign
from onnxprune.search.evaluation import Executor, Maker
from onnxprune.search.executors import InProcess, Processes, Workers
from onnxprune.search.frontier import Point, limits, points
from onnxprune.search.remote import Cluster, Remote
from onnxprune.search.structures import Compat, Widths

searching, judging = options.under("How to search"), options.under("How to judge")
working, spreading = options.under("What to search, and where to"), options.under("Where to judge")


RUNGS = (0.25, 0.5, 1.0)
LATENCY, TABLE = "latency", "latency.json"


@dataclass(frozen=True)
class Subject:
    """What is searched, and the folder."""

    task: str | None
    model: Path | None
    samples: Path | None
    weights: Path | None
    folder: Path
    resume: bool

    def check(self) -> None:
        """Refuse what does not go together.

        Raises:
            UsageError: a task and a model, or a model without samples.
        """
        if self.task and self.model:
            raise UsageError("expected --task or --model, got both", "leave one of them out")
        if self.model and not self.samples:
            raise UsageError("--model needs labelled samples to judge by", "give --calibration samples.npz")
        if self.model and self.weights:
            raise UsageError("--weights are for a --task; a --model has its own", "leave them out")


@dataclass(frozen=True)
class Grid:
    """The structures."""

    target: Mapping[str, float]
    alpha: float
    round_to: int
    min_keep: int
    min_share: float
    score: str
    threads: int
    frontier: int | None

    @property
    def targets(self) -> Sequence[Mapping[str, float]]:
        """The one that is asked for, or those of a frontier, the smallest first.

        Raises:
            UsageError: a frontier is of one resource alone.
        """
        if self.frontier is None:
            return [self.target]
        if len(self.target) != 1:
            raise UsageError(
                f"a frontier is of one resource, got {len(self.target)} targets", "for example --target latency=0.4"
            )
        ((name, share),) = self.target.items()
        if not 0 < share < 1:
            raise UsageError(f"a frontier begins at a share below the whole, got {name}={share:g}", "for example 0.4")
        return [{name: limit} for limit in limits(share, self.frontier)]

    def scope(self, target: Mapping[str, float], seed: int, compat: Compat | None, table: Path) -> Scope:
        """The library's form of a target; `table` is a file for times."""
        widths = Widths(self.alpha, Limits(self.round_to, self.min_keep, self.min_share), compat)
        resources: Any = {name: share for name, share in target.items() if name != LATENCY}
        return Scope(widths, resources, self.score, seed, target.get(LATENCY), self.threads, table)


@dataclass(frozen=True)
class Hunt:
    """How to search."""

    evaluations: int
    seeds: int
    seed: int
    sources: int
    limit: int
    controls: bool
    compat: Compat | None
    halving: bool

    def plan(self, fitness: Mapping[str, Any]) -> Plan:
        """The library's form."""
        seeds = tuple(range(self.seed, self.seed + self.seeds))
        names = tuple(CONTROLS) if self.controls else ()
        rungs = RUNGS if self.halving else (1.0,)
        colony, efforts = Colony(self.sources, self.limit), int(fitness.get("epochs", 1))
        return Plan(self.evaluations, seeds, colony, names, self.compat, rungs, fitness, efforts)


@dataclass(frozen=True)
class Judgement:
    """How a structure is judged."""

    fitness: Kind
    fitness_epochs: int
    lr: float
    batch: int
    amp: str | None
    channels_last: bool
    images: int
    measured: int
    device: str

    def task(self, subject: Subject, scope: Scope) -> TaskMaker:
        """Of a torch task."""
        training.require_torch()
        from onnxprune.torch.handover import read_weights
        from onnxprune.torch.recipe import Recipe

        how: dict[str, Any] = {"amp": self.amp, "channels_last": self.channels_last, "device": self.device}
        recipe = Recipe(self.fitness_epochs, self.batch, self.lr, seed=scope.seed, **how)
        weights = read_weights(subject.weights) if subject.weights else None
        task = subject.task or training.DIGITS
        return TaskMaker(task, weights, scope, self.fitness, recipe, self.images, self.measured)


@dataclass(frozen=True)
class Spread:
    """Where structures are judged."""

    jobs: int
    timeout: float | None
    ray: str | None
    gpus: float

    def executor(self, maker: Maker) -> Executor:
        """The one that is asked for."""
        workers = Workers(self.jobs, self.timeout)
        if self.ray is not None:
            return Remote(maker, workers, Cluster(self.ray, self.gpus))
        return InProcess(maker) if self.jobs == 1 and self.timeout is None else Processes(maker, workers)


subject = options.bundled(
    "subject",
    Subject,
    working("--task", metavar="FILE.py:NAME", help="A torch task, as for `slim`; shipped digits if nothing is named."),
    working("--model", type=options.FILE, metavar="FILE", help="Instead of a task: a trained ONNX classifier."),
    working(
        "--calibration",
        "samples",
        type=options.FILE,
        metavar="FILE.npz",
        help="For --model: arrays `inputs` and `labels`; scores are accuracies on them.",
    ),
    working("--weights", type=options.FILE, metavar="FILE", help="Of the trained network; best.pt of a training."),
    working("-o", "--output", "folder", type=options.FILE, required=True, metavar="FOLDER", help="For all results."),
    working("--resume", is_flag=True, help="Go on from the folder's journals, as if the search had never stopped."),
)
grid = options.bundled(
    "grid",
    Grid,
    options.target,
    choosing("--alpha", type=float, default=1.0, show_default=True, help="The largest share of a group that stays."),
    options.round_to,
    options.min_keep,
    options.min_share,
    choosing("--score", type=click.Choice(list(SCORES)), default="l1", show_default=True, help="Which units stay."),
    choosing(
        "--threads", type=click.IntRange(0), default=1, help="Of onnxruntime, where latency is measured (0: all)."
    ),
    searching(
        "--frontier",
        type=click.IntRange(2),
        metavar="N",
        help="Search at N limits from the target up, each in a folder of its own, and draw what nothing beats.",
    ),
)
hunt = options.bundled(
    "hunt",
    Hunt,
    searching("--evaluations", type=click.IntRange(1), default=100, help="Structures that each sampler has judged."),
    searching("--seeds", type=click.IntRange(1), default=1, help="Repetitions; more than one give intervals."),
    searching("--seed", type=int, default=0, help="The first one."),
    searching("--sources", type=int, default=10, help="Of food, for the bees."),
    searching("--limit", type=int, default=5, help="Looks in vain after which a source is left."),
    searching("--controls/--no-controls", default=True, help="Also search at random, uniformly and by evolution."),
    searching(
        "--halving",
        is_flag=True,
        help="Judge each batch by a quarter of the epochs, the better half by half of them, and so on.",
    ),
    searching("--compat", type=click.Choice(["released"]), help="The bees of the released code, with its faults."),
)
judgement = options.bundled(
    "judgement",
    Judgement,
    judging(
        "--fitness",
        type=click.Choice(["recalibrate", "train"]),
        default="recalibrate",
        help="Statistics measured anew and no training, or some epochs of training (published: 2).",
    ),
    judging("--fitness-epochs", type=click.IntRange(1), default=2, help="For --fitness train."),
    judging("--lr", type=float, default=0.1, help="For --fitness train."),
    judging("--batch", type=click.IntRange(1), default=128, help="Samples at a time."),
    judging("--amp", type=click.Choice(["bf16", "fp16"]), help="Mixed precision; fp16 needs a GPU."),
    judging("--channels-last", is_flag=True, help="Memory format of images."),
    judging("--images", type=click.IntRange(1), default=1000, help="Validation samples that are looked at."),
    judging("--measured", type=click.IntRange(1), default=256, help="Samples that statistics are measured on."),
    judging("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", help="auto takes a GPU if any."),
)
spread = options.bundled(
    "spread",
    Spread,
    spreading("--jobs", type=click.IntRange(1), default=1, help="Structures that are judged at the same time."),
    spreading("--timeout", type=float, metavar="SECONDS", help="For one; a worker that takes longer is replaced."),
    spreading("--ray", metavar="ADDRESS", help="Judge on a Ray cluster: host:port, ray://host:port, or local."),
    spreading("--gpus", type=float, default=0.0, help="Of a Ray worker, also a part of one."),
)


@click.command(cls=Verb)
@subject
@grid
@hunt
@judgement
@spread
@options.printing
def search(subject: Subject, grid: Grid, hunt: Hunt, judgement: Judgement, spread: Spread, out: Output) -> None:
    """Search the widths of all groups, by bees.

    Structures within the target are proposed by an artificial bee colony, and for comparison at random, uniformly and
    by evolution, each with as many evaluations. The folder gets the bees' best as mask.json and pruned.onnx (proven),
    weights to fine-tune from (warm.pt; for a model recalibrated.onnx), a journal of every search, search.json and
    pictures.

    \b
    Examples:
      onnxprune search --weights dense/best.pt --target macs=0.5 --evaluations 40 -o found
      onnxprune search --model model.onnx --calibration samples.npz --target macs=0.5 --jobs 2 -o file --resume
    """
    subject.check()
    targets, files = grid.targets, Files(subject.folder)
    files.prepare()
    scopes = [grid.scope(target, hunt.seed, hunt.compat, subject.folder / TABLE) for target in targets]
    makers = [_maker(subject, judgement, scope) for scope in scopes]
    plan, results, judged = hunt.plan(makers[0].told()), list[dict[str, Any]](), list[Point]()
    with progress(plan, out, len(makers)) as show, spread.executor(makers[0]) as executor:
        for maker, target in zip(makers, targets, strict=True):
            place = files if len(makers) == 1 else files.inner(target)
            structures = maker.scoped()
            found = campaign(structures, executor, plan, place.folder, resume=subject.resume, show=show)
            finish = finish_file if isinstance(maker, FileMaker) else finish_task
            results.append(finish(maker, structures, found, place))  # type: ignore[arg-type]  # each has its maker
            judged += [point for name in target for point in points(structures, found, name)] if grid.frontier else []
    written = f"Written: {subject.folder}"
    if grid.frontier:
        shown = write_frontier(judged, next(iter(grid.target)), subject.folder)
        out.result({"limits": results}, shown, written)
    else:
        out.result(results[0], comparison(found), *latency_told(results[0]), written)


def _maker(subject: Subject, judgement: Judgement, scope: Scope) -> FileMaker | TaskMaker:
    if subject.model is not None and subject.samples is not None:
        return FileMaker(subject.model, subject.samples, scope, judgement.measured)
    return judgement.task(subject, scope)
