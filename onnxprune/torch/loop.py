"""`train`: the one training loop."""

from __future__ import annotations

import atexit
import math
import os
import time
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path

import torch
from torch import Tensor, distributed, nn

from onnxprune.errors import OutputError, TrainingError, UsageError
from onnxprune.torch.checkpoint import restore, save, save_best
from onnxprune.torch.hooks import Hook
from onnxprune.torch.logs import Log
from onnxprune.torch.progress import Show, bar
from onnxprune.torch.recipe import Recipe
from onnxprune.torch.run import Run, device, processes
from onnxprune.torch.sampling import mix, seed_all
from onnxprune.torch.task import Split, Task

LAST, BEST = "last.pt", "best.pt"
_LONGEST_WAIT = timedelta(hours=6)  # of other processes for the first one's evaluation


def train(
    task: Task,
    network: nn.Module,
    recipe: Recipe,
    hooks: Sequence[Hook] = (),
    *,
    folder: Path | str,
    resume: bool = False,
    until: float | None = None,
    save_every: float = 60.0,
    splits: Sequence[Split] = ("validation",),
) -> Run:
    """Train a network, or go on with it; on the CPU a training that was killed and resumed gives the same bits.

    The global random numbers are seeded by the recipe. Under `torchrun` each process takes its part of every batch. The
    folder gets `last.pt` (the checkpoint), `best.pt` (the weights that were best on the validation split), `log.csv`
    and TensorBoard's files. The test split is left to the caller: `run.evaluate("test")`.

    Args:
        task: gives data, loss and metric.
        network: fresh, also to resume; it is trained in place.
        recipe: how.
        hooks: called in this order; fresh, also to resume.
        folder: of this training alone; it is made if need be.
        resume: go on from the folder's checkpoint, if it has one.
        until: seconds after which to stop after a step, with a checkpoint.
        save_every: seconds between checkpoints inside an epoch; there is one after every epoch, too.
        splits: that will be evaluated, now or by the caller: those must not be empty.

    Raises:
        UsageError: recipe, task or checkpoint do not fit; the folder has a checkpoint that is not to be resumed; a
            split is empty; nothing of the network is trainable; a method of the task, its network or data fail.
        TrainingError: the loss or a parameter is not finite, or the checkpoint is damaged.
        OutputError: the folder cannot be written to.
    """
    watch, folder = _Watch(until, save_every), Path(folder)
    _join(recipe)
    _prepare(folder)
    seed_all(mix("process", recipe.seed, processes()[0]))
    run = Run(task, network, recipe, [group for hook in hooks for group in hook.parameter_groups()])
    _refuse_wrong_gradients(run)
    for split in splits if run.rank == 0 else ():  # the process that evaluates
        run.size(split)  # an empty one is refused before the training
    if (folder / LAST).exists():
        if not resume:
            raise UsageError(f"{folder}: has a checkpoint of another training", "resume it, or take another folder")
        restore(folder / LAST, run, hooks)
    loop = _Loop(run, hooks, folder, watch)
    loop.run_epochs()
    run.unwrap()
    return run


class _Watch:
    """When to save and when to stop."""

    def __init__(self, until: float | None, save_every: float):
        self._every, self._start = save_every, time.monotonic()
        self._end = math.inf if until is None else self._start + until
        self._saved = self._start

    def due(self) -> tuple[bool, bool]:
        """Whether to save, and whether to stop."""
        now = time.monotonic()
        return now >= self._saved + self._every, now >= self._end

    def saved(self) -> None:
        """A checkpoint was written just now."""
        self._saved = time.monotonic()

    def lap(self) -> float:
        """Seconds since the last lap, or the start."""
        start, self._start = self._start, time.monotonic()
        return self._start - start


class _Loop:
    """One slice of a training."""

    def __init__(self, run: Run, hooks: Sequence[Hook], folder: Path, watch: _Watch):
        self.run, self.hooks, self.folder, self.watch = run, hooks, folder, watch

    def run_epochs(self) -> None:
        """All that are left, or as many steps as there is time for."""
        run = self.run
        total = run.recipe.epochs * run.sampling.steps
        writes = run.rank == 0
        with Log(self.folder, run.epoch) if writes else nullcontext() as log, bar(total, run.step, not writes) as show:
            while not run.finished and self._epoch(show):
                self._end_epoch(log)

    def _epoch(self, show: Show) -> bool:
        """The rest of an epoch; whether it came to its end."""
        run = self.run
        run.network.train()
        batches = run.sampling.batches(run.epoch, run.batches)
        for inputs, targets in run.loading.pairs(run.data("train"), batches):
            loss, due, stop = self._step(inputs, targets)
            run.batches += 1
            run.loss += loss
            show(run.step, f"epoch {run.epoch + 1}/{run.recipe.epochs}, loss {run.loss / run.batches:.4f}")
            if due or stop:
                self._save()
            if stop:
                return False
        return True

    def _step(self, inputs: object, targets: object) -> tuple[float, bool, bool]:
        """Learn from a batch; its loss, and whether to save and to stop after it."""
        run = self.run
        loss, total, due, stop = self._agreed(*self._backward(inputs, targets))
        if not math.isfinite(total):
            raise self._diverged(run.step + 1, f"the loss is {loss}, with all penalties {total}")
        run.average_gradients()
        run.scaler.unscale_(run.optimizer)
        for hook in self.hooks:
            hook.after_backward()
        if run.recipe.clip is not None:
            parameters = [p for group in run.optimizer.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(parameters, run.recipe.clip)
        run.scheduler.set(run.step)
        run.scaler.step(run.optimizer)
        run.scaler.update()
        for hook in self.hooks:
            hook.after_step()
        if run.average is not None:
            run.average.update_parameters(run.network)
        return loss, due, stop

    def _backward(self, inputs: object, targets: object) -> tuple[Tensor, Tensor]:
        """Gradients of the loss with all penalties; the loss without and with them."""
        run = self.run
        run.optimizer.zero_grad()
        with run.autocast():
            outputs = run.forward(inputs)
            loss = run.task.loss(outputs, targets)
        if not loss.requires_grad:
            raise UsageError("the task's loss depends on no parameter", "compute it of the outputs, all in torch")
        total = loss
        for hook in self.hooks:
            if (penalty := hook.penalty()) is not None:
                total = total + penalty
        run.scaler.scale(total).backward()
        return loss.detach(), total.detach()

    def _agreed(self, loss: Tensor, total: Tensor) -> tuple[float, float, bool, bool]:
        """The means of both losses over all processes, and whether to save and to stop by the first one's watch."""
        due, stop = (float(flag and self.run.rank == 0) for flag in self.watch.due())
        shared = torch.stack([loss, total]).double() / self.run.processes
        shared = torch.cat([shared, shared.new_tensor([due, stop])])
        if self.run.processes > 1:
            distributed.all_reduce(shared)
        loss_mean, total_mean, due, stop = shared.tolist()
        return loss_mean, total_mean, bool(due), bool(stop)

    def _end_epoch(self, log: Log | None) -> None:
        """What follows the last step: hooks, validation, log, checkpoint."""
        run = self.run
        self._require_finite()
        row = {"epoch": run.epoch + 1, "step": run.step, "train_loss": run.loss / run.sampling.steps}
        run.epoch, run.batches, run.loss = run.epoch + 1, 0, 0.0
        run.share_buffers()
        figures = self._figures()
        run.refresh()
        validation = run.evaluate("validation")
        if validation > run.best:
            run.best = validation
            if run.rank == 0:
                save_best(self.folder / BEST, run)
        run.seconds += self.watch.lap()
        if log is not None:
            log.add(row | {"validation": validation, "lr": run.scheduler.lr, "seconds": run.seconds} | figures)
        self._save()

    def _figures(self) -> dict[str, float]:
        """What all hooks report.

        Raises:
            UsageError: two of them use one name.
        """
        figures: dict[str, float] = {}
        for hook in self.hooks:
            new = hook.after_epoch(self.run)
            for name in new:
                if name in figures or name in ("epoch", "step", "train_loss", "validation", "lr", "seconds"):
                    raise UsageError(f"{type(hook).__name__}: there is another figure {name!r}", "rename one of them")
            figures |= {name: float(value) for name, value in new.items()}
        return figures

    def _save(self) -> None:
        """Write the checkpoint, unless it would put one of no use in the place of a good one."""
        self._require_finite()
        self.run.seconds += self.watch.lap()
        save(self.folder / LAST, self.run, self.hooks)
        self.watch.saved()

    def _require_finite(self) -> None:
        for name, p in self.run.network.named_parameters():
            if not p.isfinite().all():
                raise self._diverged(self.run.step, f"parameter {name!r} is not finite")

    def _diverged(self, step: int, what: str) -> TrainingError:
        """The error for what went wrong in a step, counted from 1."""
        last, fix = self.folder / LAST, "lower the learning rate or clip gradients"
        return TrainingError(
            f"epoch {(step - 1) // self.run.sampling.steps + 1}, step {step}: {what}",
            f"{fix}; the last good checkpoint is {last}" if last.exists() else fix,
        )


def _refuse_wrong_gradients(run: Run) -> None:
    """Refuse what torch (2.13) computes wrongly: on a CPU, in this format, the weights' gradients of a 1x1 convolution
    with a stride and 3 to 7 inputs, which pruning may leave."""
    if run.recipe.channels_last and run.device.type == "cpu":
        raise UsageError(
            "recipe: channels_last on a CPU, where torch computes wrong gradients for narrow strided 1x1 convolutions",
            "leave it out, or train on a GPU",
        )


def _join(recipe: Recipe) -> None:
    """Join the other processes that `torchrun` started, if any."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1 or distributed.is_initialized():
        return
    place = device(recipe)
    if place.type == "cuda":
        torch.cuda.set_device(place)
    distributed.init_process_group("nccl" if place.type == "cuda" else "gloo", timeout=_LONGEST_WAIT)
    atexit.register(distributed.destroy_process_group)  # not earlier: the caller evaluates after training


def _prepare(folder: Path) -> None:
    """The folder, without the temporary files that a killed training left."""
    if processes()[0] > 0:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in folder.glob(".onnxprune-*.tmp"):
            file.unlink()
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror}", "choose another folder") from error
