"""The command as a process: help, exit statuses, errors nobody foresaw, interrupts, pipes, terminals."""

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
from importlib.metadata import version

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner

import onnxprune
from onnxprune.cli import VERBS, application
from onnxprune.torch.binding import bind
from onnxprune.torch.tasks import Digits
from tests.cli.conftest import contents, network
from tests.latency.pretended import pretend

COMMAND = [sys.executable, "-m", "onnxprune.cli"]
NAMES = [verb.name for verb in VERBS]


# Help -----------------------------------------------------------------------------------------------------------


def test_help_lists_all_verbs_the_whole_job_first(run):
    for words in (["--help"], ["-h"], []):
        done = run(*words)
        assert done.exit_code == 0
        listed = re.findall(r"^  (\w+)  +\S", done.stdout.partition("Commands:")[2], re.M)
        assert listed == NAMES
        assert NAMES[:7] == ["prune", "analyze", "mask", "apply", "verify", "bench", "compare"]
        assert NAMES[7:] == ["slim", "chipnet", "search", "finetune"]
        assert "..." not in done.stdout.partition("Commands:")[2]


def options_in(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", text))


@pytest.mark.parametrize("verb", VERBS, ids=NAMES)
def test_help_teaches(verb):
    done = CliRunner().invoke(application, [verb.name, "--help"])
    assert done.exit_code == 0
    examples = re.findall(rf"^    onnxprune {verb.name} .*$", done.stdout, re.M)
    assert examples and "Example" in done.stdout
    declared = {name for param in verb.params for name in (*param.opts, *param.secondary_opts)} | {"--help"}
    assert options_in(done.stdout) <= declared
    assert {"--json", "--debug", "--quiet", "--help"} <= options_in(done.stdout)
    assert all(param.help for param in verb.params if param.param_type_name == "option")


TRAINING = ("slim", "chipnet", "finetune")
TIMING = ("bench", "compare")
BRIEFLY = {name: ["--seconds", "0", "--no-memory"] for name in TIMING} | {name: ["--until", "0"] for name in TRAINING}
BRIEFLY["search"] = ["--evaluations", "2", "--sources", "2", "--measured", "20"]


def prepare_training(folder):
    """The task, weights, mask and samples that the examples name."""
    (folder / "task.py").write_text("from onnxprune.torch.tasks import Digits as Cifar\n")
    (folder / "dense").mkdir()
    net = Digits().model()
    for path in (folder / "best.pt", folder / "dense" / "best.pt"):
        torch.save(net.state_dict(), path)
    mask = onnxprune.choose(bind(net, Digits().example()).analysis, keep=0.5)
    (folder / "mask.json").write_text(json.dumps(mask.to_json()))
    np.savez(folder / "samples.npz", inputs=np.ones((20, 3, 8, 8), np.float32), labels=np.arange(20) % 5)


@pytest.mark.parametrize("verb", VERBS, ids=NAMES)
def test_the_examples_of_the_help_run(verb, run, folder, monkeypatch):
    pretend(monkeypatch, block=1, unit=1e-3)  # so small a network takes no time for its work
    onnx.save(network(width=32, second=32), folder / "model.onnx")
    run("prune", "model.onnx", "--keep", 0.5, "-o", "small.onnx", "--save-mask", "mask.json")
    if verb.name in (*TRAINING, "search", "compare"):
        prepare_training(folder)
    if verb.name == "compare":
        run("bench", "model.onnx", "small.onnx", "--size", "batch=1", "--runs", 2, "--report", "times.json")
    help = CliRunner().invoke(application, [verb.name, "--help"]).stdout
    for line in re.findall(rf"^    onnxprune ({verb.name} .*)$", help, re.M):
        words = shlex.split(line.partition(" |")[0])
        words += BRIEFLY.get(verb.name, [])
        done = run(*words)
        assert done.exit_code == 0, f"{line}: {done.output}"


def test_version(run):
    assert run("--version").stdout.strip().endswith(version("onnxprune"))


# Errors nobody foresaw ------------------------------------------------------------------------------------------


@pytest.fixture
def broken(monkeypatch):
    def fail(*args, **kwargs):
        raise KeyError("deep\ninside")

    monkeypatch.setattr("onnxprune.api.analyze", fail)


def test_a_bug_is_one_line_with_the_way_to_its_traceback(run, broken):
    done = run("analyze", "model.onnx")
    assert done.exit_code == 2 and "Traceback" not in done.output
    assert re.fullmatch(r"error: internal error, a bug in onnxprune: KeyError: .*\nfix: .*--debug.*\n", done.stderr)


def test_debug_shows_the_traceback(run, broken):
    done = run("analyze", "model.onnx", "--debug")
    assert done.exit_code == 2 and "Traceback" in done.stderr and "KeyError" in done.stderr
    done = run("analyze", "no.onnx", "--debug")
    assert done.exit_code == 2 and "Traceback" in done.stderr and "error: no.onnx: no such file" in done.stderr


def test_out_of_memory_is_not_called_a_bug(run, monkeypatch):
    def fail(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr("onnxprune.api.analyze", fail)
    done = run("analyze", "model.onnx")
    assert done.exit_code == 2 and done.stderr.startswith("error: out of memory\n")


def test_names_in_a_model_cannot_steer_the_terminal(run, folder):
    os.rename(folder / "model.onnx", folder / "\x1b[31m.onnx")
    done = run("analyze", "\x1b[31m.onnx")
    assert done.exit_code == 0 and "\x1b" not in done.stdout
    assert "\x1b" not in run("analyze", "\x1b[31mno.onnx").stderr


def test_names_with_brackets_are_shown_as_they_are(run, folder):
    os.rename(folder / "model.onnx", folder / "[red]m[0].onnx")
    assert "[red]m[0].onnx: 715 parameters" in run("analyze", "[red]m[0].onnx").stdout


# Processes ------------------------------------------------------------------------------------------------------


def test_exit_statuses_of_the_process(folder):
    for words, status in [(["analyze", "model.onnx"], 0), (["analyze", "no.onnx"], 2)]:
        done = subprocess.run([*COMMAND, *words], capture_output=True, text=True)
        assert done.returncode == status
        assert ("error: no.onnx: no such file" in done.stderr) == (status == 2)


WAITING = """
import signal, time, sys, onnxprune.saving
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells start background jobs with it ignored
def wait(file): print("ready", file=sys.stderr, flush=True); time.sleep(60)
onnxprune.saving._flush = wait  # a temporary file is half-written now
from onnxprune.cli import main
main()
"""


def test_ctrl_c_ends_with_130_and_leaves_nothing(folder):
    before = contents(folder)
    words = [sys.executable, "-c", WAITING, "prune", "model.onnx", "--keep", "0.5", "-o", "small.onnx"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr.readline() == "ready\n" and len(contents(folder)) == 2
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130 and out == ""
    assert err.lstrip() == "error: interrupted\nfix: nothing was half-written; run it again\n"
    assert contents(folder) == before


def test_a_reader_that_leaves_does_not_change_the_status(folder, pruned):
    words = [*COMMAND, "verify", "model.onnx", "small.onnx", "--mask", "mask.json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        err = process.stderr.read()
    assert (process.returncode, err) == (0, "")


def test_output_that_the_terminal_cannot_show(folder):
    done = subprocess.run(
        [*COMMAND, "mask", "model.onnx", "--keep", "0.5", "-o", "mask.json"],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 0 and b"conv1.w" in done.stdout


def test_progress_is_shown_on_a_terminal_only(folder, pruned):
    words = [*COMMAND, "bench", "model.onnx", "small.onnx", "--seconds", "0.5", "--size", "batch=1"]
    assert subprocess.run(words, capture_output=True, text=True).stderr == ""
    master, slave = pty.openpty()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=slave, env=os.environ | {"TERM": "xterm"})
    os.close(slave)
    shown = b"".join(iter(lambda: _read(master), b""))
    assert process.wait(30) == 0
    assert b"timing" in shown and b"left" in shown


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError:  # what Linux gives at the end of a terminal
        return b""


def test_the_command_line_needs_no_onnxruntime_to_analyze(folder):
    code = "import sys; sys.modules['onnxruntime'] = None; from onnxprune.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "analyze", "model.onnx"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
