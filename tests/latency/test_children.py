"""Work in processes of its own: results, errors and deaths."""

import os
import resource
import signal
import sys

import numpy as np
import onnx
import pytest

import onnxprune
from onnxprune.errors import ModelError, UsageError
from onnxprune.execution import random_inputs
from onnxprune.latency import Setting
from onnxprune.latency.children import OUT_OF_MEMORY, death, run_alone
from onnxprune.latency.memory import peak_memory
from tests.latency.test_paired import perceptron


def double(array, progress=None):
    if progress is not None:
        progress(0.5)
    return os.getpid(), 2 * array


def complain():
    raise UsageError("it is wrong", "put it right")


def stumble():
    print("words on the way", file=sys.stderr)
    return {}["key"]


def die(number):
    os.write(2, b"last words\n\n")
    os.kill(os.getpid(), number)


def hunger():
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
    return np.ones(1 << 30).sum()


def named(models):
    return [(m.path.name, m.mapped, len(m.proto.graph.node)) for m in models]


def test_the_result_comes_from_another_process():
    shares: list[float] = []
    number, array = run_alone(double, np.arange(3), progress=shares.append)
    assert number != os.getpid() and array.tolist() == [0, 2, 4] and shares == [0.5]
    assert run_alone(double, 2)[1] == 4


def test_its_errors_are_those_of_the_work():
    with pytest.raises(UsageError) as caught:
        run_alone(complain)
    assert (caught.value.what, caught.value.fix) == ("it is wrong", "put it right")


def test_a_bug_is_told_as_one_and_words_on_the_way_are_passed_on(capfd):
    with pytest.raises(onnxprune.OnnxPruneError, match="internal error, a bug in onnxprune: KeyError: 'key'"):
        run_alone(stumble)
    assert capfd.readouterr().err == "words on the way\n"


@pytest.mark.parametrize(
    ("number", "fix"),
    [
        (signal.SIGSEGV, "another version"),
        (signal.SIGABRT, "another version"),
        (signal.SIGKILL, "want of memory"),
        (signal.SIGTERM, "somebody ended it"),
    ],
)
def test_a_death_is_an_error_with_the_signal_and_the_last_words(number, fix):
    with pytest.raises(ModelError, match=f"died by {number.name}: last words") as caught:
        run_alone(die, number)
    assert fix in caught.value.fix


def test_an_exit_is_a_death():
    with pytest.raises(ModelError, match=r"died with exit status 7"):
        run_alone(os._exit, 7)


def test_memory_that_runs_out_is_told():
    with pytest.raises(UsageError, match="out of memory") as caught:
        run_alone(hunger)
    assert caught.value.fix == OUT_OF_MEMORY
    assert death(-6, "terminate called after throwing an instance of 'std::bad_alloc'").fix == OUT_OF_MEMORY


def test_models_travel(tmp_path):
    onnx.save(perceptron(512), tmp_path / "m.onnx")
    model = onnxprune.load(tmp_path / "m.onnx")
    assert run_alone(named, [model, model]) == [("m.onnx", None, 3)] * 2


def test_peak_memory_grows_with_the_model(tmp_path):
    def taken(width):
        onnx.save(perceptron(width, inputs=1024), tmp_path / "m.onnx")
        model = onnxprune.load(tmp_path / "m.onnx")
        return peak_memory(model, "cpu", random_inputs(model, 0, {"*": 1}), Setting(threads=1))

    small, large = taken(8), taken(16384)
    assert large - small > 0.9 * 16384 * 1024 * 4, "it holds the weights, at least"
