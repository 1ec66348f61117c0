"""Weights used twice, weights behind other nodes, tensors that are outputs as well."""

import numpy as np
import onnx
from onnx import helper

from .build import Case, Signature, axes, batch_norm, case, ints, micrograph, scalars, weights

ENDS = weights(w0=(8, 3, 1, 1), b0=(8,), w1=(5, 8, 1, 1))


@micrograph
def weight_in_series() -> Case:
    """One weight twice in a row: its inputs are its outputs."""
    return case(
        """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        c = Conv <pads = [1, 1, 1, 1]> (s, shared, bias)
        t = Sigmoid (c)
        d = Conv <pads = [1, 1, 1, 1]> (t, shared, bias)
        u = Sigmoid (d)
        y = Conv (u, w1)
        """,
        ENDS | weights(shared=(8, 8, 3, 3), bias=(8,)),
        removable=axes(w0=0, b0=0, shared=(0, 1), bias=0, w1=1),
    )


@micrograph
def weight_in_parallel() -> Case:
    """One weight on two tensors, with two biases; the results stay apart."""
    return case(
        """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        t = Tanh (a)
        c = Conv (s, shared, b2)
        d = Conv (t, shared, b3)
        k = Concat <axis = 1> (c, d)
        u = Sigmoid (k)
        y = Conv (u, w4)
        """,
        weights(w0=(8, 3, 1, 1), b0=(8,), shared=(6, 8, 1, 1), b2=(6,), b3=(6,), w4=(5, 12, 1, 1)),
        removable=axes(w0=0, b0=0, shared=(0, 1), b2=0, b3=0, w4=1),
    )


@micrograph
def weight_transposed_again() -> Case:
    """An autoencoder with tied weights: W on the way in, W transposed on the way out."""
    return case(
        """
        t = MatMul (x, stem)
        a = MatMul (t, tied)
        s = Sigmoid (a)
        back = Transpose <perm = [1, 0]> (tied)
        d = MatMul (s, back)
        h = HardSigmoid (d)
        y = MatMul (h, head)
        """,
        weights(stem=(16, 12), tied=(12, 8), head=(12, 5)),
        Signature(inputs="float[2, 6, 16] x"),
        removable=axes(stem=1, tied=(0, 1), head=0),
        alone=("tied[1]",),
    )


@micrograph
def shared_bias() -> Case:
    """Two layers with one bias keep the same channels."""
    return case(
        """
        c = Conv (x, w2, bias)
        d = Conv (x, w3, bias)
        t = Tanh (d)
        k = Concat <axis = 1> (c, t)
        s = Sigmoid (k)
        y = Conv (s, w4)
        """,
        weights(w2=(8, 3, 1, 1), w3=(8, 3, 1, 1), bias=(8,), w4=(5, 16, 1, 1)),
        removable=axes(w2=0, w3=0, bias=0, w4=1),
    )


@micrograph
def shared_norm() -> Case:
    """One BatchNormalization's tensors after two convolutions."""
    return case(
        """
        a = Conv (x, w0, b0)
        n = BatchNormalization (a, bn_s, bn_b, bn_m, bn_v)
        s = Sigmoid (n)
        c = Conv (s, w2)
        m = BatchNormalization (c, bn_s, bn_b, bn_m, bn_v)
        t = Sigmoid (m)
        y = Conv (t, w1)
        """,
        ENDS | weights(w2=(8, 8, 1, 1)) | batch_norm("bn", 8),
        removable=axes(w0=0, b0=0, bn_s=0, bn_b=0, bn_m=0, bn_v=0, w2=(0, 1), w1=1),
    )


@micrograph
def initializers_as_inputs() -> Case:
    """IR version 3: every initializer is listed as a graph input too, with its shape."""
    listed = "float[8, 3, 1, 1] w0, float[8] b0, float[5, 8, 1, 1] w1"
    statistics = ", ".join(f"float[8] bn_{key}" for key in "sbmv")
    return case(
        """
        a = Conv (x, w0, b0)
        n = BatchNormalization (a, bn_s, bn_b, bn_m, bn_v)
        s = Sigmoid (n)
        y = Conv (s, w1)
        """,
        ENDS | batch_norm("bn", 8),
        Signature(inputs=f"float[2, 3, 8, 8] x, {listed}, {statistics}", opset=8, ir=3),
        removable=axes(w0=0, b0=0, bn_s=0, bn_b=0, bn_m=0, bn_v=0, w1=1),
    )


@micrograph
def inner_output() -> Case:
    """A tensor in the middle is an output as well: it stays whole, its neighbour does not."""
    return case(
        """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        z = Conv (s, w2, b2)
        t = Sigmoid (z)
        y = Conv (t, w1)
        """,
        ENDS | weights(w2=(8, 8, 1, 1), b2=(8,)),
        Signature(outputs="float y, float z"),
        removable=axes(w0=0, b0=0, w2=1),
        frozen=axes(w2=0, b2=0, w1=(0, 1)),
        reason="(?i)output.*z|z.*output",
    )


@micrograph
def weights_in_constants() -> Case:
    """Every weight sits in a Constant node."""
    made = case(
        """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        y = Conv (s, w1)
        """,
        ENDS,
        removable=axes(w0=0, b0=0, w1=1),
        frozen=axes(w1=0),
    )
    _into_constants(made.model.graph)
    return made


def _into_constants(graph: onnx.GraphProto) -> None:
    nodes = [helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in graph.initializer]
    nodes += list(graph.node)
    del graph.initializer[:], graph.node[:]
    graph.node.extend(nodes)


@micrograph
def weights_behind_identity() -> Case:
    """Exporters share equal tensors through Identity."""
    return case(
        """
        v = Identity (w0)
        c = Identity (b0)
        a = Conv (x, v, c)
        s = Sigmoid (a)
        d = Conv (s, w2, c)
        t = Sigmoid (d)
        y = Conv (t, w1)
        """,
        ENDS | weights(w2=(8, 8, 1, 1)),
        removable=axes(w0=0, b0=0, w2=(0, 1), w1=1),
    )


@micrograph
def weights_behind_cast() -> Case:
    """Weights stored as float64, cast where they are used."""
    return case(
        """
        v = Cast <to = 1> (w0)
        u = Cast <to = 1> (w1)
        a = Conv (x, v, b0)
        s = Sigmoid (a)
        y = Conv (s, u)
        """,
        ENDS | {name: ENDS[name].astype(np.float64) for name in ("w0", "w1")},
        removable=axes(w0=0, b0=0, w1=1),
    )


@micrograph
def weights_behind_transpose() -> Case:
    """Linears whose (out, in) weights are transposed in the graph."""
    return case(
        """
        v = Transpose <perm = [1, 0]> (w2)
        u = Transpose (w3)
        m = MatMul (x, v)
        p = Add (m, b2)
        s = Sigmoid (p)
        y = MatMul (s, u)
        """,
        weights(w2=(12, 16), b2=(12,), w3=(5, 12)),
        Signature(inputs="float[2, 6, 16] x"),
        removable=axes(w2=0, b2=0, w3=1),
    )


@micrograph
def weights_behind_reshape() -> Case:
    """Kernels stored flat: (out, in * k * k), reshaped by constants that must shrink too."""
    return case(
        """
        v = Reshape (w2, four)
        u = Reshape (w3, last)
        a = Conv <pads = [1, 1, 1, 1]> (x, v, b0)
        s = Sigmoid (a)
        y = Conv <pads = [1, 1, 1, 1]> (s, u)
        """,
        weights(w2=(8, 27), b0=(8,), w3=(5, 72)) | ints(four=[8, 3, 3, 3], last=[5, 8, 3, 3]),
        removable=axes(w2=0, b0=0, w3=1),
    )


@micrograph
def weights_made_of_constants() -> Case:
    """Weight normalisation left in the graph: g * v / (|v| + 1), all constant."""
    return case(
        """
        q = ReduceL2 <axes = [1, 2, 3], keepdims = 1> (v)
        n = Add (q, one)
        d = Div (v, n)
        w = Mul (g, d)
        a = Conv (x, w, b0)
        s = Sigmoid (a)
        y = Conv (s, w1)
        """,
        weights(v=(8, 3, 1, 1), g=(8, 1, 1, 1), b0=(8,), w1=(5, 8, 1, 1)) | scalars(one=1),
        removable=axes(v=0, g=0, b0=0, w1=1),
        frozen=axes(w1=0),
    )


@micrograph
def weights_scaled_over_inputs() -> Case:
    """Weight normalisation of a consumer sums over the inputs: those are frozen, its outputs are not."""
    return case(
        """
        a = Conv (x, w0, b0)
        s = Sigmoid (a)
        n = ReduceL2 <axes = [1, 2, 3], keepdims = 1> (v)
        r = Add (n, one)
        w = Div (v, r)
        c = Conv (s, w, b2)
        t = Sigmoid (c)
        y = Conv (t, w3)
        """,
        weights(w0=(8, 3, 1, 1), b0=(8,), v=(6, 8, 1, 1), b2=(6,), w3=(5, 6, 1, 1)) | scalars(one=1),
        removable=axes(v=0, b2=0, w3=1),
        frozen=axes(w0=0, v=1),
        reason="ReduceL2",
    )


@micrograph
def shared_with_constant_use() -> Case:
    """One vector scales two tensors of different layouts: (c,1,1) here, a last axis there."""
    return case(
        """
        a = Conv (x, w0, b0)
        k = Reshape (scale, column)
        m = Mul (a, k)
        s = Sigmoid (m)
        t = Transpose <perm = [0, 2, 3, 1]> (s)
        c = MatMul (t, w2)
        n = Mul (c, scale)
        h = HardSigmoid (n)
        y = MatMul (h, w3)
        """,
        weights(w0=(8, 3, 1, 1), b0=(8,), scale=(8,), w2=(8, 8), w3=(8, 5)) | ints(column=[8, 1, 1]),
        removable=axes(w0=0, b0=0, scale=0, w2=(0, 1), w3=0),
    )


@micrograph
def embedding() -> Case:
    """A table of vectors read by computed indices: its rows stay."""
    return case(
        """
        i = ArgMax <axis = 1, keepdims = 0> (x)
        e = Gather (table, i)
        b = Add (e, shift)
        m = MatMul (b, w0)
        s = Sigmoid (m)
        y = MatMul (s, w1)
        """,
        weights(table=(3, 12), shift=(12,), w0=(12, 8), w1=(8, 5)),
        removable=axes(w0=1, w1=0),
        frozen=axes(table=0, w1=1),
    )


@micrograph
def tied_embedding() -> Case:
    """The same table, transposed, is the output layer."""
    return case(
        """
        i = ArgMax <axis = 1, keepdims = 0> (x)
        e = Gather (table, i)
        m = MatMul (e, w0)
        s = Sigmoid (m)
        n = MatMul (s, w1)
        t = Sigmoid (n)
        back = Transpose <perm = [1, 0]> (table)
        y = MatMul (t, back)
        """,
        weights(table=(3, 12), w0=(12, 8), w1=(8, 12)),
        removable=axes(w0=1, w1=0),
        frozen=axes(table=0),
    )
