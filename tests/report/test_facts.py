"""The facts that make a measured time reproducible: all of them, in every format, known or not."""

import json
import re
from dataclasses import replace

import pytest

from onnxprune.latency import Input
from onnxprune.latency.machine import Watch
from onnxprune.latency.runtimes.base import Apart
from onnxprune.report import Bench, Choice, choose, render, sheet
from onnxprune.report.facts import FACTS, UNKNOWN, facts_table
from onnxprune.report.files import document
from onnxprune.report.markdown import escape
from tests.report.test_formats import Page
from tests.timings import comparison, timing

WANTED = """
model SHA-256; opset; shapes; types; input data; provider; fell back; provider options; versions; device; clocks are;
clocks seen; power, temperature, throttling; other processes; threads; warm-up; samples; stop rule; percentiles; apart;
I/O binding; CUDA graph; caches, cold or warm; build and first run; peak memory; ratio; outputs
"""
"""What is asked of a report, in its order."""

SILENT = comparison(timing("a.onnx", 0.01, 1.0, 0.02, 0.03), timing("b.onnx", 0.008, 0.8, 0.01, 0.02))
"""Of a runtime and a machine that tell as little as they may."""

GPU = {
    "name": "NVIDIA H200",
    "clocks": "locked",
    "clock_mhz": [1410, 1980],
    "memory_clock_mhz": [2619, 2619],
    "power_w": [312.5, 498.0],
    "power_limit_w": 700.0,
    "temperature_c": [51, 61],
    "throttling": ["power cap"],
    "other_processes": 2,
}
MACHINE = {
    "clocks": "floating",
    "clock_mhz": [800, 3500],
    "power_w": 45.5,
    "temperature_c": [40, 44],
    "throttlings": 3,
    "cores_busy_with_other_work": 0.25,
    "other_processes": [{"name": "cc1plus", "cores": 0.2}],
    "affinity": [2, 3],
    "gpu": GPU,
}
TOLD = {
    "sha256": {"a.onnx": "ab12", "a.bin": "cd34"},
    "opset": 17,
    "fallback": 3,
    "nodes": {"Conv_1": "CUDAExecutionProvider", "Shape_2": "CPUExecutionProvider"},
    "placement": {"CUDAExecutionProvider": 40, "CPUExecutionProvider": 3},
    "memory": 123_400_000,
    "cache": "warm",
    "apart": Apart(0.0011, 0.0083, 0.0027),
    "covered": 0.97,
}
LOUD = replace(
    comparison(*(replace(t, **TOLD) for t in SILENT.models)),
    machine=MACHINE,
    asked="cuda",
    precision="fp32",
    binding=True,
    graph=False,
    inputs=(Input("image", (8, 3, 224, 224), "float32"),),
    data="random",
    seed=7,
    threads=4,
    options={"CUDAExecutionProvider": {"use_tf32": "0"}},
    versions={"onnxruntime": "onnxruntime-gpu 1.24", "cuda": "12.8", "cudnn": "9.8"},
    device="NVIDIA H200 (0, GPU-1)",
    warm_up_rule="until settled",
    stop_rule="after 10 s",
)
"""Of one that tells all; its words are in the report below."""
WORDS = """
ab12, a.bin cd34; 17; image 8x3x224x224; image float32; computed in fp32; random; seed 7; asked for: cuda;
40 nodes on CUDAExecutionProvider, 3 nodes on CPUExecutionProvider; CUDAExecutionProvider: use_tf32=0;
onnxruntime-gpu 1.24, cuda 12.8, cudnn 9.8, TensorRT unknown, driver unknown; NVIDIA H200 (0, GPU-1); CPU: floating;
GPU: locked; CPU: 800 to 3500 MHz; GPU: 1410 to 1980 MHz, memory 2619 MHz; CPU: power 45.5 W,
temperature 40 to 44 °C, throttling 3 times; GPU: power 312.5 to 498 W of 700 W, temperature 51 to 61 °C,
throttling power cap;
0.25 cores busy with other work (cc1plus 0.2); 2 use it; 4; allowed on cores 2, 3; until settled (3 rounds were);
11 runs of every model; after 10 s; it ended after 11 rounds; p50 10 (10 to 10); max 30 (95% sure to cover 97% of runs);
host 1.1 ms, device 8.3 ms, copy 2.7 ms; on: inputs and outputs stay on the device; engines: warm;
build 100 ms, first run 10 ms; 123.4 MB; b.onnx: 0.8000 (0.8000 to 0.8000); a.onnx by itself (A/A floor): 1.0000
"""


def split(text):
    return " ".join(text.split()).split("; ")


def has(content, path):
    """Whether a document has a field; lists are looked into, and objects may have any names."""
    for name in path.split("."):
        content = content[name.removesuffix("[]")]
        if name.endswith("[]"):
            if not content:
                return True
            content = content[0]
    return True


REPORTS = {
    "bench": lambda found: Bench(found),
    "compare": lambda found: choose([found], {"a.onnx": 0.9, "b.onnx": 0.8}),
}


@pytest.fixture(params=REPORTS)
def kind(request):
    return REPORTS[request.param]


def test_the_list_is_whole():
    names = [fact.name for fact in FACTS]
    assert len(names) == len(set(names)) == len(split(WANTED))
    assert all(wanted in name for wanted, name in zip(split(WANTED), names, strict=True))


@pytest.mark.parametrize("found", [SILENT, LOUD], ids=["silent", "loud"])
@pytest.mark.parametrize("fact", FACTS, ids=[fact.name for fact in FACTS])
def test_every_format_has_the_fact(fact, found, kind, tmp_path):
    report = kind(found)
    (row,) = [row for row in facts_table(found).rows if row[0] == fact.name]
    assert row[1].texts and all(row[1].texts), "never left out, and never empty"
    page = Page(render(report, tmp_path / "r.html"))
    assert {fact.name, *row[1].texts} <= set(page.texts)
    text = render(report, tmp_path / "r.md")
    assert f"| {escape(fact.name)} | {'<br>'.join(map(escape, row[1].texts))} |" in text
    content = json.loads(render(report, tmp_path / "r.json"))
    content = content["measurements"][0] if isinstance(report, Choice) else content
    assert fact.fields and all(has(content, path) for path in fact.fields if not path.startswith("machine."))
    assert all(has(MACHINE, path.removeprefix("machine.")) for path in fact.fields if path.startswith("machine."))


def test_what_is_not_told_is_called_unknown():
    told = {row[0]: str(row[1]) for row in facts_table(SILENT).rows}
    silent = ("model SHA-256", "opset", "input shapes", "nodes that fell back", "device", "peak memory", "clocks are")
    assert all(told[name].removeprefix("CPU: ") == UNKNOWN for name in silent), told
    assert told["power, temperature, throttling"] == "CPU: power unknown, temperature unknown, throttling unknown"
    on_gpu = {row[0]: str(row[1]) for row in facts_table(replace(SILENT, binding=False)).rows}
    assert on_gpu["clocks seen"] == "CPU: unknown; GPU: unknown"
    assert on_gpu["host, device and copies apart"] == UNKNOWN


def test_what_is_told_is_said():
    text = "; ".join(str(cell) for row in facts_table(LOUD).rows for cell in row)
    assert [words for words in split(WORDS) if words not in text] == []


def test_models_that_differ_are_told_one_by_one():
    first, second = SILENT.models
    found = replace(SILENT, models=(first, replace(second, opset=18)))
    (row,) = [row for row in facts_table(found).rows if row[0] == "opset"]
    assert row[1].texts == ("a.onnx: unknown", "b.onnx: 18")


def test_the_provider_of_every_node_is_on_the_page():
    tables = {table.title: table for table in sheet(Bench(LOUD)).tables}
    rows = tables["Provider of every node"].rows
    assert ("a.onnx", "Shape_2", "CPUExecutionProvider") in rows and len(rows) == 4
    assert "Provider of every node" not in {table.title for table in sheet(Bench(SILENT)).tables}


def test_what_facts_name_of_a_machine_is_what_a_watch_finds():
    with Watch() as watch:
        pass
    named = {path.removeprefix("machine.") for fact in FACTS for path in fact.fields if path.startswith("machine.")}
    assert named <= watch.found().keys() == MACHINE.keys()


def test_documents_are_plain(tmp_path):
    assert re.search(r'"apart": \{"host": 0\.0011', document(Bench(LOUD).to_json()))
