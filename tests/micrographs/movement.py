"""Ops that cut, pick and repeat channels."""

from .build import Case, Signature, axes, case, ints, micrograph, weights

FRONT = weights(w0=(8, 3, 1, 1), b0=(8,))
WIDE = weights(w0=(16, 3, 1, 1), b0=(16,))


@micrograph
def split_to_convs() -> Case:
    """One convolution's output is split for two others."""
    return case(
        """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        p, q = Split <axis = 1> (s, sizes)
        c = Conv (p, w1)
        d = Conv (q, w2)
        y = Add (c, d)
        """,
        weights(w0=(12, 3, 1, 1), b0=(12,), w1=(5, 8, 1, 1), w2=(5, 4, 1, 1)) | ints(sizes=[8, 4]),
        removable=axes(w0=0, b0=0),
        frozen=axes(w1=0, w2=0),
    )


@micrograph
def split_equally() -> Case:
    """opset 18's Split by a number of outputs; the halves are gated against each other (GLU)."""
    return case(
        """
        a = Conv (x, w0, b0)
        p, q = Split <axis = 1, num_outputs = 2> (a)
        g = Sigmoid (q)
        m = Mul (p, g)
        h = HardSigmoid (m)
        y = Conv (h, w1)
        """,
        WIDE | weights(w1=(5, 8, 1, 1)),
        Signature(opset=18),
        removable=axes(w0=0, b0=0, w1=1),
    )


@micrograph
def c2f() -> Case:
    """YOLOv8's block: chunk in two, a residual bottleneck on one half, concatenate all."""
    return case(
        """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        p, q = Split <axis = 1> (s, sizes)
        c = Conv (q, w1, b1)
        t = Sigmoid (c)
        d = Conv <pads = [1, 1, 1, 1]> (t, w2)
        r = Add (q, d)
        k = Concat <axis = 1> (p, q, r)
        y = Conv (k, w3)
        """,
        WIDE | weights(w1=(4, 8, 1, 1), b1=(4,), w2=(8, 4, 3, 3), w3=(5, 24, 1, 1)) | ints(sizes=[8, 8]),
        removable=axes(w0=0, b0=0, w1=0, b1=0, w2=1, w3=1),
        frozen=axes(w3=0),
        halved=False,
    )


@micrograph
def channel_slice() -> Case:
    """Two slices of one tensor; one end is negative, one beyond the axis."""
    return case(
        """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        p = Slice (s, zero, minus, one)
        q = Slice (s, four, far, one)
        c = Conv (p, w1)
        d = Conv (q, w2)
        y = Add (c, d)
        """,
        FRONT | weights(w1=(5, 4, 1, 1), w2=(5, 4, 1, 1)) | ints(zero=[0], minus=[-4], one=[1], four=[4], far=[2**31]),
        removable=axes(w0=0, b0=0),
    )


@micrograph
def channel_slice_overlap() -> Case:
    """Slices that share channels, and leave one out, are added: every other channel is one unit, or all stay."""
    return case(
        """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        b = Conv (s, w1, b1)
        t = Sigmoid (b)
        p = Slice (t, one, six, one)
        q = Slice (t, three, eight, one)
        r = Add (p, q)
        y = Conv (r, w2)
        """,
        FRONT | weights(w1=(8, 8, 1, 1), b1=(8,), w2=(5, 5, 1, 1)) | ints(one=[1], six=[6], three=[3], eight=[8]),
        removable=axes(w0=0, b0=0, w1=1),
    )


@micrograph
def strided_slice() -> Case:
    """Even channels go one way, odd channels another."""
    return case(
        """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        p = Slice (s, zero, far, one, two)
        q = Slice (s, one, far, one, two)
        c = Conv (p, w1)
        d = Conv (q, w2)
        y = Add (c, d)
        """,
        FRONT | weights(w1=(5, 4, 1, 1), w2=(5, 4, 1, 1)) | ints(zero=[0], one=[1], two=[2], far=[2**31]),
        removable=axes(w0=0, b0=0, w1=1, w2=1),
    )


@micrograph
def focus() -> Case:
    """YOLOv5's stem in the middle of a net: four strided views, concatenated."""
    return case(
        """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        ee = Slice (s, o00, far, hw, by2)
        oe = Slice (s, o10, far, hw, by2)
        eo = Slice (s, o01, far, hw, by2)
        oo = Slice (s, o11, far, hw, by2)
        k = Concat <axis = 1> (ee, oe, eo, oo)
        y = Conv (k, w1)
        """,
        FRONT
        | weights(w1=(5, 32, 1, 1))
        | ints(o00=[0, 0], o10=[1, 0], o01=[0, 1], o11=[1, 1], far=[9999, 9999], hw=[2, 3], by2=[2, 2]),
        removable=axes(w0=0, b0=0, w1=1),
    )


@micrograph
def gather_reorder() -> Case:
    """A fixed permutation of the channels."""
    return case(
        """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        g = Gather <axis = 1> (s, order)
        y = Conv (g, w1)
        """,
        FRONT | weights(w1=(5, 8, 1, 1)) | ints(order=[3, 0, 7, 1, 6, 2, 5, 4]),
        removable=axes(w0=0, b0=0, w1=1),
    )


@micrograph
def gather_reorder_residual() -> Case:
    """The permutation is added to what it permutes: its cycles (of 2) go whole."""
    return case(
        """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        g = Gather <axis = -3> (s, order)
        r = Add (s, g)
        y = Conv (r, w1)
        """,
        FRONT | weights(w1=(5, 8, 1, 1)) | ints(order=[7, -2, 5, 4, 3, 2, 1, 0]),
        removable=axes(w0=0, b0=0, w1=1),
    )


@micrograph
def gather_subset() -> Case:
    """Some channels are picked twice, some never."""
    return case(
        """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        g = Gather <axis = 1> (s, picks)
        y = Conv (g, w1)
        """,
        FRONT | weights(w1=(5, 6, 1, 1)) | ints(picks=[5, 0, 5, 1, 2, 0]),
        removable=axes(w0=0, w1=1),
        halved=False,
    )


@micrograph
def tile_channels() -> Case:
    """The channels three times over."""
    return case(
        """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        t = Tile (s, repeats)
        y = Conv (t, w1)
        """,
        FRONT | weights(w1=(5, 24, 1, 1)) | ints(repeats=[1, 3, 1, 1]),
        removable=axes(w0=0, b0=0, w1=1),
    )


@micrograph
def expand_gate() -> Case:
    """A map of one channel is expanded to all of them before it gates: the shape is a constant."""
    return case(
        """
        a = Conv (x, w0, b0)
        g = Conv (x, w1)
        h = Sigmoid (g)
        e = Expand (h, shape)
        m = Mul (a, e)
        y = Conv (m, w2)
        """,
        FRONT | weights(w1=(1, 3, 1, 1), w2=(5, 8, 1, 1)) | ints(shape=[2, 8, 8, 8]),
        removable=axes(w0=0, b0=0, w2=1),
        frozen=axes(w1=(0, 1)),
    )


@micrograph
def expand_to_shape_of() -> Case:
    """The same, with the shape taken from the gated tensor."""
    return case(
        """
        a = Conv (x, w0, b0)
        g = Conv (x, w1)
        h = Sigmoid (g)
        k = Shape (a)
        e = Expand (h, k)
        m = Mul (a, e)
        y = Conv (m, w2)
        """,
        FRONT | weights(w1=(1, 3, 1, 1), w2=(5, 8, 1, 1)),
        Signature(inputs="float[N, 3, 8, 8] x"),
        removable=axes(w0=0, b0=0, w2=1),
        frozen=axes(w1=(0, 1)),
    )
