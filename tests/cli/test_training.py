"""The verbs that train: what they print, and what they refuse before they begin."""

import json
import subprocess
import sys

import pytest

from onnxprune.cli import training
from onnxprune.errors import UsageError

SHORT = ("--epochs", "1", "--batch", "512", "--lr", "0.05")


def test_finetune_prints_what_came_out(run, tmp_path):
    result = run("finetune", *SHORT, "-o", str(tmp_path / "out"), "--json")
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert content["finished"] and 0 <= content["test"] <= 1 and content["cost"]["params"] > 0
    assert (tmp_path / "out" / "trained.onnx").exists()


def test_slim_says_how_to_go_on(run, tmp_path):
    arguments = ("slim", *SHORT, "--prune-at", "1", "--target", "macs=0.5", "-o", str(tmp_path / "out"))
    result = run(*arguments, "--until", "0")
    assert result.exit_code == 0 and "--resume" in result.stdout
    again = run(*arguments)
    assert again.exit_code == 2 and "has a checkpoint of another training" in again.stderr
    result = run(*arguments, "--resume")
    assert result.exit_code == 0 and "macs" in result.stdout and "-5" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("slim", *SHORT, "--prune-at", "1"), "expected --target, got none"),
        (("slim", *SHORT, "--target", "macs=0.5"), "expected --prune-at or --trigger"),
        (("slim", *SHORT, "--target", "macs=0.5", "--prune-at", "1", "--trigger", "confidence"), "expected --prune-at"),
        (("slim", *SHORT, "--target", "macs=0.5", "--prune-at", "2"), "expected an epoch from 1 to 1"),
        (("slim", *SHORT, "--target", "time=0.5", "--prune-at", "1"), "unknown target"),
        (("chipnet", *SHORT), "expected one --target, got 0"),
        (("chipnet", *SHORT, "--target", "macs=0.5", "--target", "params=0.5"), "expected one --target, got 2"),
        (("chipnet", *SHORT, "--target", "macs=2"), "ChipNet: budget macs=2"),
        (("slim", *SHORT, "--target", "macs=0.5", "--prune-at", "1", "--strength", "nan"), "slim: strength is nan"),
        (("slim", *SHORT, "--target", "macs=0.5", "--prune-at", "1", "--until", "nan"), "place: until is nan"),
        (("chipnet", *SHORT, "--target", "macs=nan"), "ChipNet: budget macs=nan"),
        (("chipnet", *SHORT, "--target", "macs=0.5", "--gate-lr", "0"), "chipnet's gates: lr is 0.0"),
        (("chipnet", *SHORT, "--target", "macs=0.5", "--gate-lr", "-1"), "chipnet's gates: lr is -1.0"),
        (("chipnet", *SHORT, "--target", "macs=0.5", "--crispness", "-5"), "chipnet's weights: crispness is -5.0"),
        (("chipnet", *SHORT, "--target", "macs=0.5", "--budget", "inf"), "chipnet's weights: budget is inf"),
        (("finetune", *SHORT, "--until", "-1"), "place: until is -1.0"),
        (("finetune", *SHORT, "--task", "missing.py:Task"), "missing.py: no such file"),
        (("finetune", *SHORT, "--mask", "missing.json"), "cannot read the mask"),
        (("finetune", *SHORT, "--weights", "missing.pt"), "missing.pt: no such file"),
        (("finetune", "--epochs", "0"), "epochs is 0"),
        (("finetune", *SHORT, "--device", "cuda"), "torch finds no GPU"),
    ],
)
def test_refusals(run, tmp_path, arguments, message):
    result = run(*arguments, "-o", str(tmp_path / "out"))
    assert result.exit_code == 2 and message in result.stderr, result.output
    assert "fix: " in result.stderr and "Traceback" not in result.output


OUT_OF_REACH = (*SHORT, "--target", "macs=0.0001")


@pytest.mark.parametrize(
    ("arguments", "fix"),
    [
        (("slim", "--prune-at", "1"), "raise the target"),
        (("slim", "--prune-at", "1", "--min-keep", "2"), "raise the target, or lower --min-keep"),
        (
            ("slim", "--prune-at", "1", "--strategy", "regular"),
            "raise the target, or take all groups with --strategy slim",
        ),
        (("chipnet",), "raise the target"),
        (("chipnet", "--round-to", "4"), "raise the target, or lower --round-to"),
    ],
)
def test_the_advice_on_a_target_out_of_reach_is_what_the_verb_has(run, tmp_path, arguments, fix):
    result = run(*arguments, *OUT_OF_REACH, "-o", str(tmp_path / "out"), "--json")
    told = json.loads(result.stdout)
    assert result.exit_code == 2 and "no structure meets macs=0.0001" in told["error"] and told["fix"] == fix


TASK = """
from onnxprune.torch.tasks import Digits
class Lost(Digits):
    def data(self, split):
        return open(f"/nonexistent/{split}")
"""


def test_what_fails_in_a_task_is_told_as_one_document(run, tmp_path):
    (tmp_path / "task.py").write_text(TASK)
    result = run("finetune", *SHORT, "--task", f"{tmp_path}/task.py:Lost", "-o", str(tmp_path / "out"), "--json")
    what = f"Lost.data('train') failed at {tmp_path}/task.py:5: FileNotFoundError"
    assert result.exit_code == 2 and json.loads(result.stdout)["error"].startswith(what)


def test_without_torch_the_fix_is_named(monkeypatch):
    monkeypatch.setattr(training, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="training needs torch") as error:
        training.require_torch()
    assert "onnxprune[torch]" in error.value.fix


def test_the_command_line_itself_needs_no_torch():
    words = [sys.executable, "-c", "import sys, onnxprune.cli; print('torch' in sys.modules)"]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "False\n"
