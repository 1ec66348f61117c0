"""`onnxprune search`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from onnxprune.cli import options, training
from onnxprune.cli.application import Verb
from onnxprune.cli.judging import FileMaker, Kind, Scope, TaskMaker
from onnxprune.cli.options import choosing, option
from onnxprune.cli.output import Output
from onnxprune.cli.searched import Files, comparison, finish_file, finish_task, progress
from onnxprune.errors import UsageError
from onnxprune.ranking import Limits
from onnxprune.resources import Resource
from onnxprune.scores import SCORES
from onnxprune.search.bees import Colony
from onnxprune.search.campaign import CONTROLS, Plan, campaign
from onnxprune.search.evaluation import Executor, Maker
from onnxprune.search.executors import InProcess, Processes, Workers
from onnxprune.search.remote import Cluster, Remote
from onnxprune.search.structures import Compat, Widths

searching, judging, working, spreading = (
    (lambda *names, title=title, **how: option(*names, section=title, show_default=True, **how))
    for title in ("How to search", "How to judge", "What to search, and where to", "Where to judge")
)


RUNGS = (0.25, 0.5, 1.0)


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

    target: Mapping[Resource, float]
    alpha: float
    round_to: int
    min_keep: int
    score: str

    def scope(self, seed: int, compat: Compat | None) -> Scope:
        """The library's form."""
        widths = Widths(self.alpha, Limits(self.round_to, self.min_keep), compat)
        return Scope(widths, self.target, self.score, seed)


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
        return Plan(self.evaluations, seeds, Colony(self.sources, self.limit), names, self.compat, rungs, fitness)


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
    choosing("--score", type=click.Choice(list(SCORES)), default="l1", show_default=True, help="Which units stay."),
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
    scope, files = grid.scope(hunt.seed, hunt.compat), Files(subject.folder)
    files.prepare()
    if subject.model is not None and subject.samples is not None:
        maker: FileMaker | TaskMaker = FileMaker(subject.model, subject.samples, scope, judgement.measured)
    else:
        maker = judgement.task(subject, scope)
    plan, structures = hunt.plan(maker.told()), maker.scoped()
    with progress(plan, out) as show, spread.executor(maker) as executor:
        found = campaign(structures, executor, plan, subject.folder, resume=subject.resume, show=show)
    finish = finish_file if isinstance(maker, FileMaker) else finish_task
    result = finish(maker, structures, found, files)  # type: ignore[arg-type]  # each has its own maker
    out.result(result, comparison(found), f"Written: {subject.folder}")
