"""Scores against plain numpy on graphs small enough to see through."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxprune
from onnxprune.errors import ModelError, UsageError
from onnxprune.scores import SCORES
from tests.micrographs import REGISTRY
from tests.micrographs.build import batch_norm, weights
from tests.pruning import model_of

IMAGE = "float[2, 3, 8, 8] x"
BETWEEN = "s = Sigmoid (a)\ny = Conv (s, w1)"
PLAIN = weights(w0=(8, 3, 3, 3), b0=(8,), w1=(5, 8, 1, 1))


def scores(model: onnxprune.Model, name: str) -> dict[str, np.ndarray]:
    return SCORES[name](onnxprune.analyze(model), 0)


def normal(values: np.ndarray) -> np.ndarray:
    return values / values.mean()


def norm(array: np.ndarray, axis: int, order: str) -> np.ndarray:
    """L1 or L2 norm over all other axes, with mean 1, in double precision."""
    rows = np.moveaxis(array.astype(np.float64), axis, 0).reshape(array.shape[axis], -1)
    return normal(np.abs(rows).sum(axis=1) if order == "l1" else np.sqrt((rows**2).sum(axis=1)))


@pytest.mark.parametrize("order", ["l1", "l2"])
def test_norms_of_the_filters(order: str) -> None:
    """Biases do not count, nor do the weights that read the channels."""
    found = scores(model_of(f"a = Conv (x, w0, b0)\n{BETWEEN}", PLAIN, IMAGE), order)
    assert found.keys() == {"w0"}
    np.testing.assert_allclose(found["w0"], norm(PLAIN["w0"], 0, order), rtol=1e-6)


@pytest.mark.parametrize("order", ["l1", "l2"])
@pytest.mark.parametrize(
    ("body", "shapes", "axis"),
    [
        ("a = MatMul (x, w)\ns = Sigmoid (a)\ny = MatMul (s, o)", {"w": (6, 8), "o": (8, 5)}, 1),
        ("a = Gemm (x, w)\ns = Sigmoid (a)\ny = MatMul (s, o)", {"w": (6, 8), "o": (8, 5)}, 1),
        ("a = Gemm <transB = 1> (x, w)\ns = Sigmoid (a)\ny = MatMul (s, o)", {"w": (8, 6), "o": (8, 5)}, 0),
        ("a = MatMul (w, x)\ns = Sigmoid (a)\ny = MatMul (o, s)", {"w": (8, 4), "o": (5, 8)}, 0),
    ],
)
def test_the_axis_that_makes_the_channels(body: str, shapes: dict, axis: int, order: str) -> None:
    arrays = weights(**shapes)
    found = scores(model_of(body, arrays, "float[4, 6] x"), order)
    np.testing.assert_allclose(found["w"], norm(arrays["w"], axis, order), rtol=1e-6)


@pytest.mark.parametrize("order", ["l1", "l2"])
def test_coupled_layers_are_averaged_after_they_are_made_alike(order: str) -> None:
    """A layer of large weights does not outvote the other one."""
    body = "p = Conv (x, w0)\nq = Conv (x, v0)\na = Add (p, q)\n" + BETWEEN
    arrays = {name: PLAIN[name] for name in ("w0", "w1")} | weights(v0=(8, 3, 1, 1))
    body = body.replace("Conv (x, w0)", "Conv <pads = [1, 1, 1, 1]> (x, w0)")
    arrays["v0"] *= 1000
    expected = (norm(arrays["w0"], 0, order) + norm(arrays["v0"], 0, order)) / 2
    np.testing.assert_allclose(scores(model_of(body, arrays, IMAGE), order)["w0"], expected, rtol=1e-5)


@pytest.mark.parametrize("order", ["l1", "l2"])
def test_heads_and_their_width_share_a_weight(order: str) -> None:
    """48 columns are 3 x 4 heads x 4: a head's score is over all that goes with it."""
    model = onnxprune.Model(REGISTRY["attention_packed"]().model)
    w = next(numpy_helper.to_array(t) for t in model.proto.graph.initializer if t.name == "wqkv")
    cube = w.reshape(-1, 3, 4, 4)
    found = scores(model, order)
    np.testing.assert_allclose(found["wqkv:0"], norm(cube, 2, order), rtol=1e-5)
    np.testing.assert_allclose(found["wqkv:1"], norm(cube, 3, order), rtol=1e-5)


@pytest.mark.parametrize("order", ["l1", "l2"])
def test_a_large_tensor_is_summed_in_blocks(order: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same in memory and in a file of its own."""
    arrays = weights(w=(70, 300), o=(300, 5))
    monkeypatch.setattr("onnxprune.lazy.CHUNK", 1 << 12)
    model = model_of("a = MatMul (x, w)\ns = Sigmoid (a)\ny = MatMul (s, o)", arrays, "float[2, 70] x")
    expected = norm(arrays["w"], 1, order)
    np.testing.assert_allclose(scores(model, order)["w"], expected, rtol=1e-5)
    onnx.save(model.proto, tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0)
    np.testing.assert_allclose(scores(onnxprune.load(tmp_path / "m.onnx"), order)["w"], expected, rtol=1e-5)


@pytest.mark.parametrize("order", ["l1", "l2"])
def test_half_precision_does_not_overflow(order: str) -> None:
    """Squares and sums of these are beyond what half precision holds."""
    arrays = {name: array.astype(np.float16) for name, array in weights(w=(64, 8), o=(8, 5)).items()}
    arrays["w"] = (arrays["w"] * np.float16(20000)).clip(-60000, 60000)
    body = "a = MatMul (x, w)\ns = Sigmoid (a)\ny = MatMul (s, o)"
    found = scores(model_of(body, arrays, "float16[2, 64] x", outputs="float16 y"), order)
    np.testing.assert_allclose(found["w"], norm(arrays["w"], 1, order), rtol=1e-3)


@pytest.mark.parametrize("order", ["l1", "l2"])
def test_a_layer_of_zeros_says_nothing(order: str) -> None:
    arrays = PLAIN | {"w0": np.zeros_like(PLAIN["w0"])}
    assert (scores(model_of(f"a = Conv (x, w0, b0)\n{BETWEEN}", arrays, IMAGE), order)["w0"] == 1).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("shape", [(8, 3, 1, 1), (8, 3, 30, 30)])
def test_weights_that_are_no_numbers(value: float, shape: tuple[int, ...]) -> None:
    arrays = weights(w0=shape, w1=(5, 8, 1, 1))
    arrays["w0"].flat[-1] = value
    model = model_of(f"a = Conv (x, w0)\n{BETWEEN}", arrays, "float[2, 3, 32, 32] x")
    with pytest.raises(ModelError, match="tensor 'w0' holds NaN or infinity"):
        scores(model, "l1")


# BatchNormalization ---------------------------------------------------------------------------------------------

NORMED = """
    p = Conv (x, w0)
    n = BatchNormalization (p, bn_s, bn_b, bn_m, bn_v)
    a = Sigmoid (n)
    c = Conv (a, w1)
    s = Sigmoid (c)
    y = Conv (s, w2)
"""
TWO = weights(w0=(8, 3, 1, 1), w1=(6, 8, 1, 1), w2=(5, 6, 1, 1)) | batch_norm("bn", 8)


def test_the_scale_of_a_norm() -> None:
    """Its absolute value; the group without a norm is scored by l1."""
    arrays = TWO | {"bn_s": TWO["bn_s"] * np.resize([1, -1], 8).astype(np.float32)}
    found = scores(model_of(NORMED, arrays, IMAGE), "bn")
    np.testing.assert_allclose(found["w0"], normal(np.abs(TWO["bn_s"])), rtol=1e-6)
    np.testing.assert_allclose(found["w1"], norm(TWO["w1"], 0, "l1"), rtol=1e-6)


def test_two_norms_of_one_group_are_averaged() -> None:
    body = """
        p = Conv (x, w0)
        n = BatchNormalization (p, bn_s, bn_b, bn_m, bn_v)
        q = Conv (x, v0)
        m = BatchNormalization (q, other_s, other_b, other_m, other_v)
        a = Add (n, m)
    """
    arrays = weights(w0=(8, 3, 1, 1), v0=(8, 3, 1, 1), w1=(5, 8, 1, 1)) | batch_norm("bn", 8) | batch_norm("other", 8)
    found = scores(model_of(body + BETWEEN, arrays, IMAGE), "bn")
    expected = (normal(arrays["bn_s"]) + normal(arrays["other_s"])) / 2
    np.testing.assert_allclose(found["w0"], expected, rtol=1e-6)


def test_no_norm_at_all() -> None:
    with pytest.raises(UsageError, match="--score bn: no prunable group has a BatchNormalization") as caught:
        scores(model_of(f"a = Conv (x, w0, b0)\n{BETWEEN}", PLAIN, IMAGE), "bn")
    assert "--score l1" in str(caught.value.fix)


# All of them ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["c2f", "channel_shuffle", "concat_misaligned", "flatten_fc", "grouped_query", "se_gate"]
)
@pytest.mark.parametrize("score", ["l1", "l2", "random"])
def test_every_group_has_one_score_a_unit(name: str, score: str) -> None:
    analysis = onnxprune.analyze(onnxprune.Model(REGISTRY[name]().model))
    found = SCORES[score](analysis, 0)
    assert {group.name: (group.size,) for group in analysis.groups} == {k: v.shape for k, v in found.items()}
    for values in found.values():
        assert (values >= 0).all() and (score == "random" or values.mean() == pytest.approx(1))


def test_random_scores_follow_their_seed_alone() -> None:
    analysis = onnxprune.analyze(model_of(NORMED, TWO, IMAGE))
    other = onnx.ModelProto()
    other.CopyFrom(analysis.model.proto)
    other.graph.initializer[0].CopyFrom(numpy_helper.from_array(TWO["w0"] * 2, "w0"))
    first, again, third = (
        SCORES["random"](a, seed)
        for a, seed in ((analysis, 1), (onnxprune.analyze(onnxprune.Model(other)), 1), (analysis, 2))
    )
    assert all((first[name] == again[name]).all() and (first[name] != third[name]).any() for name in first)
