"""Normalisations and slopes: what has a tensor for each channel, and what freezes the width."""

from .build import Case, Signature, axes, batch_norm, case, ints, micrograph, scalars, weights

ENDS = weights(w0=(8, 3, 1, 1), b0=(8,), w1=(5, 8, 1, 1))
STUCK = axes(w0=0, b0=0, w1=(0, 1))


@micrograph
def bn_after_activation() -> Case:
    """BatchNormalization behind a Sigmoid, as pre-activation networks have it."""
    return case(
        """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        n = BatchNormalization (s, bn_s, bn_b, bn_m, bn_v)
        y = Conv (n, w1)
        """,
        ENDS | batch_norm("bn", 8),
        removable=axes(w0=0, b0=0, bn_s=0, bn_b=0, bn_m=0, bn_v=0, w1=1),
        frozen=axes(w0=1, w1=0),
    )


@micrograph
def prelu_fan_out() -> Case:
    """PRelu with a slope for each channel, read by two convolutions."""
    return case(
        """
        a = Conv (x, w0, b0)
        p = PRelu (a, slope)
        c = Conv (p, w1)
        d = Conv (p, w2)
        y = Add (c, d)
        """,
        ENDS | weights(slope=(8, 1, 1), w2=(5, 8, 1, 1)),
        removable=axes(w0=0, b0=0, slope=0, w1=1, w2=1),
    )


@micrograph
def prelu_one_slope() -> Case:
    """PRelu with one slope for all channels: nothing of it to cut."""
    return case(
        """
        a = Conv (x, w0, b0)
        p = PRelu (a, slope)
        y = Conv (p, w1)
        """,
        ENDS | weights(slope=(1, 1, 1)),
        removable=axes(w0=0, b0=0, w1=1),
        frozen=axes(slope=(0, 1, 2)),
    )


@micrograph
def group_norm_18() -> Case:
    """GroupNormalization of opset 18: one scale for each group; whole groups go."""
    return case(
        """
        a = Conv (x, w0, b0)
        n = GroupNormalization <num_groups = 4> (a, scale, bias)
        s = Sigmoid (n)
        y = Conv (s, w1)
        """,
        weights(w0=(16, 3, 1, 1), b0=(16,), scale=(4,), bias=(4,), w1=(5, 16, 1, 1)),
        Signature(outputs="float[2, 5, 8, 8] y", opset=18),
        removable=axes(w0=0, b0=0, scale=0, bias=0, w1=1),
        deprecated=True,
    )


@micrograph
def group_norm_21() -> Case:
    """GroupNormalization of opset 21: one scale for each channel; whole groups go."""
    return case(
        """
        a = Conv (x, w0, b0)
        n = GroupNormalization <num_groups = 4> (a, scale, bias)
        s = Sigmoid (n)
        y = Conv (s, w1)
        """,
        weights(w0=(16, 3, 1, 1), b0=(16,), scale=(16,), bias=(16,), w1=(5, 16, 1, 1)),
        Signature(outputs="float[2, 5, 8, 8] y", opset=21, ir=10),
        removable=axes(w0=0, b0=0, scale=0, bias=0, w1=1),
    )


@micrograph
def group_norm_exported() -> Case:
    """GroupNorm as exporters write it: Reshape, InstanceNormalization, Reshape, scale, shift."""
    return case(
        """
        a = Conv (x, w0, b0)
        r = Reshape (a, folded)
        n = InstanceNormalization (r, one, zero)
        k = Shape (a)
        u = Reshape (n, k)
        m = Mul (u, scale)
        p = Add (m, shift)
        s = Sigmoid (p)
        y = Conv (s, w1)
        """,
        weights(w0=(16, 3, 1, 1), b0=(16,), one=(4,), zero=(4,), scale=(16, 1, 1), shift=(16, 1, 1), w1=(5, 16, 1, 1))
        | ints(folded=[0, 4, -1]),
        Signature(outputs="float[2, 5, 8, 8] y"),
        removable=axes(w0=0, b0=0, one=0, zero=0, scale=0, shift=0, w1=1),
    )


@micrograph
def group_norm_folded() -> Case:
    """The same with constant shapes on both sides, where the channel count is written out."""
    return case(
        """
        a = Conv (x, w0, b0)
        r = Reshape (a, folded)
        n = InstanceNormalization (r, one, zero)
        u = Reshape (n, full)
        s = Sigmoid (u)
        y = Conv (s, w1)
        """,
        weights(w0=(16, 3, 1, 1), b0=(16,), one=(4,), zero=(4,), w1=(5, 16, 1, 1))
        | ints(folded=[2, 4, 256], full=[2, 16, 8, 8]),
        removable=axes(w0=0, b0=0, one=0, zero=0, w1=1),
    )


@micrograph
def instance_norm() -> Case:
    """InstanceNormalization keeps channels apart."""
    return case(
        """
        a = Conv (x, w0, b0)
        n = InstanceNormalization (a, scale, bias)
        s = Sigmoid (n)
        y = Conv (s, w1)
        """,
        ENDS | weights(scale=(8,), bias=(8,)),
        removable=axes(w0=0, b0=0, scale=0, bias=0, w1=1),
    )


@micrograph
def l2_over_space() -> Case:
    """A norm over positions, not channels, is harmless."""
    return case(
        """
        a = Conv (x, w0, b0)
        n = ReduceL2 <axes = [2, 3], keepdims = 1> (a)
        p = Add (n, one)
        d = Div (a, p)
        s = Sigmoid (d)
        y = Conv (s, w1)
        """,
        ENDS | scalars(one=1),
        removable=axes(w0=0, w1=1),
    )


@micrograph
def layer_norm_mlp() -> Case:
    """A transformer's MLP: the width is frozen by LayerNormalization, the hidden axis is not."""
    return case(
        """
        t = MatMul (x, stem)
        n = LayerNormalization (t, scale, bias)
        a = MatMul (n, up)
        c = Add (a, up_bias)
        e = Div (c, root)
        f = Erf (e)
        g = Add (f, one)
        m = Mul (c, g)
        h = Mul (m, half)
        d = MatMul (h, down)
        r = Add (t, d)
        y = MatMul (r, head)
        """,
        weights(stem=(16, 12), scale=(12,), bias=(12,), up=(12, 24), up_bias=(24,), down=(24, 12), head=(12, 5))
        | scalars(root=2**0.5, one=1, half=0.5),
        Signature(inputs="float[N, 6, 16] x", opset=17),
        removable=axes(up=1, up_bias=0, down=0),
        frozen=axes(stem=1, scale=0, bias=0, up=0, down=1, head=(0, 1)),
        reason="LayerNormalization",
    )


@micrograph
def layer_norm_decomposed() -> Case:
    """LayerNorm written out, as opsets before 17 have it: ReduceMean freezes the width."""
    return case(
        """
        t = MatMul (x, stem)
        m = ReduceMean <axes = [-1]> (t)
        d = Sub (t, m)
        q = Pow (d, two)
        v = ReduceMean <axes = [-1]> (q)
        e = Add (v, tiny)
        r = Sqrt (e)
        n = Div (d, r)
        a = MatMul (n, up)
        s = Sigmoid (a)
        y = MatMul (s, down)
        """,
        weights(stem=(16, 12), up=(12, 24), down=(24, 5)) | scalars(two=2, tiny=1e-5),
        Signature(inputs="float[2, 6, 16] x"),
        removable=axes(up=1, down=0),
        frozen=axes(stem=(0, 1), up=0, down=1),
        reason="ReduceMean",
    )
