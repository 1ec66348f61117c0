"""Pyramids, shared heads, resizing, box decoding."""

import numpy as np

from .build import Case, Signature, axes, case, ints, micrograph, scalars, weights

BACKBONE = """
    a = Conv (x, w0, b0)
    s = Sigmoid (a)
    d = Conv <kernel_shape = [2, 2], strides = [2, 2]> (s, w1, b1)
    t = Sigmoid (d)
    """
BODY = weights(w0=(8, 3, 1, 1), b0=(8,), w1=(12, 8, 2, 2), b1=(12,))


@micrograph
def shared_head() -> Case:
    """RetinaNet: one head for all levels of the pyramid."""
    return case(
        BACKBONE
        + """
        p3 = Conv (s, w2)
        p4 = Conv (t, w3)
        h3 = Conv <pads = [1, 1, 1, 1]> (p3, head, head_bias)
        h4 = Conv <pads = [1, 1, 1, 1]> (p4, head, head_bias)
        r3 = Sigmoid (h3)
        r4 = Sigmoid (h4)
        y = Conv (r3, out, out_bias)
        z = Conv (r4, out, out_bias)
        """,
        BODY
        | weights(w2=(6, 8, 1, 1), w3=(6, 12, 1, 1), head=(6, 6, 3, 3), head_bias=(6,), out=(5, 6, 1, 1))
        | weights(out_bias=(5,)),
        Signature(outputs="float y, float z"),
        removable=axes(w0=0, w1=(0, 1), w2=(0, 1), w3=(0, 1), head=(0, 1), head_bias=0, out=1),
        frozen=axes(out=0, out_bias=0),
    )


@micrograph
def feature_pyramid() -> Case:
    """Lateral 1x1 convolutions, the upper level upsampled and added."""
    return case(
        BACKBONE
        + """
        p4 = Conv (t, w2, b2)
        u = Resize <mode = "nearest"> (p4, , scales)
        p3 = Conv (s, w3)
        r = Add (p3, u)
        h = HardSigmoid (r)
        y = Conv (h, w4)
        z = Conv (p4, w4)
        """,
        BODY
        | weights(w2=(6, 12, 1, 1), b2=(6,), w3=(6, 8, 1, 1), w4=(5, 6, 1, 1))
        | {"scales": np.array([1, 1, 2, 2], np.float32)},
        Signature(outputs="float y, float z"),
        removable=axes(w0=0, w1=(0, 1), w2=(0, 1), b2=0, w3=(0, 1), w4=1),
    )


@micrograph
def resize_to_sizes() -> Case:
    """Resize to constant sizes, the channels among them; then bilinear to those of another tensor."""
    return case(
        BACKBONE
        + """
        u = Resize <mode = "linear", coordinate_transformation_mode = "half_pixel"> (t, , , sizes)
        k = Concat <axis = 1> (u, s)
        y = Conv (k, w2)
        """,
        BODY | weights(w2=(5, 20, 1, 1)) | ints(sizes=[2, 12, 8, 8]),
        removable=axes(w0=0, w1=(0, 1), b1=0, w2=1),
    )


@micrograph
def resize_to_shape_of() -> Case:
    """Sizes put together from two Shapes: batch and channels of one tensor, height and width of another."""
    return case(
        BACKBONE
        + """
        ks = Shape (s)
        hw = Slice (ks, two, four)
        kt = Shape (t)
        nc = Slice (kt, zero, two)
        sizes = Concat <axis = 0> (nc, hw)
        u = Resize <mode = "nearest"> (t, , , sizes)
        k = Concat <axis = 1> (u, s)
        y = Conv (k, w2)
        """,
        BODY | weights(w2=(5, 20, 1, 1)) | ints(zero=[0], two=[2], four=[4]),
        Signature(inputs="float[N, 3, H, W] x"),
        removable=axes(w0=0, w1=(0, 1), b1=0, w2=1),
    )


@micrograph
def sppf() -> Case:
    """Spatial pyramid pooling: pools in series, all concatenated."""
    return case(
        """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        p = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (s)
        q = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (p)
        g = GlobalMaxPool (q)
        e = Expand (g, shape)
        k = Concat <axis = 1> (s, p, q, e)
        y = Conv (k, w1)
        """,
        weights(w0=(8, 3, 1, 1), b0=(8,), w1=(5, 32, 1, 1)) | ints(shape=[1, 1, 8, 8]),
        removable=axes(w0=0, b0=0, w1=1),
    )


@micrograph
def max_pool_indices() -> Case:
    """Indices into the whole tensor know how many channels there are."""
    return case(
        """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        p, i = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (s)
        u = MaxUnpool <kernel_shape = [2, 2], strides = [2, 2]> (p, i)
        y = Conv (u, w1)
        """,
        weights(w0=(8, 3, 1, 1), b0=(8,), w1=(5, 8, 1, 1)),
        frozen=axes(w0=0, b0=0, w1=1),
        reason="MaxPool|MaxUnpool",
    )


@micrograph
def yolo_head() -> Case:
    """Boxes: (anchors x outputs) unfolded, transposed, decoded with grids, flattened, concatenated."""
    return case(
        BACKBONE
        + """
        h3 = Conv (s, w2, b2)
        r3 = Reshape (h3, fold3)
        t3 = Transpose <perm = [0, 1, 3, 4, 2]> (r3)
        xy, wh, conf = Split <axis = 4> (t3, parts)
        g = Sigmoid (xy)
        c = Add (g, grid)
        e = Exp (wh)
        m = Mul (e, anchors)
        o = Concat <axis = 4> (c, m, conf)
        y3 = Reshape (o, flat3)
        h4 = Conv (t, w3, b3)
        r4 = Reshape (h4, fold4)
        t4 = Transpose <perm = [0, 1, 3, 4, 2]> (r4)
        y4 = Reshape (t4, flat4)
        y = Concat <axis = 1> (y3, y4)
        """,
        BODY
        | weights(w2=(18, 8, 1, 1), b2=(18,), w3=(18, 12, 1, 1), b3=(18,), grid=(1, 1, 8, 8, 2))
        | weights(anchors=(1, 3, 1, 1, 2))
        | ints(fold3=[-1, 3, 6, 8, 8], fold4=[-1, 3, 6, 4, 4], flat3=[0, -1, 6], flat4=[0, -1, 6], parts=[2, 2, 2]),
        Signature(inputs="float[N, 3, 8, 8] x"),
        removable=axes(w0=0, b0=0, w1=(0, 1), b1=0, w2=1, w3=1),
        frozen=axes(w2=0, w3=0, anchors=1),
    )


@micrograph
def distribution_focal() -> Case:
    """YOLOv8 reads a box side as an expectation: Softmax over 4 bins, then a 1x1 convolution of constants."""
    return case(
        BACKBONE
        + """
        b = Conv (t, w2, b2)
        r = Reshape (b, bins)
        u = Transpose <perm = [0, 2, 1, 3]> (r)
        p = Softmax <axis = 1> (u)
        e = Conv (p, w3)
        y = Reshape (e, sides)
        """,
        BODY | weights(w2=(16, 12, 1, 1), b2=(16,), w3=(1, 4, 1, 1)) | ints(bins=[2, 4, 4, 16], sides=[2, 4, 16]),
        removable=axes(w0=0, w1=(0, 1), b1=0, w2=1),
        frozen=axes(w2=0, w3=(0, 1)),
        reason="Softmax",
    )


@micrograph
def class_probabilities() -> Case:
    """Softmax over the classes of an output, after a spatial mean."""
    return case(
        BACKBONE
        + """
        g = GlobalAveragePool (t)
        f = Flatten (g)
        l = Gemm <transB = 1> (f, w2, b2)
        m = Mul (l, three)
        y = Softmax <axis = 1> (m)
        """,
        BODY | weights(w2=(5, 12), b2=(5,)) | scalars(three=3),
        removable=axes(w0=0, w1=(0, 1), b1=0, w2=1),
        frozen=axes(w2=0, b2=0),
    )


@micrograph
def correlation() -> Case:
    """A product of two feature maps, summed over the channels: the sum's channels stay, those before it go."""
    return case(
        """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        b = Conv (s, w1, b1)
        c = Conv (s, w2)
        m = Mul (b, c)
        y = ReduceSum <keepdims = 1> (m, one)
        """,
        weights(w0=(8, 3, 1, 1), b0=(8,), w1=(6, 8, 1, 1), b1=(6,), w2=(6, 8, 1, 1)) | ints(one=[1]),
        removable=axes(w0=0, b0=0, w1=1, w2=1),
    )
