"""What is done for many small tensors or groups together equals what is done for one after the other."""

import gc
from itertools import groupby

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxprune.analysis import analyze
from onnxprune.collector import no_collection
from onnxprune.errors import ModelError
from onnxprune.forms import Atom
from onnxprune.graph import Model
from onnxprune.groups import kept_numbers
from onnxprune.lazy import LazySlice, row_blocks, slices_alike
from onnxprune.mask import removed_ranges
from onnxprune.ranking import best_of_each
from onnxprune.scores import SCORES
from onnxprune.tensors import stacked


def runs(kept: np.ndarray) -> tuple[tuple[int, int], ...]:
    """Ranges of what is not kept, counted one by one."""
    found, at = [], 0
    for keep, run in groupby(kept.tolist()):
        length = len(list(run))
        found += [] if keep else [(at, at + length)]
        at += length
    return tuple(found)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def masks(rng: np.random.Generator) -> list[np.ndarray]:
    return [rng.random(rng.integers(1, 7)) < rng.random() for _ in range(rng.integers(0, 6))]


def test_removed_ranges(rng):
    for _ in range(300):
        kept = masks(rng)
        assert list(removed_ranges(kept)) == [runs(k) for k in kept]


def test_kept_numbers(rng):
    for _ in range(300):
        kept = {Atom(len(k)): k for k in masks(rng)}
        expected = {atom: np.flatnonzero(k).tolist() for atom, k in kept.items() if not k.all()}
        assert {atom: numbers.tolist() for atom, numbers in kept_numbers(kept).items()} == expected


def test_best_units_of_each_group(rng):
    for _ in range(300):
        scores = [rng.integers(0, 4, rng.integers(1, 7)).astype(float) for _ in range(rng.integers(0, 6))]
        widths = [int(rng.integers(1, len(s) + 1)) for s in scores]
        for score, width, found in zip(scores, widths, best_of_each(scores, widths), strict=True):
            ranked = sorted(range(len(score)), key=lambda k: (-score[k], k))
            assert np.flatnonzero(found).tolist() == sorted(ranked[:width])


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64])
def test_slices(dtype, rng):
    arrays = [rng.integers(0, 99, (4, 3, 2)).astype(dtype) for _ in range(5)]
    indices = [(np.sort(rng.permutation(4)[:2]), None, np.array([k % 2])) for k in range(5)]
    tensors = [numpy_helper.from_array(a, f"w{k}") for k, a in enumerate(arrays)]
    together = slices_alike(tensors, indices, None)
    assert together.dtype == dtype
    for whole, index, part in zip(tensors, indices, together, strict=True):
        np.testing.assert_array_equal(part, LazySlice(whole, None, index).array())


def test_tensors_that_are_not_stored_raw():
    tensors = [helper.make_tensor(f"w{k}", TensorProto.FLOAT, [2], [k, 1.5]) for k in range(3)]
    np.testing.assert_array_equal(stacked(tensors, None), [[0, 1.5], [1, 1.5], [2, 1.5]])


def test_a_tensor_of_wrong_length_is_named():
    short = TensorProto(name="short", dims=[2], data_type=TensorProto.FLOAT, raw_data=b"1234")
    with pytest.raises(ModelError, match="short"):
        stacked([numpy_helper.from_array(np.zeros(2, np.float32), "w"), short], None)


def test_blocks_of_rows_are_the_tensor(rng):
    array = rng.standard_normal((700, 1000)).astype(np.float32)
    blocks = list(row_blocks(numpy_helper.from_array(array, "w"), None))
    assert len(blocks) > 1 and [start for start, _ in blocks] == sorted(start for start, _ in blocks)
    np.testing.assert_array_equal(np.concatenate([rows for _, rows in blocks]), array)


def test_nodes_alike_share_a_plan_and_others_do_not():
    weights = {"a": (8, 3, 1, 1), "b": (8, 8, 1, 1), "c": (8, 8, 1, 1), "d": (8, 4, 1, 1), "e": (2, 8, 1, 1)}
    groups = {"d": 2}
    nodes, at = [], "x"
    for name in weights:
        nodes.append(helper.make_node("Conv", [at, name], [f"y{name}"], name, group=groups.get(name, 1)))
        at = f"y{name}"
    stored = [numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in weights.items()]
    ends = [helper.make_tensor_value_info(n, 1, s) for n, s in (("x", (1, 3, 4, 4)), (at, (1, 2, 4, 4)))]
    trace = analyze(Model(helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], stored)))).trace
    assert len(trace.plans) == 4  # b and c are alike
    assert [r.node.label for r in trace.repairs] == ["d"]


def test_batch_norm_scores_where_every_group_has_one():
    """Nothing is left to be scored by l1 then, and nothing may be."""
    stored = {"w": np.array([[1.0], [2.0], [3.0]]), "s": np.array([3.0, 2.0, 1.0]), "v": np.ones((2, 3))}
    stored = {n: a.astype(np.float32) for n, a in stored.items()} | {"z": np.ones(3, np.float32)}
    tensors = [numpy_helper.from_array(a.reshape(*a.shape, 1, 1) if a.ndim > 1 else a, n) for n, a in stored.items()]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["h"]),
        helper.make_node("BatchNormalization", ["h", "s", "z", "z", "z"], ["n"]),
        helper.make_node("Conv", ["n", "v"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(n, 1, (1, c, 4, 4)) for n, c in (("x", 1), ("y", 2))]
    model: onnx.ModelProto = helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors))
    (scores,) = SCORES["bn"](analyze(Model(model)), 0).values()
    assert scores.tolist() == [1.5, 1.0, 0.5]


def test_collection_of_garbage_comes_back_even_after_an_error():
    assert gc.isenabled()
    with pytest.raises(KeyError), no_collection():
        assert not gc.isenabled()
        raise KeyError
    assert gc.isenabled()
