"""Sweeps: parts that live and die apart."""

import multiprocessing
import os
from dataclasses import replace

import numpy as np
import onnx
import pytest

import onnxprune
from onnxprune.errors import UsageError
from onnxprune.latency import Plan, Setting, compare, sweep
from onnxprune.latency.ready import pinned
from onnxprune.report import render
from onnxprune.report.bench import Bench
from onnxprune.report.sweep import Swept, overview_table, sweep_tables
from tests.latency.test_paired import QUICK, perceptron


@pytest.fixture
def models(tmp_path):
    for name, width in (("a.onnx", 64), ("b.onnx", 8)):
        onnx.save(perceptron(width), tmp_path / name)
    return [onnxprune.load(tmp_path / name) for name in ("a.onnx", "b.onnx")]


def test_every_plan_has_a_part_and_a_failure_is_its_own(models):
    shares: list[float] = []
    plans = [replace(QUICK, sizes={"batch": 2}), replace(QUICK, sizes={"batch": 5}, setting=Setting(tf32=True))]
    found = sweep(models, [*plans, replace(plans[0], runtime="cuda")], shares.append)
    assert [part.error is None for part in found] == [True, False, False]
    assert [part.name for part in found] == [
        "cpu, batch=2, fp32, threads=1",
        "cpu, batch=5, fp32",
        "cuda, batch=2, fp32, threads=1",
    ]
    assert "does not take tf32" in found[1].error.what and "runtime 'cuda'" in found[2].error.what
    assert found[0].found.models[1].name == "b.onnx" and found[0].found.sizes == {"batch": 2}
    assert shares == sorted(shares) and shares[-1] <= 1


def test_throughput_counts_items(models):
    (part,) = sweep(models, [replace(QUICK, sizes={"batch": 6})])
    for timing, rate in zip(part.found.models, part.throughput, strict=True):
        assert rate.median == pytest.approx(6 / timing.seconds.median) and rate.low <= rate.median <= rate.high
    assert part.to_json()["items"] == 6 and part.to_json()["items_per_second"][0] == part.throughput[0].median


def test_a_process_that_dies_leaves_the_others(models):
    plans = [replace(Plan(seconds=60), sizes={"batch": 2}), replace(QUICK, sizes={"batch": 2})]

    def kill(share: float) -> None:
        """In the middle of the first part, which would go on for a minute."""
        if 0 < share < 0.4:
            for child in multiprocessing.active_children():
                child.kill()

    first, second = sweep(models, plans, kill)
    assert first.error is not None and "died by SIGKILL" in first.error.what
    assert second.found is not None and second.found.models[1].ratio.median > 0


def test_memory_that_runs_out_is_an_error_of_its_part(models):
    first, second = sweep(models, [replace(QUICK, sizes={"batch": 1 << 40}), replace(QUICK, sizes={"batch": 2})])
    assert first.error is not None and first.error.what == "out of memory" and second.found is not None


def test_what_fails_for_all_fails_before_the_first(models):
    with pytest.raises(UsageError, match="there is no plan"):
        sweep(models, [])
    with pytest.raises(UsageError, match="unknown runtime 'fast'"):
        sweep(models, [replace(QUICK, sizes={"batch": 1}), replace(QUICK, runtime="fast", sizes={"batch": 1})])
    with pytest.raises(UsageError, match=r"what is the size of x\[0\] \(batch\)"):
        sweep(models, [QUICK])


def test_own_inputs_are_what_is_run(models):
    inputs = {"x": np.zeros((3, 64), np.float32)}
    (part,) = sweep(models, [replace(QUICK, inputs=inputs)])
    assert part.items == 3 and part.found.data == "the user's own"
    assert part.found.inputs[0].shape == (3, 64) and part.found.models[1].difference == 0


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="processes are not pinned here")
def test_processors_are_pinned_recorded_and_set_free(models):
    before = os.sched_getaffinity(0)
    first = min(before)
    found = compare(models, replace(QUICK, cpus=(first,), sizes={"batch": 1}))
    assert found.machine["affinity"] == [first] and os.sched_getaffinity(0) == before
    with pytest.raises(UsageError, match="no processor 4096 here; there are"), pinned((4096,)):
        pass


def test_reports_of_sweeps(models, tmp_path):
    plans = [replace(QUICK, sizes={"batch": n}) for n in (1, 4)]
    parts = sweep(models, [*plans, replace(plans[0], runtime="cuda")])
    swept = Swept(parts, {part.name: Bench(part.found) for part in parts if part.found})
    assert len(overview_table(swept).rows) == 4 and len(sweep_tables(swept)[1].rows) == 1
    for ending in (".html", ".md", ".json"):
        text = render(swept, tmp_path / f"r{ending}")
        assert all(part.name in text for part in parts) and "CUDAExecutionProvider" in text
    assert [part["error"] is None for part in swept.to_json()["parts"]] == [True, True, False]
