"""The certificate: what it shows, and that each of its parts can fail."""

import dataclasses

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxprune
from onnxprune.errors import ModelError, VerificationError
from onnxprune.execution import observable, random_inputs, run
from onnxprune.mask import make_mask
from onnxprune.surgery import masked_reference
from tests.independent import tensors
from tests.micrographs.build import weights
from tests.pruning import model_of

TWO_LAYERS = """
    a = Conv (x, w0, b0)
    s = Sigmoid (a)
    y = Conv (s, w1)
"""
ARRAYS = weights(w0=(8, 3, 1, 1), b0=(8,), w1=(5, 8, 1, 1))
LABELS = """
    a = Conv (x, w0, b0)
    s = Sigmoid (a)
    c = Conv (s, w1)
    label = ArgMax <axis = 1> (c)
    y = Cast <to = 6> (label)
"""


def pruned_at_half(model: onnxprune.Model) -> tuple[onnxprune.Model, onnxprune.Mask]:
    mask = onnxprune.choose(onnxprune.analyze(model), keep=0.5)
    return onnxprune.apply(model, mask, verify=False), mask


def with_weight(model: onnxprune.Model, name: str, array: np.ndarray) -> onnxprune.Model:
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    held = next(t for t in proto.graph.initializer if t.name == name)
    held.CopyFrom(numpy_helper.from_array(array.astype(np.float32), name))
    return onnxprune.Model(proto)


def test_what_a_certificate_says() -> None:
    model = model_of(TWO_LAYERS, ARRAYS)
    pruned, mask = pruned_at_half(model)
    certificate = onnxprune.verify(model, pruned, mask)
    assert certificate.exact and certificate.same_graph
    assert certificate.error <= 1e-6 < certificate.mask_effect
    assert certificate.corruption is not None and certificate.corruption > 1e-3
    assert certificate.input_effect > 0.1
    assert certificate.inner == () and certificate.approximate == ()
    assert certificate.mask == mask.digest and certificate.model != certificate.pruned
    assert set(certificate.to_json()) == {f.name for f in dataclasses.fields(certificate)}
    certificate.raise_for_failure()


@pytest.mark.parametrize("name", ["w0", "b0", "w1"])
def test_one_other_channel_is_found(name: str) -> None:
    """In the file by comparing bits, and in the outputs by running."""
    model = model_of(TWO_LAYERS, ARRAYS)
    pruned, mask = pruned_at_half(model)
    axis = 1 if name == "w1" else 0
    array = tensors(pruned.proto)[name].copy()
    kept = np.flatnonzero(mask.groups[0].kept)
    removed = np.flatnonzero(~mask.groups[0].kept)
    np.moveaxis(array, axis, 0)[1] = ARRAYS[name].take([removed[0]], axis).swapaxes(0, axis)[0]
    assert len(kept) == array.shape[axis]
    certificate = onnxprune.verify(model, with_weight(pruned, name, array), mask)
    assert not certificate.exact and not certificate.same_graph
    assert repr(name) in certificate.first_difference
    assert certificate.error > certificate.tolerance
    with pytest.raises(VerificationError, match="not what the mask says"):
        certificate.raise_for_failure()


def test_labels_are_judged_by_their_logits() -> None:
    """An output of integers alone: the scores that the ArgMax reads are compared."""
    model = model_of(LABELS, ARRAYS, outputs="int32 y")
    pruned, mask = pruned_at_half(model)
    certificate = onnxprune.verify(model, pruned, mask)
    assert certificate.exact and certificate.inner == ("c",)
    shuffled = with_weight(pruned, "w1", tensors(pruned.proto)["w1"][:, ::-1])
    wrong = onnxprune.verify(model, shuffled, mask)
    assert not wrong.exact and wrong.error > wrong.tolerance


def test_inner_tensors_that_lose_channels_are_not_compared() -> None:
    """The labels come from a comparison of activations whose channels go: what goes in is compared instead."""
    body = """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        c = Conv (s, w1)
        n = Flatten (c)
        big = Greater (n, zero)
        y = Cast <to = 6> (big)
    """
    model = model_of(body, ARRAYS | {"zero": np.array(0, np.float32)}, outputs="int32 y")
    assert observable(onnxprune.analyze(model).trace) == ("n",)
    pruned, mask = pruned_at_half(model)
    assert onnxprune.verify(model, pruned, mask).exact


def test_floating_outputs_need_no_inner_tensors() -> None:
    model = model_of(TWO_LAYERS, ARRAYS)
    trace = onnxprune.analyze(model).trace
    assert observable(trace) == ()
    (outputs,) = run(model, [random_inputs(model, 0)], ["s"])
    assert [o.shape for o in outputs] == [(1, 5, 8, 8), (1, 8, 8, 8)]


def test_dead_channels_do_not_hide_that_the_check_can_fail() -> None:
    """Only the last of all channels is alive: some swapped pair must make a difference."""
    body = TWO_LAYERS.replace("Sigmoid", "Relu")
    bias = np.full(8, -100.0, np.float32)
    bias[[3, 7]] = 1.0
    model = model_of(body, ARRAYS | {"b0": bias})
    analysis = onnxprune.analyze(model)
    kept = np.array([True, True, True, True, False, False, False, False])
    mask = make_mask(analysis, {analysis.groups[0].name: kept}, {})
    certificate = onnxprune.verify(model, onnxprune.apply(model, mask, verify=False), mask)
    assert certificate.exact and certificate.corruption


def test_a_wrong_reference_differs_in_one_pair() -> None:
    model = model_of(TWO_LAYERS, ARRAYS)
    analysis = onnxprune.analyze(model)
    (atom,) = analysis.groups[0].atoms
    kept = {atom: np.arange(8) % 2 == 0}
    (place,) = [c for c in analysis.trace.contractions if c.node.label == analysis.groups[0].consumers[0]]

    def vector(n: int | None) -> list[int]:
        proto = masked_reference(model, analysis.trace, kept, None if n is None else (place, n))
        (mask,) = [a for name, a in tensors(proto).items() if name.endswith("/mask")]
        return np.flatnonzero(mask).tolist()

    assert vector(None) == [0, 2, 4, 6]
    assert vector(0) == [1, 2, 4, 6]
    assert vector(3) == [0, 2, 4, 7]
    assert vector(4) == vector(0)


def test_a_dead_network_proves_nothing() -> None:
    dead = ARRAYS | {"w0": np.zeros((8, 3, 1, 1), np.float32)}
    model = model_of(TWO_LAYERS, dead)
    pruned, mask = pruned_at_half(model)
    certificate = onnxprune.verify(model, pruned, mask)
    assert certificate.same_graph and not certificate.exact
    with pytest.raises(VerificationError, match="could not have failed"):
        certificate.raise_for_failure()


def test_a_mask_of_dead_channels_alone_is_proven_by_another_channel() -> None:
    alive = np.arange(8) % 2 == 0
    dead = {name: ARRAYS[name] * alive.reshape(-1, *[1] * (ARRAYS[name].ndim - 1)) for name in ("w0", "b0")}
    layers = TWO_LAYERS.replace("Sigmoid", "Relu")
    model = model_of(layers, ARRAYS | {name: array.astype(np.float32) for name, array in dead.items()})
    analysis = onnxprune.analyze(model)
    mask = onnxprune.choose(analysis, keep=0.5)
    assert mask.groups[0].kept.tolist() == alive.tolist()
    certificate = onnxprune.verify(model, onnxprune.apply(model, mask, verify=False), mask)
    assert certificate.exact and certificate.mask_effect == 0
    assert certificate.corruption is not None and certificate.corruption > certificate.tolerance


RESIDUAL = """
    a = Conv (x, w0, b0)
    s = Sigmoid (a)
    c = Conv (s, w1)
    r = Add (s, c)
    y = Conv (r, w2)
"""
SQUARE = ARRAYS | weights(w1=(8, 8, 1, 1), w2=(5, 8, 1, 1))


def without_branch(model: onnxprune.Model) -> tuple[onnxprune.Model, onnxprune.Mask]:
    analysis = onnxprune.analyze(model)
    mask = make_mask(analysis, {}, {}, ["w1"])
    return onnxprune.apply(model, mask, verify=False, analysis=analysis), mask


def test_a_branch_wrongly_kept_is_found() -> None:
    model = model_of(RESIDUAL, SQUARE)
    pruned, mask = without_branch(model)
    assert onnxprune.verify(model, pruned, mask).exact
    certificate = onnxprune.verify(model, model, mask)
    assert not certificate.exact and certificate.first_difference == "node 'y' differs"
    assert certificate.error > certificate.tolerance


def test_a_branch_wrongly_dropped_is_found() -> None:
    model = model_of(RESIDUAL, SQUARE)
    pruned, mask = without_branch(model)
    certificate = onnxprune.verify(model, pruned, dataclasses.replace(mask, branches=()))
    assert not certificate.exact and not certificate.same_graph and certificate.corruption is None
    assert certificate.error > certificate.tolerance


def test_the_wrong_side_of_a_sum_is_found() -> None:
    model = model_of(RESIDUAL, SQUARE)
    _, mask = without_branch(model)
    other = model_of(RESIDUAL.replace("r = Add (s, c)", "r = Identity (c)"), SQUARE)
    certificate = onnxprune.verify(model, other, mask)
    assert not certificate.exact and certificate.error > certificate.tolerance


@pytest.mark.parametrize("size", [0, 1e-9])
def test_a_dead_branch_alone_is_proven_by_the_other_side(size: float) -> None:
    """To keep it makes no difference, or one of rounding alone; to drop x in its place does."""
    model = model_of(RESIDUAL, SQUARE | {"w1": (SQUARE["w1"] * size).astype(np.float32)})
    pruned, mask = without_branch(model)
    certificate = onnxprune.verify(model, pruned, mask)
    assert certificate.exact and certificate.mask_effect < certificate.tolerance
    assert certificate.corruption is not None and certificate.corruption > certificate.tolerance


def test_a_branch_is_multiplied_by_zero_in_the_reference() -> None:
    model = model_of(RESIDUAL, SQUARE)
    analysis = onnxprune.analyze(model)
    proto = masked_reference(model, analysis.trace, {}, branches=analysis.branches)
    (zero,) = [array for name, array in tensors(proto).items() if name.endswith("/mask")]
    assert zero.shape == (1, 1, 1, 1) and zero.dtype == np.float32 and not zero.any()
    (product,) = [node for node in proto.graph.node if node.op_type == "Mul"]
    (add,) = [node for node in proto.graph.node if node.op_type == "Add"]
    assert product.input[0] == "c" and list(add.input) == ["s", product.output[0]]


def test_a_model_that_gives_no_finite_numbers_is_refused() -> None:
    broken = ARRAYS | {"b0": np.full(8, np.nan, np.float32)}
    model = model_of(TWO_LAYERS, broken)
    mask = onnxprune.choose(onnxprune.analyze(model), keep=0.5)
    with pytest.raises(ModelError, match="'b0' hold NaN"):
        onnxprune.apply(model, mask)


def test_a_model_that_does_not_run_is_named() -> None:
    model = model_of("y = Reshape (x, shape)", {"shape": np.array([7], np.int64)}, inputs="float[2, 3] x")
    with pytest.raises(ModelError, match="does not run in onnxruntime"):
        run(model, [random_inputs(model, 0)])
