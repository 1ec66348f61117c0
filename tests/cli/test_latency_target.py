"""`mask` and `prune` with a time as the target, in a runtime that is made up."""

import json
import shutil
from pathlib import Path

import pytest

from onnxprune.mask import read_mask
from tests.latency.pretended import pretend

ZOO = Path(__file__).parents[2] / "models" / "zoo" / "resnet11_cifar10.onnx"


@pytest.fixture
def model(tmp_path, monkeypatch):
    pretend(monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return shutil.copy(ZOO, tmp_path / "model.onnx")


def test_a_mask_within_a_share_of_the_time(run, model, tmp_path):
    found = json.loads(run("mask", model, "--target", "latency=0.5", "-o", tmp_path / "m.json", "--json").stdout)
    assert 0.93 * 0.5 <= found["latency"]["ratio"]["high"] <= 0.5 and found["latency"]["asked"] == 0.5
    assert read_mask(tmp_path / "m.json").provenance["target"] == {"latency": 0.5}
    assert len(list((tmp_path / "cache" / "onnxprune").glob("latency-*.json"))) == 1


def test_a_pruned_model_within_a_time(run, model, tmp_path):
    result = run("prune", model, "--target", "latency=4ms", "--target", "params=0.5", "-o", tmp_path / "small.onnx")
    assert result.exit_code == 0 and "at most 0.400 asked for" in result.stdout and "Exact" in result.stdout


def test_times_are_kept_in_a_file_of_ones_own(run, model, tmp_path):
    table = tmp_path / "t.json"
    words = ("mask", model, "--target", "latency=0.5", "--latency-table", table, "-o", tmp_path / "m.json")
    assert run(*words).exit_code == 0 and table.exists() and not (tmp_path / "cache").exists()
    result = run(*words, "--threads", "3")
    assert result.exit_code == 2 and "measured with setting" in result.stderr


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("macs=8ms", "--target macs is a time"),
        ("latency=0", "latency is 0"),
        ("latency=2", "latency is 2"),
        ("latency=0.0001", "no structure was measured within"),
        ("latency=fast", "'fast' is not a valid float"),
        ("latency=-3ms", "expected a share"),
    ],
)
def test_what_makes_no_sense_is_refused(run, model, tmp_path, target, message):
    result = run("mask", model, "--target", target, "-o", tmp_path / "m.json")
    assert result.exit_code == 2 and message in result.stderr and not (tmp_path / "m.json").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("slim", "--prune-at", "1", "--target", "macs=8ms"), "'8ms' is not a valid float"),
        (("slim", "--prune-at", "1", "--target", "latency=0.5"), "unknown target ['latency']"),
        (("chipnet", "--target", "macs=8ms"), "'8ms' is not a valid float"),
        (("chipnet", "--target", "latency=0.5"), "one of macs, params, channels, volume"),
    ],
)
def test_trainings_take_no_times(run, tmp_path, words, message):
    result = run(*words, "--epochs", "1", "-o", tmp_path / "out")
    assert result.exit_code == 2 and message in result.stderr
