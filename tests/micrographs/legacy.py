"""The forms that ops had in older opsets, beside those of today."""

import numpy as np

from .build import Case, Signature, axes, batch_norm, case, ints, micrograph, scalars, weights

ENDS = weights(w0=(8, 3, 1, 1), b0=(8,), w1=(5, 8, 1, 1))
GONE = axes(w0=0, b0=0, w1=1)


def _between(ops: str, opset: int, arrays: dict[str, np.ndarray] | None = None) -> Case:
    """conv, sigmoid, OPS from s to m, conv: half of the channels go."""
    body = f"a = Conv (x, w0, b0) s = Sigmoid (a) {ops} y = Conv (m, w1)"
    return case(body, ENDS | (arrays or {}), Signature(opset=opset), removable=GONE)


def _pooled(ops: str, opset: int, arrays: dict[str, np.ndarray] | None = None) -> Case:
    """conv, sigmoid, OPS from s to m of shape (n, c), fully connected."""
    body = f"a = Conv (x, w0, b0) s = Sigmoid (a) {ops} y = Gemm <transB = 1> (m, wf, bf)"
    tensors = weights(w0=(8, 3, 1, 1), b0=(8,), wf=(5, 8), bf=(5,)) | (arrays or {})
    return case(body, tensors, Signature(opset=opset), removable=axes(w0=0, b0=0, wf=1))


@micrograph
def mean_kept_11() -> Case:
    """ReduceMean over space, axes an attribute."""
    return _between("m = ReduceMean <axes = [2, 3], keepdims = 1> (s)", 11)


@micrograph
def mean_kept_13() -> Case:
    """Negative axes."""
    return _between("m = ReduceMean <axes = [-1, -2]> (s)", 13)


@micrograph
def mean_kept_18() -> Case:
    """Axes an input."""
    return _between("m = ReduceMean (s, space)", 18, ints(space=[-1, -2]))


@micrograph
def mean_dropped_11() -> Case:
    """keepdims 0 shifts the axes behind."""
    return _pooled("m = ReduceMean <axes = [2, 3], keepdims = 0> (s)", 11)


@micrograph
def mean_dropped_13() -> Case:
    """keepdims 0, one axis after the other."""
    return _pooled("r = ReduceMean <axes = [2], keepdims = 0> (s) m = ReduceMean <axes = [-1], keepdims = 0> (r)", 13)


@micrograph
def mean_dropped_18() -> Case:
    """keepdims 0, axes an input."""
    return _pooled("m = ReduceMean <keepdims = 0> (s, space)", 18, ints(space=[2, 3]))


@micrograph
def sum_dropped_13() -> Case:
    """ReduceSum took its axes as an input five opsets before the others."""
    return _pooled("m = ReduceSum <keepdims = 0> (s, space)", 13, ints(space=[2, 3]))


@micrograph
def squeeze_11() -> Case:
    """Squeeze and Unsqueeze with attributes."""
    ops = "g = GlobalAveragePool (s) q = Squeeze <axes = [2, 3]> (g) r = Sigmoid (q) u = Unsqueeze <axes = [2, 3]> (r)"
    return _between(f"{ops} m = Mul (s, u)", 11)


@micrograph
def squeeze_13() -> Case:
    """Squeeze and Unsqueeze with inputs."""
    ops = "g = GlobalAveragePool (s) q = Squeeze (g, space) r = Sigmoid (q) u = Unsqueeze (r, space)"
    return _between(f"{ops} m = Mul (u, s)", 13, ints(space=[-2, -1]))


@micrograph
def squeeze_all() -> Case:
    """Squeeze without axes: a last channel would vanish with its axis, so all of them stay."""
    return case(
        """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        g = GlobalMaxPool (s)
        m = Squeeze (g)
        y = Gemm <transB = 1> (m, wf, bf)
        """,
        weights(w0=(8, 3, 1, 1), b0=(8,), wf=(5, 8), bf=(5,)),
        frozen=axes(w0=0, b0=0, wf=1),
        reason="Squeeze",
    )


@micrograph
def slice_9() -> Case:
    """Slice with attributes, in space and over the channels."""
    ops = "c = Slice <axes = [1, 2], starts = [0, 1], ends = [8, -1]> (s)"
    return _between(f"{ops} m = Sigmoid (c)", 9)


@micrograph
def slice_9_channels() -> Case:
    """The bounds that have to move are attributes."""
    return case(
        """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        p = Slice <axes = [1], starts = [0], ends = [6]> (s)
        q = Slice <axes = [1], starts = [6], ends = [2147483647]> (s)
        c = Conv (p, w1)
        d = Conv (q, w2)
        y = Add (c, d)
        """,
        weights(w0=(12, 3, 1, 1), b0=(12,), w1=(5, 6, 1, 1), w2=(5, 6, 1, 1)),
        Signature(opset=9),
        removable=axes(w0=0, b0=0),
    )


@micrograph
def split_11() -> Case:
    """Split with its sizes in an attribute."""
    return case(
        """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        p, q = Split <axis = 1, split = [8, 4]> (s)
        c = Conv (p, w1)
        d = Conv (q, w2)
        y = Add (c, d)
        """,
        weights(w0=(12, 3, 1, 1), b0=(12,), w1=(5, 8, 1, 1), w2=(5, 4, 1, 1)),
        Signature(opset=11),
        removable=axes(w0=0, b0=0),
    )


@micrograph
def split_11_even() -> Case:
    """Split without sizes."""
    return case(
        """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        p, q = Split <axis = 1> (s)
        c = Conv (p, w1)
        d = Conv (q, w1)
        y = Add (c, d)
        """,
        weights(w0=(12, 3, 1, 1), b0=(12,), w1=(5, 6, 1, 1)),
        Signature(opset=11),
        removable=axes(w0=0, b0=0, w1=1),
    )


@micrograph
def upsample_7() -> Case:
    """Upsample with its scales in an attribute."""
    return _between("m = Upsample <scales = [1.0, 1.0, 2.0, 2.0]> (s)", 7)


@micrograph
def upsample_9() -> Case:
    """Upsample with its scales in an input."""
    return _between("m = Upsample (s, scales)", 9, {"scales": np.array([1, 1, 2, 2], np.float32)})


@micrograph
def resize_10() -> Case:
    """The first Resize had scales only."""
    return _between("m = Resize (s, scales)", 10, {"scales": np.array([1, 1, 2, 2], np.float32)})


@micrograph
def pad_10() -> Case:
    """Pad with attributes, in space."""
    return _between('m = Pad <mode = "reflect", pads = [0, 0, 1, 1, 0, 0, 1, 1]> (s)', 10)


@micrograph
def pad_18() -> Case:
    """Pad with an axes input and a value."""
    return _between("m = Pad (s, pads, value, space)", 18, ints(pads=[1, 2, 1, 2], space=[3, 2]) | scalars(value=0.7))


@micrograph
def clip_6() -> Case:
    """Clip with attributes."""
    return _between("m = Clip <min = 0.4, max = 0.6> (s)", 10)


@micrograph
def batch_norm_7() -> Case:
    """BatchNormalization of opset 7."""
    return _between("m = BatchNormalization <epsilon = 0.01> (s, bn_s, bn_b, bn_m, bn_v)", 7, batch_norm("bn", 8))


@micrograph
def batch_norm_9() -> Case:
    """BatchNormalization of opset 9, with a Dropout of two outputs behind it."""
    ops = "n = BatchNormalization (s, bn_s, bn_b, bn_m, bn_v) m, mask = Dropout <ratio = 0.3> (n)"
    return _between(ops, 9, batch_norm("bn", 8))


@micrograph
def batch_norm_15() -> Case:
    """BatchNormalization of opset 15."""
    return _between("m = BatchNormalization (s, bn_s, bn_b, bn_m, bn_v)", 15, batch_norm("bn", 8))


@micrograph
def hard_swish_14() -> Case:
    """HardSwish and Mish are single ops in newer opsets."""
    return _between("h = HardSwish (s) i = Mish (h) m = Gelu (i)", 20)


@micrograph
def flatten_axis() -> Case:
    """Flatten before the axis 2: (n c) by (h w), batch 1."""
    return case(
        """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        f = Flatten <axis = 2> (s)
        t = Transpose (f)
        y = MatMul (t, w1)
        """,
        weights(w0=(8, 3, 1, 1), b0=(8,), w1=(8, 5)),
        Signature(inputs="float[1, 3, 4, 4] x"),
        removable=axes(w0=0, b0=0, w1=0),
    )


@micrograph
def gemm_of_weights_first() -> Case:
    """Gemm with its weight on the left and a column bias: channels are rows."""
    return case(
        """
        a = Gemm <transB = 1> (w0, x, b0)
        s = Sigmoid (a)
        c = Gemm (w1, s)
        y = Transpose <perm = [1, 0]> (c)
        """,
        weights(w0=(8, 16), b0=(8, 1), w1=(5, 8)),
        Signature(inputs="float[6, 16] x"),
        removable=axes(w0=0, b0=0, w1=1),
    )


@micrograph
def gemm_opset_7() -> Case:
    """Gemm with transA, scales and a bias that is no weight of the output alone."""
    return case(
        """
        t = Transpose <perm = [1, 0]> (x)
        a = Gemm <transA = 1, alpha = 2.0, beta = 0.5> (t, w0, b0)
        s = Sigmoid (a)
        y = Gemm (s, w1, b1)
        """,
        weights(w0=(16, 8), b0=(1, 8), w1=(8, 5), b1=(5,)),
        Signature(inputs="float[6, 16] x", opset=7),
        removable=axes(w0=1, b0=1, w1=0),
        frozen=axes(b1=0),
    )
