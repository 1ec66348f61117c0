"""Attention in the shapes in which exporters leave it; gated MLPs."""

from .build import TOKENS, Case, Cut, Signature, axes, case, ints, micrograph, scalars, weights

# x: (batch 2, tokens 6, width 16); 4 heads of width 4.
FOLD = ints(fold=[2, 6, 4, 4], unfold=[2, 6, 16])
SEPARATE = weights(wq=(16, 16), wk=(16, 16), wv=(16, 16), wo=(16, 5), bq=(16,), bk=(16,), bv=(16,))
PROJECT = """
    q0 = MatMul (x, wq)
    k0 = MatMul (x, wk)
    v0 = MatMul (x, wv)
    q1 = Add (q0, bq)
    k1 = Add (k0, bk)
    v1 = Add (v0, bv)
    """
HEADS = """
    q2 = Reshape (q1, fold)
    k2 = Reshape (k1, fold)
    v2 = Reshape (v1, fold)
    q = Transpose <perm = [0, 2, 1, 3]> (q2)
    k = Transpose <perm = [0, 2, 3, 1]> (k2)
    v = Transpose <perm = [0, 2, 1, 3]> (v2)
    """
ATTEND = """
    l = MatMul (q, k)
    m = Mul (l, scale)
    p = Softmax <axis = -1> (m)
    o = MatMul (p, v)
    """
JOIN = """
    t = Transpose <perm = [0, 2, 1, 3]> (o)
    c = Reshape (t, unfold)
    y = MatMul (c, wo)
    """
ALL = axes(wq=1, bq=0, wk=1, bk=0, wv=1, bv=0, wo=0)


@micrograph
def attention_separate() -> Case:
    """Three projections, constant scale: heads and head width are both groups."""
    return case(PROJECT + HEADS + ATTEND + JOIN, SEPARATE | FOLD | scalars(scale=0.5), TOKENS, removable=ALL)


@micrograph
def attention_packed() -> Case:
    """One projection to (3 h d), split by Reshape, Transpose and Gather, as ViT has it."""
    body = """
        a = MatMul (x, wqkv)
        b = Add (a, bqkv)
        r = Reshape (b, five)
        s = Transpose <perm = [2, 0, 3, 1, 4]> (r)
        q = Gather <axis = 0> (s, i0)
        k3 = Gather <axis = 0> (s, i1)
        v = Gather <axis = 0> (s, i2)
        k = Transpose <perm = [0, 1, 3, 2]> (k3)
        """
    return case(
        body + ATTEND + JOIN,
        weights(wqkv=(16, 48), bqkv=(48,), wo=(16, 5))
        | ints(unfold=[2, 6, 16], five=[2, 6, 3, 4, 4], i0=0, i1=1, i2=2)
        | scalars(scale=0.5),
        TOKENS,
        removable=axes(wqkv=1, bqkv=0, wo=0),
        frozen=axes(wqkv=0, wo=1),
    )


@micrograph
def attention_packed_gemm() -> Case:
    """The same after Swin's exporter: tokens flattened for a Gemm, slices and squeezes for the three."""
    body = """
        flat = Reshape (x, rows)
        a = Gemm <transB = 1> (flat, wqkv, bqkv)
        r = Reshape (a, five)
        s = Transpose <perm = [2, 0, 3, 1, 4]> (r)
        qs, ks, vs = Split <axis = 0> (s, thirds)
        q = Squeeze (qs, i0)
        k3 = Squeeze (ks, i0)
        v = Squeeze (vs, i0)
        k = Transpose <perm = [0, 1, 3, 2]> (k3)
        """
    return case(
        body + ATTEND + JOIN,
        weights(wqkv=(48, 16), bqkv=(48,), wo=(16, 5))
        | ints(unfold=[2, 6, 16], rows=[12, 16], five=[2, 6, 3, 4, 4], thirds=[1, 1, 1], i0=[0])
        | scalars(scale=0.5),
        TOKENS,
        removable=axes(wqkv=0, bqkv=0, wo=0),
        frozen=axes(wqkv=1, wo=1),
    )


@micrograph
def attention_packed_split() -> Case:
    """One projection, cut in three by Split before heads are formed."""
    return case(
        """
        a = MatMul (x, wqkv)
        b = Add (a, bqkv)
        q1, k1, v1 = Split <axis = -1> (b, sizes)
        """
        + HEADS
        + ATTEND
        + JOIN,
        weights(wqkv=(16, 48), bqkv=(48,), wo=(16, 5)) | FOLD | ints(sizes=[16, 16, 16]) | scalars(scale=0.5),
        TOKENS,
        removable=axes(wqkv=1, bqkv=0, wo=0),
    )


@micrograph
def attention_dynamic() -> Case:
    """Dynamic batch and length: shapes are put together from Shape, heads and width written out."""
    body = """
        sx = Shape (x)
        bt = Slice (sx, zero, two)
        fold = Concat <axis = 0> (bt, hd)
        unfold = Concat <axis = 0> (bt, width)
        """
    return case(
        body + PROJECT + HEADS + ATTEND + JOIN,
        SEPARATE | ints(zero=[0], two=[2], hd=[4, 4], width=[16]) | scalars(scale=0.5),
        Signature(inputs="float[N, T, 16] x", outputs="float[N, T, 5] y"),
        removable=ALL,
    )


@micrograph
def attention_scale_from_shape() -> Case:
    """The scale is computed from the head width: heads may go, the width may not."""
    body = """
        sq = Shape (q)
        d = Gather (sq, last)
        f = Cast <to = 1> (d)
        g = Sqrt (f)
        scale = Div (one, g)
        """
    return case(
        PROJECT + HEADS + body + ATTEND + JOIN,
        SEPARATE | FOLD | ints(last=-1) | scalars(one=1),
        TOKENS,
        removable=ALL,
    )


@micrograph
def attention_one_head_from_shape() -> Case:
    """The same without heads: queries and keys are frozen, values are not."""
    return case(
        PROJECT
        + """
        k2 = Transpose <perm = [0, 2, 1]> (k1)
        sq = Shape (q1)
        d = Gather (sq, last)
        f = Cast <to = 1> (d)
        g = Sqrt (f)
        l = MatMul (q1, k2)
        m = Div (l, g)
        p = Softmax <axis = -1> (m)
        c = MatMul (p, v1)
        y = MatMul (c, wo)
        """,
        SEPARATE | ints(last=-1),
        TOKENS,
        removable=axes(wv=1, bv=0, wo=0),
        frozen=axes(wq=1, bq=0, wk=1, bk=0),
        reason="size as data|Shape",
    )


@micrograph
def attention_einsum() -> Case:
    """Einsum all the way: weights of three dimensions, no reshape."""
    return case(
        """
        q = Einsum <equation = "btc,chd->bthd"> (x, wq)
        k = Einsum <equation = "bsc,chd->bhsd"> (x, wk)
        v = Einsum <equation = "bsc,chd->bshd"> (x, wv)
        l = Einsum <equation = "bthd,bhsd->bhts"> (q, k)
        p = Softmax <axis = 3> (l)
        o = Einsum <equation = "bhts,bshd->bthd"> (p, v)
        s = Sigmoid (o)
        y = Einsum <equation = "bthd,hdo->bto"> (s, wo)
        """,
        weights(wq=(16, 4, 4), wk=(16, 4, 4), wv=(16, 4, 4), wo=(4, 4, 5)),
        TOKENS,
        removable=axes(wq=1, wk=1, wv=1, wo=0),
        frozen=axes(wq=0, wo=2),
    )


@micrograph
def attention_linear() -> Case:
    """Linear attention: elu + 1 is 1 where a weight is zeroed, so the reference must mask, not zero."""
    return case(
        PROJECT
        + """
        qe = Elu (q1)
        ke = Elu (k1)
        qf = Add (qe, one)
        kf = Add (ke, one)
        kt = Transpose <perm = [0, 2, 1]> (kf)
        kv = MatMul (kt, v1)
        c = MatMul (qf, kv)
        s = Sigmoid (c)
        y = MatMul (s, wo)
        """,
        SEPARATE | scalars(one=1),
        TOKENS,
        removable=ALL,
        cuts=(Cut("qf", axis=-1, weight="wq", weight_axis=1),),
    )


@micrograph
def grouped_query() -> Case:
    """Four query heads share two key and value heads: Unsqueeze, Expand, Reshape."""
    body = """
        q0 = MatMul (x, wq)
        k0 = MatMul (x, wk)
        v0 = MatMul (x, wv)
        q2 = Reshape (q0, fold)
        k2 = Reshape (k0, fold_kv)
        v2 = Reshape (v0, fold_kv)
        q = Transpose <perm = [0, 2, 1, 3]> (q2)
        k3 = Transpose <perm = [0, 2, 1, 3]> (k2)
        v3 = Transpose <perm = [0, 2, 1, 3]> (v2)
        k4 = Unsqueeze (k3, two)
        v4 = Unsqueeze (v3, two)
        k5 = Expand (k4, repeated)
        v5 = Expand (v4, repeated)
        k6 = Reshape (k5, per_head)
        v = Reshape (v5, per_head)
        k = Transpose <perm = [0, 1, 3, 2]> (k6)
        """
    return case(
        body + ATTEND + JOIN,
        weights(wq=(16, 16), wk=(16, 8), wv=(16, 8), wo=(16, 5))
        | FOLD
        | ints(fold_kv=[2, 6, 2, 4], two=[2], repeated=[2, 2, 2, 6, 4], per_head=[2, 4, 6, 4])
        | scalars(scale=0.5),
        TOKENS,
        removable=axes(wq=1, wo=0),
        frozen=axes(wq=0, wk=0, wv=0, wo=1),
    )


@micrograph
def non_local() -> Case:
    """Attention over the positions of an image, from 1x1 convolutions."""
    return case(
        """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        th = Conv (s, w1, b1)
        ph = Conv (s, w2, b2)
        gg = Conv (s, w3, b3)
        t2 = Reshape (th, flat)
        p2 = Reshape (ph, flat)
        g2 = Reshape (gg, flat)
        t3 = Transpose <perm = [0, 2, 1]> (t2)
        g3 = Transpose <perm = [0, 2, 1]> (g2)
        l = MatMul (t3, p2)
        p = Softmax <axis = -1> (l)
        o = MatMul (p, g3)
        o2 = Transpose <perm = [0, 2, 1]> (o)
        o3 = Reshape (o2, image)
        e = Conv (o3, w4)
        r = Add (s, e)
        y = Conv (r, w5)
        """,
        weights(w0=(8, 3, 1, 1), b0=(8,), w1=(6, 8, 1, 1), b1=(6,), w2=(6, 8, 1, 1), b2=(6,), w3=(4, 8, 1, 1), b3=(4,))
        | weights(w4=(8, 4, 1, 1), w5=(5, 8, 1, 1))
        | ints(flat=[0, 0, -1], image=[2, 4, 8, 8]),
        removable=axes(w0=0, w1=(0, 1), b1=0, w2=(0, 1), b2=0, w3=(0, 1), b3=0, w4=(0, 1), w5=1),
    )


@micrograph
def channel_attention() -> Case:
    """A softmax over channel-by-channel similarities mixes them (DANet): frozen."""
    return case(
        """
        a = Conv (x, w0, b0)
        f = Reshape (a, flat)
        t = Transpose <perm = [0, 2, 1]> (f)
        l = MatMul (f, t)
        m = Mul (l, scale)
        p = Softmax <axis = -1> (m)
        o = MatMul (p, f)
        r = Reshape (o, image)
        y = Conv (r, w1)
        """,
        weights(w0=(8, 3, 1, 1), b0=(8,), w1=(5, 8, 1, 1))
        | ints(flat=[2, 8, 64], image=[2, 8, 8, 8])
        | scalars(scale=0.02),
        frozen=axes(w0=0, b0=0, w1=1),
        reason="Softmax",
    )


@micrograph
def swiglu() -> Case:
    """Llama's MLP: silu(gate) * up, then down."""
    return case(
        """
        g = MatMul (x, gate)
        h = Sigmoid (g)
        s = Mul (g, h)
        u = MatMul (x, up)
        b = Add (u, up_bias)
        m = Mul (s, b)
        y = MatMul (m, down)
        """,
        weights(gate=(16, 24), up=(16, 24), up_bias=(24,), down=(24, 5)),
        TOKENS,
        removable=axes(gate=1, up=1, up_bias=0, down=0),
        frozen=axes(gate=0, up=0, down=1),
    )


@micrograph
def glu() -> Case:
    """The packed form: one projection, split in halves, one gates the other, bias behind."""
    return case(
        """
        a = MatMul (x, w0)
        b = Add (a, b0)
        p, q = Split <axis = -1> (b, sizes)
        h = Sigmoid (q)
        m = Mul (p, h)
        n = Add (m, b1)
        y = MatMul (n, w1)
        """,
        weights(w0=(16, 24), b0=(24,), b1=(12,), w1=(12, 5)) | ints(sizes=[12, 12]),
        TOKENS,
        removable=axes(w0=1, b0=0, b1=0, w1=0),
        frozen=axes(w0=0, w1=1),
    )


@micrograph
def attention_relative_bias() -> Case:
    """A learned bias for each head (Swin): the heads' axis of a constant goes along."""
    attend = ATTEND.replace("p = Softmax <axis = -1> (m)", "n = Add (m, table) p = Softmax <axis = -1> (n)")
    return case(
        PROJECT + HEADS + attend + JOIN,
        SEPARATE | FOLD | weights(table=(1, 4, 6, 6)) | scalars(scale=0.5),
        TOKENS,
        removable=ALL,
    )
