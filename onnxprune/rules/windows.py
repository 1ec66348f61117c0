"""Output sizes of sliding windows (Conv, pools) and of their transposes, as the operators' specification gives them."""

from collections.abc import Sequence
from math import ceil

from onnxprune.graph import Node


def windows(node: Node, inputs: Sequence[int], kernel: Sequence[int]) -> list[int]:
    """Number of windows along each spatial axis."""
    n = len(inputs)
    strides, dilations = (node.attribute(name) or [1] * n for name in ("strides", "dilations"))
    pads = node.attribute("pads") or [0] * 2 * n
    auto = node.attribute("auto_pad", "NOTSET")
    out = []
    for k in range(n):
        extent = (kernel[k] - 1) * dilations[k] + 1
        if auto.startswith("SAME"):
            out.append(ceil(inputs[k] / strides[k]))
            continue
        padding = pads[k] + pads[k + n] if auto != "VALID" else 0
        room = inputs[k] + padding - extent
        count = room // strides[k] + 1
        if node.attribute("ceil_mode", 0) and room % strides[k]:
            # The last window must start inside the input or its leading padding.
            count += count * strides[k] < inputs[k] + pads[k]
        out.append(count)
    return out


def transposed_windows(node: Node, inputs: Sequence[int], kernel: Sequence[int]) -> list[int]:
    """Output extent of a transposed convolution along each spatial axis."""
    n = len(inputs)
    if shape := node.attribute("output_shape"):
        return list(shape[-n:])
    strides, dilations = (node.attribute(name) or [1] * n for name in ("strides", "dilations"))
    pads, extra = node.attribute("pads") or [0] * 2 * n, node.attribute("output_padding") or [0] * n
    if node.attribute("auto_pad", "NOTSET").startswith("SAME"):
        return [i * s for i, s in zip(inputs, strides, strict=True)]
    return [
        strides[k] * (inputs[k] - 1) + extra[k] + (kernel[k] - 1) * dilations[k] + 1 - pads[k] - pads[k + n]
        for k in range(n)
    ]
