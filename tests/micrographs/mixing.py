"""Ops that read several channels at once: nothing may go, and the reason names the op."""

from .build import Arrays, Case, Signature, axes, case, ints, micrograph, weights

ENDS = weights(w0=(8, 3, 1, 1), b0=(8,), w1=(5, 8, 1, 1))
STUCK = axes(w0=0, b0=0, w1=(0, 1))


def _mixed(op: str, reason: str, opset: int = 13, arrays: Arrays | None = None) -> Case:
    """conv, one op over the channels, conv: nothing may go, and the reason names the op."""
    body = f"a = Conv (x, w0, b0) s = Sigmoid (a) {op} y = Conv (m, w1)"
    return case(body, ENDS | (arrays or {}), Signature(opset=opset), frozen=STUCK, reason=reason)


@micrograph
def lrn() -> Case:
    """Local response normalisation looks at neighbouring channels."""
    return _mixed("m = LRN <size = 3> (s)", "LRN")


@micrograph
def softmax_over_channels() -> Case:
    """Softmax over the channels."""
    return _mixed("m = Softmax <axis = 1> (s)", "Softmax")


@micrograph
def softmax_flattening() -> Case:
    """Before opset 13, Softmax with axis 1 runs over everything behind it, too."""
    return _mixed("m = Softmax <axis = 1> (s)", "Softmax", opset=11)


@micrograph
def cumsum_over_channels() -> Case:
    """A running sum over the channels."""
    return _mixed("m = CumSum (s, one)", "CumSum", arrays=ints(one=1))


@micrograph
def lp_over_channels() -> Case:
    """L2 normalisation over the channels."""
    return _mixed("m = LpNormalization <axis = 1, p = 2> (s)", "LpNormalization")


@micrograph
def mean_over_channels() -> Case:
    """CBAM's spatial gate: the mean over the channels."""
    return _mixed("g = ReduceMean <axes = [1], keepdims = 1> (s) m = Mul (g, s)", "ReduceMean")


@micrograph
def max_over_channels() -> Case:
    """A maximum over the channels, and opset 18's axes input."""
    return _mixed("g = ReduceMax <keepdims = 1> (s, one) m = Mul (g, s)", "ReduceMax", 18, ints(one=[1]))


@micrograph
def eca_gate() -> Case:
    """ECA: a Conv1d slides across the channels."""
    op = """
        g = GlobalAveragePool (s)
        f = Squeeze (g, last)
        t = Transpose <perm = [0, 2, 1]> (f)
        c = Conv <pads = [1, 1]> (t, wk)
        u = Transpose <perm = [0, 2, 1]> (c)
        v = Unsqueeze (u, last)
        h = Sigmoid (v)
        m = Mul (s, h)
        """
    return _mixed(op, "Conv", arrays=weights(wk=(1, 1, 3)) | ints(last=[-1]))


@micrograph
def argmax_over_channels() -> Case:
    """The class index is a position among the channels."""
    return case(
        """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        c = Conv (s, w1)
        i = ArgMax <axis = 1, keepdims = 1> (c)
        y = Cast <to = 1> (i)
        """,
        ENDS,
        removable=axes(w0=0, b0=0, w1=1),
        frozen=axes(w1=0),
        reason="ArgMax",
    )


@micrograph
def topk_over_channels() -> Case:
    """The largest two channels at every place."""
    return case(
        """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        c = Conv (s, w1)
        v, i = TopK <axis = 1> (c, two)
        y = Sigmoid (v)
        """,
        ENDS | ints(two=[2]),
        removable=axes(w0=0, b0=0, w1=1),
        frozen=axes(w1=0),
        reason="TopK",
    )


@micrograph
def unknown_op() -> Case:
    """An op of a foreign domain: never guessed to be element-wise."""
    return case(
        """
        a = Conv (x, w0, b0)
        s = com.acme.Mystery (a)
        y = Conv (s, w1)
        """,
        ENDS,
        Signature(outputs="float[2, 5, 8, 8] y", domains=', "com.acme": 1'),
        frozen=STUCK,
        reason="Mystery",
        runnable=False,
    )
