"""`onnxprune search`: of a task and of a file alone; resumed, in processes, and what is refused."""

import json
import re
from dataclasses import astuple

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from onnx import TensorProto, helper

import onnxprune
from benchmarks.surrogate import Surrogate
from onnxprune.cli import application
from onnxprune.cli.judging import FileMaker, FileNetwork, Scope, TaskMaker, TaskNetwork
from onnxprune.cli.searched import Counted
from onnxprune.environment import own_version
from onnxprune.latency.prediction import Latency
from onnxprune.latency.statistic import Interval
from onnxprune.mask import read_mask
from onnxprune.search.evaluation import Job
from onnxprune.search.executors import InProcess
from onnxprune.search.structures import Widths
from onnxprune.torch import fitness
from onnxprune.torch.binding import bind
from onnxprune.torch.jobs import Place
from onnxprune.torch.methods import fine_tune
from onnxprune.torch.recipe import Recipe
from onnxprune.torch.tasks import Digits
from tests.cli.conftest import network, with_tensor
from tests.latency.pretended import pretend

FILE = ["--target", "macs=0.5", "--evaluations", "6", "--sources", "3", "--measured", "64"]
FEW = [*FILE, "--images", "60"]


def cli(*words):
    return CliRunner().invoke(application, [str(word) for word in words])


def judged(folder):
    """The bees' judgements, in their order."""
    lines = [json.loads(line) for line in (folder / "bees-0.jsonl").read_text().splitlines()[1:]]
    return [(e["structure"], e["figures"]) for e in sorted(lines, key=lambda e: e["number"])]


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
    for name in ("mask.json", "warm.pt"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes(), name


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
    result = cli("search", "--model", model, "--calibration", samples, *FILE, "-o", tmp_path, "--json")
    told = json.loads(result.stdout)
    assert told["certificate"]["exact"] and 0 < told["winner"]["score"] <= 1
    small = onnxprune.load(tmp_path / "recalibrated.onnx")
    assert onnxprune.analyze(small).cost == onnxprune.analyze(onnxprune.load(tmp_path / "pruned.onnx")).cost


@pytest.mark.parametrize("limit", ["0.6", "6ms"])
def test_latency_as_the_limit(dense, tmp_path, monkeypatch, limit):
    pretend(monkeypatch, block=1, unit=1e-5)  # in a real runtime so small a network hardly gets faster
    drift, run, ratio = iter(np.linspace(1, 1.3, 1000).tolist()), Latency.run, Latency.ratio
    monkeypatch.setattr(Latency, "run", lambda self: run(self) * next(drift))

    def drifting(self, *about, **how):
        found, factor = ratio(self, *about, **how), next(drift)
        return Interval(*(factor * each for each in astuple(found)))

    monkeypatch.setattr(Latency, "ratio", drifting)
    few = ["--target", f"latency={limit}", "--evaluations", "4", "--sources", "2", "--images", "60", "--no-controls"]
    options = ["--weights", dense / "best.pt", *few, "-o", tmp_path, "--threads", "1", "--json"]
    result = cli("search", *options)
    assert result.exit_code == 0, result.output
    told = json.loads(result.output)
    promise, provenance = told["latency"], read_mask(tmp_path / "mask.json").provenance
    assert promise["kept"] and promise["ratio"]["high"] <= promise["asked"] == 0.6
    assert promise["predicted"] == told["winner"]["shares"]["latency"] <= 0.6
    assert provenance["target"] == {"latency": 0.6} and provenance["latency"]["measured"] == promise["ratio"]
    assert json.loads((tmp_path / "search.json").read_text())["latency"] == promise
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


def test_the_network_is_bound_once(dense, tmp_path, monkeypatch):
    bound = []
    monkeypatch.setattr(fitness, "bind", lambda *args: bound.append(args) or bind(*args))
    few = ["--target", "macs=0.5", "--evaluations", "2", "--sources", "2", "--images", "60", "--no-controls"]
    assert cli("search", "--weights", dense / "best.pt", *few, "-o", tmp_path).exit_code == 0
    assert len(bound) == 1


def test_each_limit_tells_how_bees_compare_and_whether_it_was_missed(dense, tmp_path, monkeypatch):
    kept = {"share": lambda self, units: float(np.mean([stay.mean() for stay in units.values()]))}
    slow = {"ratio": lambda self, units: Interval(0.99, 0.98, 1.0), "correction": lambda self, units: 1.0}
    for name, told in (kept | slow).items():
        monkeypatch.setattr(f"onnxprune.latency.prediction.Latency.{name}", told)
    target = ["--target", "latency=0.6", "--threads", "1", "--frontier", "2"]
    few = ["--evaluations", "3", "--sources", "2", "--images", "60"]
    result = cli("search", "--weights", dense / "best.pt", *target, *few, "-o", tmp_path)
    shown = result.output
    assert result.exit_code == 1
    for share in ("0.6", "0.8"):
        assert f"Best scores, 1 seed, latency={share}" in shown
        assert f"at most {share}00 asked for: MISSED" in shown
    assert shown.count("bees against it") == 2 and shown.count("latency: 0.990 of") == 2


def test_halving(dense, tmp_path):
    few = ["--target", "macs=0.5", "--evaluations", "2", "--sources", "2", "--no-controls", "--halving"]
    how = ["--fitness", "train", "--fitness-epochs", "4", "--lr", "0.02", "--images", "60"]
    done = cli("search", "--weights", dense / "best.pt", *few, *how, "-o", tmp_path)
    assert done.exit_code == 0, done.output
    lines = [json.loads(line) for line in (tmp_path / "bees-0.jsonl").read_text().splitlines()]
    assert lines[0]["rungs"] == [0.25, 0.5, 1.0] and [line["rung"] for line in lines[1:]] == [0, 0, 1, 2]


def test_the_released_bees(dense, tmp_path):
    few = [*FEW, "--compat", "released", "--no-controls", "--score", "random", "--json"]
    told = json.loads(cli("search", "--weights", dense / "best.pt", *few, "-o", tmp_path).stdout)
    head = json.loads((tmp_path / "bees-0.jsonl").read_text().splitlines()[0])
    assert head["compat"] == "released" and told["winner"]["shares"]["macs"] <= 0.5


def test_a_timeout_judges_in_a_process_of_its_own(dense, found, tmp_path):
    few = [*FEW, "--no-controls", "--json"]
    told = json.loads(cli("search", "--weights", dense / "best.pt", *few, "--timeout", 300, "-o", tmp_path).stdout)
    lines = [
        [json.loads(a) for a in (folder / "bees-0.jsonl").read_text().splitlines()] for folder in (tmp_path, found[0])
    ]
    one, two = ([(e["structure"], e["figures"]) for e in sorted(own[1:], key=lambda e: e["number"])] for own in lines)
    assert one == two and told["evaluations"] == {"bees": [6]}


@pytest.mark.filterwarnings("ignore")
def test_a_cluster_finds_the_same(dense, found, tmp_path):
    few = [*FEW, "--no-controls", "--ray", "local", "--cpus", "0.5", "--jobs", "2"]
    done = cli("search", "--weights", dense / "best.pt", *few, "-o", tmp_path)
    assert done.exit_code == 0, done.output
    lines = [
        [json.loads(a) for a in (folder / "bees-0.jsonl").read_text().splitlines()] for folder in (tmp_path, found[0])
    ]
    one, two = ([(e["structure"], e["figures"]) for e in sorted(own[1:], key=lambda e: e["number"])] for own in lines)
    assert one == two


def file_model(folder, batch="batch", normal=True, second=False):
    """A small classifier of 5 classes as a file, and samples of it."""
    model = network()
    nodes = [node for node in model.graph.node if normal or node.op_type != "BatchNormalization"]
    for node in nodes:
        node.input[:] = ["a" if name == "b" and not normal else name for name in node.input]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    dim = model.graph.input[0].type.tensor_type.shape.dim[0]
    if isinstance(batch, int):
        dim.dim_value = batch
    if second:
        model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, ["batch"]))
    onnx.save(model, folder / "m.onnx")
    inputs = np.random.default_rng(0).standard_normal((20, 3, 8, 8))
    np.savez(folder / "s.npz", inputs=inputs, labels=np.arange(20) % 5)
    return ["--model", folder / "m.onnx", "--calibration", folder / "s.npz"]


def test_a_folded_file_says_that_nothing_is_measured_anew(tmp_path):
    words = [*file_model(tmp_path, normal=False), "--target", "macs=0.5", "--evaluations", "2", "--sources", "2"]
    done = cli("search", *words, "-o", tmp_path / "x", "--no-controls")
    assert done.exit_code == 0 and "note: " in done.stderr and "no BatchNormalization is left" in done.stderr
    assert (tmp_path / "x" / "pruned.onnx").exists() and not (tmp_path / "x" / "recalibrated.onnx").exists()


def test_samples_in_double_precision_are_converted(tmp_path):
    words = [*file_model(tmp_path), "--target", "macs=0.5", "--evaluations", "2", "--sources", "2"]
    done = cli("search", *words, "-o", tmp_path / "x", "--no-controls")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "x" / "recalibrated.onnx").exists()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"batch": 4}, "the model takes batches of 4 alone"),
        ({"second": True}, r"the model has 2 inputs \(x, more\), expected one"),
    ],
)
def test_files_that_cannot_be_judged_are_refused_at_the_start(tmp_path, how, message):
    done = cli("search", *file_model(tmp_path, **how), "--target", "macs=0.5", "-o", tmp_path / "x")
    assert done.exit_code == 2 and re.search(message, done.output) and not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--fitness", "train"], "--fitness is for a --task alone"),
        (["--amp", "bf16"], "--amp is for a --task alone"),
        (["--images", "5"], "--images is for a --task alone"),
        (["--device", "cpu"], "--device is for a --task alone"),
        (["--lr", "0.1"], "--lr is for --fitness train alone"),
        (["--halving"], "--halving is for --fitness train alone"),
        (["--gpus", "1"], "--gpus is for --ray alone"),
        (["--cpus", "1"], "--cpus is for --ray alone"),
        (["--gpus", "-1", "--ray", "local"], "-1"),
        (["--seed", "-1"], "-1"),
        (["--threads", "2"], "--threads is for --target latency=... alone"),
        (["--weights", "w.pt"], "--weights is for a --task alone"),
    ],
)
def test_options_that_would_do_nothing_are_refused(tmp_path, words, message):
    done = cli("search", *file_model(tmp_path), "--target", "macs=0.5", *words, "-o", tmp_path / "x")
    assert done.exit_code == 2 and message in done.output and not (tmp_path / "x").exists()


def test_files_that_are_missing_or_of_another_kind(dense, tmp_path):
    words = file_model(tmp_path)
    torch.save({"0.weight": torch.zeros(3)}, tmp_path / "other.pt")
    for own, message in [
        (["--model", tmp_path / "no.onnx", *words[2:]], "no.onnx"),
        ([*words[:3], tmp_path / "no.npz"], "no.npz: no such file"),
        (["--calibration", tmp_path / "s.npz"], "--calibration is for a --model alone"),
        (["--weights", tmp_path / "other.pt"], "tensor '0.weight' has shape (3,), expected (16, 1, 3, 3)"),
        ([], "--fitness recalibrate judges a trained network without training it, got no --weights"),
    ]:
        done = cli("search", *own, "--target", "macs=0.5", "-o", tmp_path / "x")
        assert done.exit_code == 2 and message in done.output and "internal" not in done.output
        assert not (tmp_path / "x").exists()


def test_a_model_that_holds_no_numbers_is_refused(tmp_path):
    words = file_model(tmp_path)
    model = onnx.load(tmp_path / "m.onnx")
    onnx.save(with_tensor(model, "fc.b", np.full(5, np.nan, np.float32)), tmp_path / "m.onnx")
    done = cli("search", *words, "--target", "macs=0.5", "-o", tmp_path / "x")
    assert done.exit_code == 2 and "tensor 'fc.b' holds NaN" in done.output


def task_told(task, weights=None, **recipe):
    maker = TaskMaker(task, weights, SCOPE, "recalibrate", Recipe(1, **recipe), 60, 64)
    return TaskNetwork(maker).told()


SCOPE = Scope(Widths(), {}, "l1", 0)


def test_what_changes_the_fitness_of_a_task_is_told(tmp_path):
    (tmp_path / "own.py").write_text("from onnxprune.torch.tasks import Digits\n")
    task = f"{tmp_path / 'own.py'}:Digits"
    told = task_told(task)
    assert told == task_told(task) and told["onnxprune"] == own_version() and told["device"] in ("cpu", "cuda")
    weights = read_weights_of(Digits().model())
    for changed in ({"seed": 1}, {"channels_last": True}, {"amp": "bf16"}, {"batch": 7}, {"weights": weights}):
        assert task_told(task, **changed) != told, changed
    (tmp_path / "own.py").write_text("from onnxprune.torch.tasks import Digits  # changed\n")
    assert task_told(task) != told


def read_weights_of(network):
    return {name: tensor.numpy() for name, tensor in network.state_dict().items()}


def test_data_outside_of_a_file_are_told(tmp_path):
    _, model, _, samples = file_model(tmp_path)
    proto = onnx.load(model)
    onnx.save(proto, model, save_as_external_data=True, location="m.data", size_threshold=0)
    told = FileNetwork(FileMaker(model, samples, SCOPE, 10)).told()
    content = bytearray((tmp_path / "m.data").read_bytes())
    content[-1] ^= 1
    (tmp_path / "m.data").write_bytes(content)
    assert FileNetwork(FileMaker(model, samples, SCOPE, 10)).told() != told


def test_half_precision_weights_are_read(tmp_path):
    torch.save(Digits().model().bfloat16().state_dict(), tmp_path / "b.pt")
    few = ["--target", "macs=0.5", "--evaluations", "2", "--sources", "2", "--images", "60", "--no-controls"]
    done = cli("search", "--weights", tmp_path / "b.pt", *few, "-o", tmp_path / "x")
    assert done.exit_code == 0, done.output


def test_what_a_journal_knows_does_not_count_as_fast(monkeypatch):
    clock = iter([10.0, 40.0])
    monkeypatch.setattr("onnxprune.cli.searched.time.monotonic", lambda: next(clock))
    executor = Counted(InProcess(Surrogate()))
    assert executor.rate() == 0.0 and list(executor.run([])) == []
    assert len(list(executor.run([Job(n, (0,) * 6, n) for n in range(90, 95)]))) == 5
    assert executor.rate() == 10.0, "five in half a minute, whatever their numbers are"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target", "macs=0.5", "--target", "params=0.5", "--frontier", "2"], "a frontier is of one resource, got 2"),
        (["--target", "macs=1", "--frontier", "2"], "a frontier begins at a share below the whole, got macs=1"),
        (["--target", "latency=2ms", "--frontier", "2"], "a frontier begins at a share below the whole, got a time"),
        (["--target", "macs=2ms"], "--target macs is a time (0.002 s)"),
        (["--target", "latency=3"], "latency is 3.0, expected a share"),
        (["--task", "a.py:A", "--model", "m.onnx"], "expected --task or --model, got both"),
        (["--model", "m.onnx"], "--model needs labelled samples"),
        (["--target", "macs=0.0001"], "no structure meets macs=0.0001: with these widths the least is macs="),
        (["--alpha", "2"], "the largest share is 2.0"),
        (["--sources", "1"], "a colony of 1 sources"),
        (["--ray", "127.0.0.1:9"], "no Ray cluster answers at 127.0.0.1:9"),
        (["--weights", "nowhere.pt"], "nowhere.pt: no such file"),
    ],
)
def test_what_is_refused(tmp_path, options, message):
    train = [] if {"--model", "--weights"} & {*options} else ["--fitness", "train"]
    result = cli("search", *options, *train, "-o", tmp_path / "x")
    assert result.exit_code == 2 and message in result.output and "fix: " in result.output
