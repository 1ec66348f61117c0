"""The training loop: what is called when, and that a training cut short goes on as if it had not been."""

import math
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from onnxprune.errors import TrainingError, UsageError
from onnxprune.torch import checkpoint
from onnxprune.torch.hooks import Hook
from onnxprune.torch.loop import BEST, LAST, train
from onnxprune.torch.run import Run
from tests.torch.training import (
    FEATURES,
    HIDDEN,
    ROOT,
    STEPS,
    Classify,
    Points,
    ReadyPoints,
    Smaller,
    Sparse,
    Trial,
    assert_same_bits,
    everything,
    fresh,
    in_two_processes,
    recipe,
    rows_of,
)
from tests.torch.two_processes import trained

TASK = Classify()


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def assert_goes_on(trial: Trial, *stops: int, save_every: float) -> None:
    whole = everything(*replace(trial, folder=trial.folder / "whole").run())
    cut = everything(*replace(trial, folder=trial.folder / "cut").cut(*stops, save_every=save_every))
    assert_same_bits(cut, whole)
    assert rows_of(trial.folder / "cut") == rows_of(trial.folder / "whole")
    best = [checkpoint.read(trial.folder / name / BEST) for name in ("cut", "whole")]
    assert best[0]["epoch"] == best[1]["epoch"]
    assert_same_bits(best[0]["model"], best[1]["model"])


@pytest.mark.parametrize(
    ("stops", "save_every"),
    [((1,), 0), ((5,), 0), ((2, 1, 4, 3), 0), ((12,), 0), ((8,), 1000), ((2,), 1000), ((4, 2), 1000)],
    ids=lambda value: str(value).replace(" ", ""),
)
def test_a_training_that_was_cut_goes_on_bit_for_bit(tmp_path: Path, stops: tuple[int, ...], save_every: float) -> None:
    assert_goes_on(Trial(tmp_path, {}), *stops, save_every=save_every)


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "adamw", "lr": 0.01, "decay_norms": False, "schedule": "step"},
        {"ema": None, "clip": None, "warmup": 1.5, "momentum": 0.0},
        {"amp": "bf16", "schedule": "constant"},
        {"workers": 1, "epochs": 2},
    ],
    ids=lambda changes: ",".join(changes),
)
def test_so_does_one_by_another_recipe(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert_goes_on(Trial(tmp_path, changes), 4, save_every=0)


def test_so_does_one_with_ready_batches(tmp_path: Path) -> None:
    task = Classify()
    task.points = ReadyPoints
    assert_goes_on(Trial(tmp_path, {}, task=task), 5, 3, save_every=0)


def test_so_does_one_that_stopped_by_the_clock(tmp_path: Path) -> None:
    whole = everything(*Trial(tmp_path / "whole", {}).run())
    trial = Trial(tmp_path / "cut", {})
    slices = [trial.run(until=0)[0].step for _ in range(4 * STEPS)]
    assert slices == list(range(1, 4 * STEPS + 1))
    assert_same_bits(everything(*trial.run()), whole)


KILLED_AFTER = 5
CHILD = f"""
import sys, time, torch
from pathlib import Path
from onnxprune.torch.hooks import Hook
from tests.torch.training import Trial
class Waiting(Hook):
    steps = 0
    def after_step(self):
        self.steps += 1
        if self.steps > {KILLED_AFTER}:
            print("kill me", flush=True)
            time.sleep(600)
torch.set_num_threads(1)
Trial(Path(sys.argv[1]), {{}}, lambda network: [Waiting()]).run(save_every=0)
"""


class Waiting(Hook):
    """Does nothing; in the process that is killed, it waits for that in the middle of a step."""


def test_so_does_one_that_was_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CHILD, str(tmp_path / "cut")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as child:
        assert child.stdout and child.stdout.readline() == b"kill me\n"
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    (tmp_path / "cut" / ".onnxprune-0123456789abcdef.tmp").write_bytes(b"half a checkpoint")
    done = checkpoint.read(tmp_path / "cut" / LAST)["position"]
    assert done["epoch"] * STEPS + done["batches"] == KILLED_AFTER
    trial = Trial(tmp_path / "cut", {}, lambda network: [Waiting()])
    whole = everything(*replace(trial, folder=tmp_path / "whole").run())
    assert_same_bits(everything(*trial.run()), whole)
    assert rows_of(tmp_path / "cut") == rows_of(tmp_path / "whole")
    assert not list((tmp_path / "cut").glob("*.tmp"))


@pytest.mark.parametrize("stops", [(3,), (8,), (4, 3, 2)], ids=str)
def test_so_does_one_that_got_smaller(tmp_path: Path, stops: tuple[int, ...]) -> None:
    assert_goes_on(Trial(tmp_path, {}, lambda network: [Smaller()]), *stops, save_every=0)


def test_shrinking_keeps_the_parameters_and_forgets_the_best() -> None:
    network = fresh(TASK)
    parameters = list(network.parameters())
    run = Run(TASK, network, recipe())
    run.epoch, run.best = 2, 1.0
    Smaller().after_epoch(run)
    assert run.best == -math.inf and len(run.masks) == 1
    assert all(a is b for a, b in zip(parameters, run.network.parameters(), strict=True))
    assert run.average is not None and run.average.module[0].out_features == HIDDEN - 2 == len(parameters[0])


def test_the_best_weights_are_of_the_smaller_network(tmp_path: Path) -> None:
    train(TASK, fresh(TASK), recipe(), [Smaller()], folder=tmp_path)
    best = checkpoint.read(tmp_path / BEST)
    assert best["epoch"] >= 2 and best["model"]["0.weight"].shape == (HIDDEN - 2, FEATURES)


class Told(Hook):
    """Writes down what is called."""

    def __init__(self, name: str, calls: list[str]):
        self.name, self.calls = name, calls

    def parameter_groups(self) -> list[dict[str, Any]]:
        self.calls.append(f"{self.name} groups")
        return []

    def penalty(self) -> None:
        self.calls.append(f"{self.name} penalty")

    def after_backward(self) -> None:
        self.calls.append(f"{self.name} backward")

    def after_step(self) -> None:
        self.calls.append(f"{self.name} step")

    def after_epoch(self, run: Run) -> Mapping[str, float]:
        self.calls.append(f"{self.name} epoch {run.epoch} step {run.step}")
        return {self.name: 1.0}


def test_hooks_are_called_in_order(tmp_path: Path) -> None:
    calls: list[str] = []
    hooks = [Told("a", calls), Told("b", calls)]
    train(TASK, fresh(TASK), recipe(epochs=1), hooks, folder=tmp_path)
    step = ["a penalty", "b penalty", "a backward", "b backward", "a step", "b step"]
    assert calls == ["a groups", "b groups", *step * STEPS, f"a epoch 1 step {STEPS}", f"b epoch 1 step {STEPS}"]


def test_two_figures_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Told: there is another figure 'a'"):
        train(TASK, fresh(TASK), recipe(epochs=1), [Told("a", []), Told("a", [])], folder=tmp_path)


def test_hooks_in_a_loop_of_ones_own() -> None:
    network = fresh(TASK)
    hook, data = Sparse(network), Points("train")
    optimizer = torch.optim.SGD([{"params": network.parameters()}, *hook.parameter_groups()], lr=0.1)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = TASK.loss(network(data.x), data.y) + hook.penalty()
        loss.backward()
        hook.after_backward()
        optimizer.step()
        hook.after_step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] and hook.steps == 20
    assert hook.gate.detach().abs().max() < 1


class Norms(Hook):
    """The gradient's norm before clipping and the length of the step that follows, by SGD without momentum."""

    def __init__(self, network: nn.Module, grow: float):
        self.network, self.grow = network, grow
        self.lengths: list[float] = []

    def after_backward(self) -> None:
        for p in self.network.parameters():
            p.grad *= self.grow
        self.before = nn.utils.parameters_to_vector(self.network.parameters()).detach().clone()

    def after_step(self) -> None:
        after = nn.utils.parameters_to_vector(self.network.parameters()).detach()
        self.lengths.append(float((after - self.before).norm()))


def test_gradients_are_clipped_after_the_hooks(tmp_path: Path) -> None:
    network = fresh(TASK)
    hook = Norms(network, 1e4)
    plain = recipe(lr=0.5, momentum=0.0, weight_decay=0.0, schedule="constant", clip=0.01)
    train(TASK, network, plain, [hook], folder=tmp_path)
    assert hook.lengths == pytest.approx([0.5 * 0.01] * 4 * STEPS, rel=1e-4)


def test_the_moving_average_is_what_is_evaluated_and_kept(tmp_path: Path) -> None:
    weights: list[Tensor] = []

    class Record(Hook):
        def after_step(self) -> None:
            weights.append(network[0].weight.detach().clone())

    network = fresh(TASK)
    run = train(TASK, network, recipe(ema=0.8), [Record()], folder=tmp_path)
    average = weights[0]
    for weight in weights[1:]:
        average = 0.8 * average + 0.2 * weight
    torch.testing.assert_close(run.evaluated[0].weight, average)
    assert not torch.allclose(run.network[0].weight, average)
    kept = checkpoint.restore_best(tmp_path / BEST, run)
    assert kept == run.best == run.evaluate("validation") == run.evaluate("validation", run.network)


def test_the_moving_average_leaves_integers_as_they_are(tmp_path: Path) -> None:
    network = fresh(TASK)
    network.register_buffer("index", torch.arange(100))
    run = train(TASK, network, recipe(ema=0.9), folder=tmp_path)
    assert run.average is not None and torch.equal(run.average.module.index, torch.arange(100))
    assert int(run.average.module[1].num_batches_tracked) == 4 * STEPS


def test_it_learns_and_never_looks_at_the_test_split(tmp_path: Path) -> None:
    asked = []

    class Watched(Classify):
        def data(self, split: Any) -> Any:
            asked.append(split)
            return super().data(split)

    run = train(Watched(), fresh(TASK), recipe(epochs=8, lr=0.2), folder=tmp_path)
    assert sorted(set(asked)) == ["train", "validation"]
    assert run.evaluate("test") >= 0.8 and asked[-1] == "test"


class Diverging(Classify):
    """Its loss, or the gradient of it, is no number in the second step of the second epoch."""

    def __init__(self, factor: float, offset: float = 0):
        self.factor, self.offset, self.steps = factor, offset, 0

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        self.steps += 1
        bad = self.steps == STEPS + 2
        loss = super().loss(outputs, targets)
        return loss + self.offset + self.factor * (loss - loss.detach()).abs().sqrt() if bad else loss


class Wrong(Hook):
    """A penalty that is no number, once."""

    steps = 0

    def penalty(self) -> Tensor | None:
        self.steps += 1
        return torch.tensor(float("nan")) if self.steps == STEPS + 2 else None


@pytest.mark.parametrize(
    ("task", "hooks", "what"),
    [
        (Diverging(0, float("nan")), [], "the loss is nan"),
        (Diverging(0, float("inf")), [], "the loss is inf"),
        (Diverging(1), [], r"parameter '0\.weight' is not finite"),
        (Classify(), [Wrong()], r"the loss is [\d.]+, with all penalties nan"),
    ],
    ids=["nan", "inf", "gradient", "penalty"],
)
def test_what_is_no_number_stops_it_and_the_last_good_checkpoint_stays(
    tmp_path: Path, task: Classify, hooks: list[Hook], what: str
) -> None:
    with pytest.raises(TrainingError, match=f"epoch 2, step {STEPS + 2}: {what}") as caught:
        train(task, fresh(TASK), recipe(), hooks, folder=tmp_path, save_every=0)
    assert caught.value.fix.endswith(f"; the last good checkpoint is {tmp_path / LAST}")
    content = checkpoint.read(tmp_path / LAST)
    assert (content["position"]["epoch"], content["position"]["batches"]) == (1, 1)
    assert all(t.isfinite().all() for t in content["model"].values())


def test_no_checkpoint_is_named_where_there_is_none(tmp_path: Path) -> None:
    class Never(Classify):
        def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
            return super().loss(outputs, targets) * float("nan")

    with pytest.raises(TrainingError, match="epoch 1, step 1: the loss is nan") as caught:
        train(Never(), fresh(TASK), recipe(), folder=tmp_path)
    assert caught.value.fix == "lower the learning rate or clip gradients"


def test_a_finished_training_is_not_done_again(tmp_path: Path) -> None:
    first, _ = Trial(tmp_path, {}).run()
    again, _ = Trial(tmp_path, {}).run(stop=1)
    assert again.finished and again.best == first.best
    assert len(rows_of(tmp_path)) == 1 + 4


def test_a_folder_is_not_taken_over_unasked(tmp_path: Path) -> None:
    train(TASK, fresh(TASK), recipe(epochs=1), folder=tmp_path)
    with pytest.raises(UsageError, match="has a checkpoint of another training"):
        train(TASK, fresh(TASK), recipe(epochs=1), folder=tmp_path)


def test_every_parameter_is_in_one_group_only() -> None:
    network = fresh(TASK)
    scales = {"params": [network[1].weight], "weight_decay": 0.0}
    run = Run(TASK, network, recipe(decay_norms=False), [scales])
    groups = run.optimizer.param_groups
    assert [len(g["params"]) for g in groups] == [2, 3, 1] and groups[2] is scales
    assert [g["weight_decay"] for g in groups] == [5e-4, 0.0, 0.0]
    assert run.optimizer.param_groups[1]["params"][0] is network[0].bias


def test_channels_last_is_refused_on_a_cpu(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="channels_last on a CPU, where torch computes wrong gradients"):
        train(TASK, fresh(TASK), recipe(channels_last=True, device="cpu"), folder=tmp_path)


def test_images_are_laid_out_channels_last() -> None:
    class Images(Points):
        def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
            return torch.zeros(3, 4, 4), self.y[index]

    class Look(Classify):
        points = Images

        def model(self) -> nn.Module:
            return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 3))

    run = Run(Look(), Look().model(), recipe(channels_last=True))
    (x, _), *_ = run.loading.pairs(run.data("train"), run.sampling.batches(0))
    assert x.shape == (16, 3, 4, 4) and x.is_contiguous(memory_format=torch.channels_last)
    assert run.network[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert not run.network[0].weight.is_contiguous()


def test_fp16_needs_a_gpu(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="amp is 'fp16', which needs a GPU"):
        train(TASK, fresh(TASK), recipe(amp="fp16"), folder=tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="device is 'cuda', but torch finds no GPU"):
        train(TASK, fresh(TASK), recipe(device="cuda"), folder=tmp_path)


def test_two_processes_do_what_one_does(tmp_path: Path) -> None:
    in_two_processes("tests.torch.two_processes", tmp_path)
    two, cut, other = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("whole0", "cut0", "whole1"))
    assert_same_bits(cut, two)
    shared = {name: value for name, value in two.items() if not name.startswith(".random")}
    assert_same_bits({name: other[name] for name in shared}, shared)
    one = trained(tmp_path / "one")
    for name, value in one.items():
        if name.startswith((".network", ".average", ".hooks")):
            torch.testing.assert_close(two[name], value, rtol=1e-5, atol=1e-5, msg=name)
