"""Convolutions of every kind: grouped, depthwise, transposed, over one to three dimensions."""

from .build import Case, Signature, axes, case, micrograph, scalars, weights


@micrograph
def grouped() -> Case:
    """A convolution of four groups: the same channels out of every group."""
    return case(
        """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        c = Conv <group = 4> (s, w1, b1)
        t = Sigmoid (c)
        y = Conv (t, w2)
        """,
        weights(w0=(16, 3, 1, 1), b0=(16,), w1=(32, 4, 1, 1), b1=(32,), w2=(5, 32, 1, 1)),
        removable=axes(w0=0, b0=0, w1=(0, 1), b1=0, w2=1),
    )


@micrograph
def two_group_counts() -> Case:
    """Groups of four feed groups of eight: 32 = 4 x 2 x 4."""
    return case(
        """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        c = Conv <group = 4> (s, w1, b1)
        t = Sigmoid (c)
        d = Conv <group = 8> (t, w2, b2)
        u = Sigmoid (d)
        y = Conv (u, w3)
        """,
        weights(w0=(32, 3, 1, 1), b0=(32,), w1=(32, 8, 1, 1), b1=(32,), w2=(32, 4, 1, 1), b2=(32,))
        | weights(w3=(5, 32, 1, 1)),
        removable=axes(w0=0, w1=0, b1=0, w2=0, b2=0, w3=1),
    )


@micrograph
def grouped_residual() -> Case:
    """Groups of 4 in a residual sum with groups of 2 (ResNeXt): one axis, two ways to divide it."""
    return case(
        """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        c = Conv <group = 4> (s, w1, b1)
        d = Conv <group = 2> (s, w2)
        r = Sum (s, c, d)
        y = Conv (r, w3)
        """,
        weights(w0=(16, 3, 1, 1), b0=(16,), w1=(16, 4, 1, 1), b1=(16,), w2=(16, 8, 1, 1), w3=(5, 16, 1, 1)),
        removable=axes(w0=0, w1=0, b1=0, w2=0, w3=1),
    )


@micrograph
def depthwise() -> Case:
    """A MobileNet block: depthwise between two pointwise convolutions, Clip between them."""
    return case(
        """
        a = Conv (x, w0, b0)
        s = Clip (a, low, high)
        d = Conv <group = 8, pads = [1, 1, 1, 1]> (s, w1, b1)
        t = HardSigmoid (d)
        y = Conv (t, w2)
        """,
        weights(w0=(8, 3, 1, 1), b0=(8,), w1=(8, 1, 3, 3), b1=(8,), w2=(5, 8, 1, 1)) | scalars(low=-1, high=1.5),
        removable=axes(w0=0, b0=0, w1=0, b1=0, w2=1),
    )


@micrograph
def depthwise_multiplier() -> Case:
    """A depthwise convolution that makes two channels of each."""
    return case(
        """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        d = Conv <group = 8> (s, w1, b1)
        t = Sigmoid (d)
        y = Conv (t, w2)
        """,
        weights(w0=(8, 3, 1, 1), b0=(8,), w1=(16, 1, 1, 1), b1=(16,), w2=(5, 16, 1, 1)),
        removable=axes(w1=0, b1=0, w2=1),
    )


@micrograph
def conv_transpose_grouped() -> Case:
    """A grouped ConvTranspose: its weight is (groups x in, out / groups, kernel)."""
    return case(
        """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        u = ConvTranspose <group = 2, kernel_shape = [2, 2], strides = [2, 2]> (s, w1, b1)
        t = Sigmoid (u)
        y = Conv (t, w2)
        """,
        weights(w0=(8, 3, 1, 1), b0=(8,), w1=(8, 6, 2, 2), b1=(12,), w2=(5, 12, 1, 1)),
        removable=axes(w0=0, b0=0, w1=(0, 1), b1=0, w2=1),
    )


@micrograph
def conv1d() -> Case:
    """Convolution over time."""
    return case(
        """
        a = Conv <pads = [1, 1]> (x, w0, b0)
        s = Sigmoid (a)
        p = AveragePool <kernel_shape = [2], strides = [2]> (s)
        y = Conv (p, w1)
        """,
        weights(w0=(8, 3, 3), b0=(8,), w1=(5, 8, 1)),
        Signature(inputs="float[2, 3, 16] x"),
        removable=axes(w0=0, b0=0, w1=1),
        frozen=axes(w0=(1, 2), w1=(0, 2)),
    )


@micrograph
def conv3d() -> Case:
    """Convolution over a volume, dynamic batch."""
    return case(
        """
        a = Conv <pads = [1, 1, 1, 1, 1, 1]> (x, w0, b0)
        s = Sigmoid (a)
        p = MaxPool <kernel_shape = [2, 2, 2], strides = [2, 2, 2]> (s)
        y = Conv (p, w1)
        """,
        weights(w0=(8, 2, 3, 3, 3), b0=(8,), w1=(5, 8, 1, 1, 1)),
        Signature(inputs="float[N, 2, 4, 4, 4] x"),
        removable=axes(w0=0, b0=0, w1=1),
    )


@micrograph
def depthwise_on_input() -> Case:
    """The input's channels stay, but one of the two that each of them makes may go."""
    return case(
        """
        d = Conv <group = 3, pads = [1, 1, 1, 1]> (x, w0, b0)
        s = Sigmoid (d)
        y = Conv (s, w1)
        """,
        weights(w0=(6, 1, 3, 3), b0=(6,), w1=(5, 6, 1, 1)),
        removable=axes(w0=0, b0=0, w1=1),
        frozen=axes(w0=1),
    )


@micrograph
def upsampling_depthwise() -> Case:
    """A depthwise ConvTranspose, as learned bilinear upsampling is."""
    return case(
        """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        u = ConvTranspose <group = 8, kernel_shape = [4, 4], strides = [2, 2], pads = [1, 1, 1, 1]> (s, w1, b1)
        t = Sigmoid (u)
        y = Conv (t, w2)
        """,
        weights(w0=(8, 3, 1, 1), b0=(8,), w1=(8, 1, 4, 4), b1=(8,), w2=(5, 8, 1, 1)),
        removable=axes(w0=0, b0=0, w1=0, b1=0, w2=1),
    )


@micrograph
def incompatible_groups() -> Case:
    """12 channels as 3 x 4 and as 4 x 3: no common division, so they stay or go in steps that fit both."""
    return case(
        """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        b = Conv (s, w1, b1)
        t = Sigmoid (b)
        c = Conv <group = 3> (t, w2)
        d = Conv <group = 4> (t, w3)
        r = Mul (c, d)
        y = Conv (r, w4)
        """,
        weights(w0=(8, 3, 1, 1), b0=(8,), w1=(12, 8, 1, 1), b1=(12,), w2=(12, 4, 1, 1), w3=(12, 3, 1, 1))
        | weights(w4=(5, 12, 1, 1)),
        removable=axes(w0=0, b0=0, w1=1),
    )
