"""How networks wire convolutions: shortcuts, branches, gates, and element-wise ops between them."""

from .build import Case, Signature, axes, batch_norm, case, ints, micrograph, scalars, weights


@micrograph
def residual() -> Case:
    """A shortcut ties a convolution's inputs to its outputs."""
    return case(
        """
        a = Conv <pads = [1, 1, 1, 1]> (x, w0, b0)
        s = Sigmoid (a)
        c = Conv <pads = [1, 1, 1, 1]> (s, w1, b1)
        r = Add (s, c)
        y = Conv (r, w2, b2)
        """,
        weights(w0=(8, 3, 3, 3), b0=(8,), w1=(8, 8, 3, 3), b1=(8,), w2=(5, 8, 1, 1), b2=(5,)),
        removable=axes(w0=0, b0=0, w1=(0, 1), b1=0, w2=1),
        frozen=axes(w0=(1, 2, 3), w2=0, b2=0),
    )


@micrograph
def concat_of_residuals() -> Case:
    """Two residual sums of different widths meet in a Concat."""
    return case(
        """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        c = Conv (s, w1, b1)
        r = Add (s, c)
        d = Conv (x, w2, b2)
        t = Tanh (d)
        e = Conv (t, w3)
        q = Add (e, t)
        k = Concat <axis = -3> (r, q)
        h = HardSigmoid (k)
        y = Conv (h, w4)
        """,
        weights(w0=(8, 3, 1, 1), b0=(8,), w1=(8, 8, 1, 1), b1=(8,), w2=(4, 3, 1, 1), b2=(4,), w3=(4, 4, 1, 1))
        | weights(w4=(5, 12, 1, 1)),
        removable=axes(w0=0, w1=(0, 1), b1=0, w2=0, b2=0, w3=(0, 1), w4=1),
        frozen=axes(w4=0),
    )


@micrograph
def concat_misaligned() -> Case:
    """8 | 4 channels are added to 4 | 8: the tie crosses the seams."""
    return case(
        """
        a = Conv (x, w0, b0)
        b = Conv (x, w1)
        c = Conv (x, w2)
        d = Conv (x, w3, b3)
        p = Concat <axis = 1> (a, b)
        q = Concat <axis = 1> (c, d)
        r = Add (p, q)
        s = Sigmoid (r)
        y = Conv (s, w4)
        """,
        weights(w0=(8, 3, 1, 1), b0=(8,), w1=(4, 3, 1, 1), w2=(4, 3, 1, 1), w3=(8, 3, 1, 1), b3=(8,))
        | weights(w4=(5, 12, 1, 1)),
        removable=axes(w0=0, w3=0, w4=1),
        halved=False,
    )


@micrograph
def dense_concat() -> Case:
    """The input is concatenated too: its channels stay, the others go."""
    return case(
        """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        k = Concat <axis = 1> (s, x)
        y = Conv (k, w1)
        """,
        weights(w0=(8, 3, 1, 1), b0=(8,), w1=(5, 11, 1, 1)),
        removable=axes(w0=0, b0=0, w1=1),
        frozen=axes(w0=1, w1=0),
        halved=False,
    )


@micrograph
def residual_from_input() -> Case:
    """A shortcut from the graph's input freezes the sum."""
    return case(
        """
        c = Conv <pads = [1, 1, 1, 1]> (x, w0, b0)
        s = Sigmoid (c)
        r = Add (x, s)
        y = Conv (r, w1)
        """,
        weights(w0=(8, 8, 3, 3), b0=(8,), w1=(5, 8, 1, 1)),
        Signature(inputs="float[2, 8, 6, 6] x"),
        frozen=axes(w0=(0, 1), b0=0, w1=(0, 1)),
        reason="(?i)input.*x|x.*input",
    )


@micrograph
def inception() -> Case:
    """Branches of three kernels and a pool, concatenated."""
    return case(
        """
        t = Conv (x, w0, b0)
        s = Sigmoid (t)
        a = Conv (s, w1, b1)
        b = Conv <pads = [1, 1, 1, 1]> (s, w2)
        c = Conv <pads = [2, 2, 2, 2]> (s, w3)
        m = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (s)
        d = Conv (m, w4)
        k = Concat <axis = 1> (a, b, c, d)
        h = HardSigmoid (k)
        y = Conv (h, w5)
        """,
        weights(w0=(8, 3, 1, 1), b0=(8,), w1=(4, 8, 1, 1), b1=(4,), w2=(6, 8, 3, 3), w3=(2, 8, 5, 5))
        | weights(w4=(4, 8, 1, 1), w5=(5, 16, 1, 1)),
        removable=axes(w0=0, w1=(0, 1), b1=0, w2=(0, 1), w3=(0, 1), w4=(0, 1), w5=1),
    )


@micrograph
def se_gate() -> Case:
    """Squeeze and excitation: pool, two 1x1 convolutions, a gate that is not 0 at 0."""
    return case(
        """
        a = Conv (x, w0, b0)
        g = GlobalAveragePool (a)
        f = Conv (g, w1, b1)
        r = Relu (f)
        e = Conv (r, w2, b2)
        h = HardSigmoid (e)
        m = Mul (h, a)
        s = Sigmoid (m)
        y = Conv (s, w3)
        """,
        weights(w0=(8, 3, 1, 1), b0=(8,), w1=(4, 8, 1, 1), b1=(4,), w2=(8, 4, 1, 1), b2=(8,), w3=(5, 8, 1, 1)),
        removable=axes(w0=0, b0=0, w1=(0, 1), b1=0, w2=(0, 1), b2=0, w3=1),
    )


@micrograph
def deconv_decoder() -> Case:
    """A U-Net step: down, transposed up, skip by Concat."""
    return case(
        """
        e = Conv <pads = [1, 1, 1, 1]> (x, w0, b0)
        s = Sigmoid (e)
        d = Conv <kernel_shape = [2, 2], strides = [2, 2]> (s, w1, b1)
        t = Sigmoid (d)
        u = ConvTranspose <kernel_shape = [2, 2], strides = [2, 2]> (t, w2, b2)
        k = Concat <axis = 1> (u, s)
        h = HardSigmoid (k)
        y = Conv (h, w3)
        """,
        weights(w0=(8, 3, 3, 3), b0=(8,), w1=(12, 8, 2, 2), b1=(12,), w2=(12, 6, 2, 2), b2=(6,), w3=(5, 14, 1, 1)),
        removable=axes(w0=0, w1=(0, 1), b1=0, w2=(0, 1), b2=0, w3=1),
    )


@micrograph
def pad_channels() -> Case:
    """ResNet's option A: the shortcut is strided and zero channels are padded on."""
    return case(
        """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        c = Conv <strides = [2, 2]> (s, w1, b1)
        t = Sigmoid (c)
        d = Conv (t, w2, b2)
        h = Slice (s, start, end, axis, step)
        p = Pad (h, pads)
        r = Add (d, p)
        y = Conv (r, w3)
        """,
        weights(w0=(8, 3, 1, 1), b0=(8,), w1=(12, 8, 1, 1), b1=(12,), w2=(16, 12, 1, 1), b2=(16,), w3=(5, 16, 1, 1))
        | ints(start=[0, 0], end=[9999, 9999], axis=[2, 3], step=[2, 2], pads=[0, 4, 0, 0, 0, 4, 0, 0]),
        removable=axes(w1=0, b1=0, w2=1),
        frozen=axes(w3=0),
    )


@micrograph
def channel_constants() -> Case:
    """Constants for each channel in every broadcast form: (c,1,1), (1,c,1,1), scalar, one for all."""
    return case(
        """
        a = Conv (x, w0)
        m = Mul (a, scale)
        b = Add (shift, m)
        d = Div (b, width)
        s = Sub (half, d)
        p = Pow (s, two)
        q = Max (p, floor)
        y = Conv (q, w1)
        """,
        weights(w0=(8, 3, 1, 1), scale=(8, 1, 1), shift=(1, 8, 1, 1), floor=(8, 1, 1), w1=(5, 8, 1, 1))
        | {"width": abs(weights(width=(1, 8, 1, 1))["width"]) + 1}
        | scalars(half=0.5, two=2),
        removable=axes(w0=0, scale=0, shift=1, width=1, floor=0, w1=1),
    )


@micrograph
def elementwise_chain() -> Case:
    """Ops on two activations, a mask of booleans for each channel, Dropout and Identity on the way."""
    return case(
        """
        a = Conv (x, w0, b0)
        b = Conv (x, w1)
        i = Identity (a)
        l = LeakyRelu (i)
        e = Elu (b)
        h = Greater (l, e)
        m = Where (h, l, e)
        n = Min (m, a, b)
        k = Where (picks, n, fill)
        d = Dropout (k)
        p = Add (d, fill)
        t = Softplus (p)
        y = Conv (t, w2)
        """,
        weights(w0=(8, 3, 1, 1), b0=(8,), w1=(8, 3, 1, 1), fill=(1, 8, 1, 1), w2=(5, 8, 1, 1))
        | {"picks": ints(picks=[1, 0, 1, 1, 1, 1, 0, 1])["picks"].reshape(8, 1, 1) > 0},
        removable=axes(w0=0, b0=0, w1=0, picks=0, fill=1, w2=1),
    )


@micrograph
def dense_block() -> Case:
    """DenseNet: BatchNormalization over a concatenation that grows."""
    return case(
        """
        a = Conv (x, w0, b0)
        m = BatchNormalization (a, m_s, m_b, m_m, m_v)
        s = Sigmoid (m)
        c = Conv <pads = [1, 1, 1, 1]> (s, w1)
        k = Concat <axis = 1> (a, c)
        n = BatchNormalization (k, n_s, n_b, n_m, n_v)
        t = Relu (n)
        y = Conv (t, w2)
        """,
        weights(w0=(8, 3, 1, 1), b0=(8,), w1=(4, 8, 3, 3), w2=(5, 12, 1, 1)) | batch_norm("m", 8) | batch_norm("n", 12),
        removable=axes(w0=0, m_s=0, m_v=0, w1=(0, 1), n_s=0, n_b=0, n_m=0, n_v=0, w2=1),
    )


@micrograph
def concat_in_space() -> Case:
    """Concatenated along the height, the same channels; then cut again."""
    return case(
        """
        a = Conv (x, w0, b0)
        b = Conv (x, w1)
        k = Concat <axis = 2> (a, b)
        s = Sigmoid (k)
        p, q = Split <axis = 2> (s, sizes)
        m = Mul (p, q)
        y = Conv (m, w2)
        """,
        weights(w0=(8, 3, 1, 1), b0=(8,), w1=(8, 3, 1, 1), w2=(5, 8, 1, 1)) | ints(sizes=[8, 8]),
        Signature(inputs="float[2, 3, 8, 8] x"),
        removable=axes(w0=0, b0=0, w1=0, w2=1),
    )


@micrograph
def captured_by_branch() -> Case:
    """The branches of an If read a tensor from outside: it stays whole, the one before does not."""
    return case(
        """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        c = Conv (s, w1, b1)
        q = ReduceMax <keepdims = 0> (x)
        f = Greater (q, zero)
        r = If (f) <
            then_branch = positive () => (float[2, 6, 8, 8] t) { t = Sigmoid (c) },
            else_branch = negative () => (float[2, 6, 8, 8] e) { e = Tanh (c) }
        >
        y = Conv (r, w2)
        """,
        weights(w0=(8, 3, 1, 1), b0=(8,), w1=(6, 8, 1, 1), b1=(6,), w2=(5, 6, 1, 1)) | scalars(zero=0),
        removable=axes(w0=0, b0=0, w1=1),
        frozen=axes(w1=0, b1=0, w2=1),
        reason="If",
    )
