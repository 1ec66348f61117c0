"""Ops that fold channels into other axes, unfold them, and move them to another place."""

from .build import Case, Signature, axes, case, ints, micrograph, weights

FRONT = weights(w0=(8, 3, 1, 1), b0=(8,))
WIDE = weights(w0=(16, 3, 1, 1), b0=(16,))


@micrograph
def flatten_fc() -> Case:
    """Every channel becomes 16 features."""
    return case(
        """
        a = Conv <strides = [2, 2]> (x, w0, b0)
        s = Sigmoid (a)
        f = Flatten (s)
        h = Gemm <transB = 1> (f, w1, b1)
        t = Sigmoid (h)
        y = Gemm <alpha = 0.5> (t, w2, b2)
        """,
        FRONT | weights(w1=(12, 128), b1=(12,), w2=(12, 5), b2=(5,)),
        removable=axes(w0=0, b0=0, w1=(0, 1), b1=0, w2=0),
        frozen=axes(w2=1, b2=0),
    )


@micrograph
def flatten_nhwc() -> Case:
    """Keras flattens with channels last: they are interleaved in the features."""
    return case(
        """
        a = Conv <strides = [2, 2]> (x, w0, b0)
        s = Sigmoid (a)
        t = Transpose <perm = [0, 2, 3, 1]> (s)
        f = Reshape (t, flat)
        y = MatMul (f, w1)
        """,
        FRONT | weights(w1=(128, 5)) | ints(flat=[2, 128]),
        removable=axes(w0=0, b0=0, w1=0),
    )


@micrograph
def channel_shuffle() -> Case:
    """ShuffleNet: two grouped convolutions around reshape, transpose, reshape."""
    return case(
        """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        c = Conv <group = 2> (s, w1, b1)
        r = Reshape (c, fold)
        t = Transpose <perm = [0, 2, 1, 3, 4]> (r)
        u = Reshape (t, unfold)
        h = HardSigmoid (u)
        d = Conv <group = 2> (h, w2)
        y = Conv (d, w3)
        """,
        WIDE
        | weights(w1=(16, 8, 1, 1), b1=(16,), w2=(16, 8, 1, 1), w3=(5, 16, 1, 1))
        | ints(fold=[2, 2, 8, 8, 8], unfold=[2, 16, 8, 8]),
        removable=axes(w0=0, w1=0, b1=0, w2=0, w3=1),
    )


@micrograph
def shuffle_unit() -> Case:
    """ShuffleNetV2: split, convolve one half, concatenate, shuffle."""
    return case(
        """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        p, q = Split <axis = 1> (s, sizes)
        c = Conv (q, w1, b1)
        k = Concat <axis = 1> (p, c)
        r = Reshape (k, fold)
        t = Transpose <perm = [0, 2, 1, 3, 4]> (r)
        u = Reshape (t, unfold)
        e, f = Split <axis = 1> (u, sizes)
        m = Mul (e, f)
        y = Conv (m, w2)
        """,
        WIDE
        | weights(w1=(8, 8, 1, 1), b1=(8,), w2=(5, 8, 1, 1))
        | ints(sizes=[8, 8], fold=[-1, 2, 8, 8, 8], unfold=[-1, 16, 8, 8]),
        removable=axes(w0=0, w1=0, b1=0, w2=1),
    )


@micrograph
def depth_to_space_crd() -> Case:
    """PixelShuffle: four neighbouring channels make one."""
    return case(
        """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        d = DepthToSpace <blocksize = 2, mode = "CRD"> (s)
        y = Conv (d, w1)
        """,
        WIDE | weights(w1=(5, 4, 1, 1)),
        removable=axes(w0=0, b0=0, w1=1),
    )


@micrograph
def depth_to_space_dcr() -> Case:
    """Tensorflow's order: channels a quarter apart make one."""
    return case(
        """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        d = DepthToSpace <blocksize = 2> (s)
        y = Conv (d, w1)
        """,
        WIDE | weights(w1=(5, 4, 1, 1)),
        removable=axes(w0=0, b0=0, w1=1),
    )


@micrograph
def space_to_depth() -> Case:
    """Every channel becomes four."""
    return case(
        """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        d = SpaceToDepth <blocksize = 2> (s)
        y = Conv (d, w1)
        """,
        FRONT | weights(w1=(5, 32, 1, 1)),
        removable=axes(w0=0, b0=0, w1=1),
    )


@micrograph
def pixel_unshuffle() -> Case:
    """The same as torch exports it: reshape to six dimensions, transpose, reshape."""
    return case(
        """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        r = Reshape (s, fold)
        t = Transpose <perm = [0, 1, 3, 5, 2, 4]> (r)
        u = Reshape (t, unfold)
        y = Conv (u, w1)
        """,
        FRONT | weights(w1=(5, 32, 1, 1)) | ints(fold=[2, 8, 4, 2, 4, 2], unfold=[2, 32, 4, 4]),
        removable=axes(w0=0, b0=0, w1=1),
    )


@micrograph
def nhwc_matmul() -> Case:
    """ConvNeXt without its LayerNorm: channels last, two Linears, channels first, layer scale."""
    return case(
        """
        a = Conv (x, w0, b0)
        t = Transpose <perm = [0, 2, 3, 1]> (a)
        m = MatMul (t, w1)
        p = Add (m, b1)
        s = Sigmoid (p)
        n = MatMul (s, w2)
        g = Mul (gamma, n)
        u = Transpose <perm = [0, 3, 1, 2]> (g)
        r = Add (u, a)
        y = Conv (r, w3)
        """,
        FRONT | weights(w1=(8, 12), b1=(12,), w2=(12, 8), gamma=(8,), w3=(5, 8, 1, 1)),
        removable=axes(w0=0, b0=0, w1=(0, 1), b1=0, w2=(0, 1), gamma=0, w3=1),
    )


@micrograph
def einsum_weights() -> Case:
    """Einsum with weights, channels anywhere."""
    return case(
        """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        e = Einsum <equation = "bchw,cd->bhwd"> (s, w1)
        p = Add (e, b1)
        t = Sigmoid (p)
        y = Einsum <equation = "bhwd, od -> bohw"> (t, w2)
        """,
        FRONT | weights(w1=(8, 12), b1=(12,), w2=(5, 12)),
        removable=axes(w0=0, b0=0, w1=(0, 1), b1=0, w2=1),
        frozen=axes(w2=0),
    )


@micrograph
def window_partition() -> Case:
    """Swin: 8 x 8 positions become 4 windows of 16, and back."""
    return case(
        """
        a = Conv (x, w0, b0)
        t = Transpose <perm = [0, 2, 3, 1]> (a)
        r = Reshape (t, fold)
        u = Transpose <perm = [0, 1, 3, 2, 4, 5]> (r)
        w = Reshape (u, windows)
        m = MatMul (w, w1)
        s = Sigmoid (m)
        q = Reshape (s, spread)
        v = Transpose <perm = [0, 1, 3, 2, 4, 5]> (q)
        g = Reshape (v, image)
        p = Add (t, g)
        y = MatMul (p, w2)
        """,
        FRONT
        | weights(w1=(8, 8), w2=(8, 5))
        | ints(fold=[2, 2, 4, 2, 4, 8], windows=[-1, 16, 8], spread=[2, 2, 2, 4, 4, 8], image=[2, 8, 8, 8]),
        removable=axes(w0=0, b0=0, w1=(0, 1), w2=0),
    )


@micrograph
def dynamic_view() -> Case:
    """x.view(x.size(0), -1) with a dynamic batch."""
    return case(
        """
        a = Conv <strides = [2, 2]> (x, w0, b0)
        s = Sigmoid (a)
        k = Shape (s)
        n = Gather (k, first)
        u = Unsqueeze (n, at)
        v = Concat <axis = 0> (u, rest)
        f = Reshape (s, v)
        y = Gemm <transB = 1> (f, w1, b1)
        """,
        FRONT | weights(w1=(5, 128), b1=(5,)) | ints(first=0, at=[0], rest=[-1]),
        Signature(inputs="float[N, 3, 8, 8] x"),
        removable=axes(w0=0, b0=0, w1=1),
    )


@micrograph
def dynamic_view_baked() -> Case:
    """The same with the feature count baked in, in a Constant node: it must be rewritten there."""
    return case(
        """
        a = Conv <strides = [2, 2]> (x, w0, b0)
        s = Sigmoid (a)
        k = Shape (s)
        first = Constant <value = int64 {0}> ()
        n = Gather <axis = 0> (k, first)
        u = Unsqueeze (n, at)
        rest = Constant <value = int64[1] {128}> ()
        v = Concat <axis = 0> (u, rest)
        f = Reshape (s, v)
        y = Gemm <transB = 1> (f, w1, b1)
        """,
        FRONT | weights(w1=(5, 128), b1=(5,)) | ints(at=[0]),
        Signature(inputs="float[N, 3, 8, 8] x"),
        removable=axes(w0=0, b0=0, w1=1),
    )


@micrograph
def dynamic_view_product() -> Case:
    """x.view(n, c * h * w) with every size read from the tensor itself."""
    return case(
        """
        a = Conv <strides = [2, 2]> (x, w0, b0)
        s = Sigmoid (a)
        k = Shape (s)
        n = Slice (k, zero, one)
        c = Slice (k, one, two)
        hw = Slice (k, two, four)
        area = ReduceProd <axes = [0], keepdims = 1> (hw)
        p = Mul (c, area)
        v = Concat <axis = 0> (n, p)
        f = Reshape (s, v)
        y = Gemm <transB = 1> (f, w1, b1)
        """,
        FRONT | weights(w1=(5, 128), b1=(5,)) | ints(zero=[0], one=[1], two=[2], four=[4]),
        Signature(inputs="float[N, 3, 8, 8] x"),
        removable=axes(w0=0, b0=0, w1=1),
    )


@micrograph
def incompatible_folds() -> Case:
    """One tensor is folded as 3 x 4 and as 4 x 3, the results are transposed: exact, whatever stays."""
    return case(
        """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        b = Conv (s, w1, b1)
        t = Sigmoid (b)
        p = Reshape (t, three)
        q = Reshape (t, four)
        u = Transpose <perm = [0, 2, 1, 3, 4]> (p)
        v = Transpose <perm = [0, 2, 1, 3, 4]> (q)
        e = Reshape (u, flat)
        f = Reshape (v, flat)
        r = Add (e, f)
        y = Conv (r, w2)
        """,
        FRONT
        | weights(w1=(12, 8, 1, 1), b1=(12,), w2=(5, 12, 1, 1))
        | ints(three=[2, 3, 4, 8, 8], four=[2, 4, 3, 8, 8], flat=[2, 12, 8, 8]),
        removable=axes(w0=0, b0=0, w1=1),
    )


@micrograph
def zeros_like() -> Case:
    """A tensor of constants in the shape of another: data made from a shape that shrinks."""
    return case(
        """
        a = Conv (x, w0, b0)
        k = Shape (a)
        z = ConstantOfShape <value = float[1] {0.5}> (k)
        r = Add (a, z)
        s = Sigmoid (r)
        y = Conv (s, w1)
        """,
        FRONT | weights(w1=(5, 8, 1, 1)),
        Signature(inputs="float[N, 3, 8, 8] x"),
        removable=axes(w0=0, b0=0, w1=1),
    )


@micrograph
def shape_sliced_15() -> Case:
    """opset 15's Shape with start and end; Reshape with allowzero and a copied 0."""
    return case(
        """
        a = Conv (x, w0, b0)
        hw = Shape <start = 2, end = 4> (x)
        v = Concat <axis = 0> (keep, split, hw)
        r = Reshape (a, v)
        m = ReduceMax <axes = [2], keepdims = 0> (r)
        s = Sigmoid (m)
        y = Conv (s, w1)
        """,
        FRONT | weights(w1=(5, 4, 1, 1)) | ints(keep=[0], split=[4, 2]),
        Signature(opset=15),
        removable=axes(w0=0, b0=0, w1=1),
    )
