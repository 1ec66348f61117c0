"""`onnxprune search`: of a task and of a file alone; resumed, in processes, and what is refused."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import onnxprune
from onnxprune.cli import application
from onnxprune.errors import UsageError
from onnxprune.mask import read_mask
from onnxprune.search.calibration import read_samples
from onnxprune.torch.jobs import Place
from onnxprune.torch.methods import fine_tune
from onnxprune.torch.recipe import Recipe
from onnxprune.torch.tasks import Digits

FEW = ["--target", "macs=0.5", "--evaluations", "6", "--sources", "3", "--images", "60", "--measured", "64"]


def cli(*words):
    return CliRunner().invoke(application, [str(word) for word in words])


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    """A trained network, its file, and labelled samples."""
    folder = tmp_path_factory.mktemp("dense")
    fine_tune(Digits(), Recipe(2, batch=64, lr=0.1, device="cpu"), Place(folder))
    inputs, labels = Digits().data("validation").__getitems__(list(range(100)))
    np.savez(folder / "samples.npz", inputs=inputs.numpy(), labels=labels.numpy())
    return folder


@pytest.fixture(scope="module")
def found(dense, tmp_path_factory):
    folder = tmp_path_factory.mktemp("found")
    result = cli("search", "--weights", dense / "best.pt", *FEW, "--seeds", "2", "-o", folder, "--json")
    return folder, json.loads(result.output)


def test_the_winner_is_proven_and_within_the_target(found):
    folder, told = found
    before, after = (onnxprune.load(folder / name) for name in ("dense.onnx", "pruned.onnx"))
    assert onnxprune.verify(before, after, read_mask(folder / "mask.json")).exact and told["certificate"]["exact"]
    assert onnxprune.analyze(after).cost.macs <= 0.5 * onnxprune.analyze(before).cost.macs
    widths = {g.name: int(g.kept.sum()) for g in read_mask(folder / "mask.json").groups}
    assert told["winner"]["structure"].items() <= widths.items()


def test_bees_and_controls_have_equal_evaluations(found):
    folder, told = found
    assert told["evaluations"] == {"bees": [6, 6], "random": [6, 6], "uniform": [1, 1], "evolution": [6, 6]}
    for name in ("bees", "random"):
        lines = (folder / f"{name}-1.jsonl").read_text().splitlines()
        assert json.loads(lines[0])["sampler"] == name and len(lines) == 7
    assert [row["sampler"] for row in told["comparison"]] == ["bees", "random", "uniform", "evolution"]
    assert {"search.json", "search.png", "widths.png", "warm.pt"} <= {path.name for path in folder.iterdir()}


def test_the_same_in_processes_and_after_a_stop(found, dense, tmp_path):
    folder, told = found
    options = ["--weights", dense / "best.pt", *FEW, "--seeds", "2", "-o", tmp_path]
    lines = (folder / "bees-0.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "bees-0.jsonl").write_text("".join(lines[:4]))
    refused = cli("search", *options)
    assert refused.exit_code == 2 and "has a search already" in refused.output
    again = json.loads(cli("search", *options, "--resume", "--jobs", "2", "--json").output)
    assert again["winner"] == told["winner"] and again["comparison"] == told["comparison"]
    assert (tmp_path / "mask.json").read_text() == (folder / "mask.json").read_text()


def test_other_weights_are_another_search(found, tmp_path):
    folder, _ = found
    fine_tune(Digits(), Recipe(1, batch=64, lr=0.01, device="cpu"), Place(tmp_path))
    options = ["--weights", tmp_path / "best.pt", *FEW, "--seeds", "2", "-o", folder, "--resume"]
    refused = cli("search", *options)
    assert refused.exit_code == 2 and "a journal of another search: its fitness" in refused.output


def test_its_weights_are_a_warm_start(found, tmp_path):
    folder, _ = found
    short = ["--mask", folder / "mask.json", "--epochs", "1", "--lr", "1e-4"]
    warm = cli("finetune", *short, "--weights", folder / "warm.pt", "-o", tmp_path / "a")
    cold = cli("finetune", *short, "-o", tmp_path / "b")
    assert warm.exit_code == cold.exit_code == 0
    scores = [json.loads((tmp_path / name / "outcome.json").read_text())["test"] for name in "ab"]
    assert scores[0] > scores[1]
    small = torch.load(folder / "warm.pt", weights_only=True)
    assert sum(t.numel() for n, t in small.items() if "running" not in n and t.ndim) < 28_410


def test_training_as_fitness(dense, tmp_path):
    few = ["--target", "macs=0.5", "--evaluations", "2", "--sources", "2", "--no-controls"]
    how = ["--fitness", "train", "--fitness-epochs", "1", "--lr", "0.02", "--batch", "64"]
    told = json.loads(cli("search", "--weights", dense / "best.pt", *few, *how, "-o", tmp_path, "--json").output)
    assert told["winner"]["score"] > 0.5 and set(told["evaluations"]) == {"bees"}


def test_an_onnx_file_alone(found, dense, tmp_path):
    model, samples = found[0] / "dense.onnx", dense / "samples.npz"
    result = cli("search", "--model", model, "--calibration", samples, *FEW, "-o", tmp_path, "--json")
    told = json.loads(result.output)
    assert told["certificate"]["exact"] and 0 < told["winner"]["score"] <= 1
    small = onnxprune.load(tmp_path / "recalibrated.onnx")
    assert onnxprune.analyze(small).cost == onnxprune.analyze(onnxprune.load(tmp_path / "pruned.onnx")).cost


def test_latency_as_the_limit(dense, tmp_path):
    few = ["--target", "latency=0.6", "--evaluations", "4", "--sources", "2", "--images", "60", "--no-controls"]
    options = ["--weights", dense / "best.pt", *few, "-o", tmp_path, "--threads", "1", "--json"]
    told = json.loads(cli("search", *options).output)
    assert told["winner"]["shares"]["latency"] <= 0.6 and 0 < told["measured_latency"] < 1
    assert read_mask(tmp_path / "mask.json").provenance["target"] == {"latency": 0.6}
    again = json.loads(cli("search", *options, "--resume").output)
    assert again["winner"] == told["winner"], "the table of times makes the resumed search the same"


def test_a_frontier_of_several_limits(dense, tmp_path):
    options = ["--weights", dense / "best.pt", *FEW, "--frontier", "2", "-o", tmp_path, "--json"]
    told = json.loads(cli("search", *options).output)
    assert [len(limit["evaluations"]) for limit in told["limits"]] == [4, 4]
    shown = json.loads((tmp_path / "frontier.json").read_text())
    shares = [point["share"] for point in shown["frontier"]]
    assert shown["of"] == "macs" and shares == sorted(shares) and shares[-1] <= 0.75
    for name in ("macs-0.5", "macs-0.75"):
        assert {"mask.json", "pruned.onnx", "warm.pt"} <= {path.name for path in (tmp_path / name).iterdir()}
    assert (tmp_path / "frontier.png").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target", "macs=0.5", "--target", "params=0.5", "--frontier", "2"], "a frontier is of one resource, got 2"),
        (["--target", "macs=1", "--frontier", "2"], "a frontier begins at a share below the whole, got macs=1"),
        (["--target", "latency=3"], "latency is 3.0, expected a share"),
        (["--task", "a.py:A", "--model", "m.onnx"], "expected --task or --model, got both"),
        (["--model", "m.onnx"], "--model needs labelled samples"),
        (["--model", "m.onnx", "--calibration", "s.npz", "--weights", "w.pt"], "--weights are for a --task"),
        (["--target", "macs=0.0001"], "no structure meets macs=0.0001: with these widths the least is macs="),
        (["--alpha", "2"], "the largest share is 2.0"),
        (["--sources", "1"], "a colony of 1 sources"),
        (["--ray", "127.0.0.1:9"], "no Ray cluster answers at 127.0.0.1:9"),
        (["--weights", "nowhere.pt"], "nowhere.pt: no such file"),
    ],
)
def test_what_is_refused(tmp_path, options, message):
    result = cli("search", *options, "-o", tmp_path / "x")
    assert result.exit_code == 2 and message in result.output and "fix: " in result.output


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"inputs": np.zeros((3, 1))}, "cannot be read: .*labels"),
        ({"inputs": np.zeros((3, 1)), "labels": np.zeros(2, int)}, r"inputs \(3, 1\) and labels int64 \(2,\)"),
        ({"inputs": np.zeros((3, 1)), "labels": np.zeros(3)}, "expected as many integer labels"),
    ],
)
def test_samples_that_are_none(tmp_path, arrays, message):
    np.savez(tmp_path / "s.npz", **arrays)
    with pytest.raises(UsageError, match=message):
        read_samples(tmp_path / "s.npz")
