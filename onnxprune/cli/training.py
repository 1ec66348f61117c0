"""What the verbs that train share: the task, the recipe, where they work, how they end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onnxprune.cli import options
from onnxprune.cli.output import Output
from onnxprune.errors import UsageError
from onnxprune.report import Table
from onnxprune.report.cells import change, number, short, table, text

if TYPE_CHECKING:
    from onnxprune.torch.jobs import Outcome, Place
    from onnxprune.torch.recipe import Recipe
    from onnxprune.torch.task import Task

DIGITS = "onnxprune.torch.tasks:Digits"

training, working = options.under("How to train"), options.under("Where to work")


def require_torch() -> None:
    """Refuse to train where torch is missing.

    Raises:
        UsageError: it is.
    """
    if find_spec("torch") is None:
        raise UsageError("training needs torch, which is not installed", "pip install 'onnxprune[torch]'")


@dataclass(frozen=True)
class Training:
    """The recipe's options; see `onnxprune.torch.Recipe`."""

    epochs: int
    batch: int
    lr: float
    optimizer: str
    momentum: float
    weight_decay: float
    schedule: str
    milestones: tuple[float, ...]
    factor: float
    warmup: float
    clip: float | None
    amp: str | None
    channels_last: bool
    ema: float | None
    seed: int
    workers: int
    device: str

    def recipe(self, **changed: Any) -> Recipe:
        """The recipe, some of it changed."""
        from onnxprune.torch.recipe import Recipe

        return Recipe(**{**asdict(self), **changed})


recipe = options.bundled(
    "recipe",
    Training,
    training("--epochs", type=int, required=True, help="Passes over the training data."),
    training("--batch", type=int, default=128, help="Samples in a step, of all processes together."),
    training("--lr", type=float, default=0.1, help="Learning rate where the schedule is at its peak."),
    training("--optimizer", type=click.Choice(["sgd", "adamw"]), default="sgd", help="SGD is Nesterov's."),
    training("--momentum", type=float, default=0.9, help="Of SGD; AdamW's first beta."),
    training("--weight-decay", type=float, default=5e-4, help="Of all parameters but gates."),
    training(
        "--schedule",
        type=click.Choice(["cosine", "step", "constant"]),
        default="cosine",
        help="Of the learning rate: half a cosine down to 0; times --factor at each milestone; or none.",
    ),
    training(
        "--milestone",
        "milestones",
        type=float,
        multiple=True,
        default=(0.5, 0.75),
        help="Share of the epochs, for --schedule step; may be given several times.",
    ),
    training("--factor", type=float, default=0.1, help="For --schedule step."),
    training("--warmup", type=float, default=0.0, help="Epochs of linear growth before the schedule."),
    training("--clip", type=float, help="The largest norm of the whole gradient."),
    training("--amp", type=click.Choice(["bf16", "fp16"]), help="Mixed precision; fp16 needs a GPU."),
    training("--channels-last", is_flag=True, help="Memory format of images; on a GPU only."),
    training("--ema", type=float, help="Decay of a moving average of the weights, which is then evaluated."),
    training("--seed", type=int, default=0, help="Of everything random."),
    training("--workers", type=int, default=0, help="Processes that load data."),
    training("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", help="auto takes a GPU if any."),
)


@dataclass(frozen=True)
class Working:
    """The task and the folder."""

    task: str
    folder: Path
    weights: Path | None
    resume: bool
    until: float | None

    def load(self) -> tuple[Task, Place]:
        """The task, and where its job works.

        Raises:
            UsageError: torch is missing, or the task's file is not as it should be.
        """
        require_torch()
        from onnxprune.torch.jobs import Place
        from onnxprune.torch.task import load_task

        return load_task(self.task), Place(self.folder, self.weights, self.resume, self.until)


working_options = options.bundled(
    "working",
    Working,
    working(
        "--task",
        default=DIGITS,
        metavar="FILE.py:NAME",
        help="A class with the methods model, example, data, loss and metric (see onnxprune.torch.Task), or "
        "package.module:NAME. The default needs no data.",
    ),
    working(
        "-o", "--output", "folder", type=options.FILE, required=True, metavar="FOLDER", help="For all that comes out."
    ),
    working(
        "--weights", type=options.FILE, metavar="FILE", help="To start from: a state dict, or best.pt of a training."
    ),
    working("--resume", is_flag=True, help="Go on from the folder's checkpoint, as if the training had never stopped."),
    working("--until", type=float, metavar="SECONDS", help="Stop after so long, with a checkpoint to resume from."),
)


def tell(outcome: Outcome, place: Working, out: Output) -> None:
    """Print what came of a job."""
    if not outcome.finished:
        out.result({"finished": False}, f"Stopped by --until; go on with --resume. Checkpoint in {place.folder}")
        return
    figures = outcome.figures
    if "cost" not in figures:
        return  # of several processes the first one tells
    costs = figures.get("pruned", {}).get("cost")
    if costs and costs["before"] == costs["after"]:
        out.note("nothing was removed: the mask keeps every channel")
    out.result({"finished": True, **figures}, _shown(figures), f"Written: {place.folder}")


def _shown(figures: Mapping[str, Any]) -> Table:
    """Before and after, line by line."""
    pruned, now = figures.get("pruned", {}), figures["cost"]
    then = pruned["cost"]["before"] if pruned else now
    before, after = (pruned.get(f"validation {when}") for when in ("before", "after"))
    rows = [("validation", "" if before is None else f"{before:.4f}", f"{figures['validation']:.4f}", "")]
    if after is not None:
        rows.append(("validation when just pruned", "", f"{after:.4f}", ""))
    rows.append(("test", "", f"{figures['test']:.4f}", ""))
    rows += [(name, short(then[name]), short(now[name]), change(then[name], now[name])) for name in ("params", "macs")]
    return table("Trained", [text("figure"), number("before"), number("after"), number("change")], rows)
