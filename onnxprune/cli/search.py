"""`onnxprune search`."""

from __future__ import annotations

from typing import Any

import click

from onnxprune.cli import options
from onnxprune.cli.application import Verb
from onnxprune.cli.options import choosing
from onnxprune.cli.output import Output
from onnxprune.cli.searched import Counted, Files, comparison, finish, is_kept, latency_told, progress, write_frontier
from onnxprune.cli.searching import TABLE, Grid, Hunt, Judgement, Spread, Subject, Wanted
from onnxprune.latency import RUNTIMES
from onnxprune.report import Table
from onnxprune.scores import SCORES
from onnxprune.search.campaign import campaign
from onnxprune.search.frontier import Point, points
from onnxprune.search.promise import keep

searching, judging = options.under("How to search"), options.under("How to judge")
working, spreading = options.under("What to search, and where to"), options.under("Where to judge")

target = options.targets(
    options.Amount(),
    "The whole of a structure is at most this share: macs=0.5, params=0.5, channels=0.5, volume=0.5 (elements of the "
    "layers' outputs), or latency=0.5 (also latency=8ms) in the runtime, which is measured.",
)


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
    target,
    choosing("--alpha", type=float, default=1.0, show_default=True, help="The largest share of a group that stays."),
    options.round_to,
    options.min_keep,
    options.min_share,
    choosing("--score", type=click.Choice(list(SCORES)), default="l1", show_default=True, help="Which units stay."),
    choosing("--runtime", type=click.Choice(list(RUNTIMES)), default="cpu", help="Where latency is measured."),
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
    searching("--seed", type=click.IntRange(0), default=0, help="The first one."),
    searching("--sources", type=int, default=10, help="Of food, for the bees."),
    searching("--limit", type=int, default=5, help="Looks in vain after which a source is left."),
    searching("--controls/--no-controls", default=True, help="Also search at random, uniformly and by evolution."),
    searching(
        "--halving",
        is_flag=True,
        help="For --fitness train: judge each batch by a quarter of the epochs, the better half by half, and so on.",
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
    judging(
        "--images", type=click.IntRange(1), default=1000, help="Validation samples of a --task that are looked at."
    ),
    judging("--measured", type=click.IntRange(1), default=256, help="Samples that statistics are measured on."),
    judging("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", help="auto takes a GPU if any."),
)
spread = options.bundled(
    "spread",
    Spread,
    spreading("--jobs", type=click.IntRange(1), default=1, help="Structures that are judged at the same time."),
    spreading("--timeout", type=float, metavar="SECONDS", help="For one; a worker that takes longer is replaced."),
    spreading("--ray", metavar="ADDRESS", help="Judge on a Ray cluster: host:port, ray://host:port, or local."),
    spreading("--gpus", type=click.FloatRange(0), default=0.0, help="Of a Ray worker, also a part of one."),
    spreading(
        "--cpus",
        type=click.FloatRange(0, min_open=True),
        default=1.0,
        help="Of a Ray worker, also a part of one; as many workers judge as find a place.",
    ),
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
    by evolution, each with as many evaluations. The folder gets the best as mask.json and pruned.onnx (proven),
    weights to fine-tune from (warm.pt; for a model with BatchNormalizations recalibrated.onnx), a journal of every
    search, search.json and pictures. With --target latency=0.6 times are predicted; in the end the best that is
    measured within the target is taken, made smaller if need be. If none is, the exit status is 1.

    \b
    Examples:
      onnxprune search --weights dense/best.pt --target macs=0.5 --evaluations 40 -o found
      onnxprune search --model model.onnx --calibration samples.npz --target macs=0.5 --jobs 2 -o file --resume
    """
    wanted = Wanted(subject, grid, hunt, judgement, spread, options.given())
    wanted.check()
    targets, files = grid.targets, Files(subject.folder)
    scopes = [grid.scope(target, hunt.seed, hunt.compat, subject.folder / TABLE) for target in targets]
    network = wanted.network(scopes[0])
    if network.note:
        out.note(network.note)
    plan, results = hunt.plan(network.told()), list[dict[str, Any]]()
    judged, shown = list[Point](), list[Table | str]()
    with Counted(spread.executor(network, out)) as executor, progress(plan, out, executor.rate, len(scopes)) as show:
        files.prepare()
        for scope, target in zip(scopes, targets, strict=True):
            place = (
                files
                if len(scopes) == 1
                else files.inner("-".join(f"{name}-{share:.6g}" for name, share in target.items()))
            )
            structures = network.structures(scope)
            found = campaign(structures, executor, plan, place.folder, resume=subject.resume, show=show)
            limit, rungs = structures.time, plan.budget(hunt.seed).rungs
            promise = keep(structures, limit, found, executor, rungs) if limit else None
            results.append(finish(network, structures, found, promise, place))
            shown += [comparison(results[-1]), *latency_told(results[-1])]
            if grid.frontier:
                judged += [point for name in target for point in points(structures, found, name, promise)]
    if grid.frontier:
        shown.append(write_frontier(judged, next(iter(grid.target)), subject.folder))
    content = {"limits": results} if grid.frontier else results[0]
    out.result(content, *shown, f"Written: {subject.folder}")
    if not all(map(is_kept, results)):
        click.get_current_context().exit(1)
