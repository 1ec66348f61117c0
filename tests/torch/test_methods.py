"""The whole jobs on the shipped digits: files, figures, resuming; and that what is pruned is proven."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import onnxprune
from onnxprune.cli.output import Output
from onnxprune.cli.training import Working, tell
from onnxprune.errors import TrainingError, UsageError
from onnxprune.execution import run as run_onnx
from onnxprune.mask import read_mask, removed_units
from onnxprune.ranking import Limits, shares
from onnxprune.selection import STRATEGIES
from onnxprune.torch.binding import bind
from onnxprune.torch.checkpoint import read
from onnxprune.torch.chipnet import Weights
from onnxprune.torch.deciding import ByUnit
from onnxprune.torch.forecast import FORECASTERS, FixedEpoch, ForecastConfidence
from onnxprune.torch.handover import load_weights
from onnxprune.torch.jobs import Outcome, Place
from onnxprune.torch.methods import Chips, chip, fine_tune
from onnxprune.torch.recipe import Recipe
from onnxprune.torch.scales import Scales
from onnxprune.torch.slim import Slimming, _folded, slim
from onnxprune.torch.task import Accuracy
from onnxprune.torch.tasks import Digits
from tests.torch.training import in_two_processes

FAST = Recipe(2, batch=256, lr=0.05)


@pytest.fixture(scope="module")
def slimmed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slim")
    outcome = slim(Digits(), FAST, Slimming({"macs": 0.5}, FixedEpoch(1), strength=1e-3), Place(folder))
    return folder, outcome


@pytest.fixture(scope="module")
def chipped(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chip")
    soft = Recipe(2, batch=256, lr=1e-3, optimizer="adamw", schedule="constant")
    return folder, chip(Digits(), soft, FAST, Chips("macs", 0.5, lr=0.1), Place(folder))


@pytest.fixture(params=["slimmed", "chipped"])
def job(request):
    return request.getfixturevalue(request.param)


def test_the_mask_is_proven_on_the_files(job):
    folder, outcome = job
    whole = "folded.onnx" if (folder / "folded.onnx").exists() else "dense.onnx"
    dense, pruned = (onnxprune.load(folder / name) for name in (whole, "pruned.onnx"))
    certificate = onnxprune.verify(dense, pruned, read_mask(folder / "mask.json"))
    assert certificate.exact and outcome.figures["pruned"]["certificate"]["exact"]
    costs = outcome.figures["pruned"]["cost"]
    assert costs["after"]["macs"] <= 0.5 * costs["before"]["macs"]


def test_the_trained_network_is_small_and_exported(job):
    folder, outcome = job
    assert outcome.finished and 0 <= outcome.figures["test"] <= 1
    trained = onnxprune.analyze(onnxprune.load(folder / "trained.onnx"))
    assert trained.cost.params == outcome.figures["cost"]["params"]
    assert trained.cost.macs <= 0.5 * outcome.figures["pruned"]["cost"]["before"]["macs"]
    assert json.loads((folder / "outcome.json").read_text())["test"] == outcome.figures["test"]


def test_pictures_are_drawn(slimmed, chipped):
    assert {path.name for path in slimmed[0].glob("*.png")} == {"agreement.png", "scales.png", "widths.png"}
    assert {path.name for path in chipped[0].glob("*.png")} == {"curves.png", "gates.png", "widths.png"}


def test_forecasts_are_compared_with_the_selection(slimmed):
    content = json.loads((slimmed[0] / "agreement.json").read_text())
    assert content["epochs"] == [1] and set(content["by_forecaster"]) == {"last", "sma", "ema", "holt"}
    # After one epoch every forecaster says the same, and that is what was selected.
    assert {values[0] for values in content["by_forecaster"].values()} == {1.0}
    assert content["chance"][0] < 1
    assert 0.2 < content["macs saved"] < 0.3


def test_constants_are_folded_within_the_target(slimmed):
    folder, outcome = slimmed
    dense = onnxprune.analyze(onnxprune.load(folder / "folded.onnx"))
    scales = [n.inputs[1] for n in dense.trace.graph.nodes if n.op == "BatchNormalization"]
    mask = read_mask(folder / "mask.json")
    zeros = sum(int((dense.trace.graph.array(name) == 0).sum()) for name in scales)
    assert zeros >= removed_units(mask).sum()
    assert outcome.figures["pruned"]["certificate"]["error"] < 1e-5


def test_the_dense_file_is_the_network_before_anything_was_folded(slimmed):
    folder, outcome = slimmed
    pruned = outcome.figures["pruned"]
    data = Digits().data("validation")
    inputs, labels = data.__getitems__(list(range(len(data))))
    for name, when in (("dense.onnx", "before"), ("folded.onnx", "after"), ("pruned.onnx", "after")):
        model = onnxprune.load(folder / name)
        (value,) = model.proto.graph.input
        outputs = run_onnx(model, [{value.name: inputs.numpy()}])[0][0]
        score = float(np.mean(outputs.argmax(1) == labels.numpy()))
        assert score == pytest.approx(pruned[f"validation {when}"], abs=2 / len(data)), name


def test_a_share_of_every_group_stays(tmp_path):
    how = Slimming({"macs": 0.5}, FixedEpoch(1), strength=1e-3, min_share=0.4)
    slim(Digits(), FAST, how, Place(tmp_path))
    mask = read_mask(tmp_path / "mask.json")
    shares_left = [g.kept.mean() for g in mask.groups if g.removed]
    assert shares_left and min(shares_left) >= 0.4


def test_the_released_threshold_has_no_limits():
    with pytest.raises(UsageError, match="knows no limits of widths"):
        Chips("macs", 0.5, round_to=8, compat="released")


def test_multiples_are_multiples(tmp_path):
    how = Slimming({"macs": 0.8}, FixedEpoch(1), strategy="regular", strength=1e-3)
    slim(Digits(), FAST, how, Place(tmp_path))
    mask = read_mask(tmp_path / "mask.json")
    assert any(group.removed for group in mask.groups)
    assert all(int(group.kept.sum()) % 8 == 0 or not group.removed for group in mask.groups)


@pytest.mark.parametrize("changed", [{"target": {"macs": 0.4}}, {"strategy": "uncoupled"}, {"strength": 1.0}])
def test_a_finished_job_is_not_resumed_as_another_one(slimmed, changed):
    how = replace(Slimming({"macs": 0.5}, FixedEpoch(1), strength=1e-3), **changed)
    with pytest.raises(UsageError, match=f"the checkpoint's .*({'|'.join(changed)}|groups)"):
        slim(Digits(), FAST, how, Place(slimmed[0], resume=True))


def test_frozen_scales_are_not_touched_and_gates_stand_in(tmp_path):
    class Frozen(Digits):
        def model(self):
            network = super().model()
            for module in network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.weight.requires_grad_(False)
            return network

    how = Slimming({"macs": 0.5}, FixedEpoch(2), strength=1e-2, method="proximal")
    slim(Frozen(), FAST, how, Place(tmp_path))
    history = np.array(read(tmp_path / "last.pt")["hooks"][1][1]["history"])
    assert not np.allclose(history[-1], 1), "what is pulled is the gates"
    frozen = onnxprune.analyze(onnxprune.load(tmp_path / "dense.onnx")).trace.graph
    scales = [frozen.array(n.inputs[1]) for n in frozen.nodes if n.op == "BatchNormalization"]
    assert scales and all((s == 1).all() for s in scales)


def test_best_weights_of_a_gated_training_are_a_start(tmp_path):
    class Bare(Digits):
        def model(self):
            torch.manual_seed(0)
            return nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 14 * 14, 10))

    how = Slimming({"macs": 0.5}, FixedEpoch(2), strength=1e-3)
    slim(Bare(), FAST, how, Place(tmp_path / "slim"))
    place = Place(tmp_path / "fine", tmp_path / "slim" / "best.pt")
    outcome = fine_tune(Bare(), FAST, place, tmp_path / "slim" / "mask.json")
    assert (
        outcome.finished
        and outcome.figures["cost"]["macs"]
        <= 0.5 * onnxprune.analyze(onnxprune.load(tmp_path / "slim" / "dense.onnx")).cost.macs
    )


def test_triggers_look_at_what_may_go(tmp_path):
    """Scales that do not move leave no doubt, also where a strategy leaves most units out."""
    network = Digits().model()
    binding = bind(network, Digits().example())
    strategy = STRATEGIES["uncoupled"]
    scales = Scales(network, binding, strategy.groups(binding.analysis), strategy.combine)
    assert not scales.own.all()
    with torch.no_grad():
        for part in scales.parts:
            part.parameter.uniform_(0.1, 1)
    decision = ByUnit(binding.analysis, scales, {"macs": 0.8}, Limits(), {})
    history = np.stack([decision.read()] * 12)
    removed = lambda values: decision.removed(decision.select(values))  # noqa: E731
    assert history.shape == (12, scales.own.sum()) and 0 < removed(history[0]).mean() < 1
    assert ForecastConfidence(100, FORECASTERS["last"]).expected(history, removed) == 1


def test_of_several_processes_the_first_one_tells(tmp_path, capsys):
    """The others have no costs: nothing is exported there."""
    other = Outcome(True, {"validation": 0.5, "test": 0.5})
    for out in (Output(), Output(as_json=True)):
        tell(other, Working("", tmp_path, None, False, None), out)
    assert capsys.readouterr().out == ""


def test_where_there_is_no_room_for_carriers_nothing_is_folded():
    network = Digits().model()
    for name, parameter in network.named_parameters():
        if parameter.ndim == 1 and name.endswith("bias"):
            nn.init.normal_(parameter)  # what removed channels emit
    binding = bind(network, Digits().example())
    mask = onnxprune.choose(binding.analysis, keep=0.5)
    before = {name: t.clone() for name, t in network.state_dict().items()}
    tried = []

    def select(tighter=1.0):
        tried.append(tighter)
        if tighter < 1:
            raise UsageError("no structure is so small", "")
        return mask

    target = {"macs": shares(binding.analysis, mask, ["macs"])["macs"]}
    assert _folded(network, binding, target, select) is None and len(tried) == 2
    assert all(torch.equal(t, before[name]) for name, t in network.state_dict().items())


def test_the_exported_network_computes_what_torch_computes(slimmed):
    folder, outcome = slimmed
    inputs, targets = Digits().data("test").__getitems__(list(range(100)))
    logits = run_onnx(onnxprune.load(folder / "trained.onnx"), [{"input": inputs.numpy()}])[0][0]
    hits = np.mean(logits.argmax(1) == targets.numpy())
    assert abs(hits - outcome.figures["test"]) < 0.15  # of 100 of the 359 images


def test_a_finished_job_can_be_asked_again(chipped):
    folder, outcome = chipped
    soft = Recipe(2, batch=256, lr=1e-3, optimizer="adamw", schedule="constant")
    again = chip(Digits(), soft, FAST, Chips("macs", 0.5, lr=0.1), Place(folder, resume=True))
    assert again.figures["test"] == outcome.figures["test"]


LAYER = Slimming({"macs": 0.7}, FixedEpoch(1), strategy="layer", strength=1e-3, method="proximal")
AVERAGED = Recipe(2, batch=512, lr=0.05, ema=0.9)


@pytest.fixture(scope="module")
def layered(tmp_path_factory):
    folder = tmp_path_factory.mktemp("layer")
    return folder, slim(Digits(), AVERAGED, LAYER, Place(folder))


def test_whole_branches_are_dropped(layered):
    folder, outcome = layered
    mask = read_mask(folder / "mask.json")
    assert len(mask.branches) == 1 and not removed_units(mask).any()
    dense, pruned, trained = (onnxprune.load(folder / f"{name}.onnx") for name in ("dense", "pruned", "trained"))
    assert onnxprune.verify(dense, pruned, mask).exact and outcome.figures["pruned"]["certificate"]["exact"]
    costs = outcome.figures["pruned"]["cost"]
    assert costs["after"]["macs"] <= 0.7 * costs["before"]["macs"] and outcome.figures["cost"] == costs["after"]
    assert [sum(n.op_type == "Add" for n in m.proto.graph.node) for m in (dense, pruned, trained)] == [2, 1, 1]


def test_the_branch_of_the_smaller_scale_went(layered):
    folder, _ = layered
    dense = onnxprune.analyze(onnxprune.load(folder / "dense.onnx")).trace.graph
    means = {block: float(np.abs(dense.array(f"{block}.bn2.weight")).mean()) for block in ("3", "7")}
    lowest = min(means, key=means.__getitem__)
    assert read_mask(folder / "mask.json").branches == (f"{lowest}.conv2",)
    content = json.loads((folder / "agreement.json").read_text())
    assert content["by_forecaster"]["last"] == [1.0]


def test_a_job_that_drops_branches_resumes_bit_identically(layered, tmp_path):
    folder, outcome = layered
    again, slices = slim(Digits(), AVERAGED, LAYER, Place(tmp_path, until=0.0)), 1
    while not again.finished and slices < 10:  # each of one step, two of them before the pruning
        again, slices = slim(Digits(), AVERAGED, LAYER, Place(tmp_path, resume=True, until=0.0)), slices + 1
    assert again.finished and slices > 3 and again.figures["test"] == outcome.figures["test"]
    whole, resumed = (torch.load(f / "last.pt", weights_only=True) for f in (folder, tmp_path))
    for part in ("model", "optimizer", "average", "scaler"):
        torch.testing.assert_close(resumed[part], whole[part], rtol=0, atol=0)
    assert resumed["masks"] == whole["masks"] and resumed["hooks"][1][1]["pruned"]
    assert (tmp_path / "trained.onnx").read_bytes() == (folder / "trained.onnx").read_bytes()


def test_a_mask_of_branches_makes_the_network_small(layered, tmp_path):
    folder, outcome = layered
    tuned = fine_tune(Digits(), FAST, Place(tmp_path), folder / "mask.json")
    assert tuned.figures["cost"] == outcome.figures["cost"]


NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *(({"strength": v}, f"slim: strength is {v}, expected a number above 0") for v in (0, -1, NAN, INFINITE)),
        ({"forecaster": "oracle"}, "slim: forecaster is 'oracle', expected one of last, "),
        ({"strategy": "all"}, "slim: strategy is 'all', expected one of uncoupled, "),
        ({"method": "adam"}, "slim: method is 'adam', expected one of subgradient, proximal"),
        ({"pull": "early"}, "slim: pull is 'early', expected one of constant, "),
        ({"min_keep": 0}, "slim: min_keep is 0, expected a whole number of at least 1"),
        ({"fold": None}, "slim: fold is None, expected True or False"),
    ],
)
def test_what_makes_no_slimming_is_refused(changes, message):
    with pytest.raises(UsageError, match=message) as caught:
        Slimming({"macs": 0.5}, FixedEpoch(1), **changes)
    assert caught.value.fix == f"change {next(iter(changes))}"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *(
            ({"lr": v}, f"chipnet's gates: lr is {v}, expected a number above 0, or None")
            for v in (0, -1, NAN, INFINITE)
        ),
        ({"round_to": 0}, "chipnet: round_to is 0, expected a whole number of at least 1"),
        ({"min_keep": 1.5}, "chipnet: min_keep is 1.5, expected a whole number of at least 1"),
        ({"compat": "paper"}, "chipnet: compat is 'paper', expected one of released, or None"),
        ({"weights": Weights(crispness=-5.0)}, "chipnet's weights: crispness is -5.0, expected a number of at least 0"),
        ({"weights": Weights(budget=NAN)}, "chipnet's weights: budget is nan, expected a number of at least 0"),
    ],
)
def test_what_makes_no_chips_is_refused(changes, message):
    with pytest.raises(UsageError, match=message):
        Chips("macs", 0.5, **changes)


@pytest.mark.parametrize("until", [-1, NAN, INFINITE])
def test_what_is_no_time_is_refused(tmp_path, until):
    with pytest.raises(UsageError, match=f"place: until is {until}, expected a number of at least 0, or None"):
        Place(tmp_path, until=until)


def test_a_stopped_job_says_so(tmp_path):
    assert not fine_tune(Digits(), FAST, Place(tmp_path, until=0.0)).finished
    assert not (tmp_path / "outcome.json").exists()


def test_a_mask_from_another_job_makes_the_network_small(slimmed, tmp_path):
    folder, outcome = slimmed
    tuned = fine_tune(Digits(), FAST, Place(tmp_path), folder / "mask.json")
    assert tuned.figures["cost"] == outcome.figures["cost"]


class Odd(Digits):
    """Another data set, with other classes and larger images: is a digit odd?"""

    def model(self):
        network = super().model()
        network[-1] = nn.Linear(network[-1].in_features, 2)
        return network

    def example(self):
        return torch.zeros(1, 1, 24, 24)

    def data(self, split):
        digits = super().data(split)
        inputs, targets = digits.__getitems__(list(range(len(digits))))
        return TensorDataset(nn.functional.pad(inputs, (4, 4, 4, 4)), targets % 2)


def test_a_mask_learnt_on_one_data_set_prunes_the_architecture_on_another(chipped, tmp_path):
    folder, outcome = chipped
    tuned = fine_tune(Odd(), FAST, Place(tmp_path), folder / "mask.json")
    small = {n.split(".weight")[0]: t for n, t in read(tmp_path / "fine" / "best.pt")["model"].items() if t.ndim == 4}
    kept = [int(g.kept.sum()) for g in read_mask(folder / "mask.json").groups]
    assert {t.shape[0] for t in small.values()} == set(kept)
    less = outcome.figures["cost"]["params"] - tuned.figures["cost"]["params"]
    assert less == (10 - 2) * (1 + small["7.conv2"].shape[0])


def test_weights_are_taken_over(slimmed, tmp_path):
    torch.manual_seed(5)
    net = Digits().model()
    torch.save(net.state_dict(), tmp_path / "w.pt")
    other = Digits().model()
    load_weights(other, tmp_path / "w.pt")
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), other.state_dict().values(), strict=True))


def test_weights_of_another_network_are_refused(slimmed, tmp_path):
    with pytest.raises(UsageError, match=r"tensor '0\.weight' has shape"):
        load_weights(Digits().model(), slimmed[0] / "best.pt")
    torch.save({"x": torch.zeros(1)}, tmp_path / "w.pt")
    with pytest.raises(UsageError, match=r"has no tensor '0\.weight'"):
        load_weights(Digits().model(), tmp_path / "w.pt")
    torch.save(Digits().model().state_dict() | {"extra": torch.zeros(1)}, tmp_path / "w.pt")
    with pytest.raises(UsageError, match="the network has no tensor 'extra'"):
        load_weights(Digits().model(), tmp_path / "w.pt")


def test_weights_that_could_run_code_are_refused(tmp_path):
    torch.save({"model": Accuracy()}, tmp_path / "w.pt")
    with pytest.raises(TrainingError, match="could run code"):
        load_weights(Digits().model(), tmp_path / "w.pt")


def test_two_processes_agree(tmp_path):
    in_two_processes("tests.torch.two_prunings", tmp_path)
    for method in ("slim", "chip"):
        first, second = (torch.load(tmp_path / f"{method}.{rank}", weights_only=True) for rank in (0, 1))
        assert first.keys() == second.keys() and first["removed 0"].any()
        assert all(torch.equal(first[name], second[name]) for name in first), method
    assert json.loads((tmp_path / "job" / "outcome.json").read_text())["pruned"]["certificate"]["exact"]
