"""Where models run and on what: what the options mean, and what they refuse."""

from pathlib import Path

import click
import numpy as np
import onnx
import pytest

import onnxprune
from onnxprune.cli.kinds import Cpus, Shape, Sizes, Sweep
from onnxprune.cli.running import Running, run
from onnxprune.errors import UsageError
from onnxprune.latency import Plan, Setting
from onnxprune.latency.runtimes.base import Range
from tests.cli.conftest import document, network

QUICK = ("--runs", 2, "--no-memory", "--threads", 1)


def parsed(*words) -> Running:
    """The bundle that some words make."""

    @click.command()
    @run
    def verb(run: Running) -> Running:
        return run

    return verb.main([str(word) for word in words], standalone_mode=False)


@pytest.fixture
def model(tmp_path):
    onnx.save(network(), tmp_path / "m.onnx")
    return onnxprune.load(tmp_path / "m.onnx")


def test_every_setting_is_an_option(tmp_path):
    words = "--threads 3 --device 1 --precision fp16 --tf32 --nhwc --cudnn-search heuristic --cuda-graph --no-binding"
    found = parsed(*words.split(), "--fallback", "--cache", tmp_path, "--engine-range", "batch=1:8:64").setting
    assert found == Setting(
        threads=3,
        device=1,
        precision="fp16",
        tf32=True,
        nhwc=True,
        search="heuristic",
        graph=True,
        binding=False,
        fallback=True,
        cache=Path(tmp_path),
        ranges={"batch": Range(1, 8, 64)},
    )
    assert parsed().setting == Setting() and parsed().runtime == ("cpu",)


def test_plans_are_all_combinations(model):
    words = "--runtime cpu --runtime torch --sweep batch=1,8 --sweep precision=fp32,bf16 --cpus 0-1"
    found = parsed(*words.split()).plans(model, Plan(seconds=3))
    told = [(p.runtime, p.sizes["batch"], p.setting.precision) for p in found]
    assert told[:4] == [("cpu", 1, "fp32"), ("cpu", 1, "bf16"), ("cpu", 8, "fp32"), ("cpu", 8, "bf16")]
    assert len(set(told)) == 8 and {p.runtime for p in found[4:]} == {"torch"}
    assert all(p.seconds == 3 and p.cpus == (0, 1) for p in found)


def test_each_of_several_runtimes_gets_what_it_takes(model):
    words = ["--runtime", "cpu", "--runtime", "cuda", "--runtime", "tensorrt", "--threads", "2", "--tf32"]
    settings = {p.runtime: p.setting for p in parsed(*words).plans(model, Plan())}
    assert settings == {
        "cpu": Setting(threads=2),
        "cuda": Setting(threads=2, tf32=True),
        "tensorrt": Setting(tf32=True),
    }
    with pytest.raises(UsageError, match="none of these runtimes takes nhwc"):
        parsed("--runtime", "cpu", "--runtime", "tensorrt", "--nhwc").plans(model, Plan())


def test_sizes_that_change_together(model):
    found = parsed("--sweep", "height+width=8,16", "--sweep", "threads=0,2").plans(model, Plan())
    assert [(p.sizes, p.setting.threads) for p in found] == [
        ({"height": size, "width": size}, threads) for size in (8, 16) for threads in (0, 2)
    ]


def test_shapes_and_inputs_are_sizes(model, tmp_path):
    assert parsed("--shape", "x=4x3x8x8").plans(model, Plan())[0].sizes == {"batch": 4}
    array = np.zeros((5, 3, 8, 8), np.float32)
    np.savez(tmp_path / "i.npz", x=array)
    (plan,) = parsed("--inputs", tmp_path / "i.npz").plans(model, Plan())
    assert plan.sizes == {"batch": 5} and (plan.inputs["x"] == array).all()


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ("--sweep batch=1,8 --sweep batch=2", "--sweep batch is given twice"),
        ("--sweep batch=1,8 --shape x=2x3x8x8", "'batch' is swept, and has a size already"),
        ("--runtime cpu --runtime cpu", "a runtime is given twice"),
        ("--shape x=2x3x8", "shape 2x3x8 does not fit batchx3x8x8"),
    ],
)
def test_what_contradicts_itself_is_refused(model, words, what):
    with pytest.raises(UsageError, match=what):
        parsed(*words.split()).plans(model, Plan())


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Sweep(), "batch=1,8", (("batch",), (1, 8))),
        (Sweep(), "precision=fp32", (("precision",), ("fp32",))),
        (Shape(), "1x3x224x224", (1, 3, 224, 224)),
        (Sizes(), "1:8:64", Range(1, 8, 64)),
        (Cpus(), "3,0-1,1", (0, 1, 3)),
    ],
)
def test_what_is_written_is_read(kind, text, value):
    assert kind.convert(text, None, None) == value


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Sweep(), "batch"),
        (Sweep(), "batch="),
        (Sweep(), "=1"),
        (Sweep(), "batch=1,1"),
        (Sweep(), "batch=0"),
        (Sweep(), "a++b=1"),
        (Sweep(), "precision=fp8"),
        (Sweep(), "precision+batch=1"),
        (Shape(), "1x0"),
        (Shape(), "1,3"),
        (Sizes(), "1:8"),
        (Sizes(), "a"),
        (Cpus(), "0-"),
        (Cpus(), "-1"),
        (Cpus(), "one"),
    ],
)
def test_what_is_not_of_the_form_is_refused(kind, text):
    with pytest.raises(click.BadParameter):
        kind.convert(text, None, None)


def test_a_sweep_is_told_by_its_parts(run, pruned):
    done = run("bench", "model.onnx", "small.onnx", *QUICK, "--sweep", "batch=1,4", "--json")
    assert done.exit_code == 0, done.output
    content = document(done)
    assert (content["format"], content["version"]) == ("onnxprune-sweep", 1)
    assert [part["items"] for part in content["parts"]] == [1, 4]
    for part in content["parts"]:
        comparison = part["comparison"]
        assert comparison["sizes"] == {"batch": part["items"]} and part["error"] is None
        seconds = [each["seconds"]["median"] for each in comparison["models"]]
        assert part["items_per_second"] == pytest.approx([part["items"] / s for s in seconds])


def test_what_survives_is_shown_and_written(run, pruned):
    words = ("--runtime", "cpu", "--runtime", "tensorrt", "--size", "batch=2", "--report", "r.html")
    done = run("bench", "model.onnx", "small.onnx", *QUICK, *words)
    assert done.exit_code == 2 and "1 of 2 parts measured; 1 failed." in done.stdout
    page = Path("r.html").read_text()
    assert "cpu, batch=2" in page
    assert "All parts" in page
    assert "tensorrt is not installed" in page


def test_a_failed_part_counts_more_than_a_condition(run, pruned):
    words = (*QUICK, "--size", "batch=2", "--fail-if", "p50 > 0.0001x", "--runtime", "cpu")
    assert run("bench", "model.onnx", "small.onnx", *words).exit_code == 1
    done = run("bench", "model.onnx", "small.onnx", *words, "--runtime", "tensorrt")
    assert done.exit_code == 2 and "\ncpu, batch=2, fp32, threads=1: small.onnx" in done.stdout


def test_compare_takes_one_plan(run, pruned):
    done = run("compare", "model.onnx", "small.onnx", *QUICK, "--sweep", "batch=1,4")
    assert done.exit_code == 2 and "expected one runtime and no sweep, got 2 plans" in done.stderr
