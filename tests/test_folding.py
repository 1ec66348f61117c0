"""Constant branches that mix elements: folded, pruned, and proven against the original as it was."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import numpy_helper

import onnxprune
from onnxprune.cli import application
from onnxprune.folding import fold_constants
from onnxprune.graph import Graph
from tests.independent import run, tensors
from tests.micrographs import REGISTRY
from tests.micrographs.build import Arrays, ints, weights
from tests.pruning import model_of

IMAGE = "float[2, 3, 8, 8] x"
# Running statistics of their own: onnxruntime updates them in place.
PLAIN = {"one": np.ones(6, np.float32), "zero": np.zeros(6, np.float32)}
PLAIN |= {"mean": np.zeros(6, np.float32), "var": np.ones(6, np.float32)}
ENDS = weights(w0=(8, 3, 3, 3), v=(6, 8, 3, 3), w2=(5, 6, 1, 1), gain=(6, 1, 1, 1))

STANDARDISED = """
    flat = Reshape (v, rows)
    normal, m, d = BatchNormalization <training_mode = 1> (flat, one, zero, mean, var)
    back = Reshape (normal, whole)
    w1 = Mul (back, gain)
"""
WEIGHT_NORM = """
    norm = ReduceL2 <axes = [1, 2, 3]> (v)
    direction = Div (v, norm)
    w1 = Mul (direction, gain)
"""
NETWORK = """
    a = Conv (x, w0)
    s = Sigmoid (a)
    b = Conv (s, w1)
    t = Sigmoid (b)
    y = Conv (t, w2)
"""
SHAPES = ints(rows=[1, 6, -1], whole=[6, 8, 3, 3])
BRANCHES: dict[str, tuple[str, Arrays, set[str], set[str]]] = {
    # The branch, what it reads, what is stored instead, and which stored tensors are gone.
    "standardised": (STANDARDISED, SHAPES | PLAIN, {"normal"}, {"v", "rows", *PLAIN}),
    "weight norm": (WEIGHT_NORM, {}, {"norm"}, set()),
}
every_branch = pytest.mark.parametrize("name", BRANCHES)


def network(name: str, **head: object) -> onnxprune.Model:
    branch, arrays, _, _ = BRANCHES[name]
    return model_of(branch + NETWORK, ENDS | arrays, IMAGE, **({"opset": 15} | head))


@every_branch
def test_what_is_stored_and_what_is_gone(name: str) -> None:
    model = network(name)
    before = model.proto.SerializeToString()
    folded = fold_constants(Graph(model))
    _, _, added, gone = BRANCHES[name]
    assert set(tensors(folded.proto)) == (set(tensors(model.proto)) | added) - gone
    onnx.checker.check_model(folded.proto, full_check=True)
    feeds = {"x": np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)}
    np.testing.assert_allclose(run(folded.proto, feeds)[0], run(model.proto, feeds)[0], rtol=1e-4, atol=1e-5)
    assert model.proto.SerializeToString() == before


@every_branch
def test_both_sides_of_the_weight_are_pruned_exactly(name: str) -> None:
    model = network(name)
    analysis = onnxprune.analyze(model, fold=True)
    assert sorted(group.size for group in analysis.groups) == [6, 8]
    assert analysis.original is model and set(analysis.folded) == BRANCHES[name][2]
    for seed in range(3):
        mask = onnxprune.choose(analysis, keep=0.5, score="random", seed=seed)
        pruned = onnxprune.apply(model, mask, analysis=analysis)
        certificate = onnxprune.verify(model, pruned, mask)
        assert certificate.exact and certificate.error < 1e-6 < certificate.mask_effect
    (entry,) = pruned.proto.metadata_props
    assert all(f'"{added}"' in entry.value for added in BRANCHES[name][2])


@every_branch
def test_a_tensor_that_was_computed_elsewhere_may_differ_by_rounding_alone(name: str) -> None:
    model = network(name)
    mask = onnxprune.choose(onnxprune.analyze(model, fold=True), keep=0.5)
    pruned = onnxprune.apply(model, mask)
    (added,) = BRANCHES[name][2]
    held = next(t for t in pruned.proto.graph.initializer if t.name == added)
    array = numpy_helper.to_array(held)
    for factor, exact in ((1 + 2e-7, True), (1.01, False)):
        held.CopyFrom(numpy_helper.from_array((array * factor).astype(np.float32), added))
        certificate = onnxprune.verify(model, pruned, mask)
        assert certificate.exact is exact and (repr(added) in certificate.first_difference) is not exact


def test_a_branch_with_another_reader_stays_for_it() -> None:
    """The norm is an output, too: the node that makes it stays, and so does what it reads."""
    model = model_of(WEIGHT_NORM + NETWORK + "z = Sigmoid (norm)", ENDS, IMAGE, outputs="float y, float z", opset=15)
    assert "v" in tensors(fold_constants(Graph(model)).proto)
    both = model_of(WEIGHT_NORM + NETWORK, ENDS, IMAGE, outputs="float y, float norm", opset=15)
    folded = fold_constants(Graph(both))
    assert [n.op_type for n in folded.proto.graph.node if "norm" in n.output] == []
    onnx.checker.check_model(folded.proto, full_check=True)


def test_old_files_list_what_is_stored_as_inputs() -> None:
    model = network("standardised", ir=3)
    listed = [onnx.helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in model.proto.graph.initializer]
    model.proto.graph.input.extend(listed)
    folded = fold_constants(Graph(model)).proto.graph
    assert {v.name for v in folded.input} == {"x", *(t.name for t in folded.initializer)}


def test_constants_in_nodes_go_with_the_branch() -> None:
    model = network("standardised")
    proto = model.proto
    moved = [t for t in proto.graph.initializer if t.name in ("rows", "one")]
    nodes = [onnx.helper.make_node("Constant", [], [t.name], value=t) for t in moved]
    rest = [t for t in proto.graph.initializer if t.name not in ("rows", "one")]
    body = [*nodes, *proto.graph.node]
    del proto.graph.initializer[:], proto.graph.node[:]
    proto.graph.initializer.extend(rest)
    proto.graph.node.extend(body)
    folded = fold_constants(Graph(model)).proto.graph
    assert "Constant" not in {n.op_type for n in folded.node}
    assert onnxprune.verify(
        model, onnxprune.apply(model, (mask := onnxprune.choose(onnxprune.analyze(model, fold=True), keep=0.5))), mask
    ).exact


def test_other_graphs_stay_as_they_are() -> None:
    models = {name: onnxprune.Model(builder().model) for name, builder in REGISTRY.items()}
    changed = {name for name, model in models.items() if fold_constants(Graph(model)) is not model}
    assert changed == {"weights_made_of_constants", "weights_scaled_over_inputs"}


def test_it_is_done_on_request_only() -> None:
    model = network("standardised")
    assert not {g.name for g in onnxprune.analyze(model).groups} and not onnxprune.analyze(model).folded
    plain = onnxprune.analyze(network("weight norm"))
    assert [g.name for g in plain.groups] == ["v"], "the norm freezes what it sums over"
    mask = onnxprune.choose(onnxprune.analyze(model, fold=True), keep=0.5)
    assert mask.fold and not onnxprune.choose(plain, keep=0.5).fold


def test_a_mask_file_says_whether_to_fold(tmp_path: Path) -> None:
    onnxprune.save(network("standardised"), tmp_path / "model.onnx")
    names = {name: str(tmp_path / name) for name in ("model.onnx", "mask.json", "small.onnx")}
    model, mask, small = names.values()
    for words in (
        ["mask", model, "--keep", "0.5", "--fold", "-o", mask],
        ["apply", model, "--mask", mask, "-o", small],
        ["verify", model, small, "--mask", mask],
    ):
        done = CliRunner().invoke(application, words)
        assert done.exit_code == 0, done.output
    assert tensors(onnx.load(small))["normal"].shape == (1, 3, 36)
