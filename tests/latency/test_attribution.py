"""Every microsecond has its node: operators of the optimised graph, told by the nodes of the exported model."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxprune
from onnxprune.latency.attribution import Attribution, GroupTime, Owners, Part, attribute, in_place
from onnxprune.latency.profile import profile, profiles
from onnxprune.latency.runtimes.ort_session import Session
from onnxprune.latency.segments import find_segments
from onnxprune.torch.exporting import export
from onnxprune.torch.tasks import Digits
from tests.latency.test_paired import perceptron
from tests.micrographs import REGISTRY

ZOO = Path(__file__).parents[2] / "models" / "zoo" / "resnet11_cifar10.onnx"


@pytest.fixture(scope="module")
def analysis():
    return onnxprune.analyze(onnxprune.load(ZOO))


@pytest.fixture(scope="module")
def found(analysis):
    return attribute(analysis, threads=1, seconds=0.1)


def test_nearly_all_time_is_attributed(found):
    assert found.attributed >= 0.95 and found.seconds > 0


def test_every_node_is_in_one_part(analysis, found):
    labels = [label for part in found.parts for label in part.nodes]
    assert len(labels) == len(set(labels))
    missing = {node.label for node in analysis.trace.graph.nodes} - set(labels)
    assert missing == {"/head/Transpose"}, "it is computed before the first run"


def test_layers_take_most_of_it_and_come_first(analysis, found):
    layers = {work.node.label for work in analysis.trace.work}
    led = [part for part in found.parts if part.nodes and part.nodes[0] in layers]
    assert {part.nodes[0] for part in led} == layers
    assert sum(part.seconds for part in led) > 0.7 * found.seconds


def test_what_a_layer_is_fused_with_belongs_to_it(found):
    (part,) = [p for p in found.parts if p.nodes and p.nodes[0] == "/stages/stages.0/conv1/conv1.0/Conv"]
    assert part.nodes[1:] == ("/stages/stages.0/conv1/conv1.1/BatchNormalization",)


def test_segments_take_the_whole_time_where_they_stand(analysis, found):
    segments = find_segments(analysis)
    placed = in_place(analysis, segments, np.ones(len(segments)), threads=1)
    assert found.seconds / 3 < placed.sum() < 3 * found.seconds, "another profile, on a machine that does other things"
    layers = {work.node.index for work in analysis.trace.work}
    having = [bool(layers & {node.index for node in segment.nodes}) for segment in segments]
    assert placed[having].min() > 0 and placed[having].sum() > 0.7 * placed.sum()


def test_what_is_fused_of_several_segments_is_shared_by_what_they_take_alone(analysis, monkeypatch):
    """All operators of the whole network as one, which takes a second."""
    segments = find_segments(analysis)
    monkeypatch.setattr(Owners, "of", lambda self, node: tuple(node.index for s in segments for node in s.nodes))
    kernel = profile(analysis.original, threads=1)[0]
    whole = [replace(kernel, seconds=np.ones(4))]
    monkeypatch.setattr("onnxprune.latency.attribution.profile", lambda *about: whole)
    alone = np.arange(len(segments), dtype=float)
    assert in_place(analysis, segments, alone) == pytest.approx(alone / alone.sum())
    assert in_place(analysis, segments, 0 * alone) == pytest.approx(np.full(len(segments), 1 / len(segments)))


def test_models_that_are_profiled_together_take_turns(analysis, monkeypatch):
    order, run = list[int](), Session.run
    monkeypatch.setattr(Session, "run", lambda self: (order.append(id(self)), run(self)))
    both = profiles([analysis.original] * 2, threads=1, seconds=0.05)
    counts = {len(kernel.seconds) for kernels in both for kernel in kernels}
    assert len(both) == 2 and len(counts) == 1
    turns = order[2:]  # after each has been prepared by a run
    assert len(set(turns)) == 2 and turns == turns[:2] * (len(turns) // 2)


def test_groups_share_the_whole_time(analysis, found):
    by_group = found.by_group()
    assert by_group.keys() == {group.name for group in analysis.groups}
    assert all(0 < spent.seconds < spent.touched < found.seconds for spent in by_group.values())
    assert sum(spent.seconds for spent in by_group.values()) + found.ungrouped == pytest.approx(found.seconds)
    assert sum(spent.touched for spent in by_group.values()) > found.seconds, "two groups pass most convolutions"


def test_a_convolution_is_half_of_what_it_reads_and_half_of_what_it_makes(found):
    (part,) = [p for p in found.parts if p.nodes and p.nodes[0] == "/stages/stages.0/conv1/conv1.0/Conv"]
    assert part.groups == {"stages.0.down.0": 0.5, "stages.0.conv1.0": 0.5}


def test_a_concat_is_shared_by_its_channels():
    model = onnxprune.Model(REGISTRY["inception"]().model)
    analysis = onnxprune.analyze(model)
    (concat,) = [node for node in analysis.trace.graph.nodes if node.op == "Concat"]
    shares = Owners(analysis).groups([concat.index])
    sizes = {group.name: group.size for group in analysis.groups if group.name in shares}
    assert len(shares) > 1 and shares == pytest.approx({n: size / sum(sizes.values()) for n, size in sizes.items()})


def test_what_passes_no_group_is_told_apart():
    shared, alone = Part(("a",), "Conv", 2.0, {"g": 0.25, "h": 0.75}), Part(("b",), "Relu", 4.0, {"g": 1.0})
    found = Attribution((shared, Part((), "Cast", 1.0, {}), alone))
    assert found.by_group() == {"g": GroupTime(4.5, 6.0), "h": GroupTime(1.5, 2.0)} and found.ungrouped == 1.0


def test_another_network_of_another_exporter():
    model = onnxprune.Model(export(Digits().model(), Digits().example(), mode="dynamo"))
    analysis = onnxprune.analyze(model, sizes={"*": 8})
    assert attribute(analysis, threads=1, seconds=0.05).attributed >= 0.95


def test_nodes_without_names(tmp_path):
    onnx.save(perceptron(256), tmp_path / "m.onnx")
    analysis = onnxprune.analyze(onnxprune.load(tmp_path / "m.onnx"), sizes={"*": 64})
    found = attribute(analysis, threads=1, seconds=0.05)
    assert found.attributed == 1
    assert {label for part in found.parts for label in part.nodes} == {"a", "b", "y"}


def test_half_precision_that_is_cast_to_run(tmp_path):
    proto = perceptron(256)
    for tensor in proto.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    onnx.save(proto, tmp_path / "m.onnx")
    found = attribute(onnxprune.analyze(onnxprune.load(tmp_path / "m.onnx"), sizes={"*": 64}), 1, 0.05)
    led = {part.nodes[0] for part in found.parts if part.nodes}
    assert {"a", "y"} <= led and found.attributed > 0.5


def test_what_runs_in_branches_is_counted_once(tmp_path):
    """The time of an If holds that of its branches, whose operators have events, too."""
    inner = onnx.parser.parse_graph("then () => (float[512, 512] t) { t = MatMul(w, w) }")
    other = onnx.parser.parse_graph("else () => (float[512, 512] e) { e = Identity(w) }")
    node = onnx.helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=other)
    weight = numpy_helper.from_array(np.ones((512, 512), np.float32), "w")
    graph = onnx.helper.make_graph(
        [node],
        "net",
        [onnx.helper.make_tensor_value_info("c", onnx.TensorProto.BOOL, [])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [512, 512])],
        [weight],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    kernels = profile(onnxprune.Model(model), threads=1)
    assert [kernel.op for kernel in kernels] == ["If"]


def test_operators_that_nothing_tells_of_belong_to_nobody(analysis):
    assert Owners(analysis).of(onnx.helper.make_node("Add", ["p", "q"], ["r"], name="new")) == ()
