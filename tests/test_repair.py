"""Sizes that are written in a graph: rewritten where they are born, or the axis is frozen."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxprune
from onnxprune.coupling import couple
from onnxprune.errors import MaskError
from onnxprune.graph import Graph
from onnxprune.repair import mismatches, plan_edits
from tests.independent import run, tensors
from tests.micrographs import REGISTRY
from tests.micrographs.build import ints, scalars, weights
from tests.pruning import assert_exact, group_sizes, model_of, prune, random_mask, reasons

FRONT = weights(w0=(8, 3, 1, 1), b0=(8,))


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_where_nothing_goes_nothing_is_written(name: str) -> None:
    trace = couple(Graph(onnxprune.Model(REGISTRY[name]().model)))
    assert plan_edits(trace, {}) == {}
    assert mismatches(trace, {}, {}) == []


# --- constants with several readers ------------------------------------------------------------------------------

TWO_VIEWS = """
    a = Conv (x, w0)
    b = Conv (x, w1)
    r = Reshape (a, t)
    s = Reshape (b, t)
    p = MatMul (u, r)
    q = MatMul (v, s)
    z = Add (p, q)
    y = Sigmoid (z)
"""
TWO = weights(w0=(8, 3, 1, 1), w1=(8, 3, 1, 1), u=(5, 8), v=(5, 8))


def test_one_target_for_two_axes_of_different_size() -> None:
    model = model_of(TWO_VIEWS, TWO | ints(t=[2, 8, 64]), "float[2, 3, 8, 8] x")
    assert group_sizes(model) == {"w0": 8, "w1": 8}
    assert_exact(model)
    assert_exact(model, only=["w0"])
    # With both alike the target is written in place, otherwise one of them gets its own.
    assert len(prune(model, 0, only=["w1"]).graph.initializer) == len(model.proto.graph.initializer) + 1


def test_one_target_at_run_time_keeps_both_axes_alike() -> None:
    """The batch is taken from a shape, so that the number of channels can only be mended in one place."""
    body = """
        k = Shape (x)
        n = Slice (k, zero, one)
        t = Concat <axis = 0> (n, channels, rest)
    """
    arrays = TWO | ints(zero=[0], one=[1], channels=[8], rest=[64])
    model = model_of(body + TWO_VIEWS, arrays, outputs="float[N, 5, 64] y")
    assert group_sizes(model) == {"w0": 8}
    assert_exact(model)


def test_a_target_that_is_an_index_too() -> None:
    body = """
        p = MatMul (x, w0)
        s = Sigmoid (p)
        r = Reshape (s, t)
        e = Gather <axis = 1> (x, t)
        q = MatMul (r, w1)
        n = MatMul (e, w2)
        y = Add (q, n)
    """
    arrays = weights(w0=(9, 8), w1=(8, 5), w2=(2, 5)) | ints(t=[4, 8])
    model = model_of(body, arrays, "float[4, 9] x")
    assert group_sizes(model) == {"w0": 8}
    pruned = prune(model)
    assert_exact(model)
    reshape, gather = (next(n for n in pruned.graph.node if n.op_type == op) for op in ("Reshape", "Gather"))
    assert reshape.input[1] != gather.input[1] == "t"
    assert tensors(pruned)["t"].tolist() == [4, 8]


def test_a_target_that_is_an_output_too() -> None:
    body = """
        a = Conv (x, w0)
        r = Reshape (a, t)
        y = MatMul (u, r)
    """
    model = model_of(body, weights(w0=(8, 3, 1, 1), u=(5, 8)) | ints(t=[2, 8, 64]), "float[2, 3, 8, 8] x")
    model.proto.graph.output.append(onnx.helper.make_tensor_value_info("t", onnx.TensorProto.INT64, [3]))
    assert_exact(model)
    assert tensors(prune(model))["t"].tolist() == [2, 8, 64]


def test_a_target_that_a_branch_reads_too() -> None:
    body = """
        a = Conv (x, w0)
        s = Sigmoid (a)
        r = Reshape (s, t)
        m = MatMul (u, r)
        q = ReduceMax <keepdims = 0> (x)
        f = Greater (q, zero)
        y = If (f) <
            then_branch = yes () => (float[2, 5, 64] g) { g = Tanh (m) },
            else_branch = no () => (float[2, 5, 64] h) {
                i = Cast <to = 1> (t)
                j = ReduceSum <keepdims = 0> (i)
                h = Mul (m, j)
            }
        >
    """
    arrays = weights(w0=(8, 3, 1, 1), u=(5, 8)) | ints(t=[2, 8, 64]) | scalars(zero=0)
    model = model_of(body, arrays, "float[2, 3, 8, 8] x", outputs="float[2, 5, 64] y")
    assert group_sizes(model) == {"w0": 8}
    pruned = prune(model)
    assert tensors(pruned)["t"].tolist() == [2, 8, 64]
    assert_exact(model)


def test_a_copy_in_an_old_file_is_listed_as_an_input() -> None:
    """Up to IR version 3 every initializer is a graph input."""
    listed = "float[8, 3, 1, 1] w0, float[8, 3, 1, 1] w1, float[5, 8] u, float[5, 8] v, int64[3] t"
    arrays = TWO | ints(t=[2, 8, 64])
    model = model_of(TWO_VIEWS, arrays, f"float[2, 3, 8, 8] x, {listed}", opset=8, ir=3)
    assert_exact(model, only=["w0"])


def test_targets_in_constant_nodes() -> None:
    body = """
        t = Constant <value = int64[3] {2, 8, 64}> ()
        l = Constant <value_ints = [2, 5, 8, 8]> ()
        a = Conv (x, w0)
        r = Reshape (a, t)
        m = MatMul (u, r)
        g = Reshape (m, l)
        s = Sigmoid (g)
        y = Conv (s, w1)
    """
    model = model_of(body, weights(w0=(8, 3, 1, 1), u=(5, 8), w1=(4, 5, 1, 1)), "float[2, 3, 8, 8] x")
    assert group_sizes(model) == {"w0": 8, "u": 5}
    assert_exact(model)


# --- dynamic shapes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [[0, 8, -1], [-1, 8, 64], [0, 8, 64], [0, -1, 64], [0, 0, -1]])
def test_a_dynamic_batch_stays_dynamic(target: list[int]) -> None:
    body = """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        r = Reshape (s, t)
        y = MatMul (u, r)
    """
    model = model_of(body, FRONT | weights(u=(5, 8)) | ints(t=target))
    assert_exact(model)
    written = tensors(prune(model))["t"].tolist()
    assert [n for n, old in zip(written, target, strict=True) if old < 1] == [n for n in target if n < 1]


@pytest.mark.parametrize("back", [[0, -1, 8], [0, 0, 8], [-1, 7, 8]])
def test_heads_of_a_dynamic_length(back: list[int]) -> None:
    body = """
        a = MatMul (x, w0)
        s = Sigmoid (a)
        r = Reshape (s, heads)
        t = Transpose <perm = [0, 2, 1, 3]> (r)
        u = Softmax <axis = -1> (t)
        v = Transpose <perm = [0, 2, 1, 3]> (u)
        f = Reshape (v, back)
        y = MatMul (f, w1)
    """
    length = "7" if back[1] == 7 else "T"
    arrays = weights(w0=(6, 8), w1=(8, 5)) | ints(heads=[0, 0, 4, 2], back=back)
    model = model_of(body, arrays, f"float[N, {length}, 6] x", outputs=f"float[N, {length}, 5] y")
    assert group_sizes(model) == {"w0": 4}
    assert_exact(model)


def test_heads_multiplied_into_the_batch_are_frozen_and_their_width_is_not() -> None:
    """`view(T, B * heads, width)`: the heads hide in a product with the batch, the width stands alone."""
    body = """
        k = Shape (x)
        T = Gather <axis = 0> (k, zero)
        B = Gather <axis = 0> (k, one)
        heads = Mul (B, two)
        T1 = Unsqueeze (T, first)
        H1 = Unsqueeze (heads, first)
        B1 = Unsqueeze (B, first)
        apart = Concat <axis = 0> (T1, H1, width)
        together = Concat <axis = 0> (T1, B1, all)
        p = MatMul (x, w0)
        s = Sigmoid (p)
        r = Reshape (s, apart)
        t = Softplus (r)
        u = Reshape (t, together)
        y = MatMul (u, w1)
    """
    arrays = weights(w0=(6, 8), w1=(8, 5)) | ints(zero=0, one=1, two=2, first=[0], width=[4], all=[8])
    model = model_of(body, arrays, "float[T, B, 6] x", outputs="float[T, B, 5] y")
    assert group_sizes(model) == {"w0": 4}
    assert "would not follow" in reasons(model)["w0", 1]
    assert_exact(model)


def test_a_zero_that_copies_another_axis_is_rewritten() -> None:
    """8 = 4 x 2 and 6 = 2 x 3 become (4 4) (2 2) 3: the 0 copies a size that pruning makes another."""
    body = """
        s = Sigmoid (w0)
        r = Reshape (s, t)
        q = Einsum <equation = "abc,abd->dc"> (r, w1)
        y = Mul (x, q)
    """
    model = model_of(body, weights(w0=(4, 8, 6), w1=(8, 8, 5)) | ints(t=[8, 0, 3]), "float[5, 3] x")
    for seed in range(6):
        prune(model, seed)  # certified; a weight reshaped in the graph is beyond the independent check


def test_nested_concats_are_followed() -> None:
    body = """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        k = Shape (s)
        n = Gather (k, zero)
        m = Unsqueeze (n, at)
        c = Concat <axis = 0> (heads, width)
        d = Identity (c)
        e = Concat <axis = 0> (m, d)
        t = Concat <axis = 0> (e, rest)
        r = Reshape (s, t)
        p = ReduceMax <axes = [2], keepdims = 0> (r)
        y = MatMul (u, p)
    """
    constants = ints(zero=0, at=[0], heads=[4], width=[2], rest=[64])
    model = model_of(body, FRONT | weights(u=(5, 4)) | constants, outputs="float[N, 5, 64] y")
    assert set(group_sizes(model).values()) == {4}
    assert_exact(model)


def test_a_computed_size_that_follows() -> None:
    """view(n, groups, c // groups, ...) as torch writes it: c is read from the shape, the quotient shrinks with it."""
    body = """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        k = Shape (s)
        c = Gather (k, one)
        q = Div (c, four)
        u = Unsqueeze (q, at)
        t = Concat <axis = 0> (zero, groups, u, rest)
        r = Reshape (s, t)
        p = ReduceMax <axes = [1], keepdims = 0> (r)
        y = MatMul (v, p)
    """
    constants = ints(one=1, four=4, at=[0], zero=[0], groups=[4], rest=[-1])
    model = model_of(body, FRONT | weights(v=(5, 2)) | constants, outputs="float[N, 5, 64] y")
    assert set(group_sizes(model).values()) == {2}
    assert_exact(model)


def test_halves_computed_from_the_shape() -> None:
    """chunk(2, dim=1) with bounds that are computed: the halves may lose different channels."""
    body = """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        k = Shape (s)
        c = Gather (k, one)
        h = Div (c, two)
        u = Unsqueeze (h, at)
        p = Slice (s, zero, u, axis)
        q = Slice (s, u, end, axis)
        j = Concat <axis = 1> (q, p)
        y = Conv (j, w1)
    """
    constants = ints(one=1, two=2, at=[0], zero=[0], axis=[1], end=[2**63 - 1])
    model = model_of(body, FRONT | weights(w1=(5, 8, 1, 1)) | constants)
    assert sorted(group_sizes(model).values()) == [4, 4]
    assert_exact(model)


def test_a_shape_that_expands_another_tensor() -> None:
    body = """
        a = Conv (x, w0, b0)
        k = Shape (a)
        e = Expand (c, k)
        r = Add (a, e)
        s = Sigmoid (r)
        y = Conv (s, w1)
    """
    model = model_of(body, FRONT | weights(c=(1, 8, 1, 1), w1=(5, 8, 1, 1)))
    assert set(group_sizes(model).values()) == {8}
    assert_exact(model)


def test_a_length_that_expands_and_is_read_again_stays_dynamic() -> None:
    body = """
        k = Shape (x)
        l = Slice (k, one, two)
        c = Concat <axis = 0> (l, eight)
        e = Expand (w0, c)
        s = Sigmoid (e)
        j = Shape (s)
        m = Slice (j, zero, one)
        t = Concat <axis = 0> (m, heads)
        r = Reshape (s, t)
        q = ReduceMax <axes = [2], keepdims = 0> (r)
        z = MatMul (q, w1)
        y = Mul (x, z)
    """
    constants = ints(one=[1], two=[2], zero=[0], eight=[8], heads=[4, 2])
    arrays = weights(w0=(1, 8), w1=(4, 5)) | constants
    model = model_of(body, arrays, "float[N, T, 5] x", outputs="float[N, T, 5] y")
    assert set(group_sizes(model).values()) == {4}
    assert_exact(model)


def test_a_table_cut_at_run_time_keeps_its_rows() -> None:
    body = """
        m = MatMul (x, w0)
        k = Shape (x)
        l = Slice (k, one, two)
        p = Slice (table, zero, l, one)
        a = Add (m, p)
        s = Sigmoid (a)
        y = MatMul (s, w1)
    """
    arrays = weights(w0=(6, 8), table=(1, 300, 8), w1=(8, 5)) | ints(one=[1], two=[2], zero=[0])
    model = model_of(body, arrays, "float[N, T, 6] x", outputs="float[N, T, 5] y")
    assert group_sizes(model) == {"w0": 8}
    assert "run time" in reasons(model)["table", 1]
    assert_exact(model)
    longer = prune(model)
    assert run(longer, {"x": np.ones((2, 299, 6), np.float32)})[0].shape == (2, 299, 5)


# --- sizes read as data ------------------------------------------------------------------------------------------


def test_a_scale_from_the_head_width_freezes_the_width_alone() -> None:
    body = """
        q = MatMul (x, wq)
        k = MatMul (x, wk)
        qh = Reshape (q, fold)
        kh = Reshape (k, fold)
        qt = Transpose <perm = [0, 2, 1, 3]> (qh)
        kt = Transpose <perm = [0, 2, 3, 1]> (kh)
        s = Shape (qt)
        d = Gather (s, last)
        f = Cast <to = 1> (d)
        r = Sqrt (f)
        a = MatMul (qt, kt)
        b = Div (a, r)
        m = ReduceMax <axes = [-1], keepdims = 0> (b)
        t = Transpose <perm = [0, 2, 1]> (m)
        y = MatMul (t, w1)
    """
    arrays = weights(wq=(6, 12), wk=(6, 12), w1=(4, 5)) | ints(fold=[0, 0, 4, 3], last=-1)
    model = model_of(body, arrays, "float[N, 7, 6] x", outputs="float[N, 7, 5] y")
    assert set(group_sizes(model).values()) == {4}
    assert "reads its size as data" in " ".join(reasons(model).values())
    assert_exact(model)


@pytest.mark.parametrize(
    "use",
    [
        "f = Cast <to = 1> (c) z = Mul (s, f)",
        "f = Cast <to = 1> (c) z = Clip (s, low, f)",
        "g = Greater (c, four) z = Where (g, s, low)",
        "f = Cast <to = 1> (c) h = Div (f, eight) z = Add (h, s)",
    ],
)
def test_a_number_of_channels_read_as_data_freezes_them(use: str) -> None:
    body = f"""
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        k = Shape (s)
        c = Gather (k, one)
        {use}
        y = Conv (z, w1)
    """
    arrays = FRONT | weights(w1=(5, 8, 1, 1)) | ints(one=1, four=4) | scalars(low=-1, eight=8)
    model = model_of(body, arrays)
    assert group_sizes(model) == {}
    assert ("w0", 0) in reasons(model)


ARITHMETIC_THAT_FAILS = {
    "an impossible reshape": "i = Range (z, c, o) j = Reshape (i, folded) m = Gather (j, z)",
    "an index out of range": "i = Range (z, c, o) m = Gather (i, six)",
    "a step of zero": "q = Div (c, eight) m = Range (z, eight, q)",
    "a negative power": "d = Sub (c, six) m = Pow (two, d)",
}


@pytest.mark.parametrize("arithmetic", ARITHMETIC_THAT_FAILS.values(), ids=ARITHMETIC_THAT_FAILS)
@pytest.mark.parametrize("reader", ["", "n = Reshape (m, flat) f = Cast <to = 1> (n)"], ids=["unread", "read"])
def test_arithmetic_that_fails_on_smaller_sizes_freezes(arithmetic: str, reader: str) -> None:
    body = f"""
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        k = Shape (s)
        c = Gather (k, o)
        {arithmetic}
        {reader}
        y = Conv (s, w1)
    """
    constants = ints(o=1, z=0, six=6, eight=8, two=2, folded=[2, 4], flat=[-1])
    model = model_of(body, FRONT | weights(w1=(5, 8, 1, 1)) | constants)
    analysis = onnxprune.analyze(model)
    # Exact, or refused: by freezing the axis, or (where some sizes do work) by apply.
    for seed in range(4 if analysis.groups else 0):
        try:
            pruned = onnxprune.apply(model, random_mask(analysis, seed), analysis=analysis)
        except MaskError:
            continue
        assert tensors(pruned.proto)["w1"].shape[1] < 8


def test_filled_and_counted_from_a_shape() -> None:
    """ConstantOfShape in the shape of the channels; a Range over the positions, which stay."""
    body = """
        a = Conv (x, w0, b0)
        k = Shape (a)
        f = ConstantOfShape <value = float[1] {0.5}> (k)
        h = Gather (k, three)
        i = Range (zero, h, one)
        j = Cast <to = 1> (i)
        l = Mul (j, tenth)
        r = Add (a, f)
        t = Mul (r, l)
        s = Sigmoid (t)
        y = Conv (s, w1)
    """
    arrays = FRONT | weights(w1=(5, 8, 1, 1)) | ints(three=3, zero=0, one=1) | scalars(tenth=0.1)
    model = model_of(body, arrays)
    assert set(group_sizes(model).values()) == {8}
    assert_exact(model)


# --- indices -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [0, 3, 7, -1, -3])
def test_one_channel_picked_by_number(index: int) -> None:
    body = """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        c = Gather <axis = 1> (s, index)
        u = Unsqueeze (c, one)
        d = Conv (s, w1)
        y = Add (u, d)
    """
    model = model_of(body, FRONT | weights(w1=(5, 8, 1, 1)) | ints(index=index, one=[1]))
    assert group_sizes(model)
    assert_exact(model)
    assert tensors(prune(model))["index"].shape == ()


def test_indices_with_two_readers() -> None:
    """A permutation that a second, untouched axis shares is copied before it is renumbered."""
    body = """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        g = Gather <axis = 1> (s, order)
        v = Transpose <perm = [0, 2, 1, 3]> (x)
        h = Gather <axis = 1> (v, order)
        m = Transpose <perm = [0, 2, 1, 3]> (h)
        c = Conv (g, w1)
        y = Mul (c, m)
    """
    arrays = FRONT | weights(w1=(3, 8, 1, 1)) | ints(order=[7, 6, 5, 4, 0, 1, 2, 3])
    model = model_of(body, arrays)
    assert set(group_sizes(model).values()) == {8}
    assert_exact(model)
    assert tensors(prune(model))["order"].tolist() == [7, 6, 5, 4, 0, 1, 2, 3]


def test_indices_are_no_channels() -> None:
    """A constant list of indices is not a group of its own."""
    body = """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        g = Gather <axis = 1> (s, order)
        y = Conv (g, w1)
    """
    model = model_of(body, FRONT | weights(w1=(5, 6, 1, 1)) | ints(order=[-1, 2, 2, 3, 0, 7]))
    assert not [name for name in group_sizes(model) if name.startswith("order")]
    assert_exact(model)


def test_a_mask_of_sizes_that_can_not_be_stated_is_refused() -> None:
    """Whether c > 4 holds is data: it decides a size, though only on some counts."""
    body = """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        k = Shape (s)
        c = Gather (k, one)
        m = Min (c, two)
        u = Unsqueeze (m, at)
        t = Concat <axis = 0> (zero, u, rest)
        r = Reshape (x, t)
        p = ReduceMax <axes = [1], keepdims = 0> (r)
        q = ReduceMax <keepdims = 0> (p)
        d = Mul (s, q)
        y = Conv (d, w1)
    """
    arrays = FRONT | weights(w1=(5, 8, 1, 1)) | ints(one=1, two=2, at=[0], zero=[0], rest=[-1])
    model = model_of(body, arrays)
    analysis = onnxprune.analyze(model)
    for group in analysis.groups:
        few = np.arange(group.size) == 0
        mask = onnxprune.mask.make_mask(analysis, {group.name: few}, {})
        with pytest.raises(MaskError, match="wrong size"):
            onnxprune.apply(model, mask, analysis=analysis)
    assert analysis.groups or ("w0", 0) in reasons(model)


def test_unpruned_tensors_are_bit_for_bit_the_same() -> None:
    model = model_of(TWO_VIEWS, TWO | ints(t=[2, 8, 64]), "float[2, 3, 8, 8] x")
    pruned = prune(model, only=["w0"])
    old = {t.name: t for t in model.proto.graph.initializer}
    same = {t.name for t in pruned.graph.initializer if t.name in old and t == old[t.name]}
    assert same == {"w1", "v", "t"}
    assert numpy_helper.to_array(old["w0"]).shape == (8, 3, 1, 1)
