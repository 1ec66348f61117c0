"""Data movement that keeps every element: reshapes, transposes, and blocks moved between channels and space."""

from onnxprune.forms import ONE, fix, multiply, resolve
from onnxprune.graph import Node
from onnxprune.rules.einop import Einop, Sizes
from onnxprune.rules.rule import Movement
from onnxprune.trace import Cannot, Reason, Trace
from onnxprune.unify import reshape


def _reshape(node: Node, trace: Trace) -> None:
    forms = trace.axes(node.inputs[0])
    target = trace.integers(node, 1, "shape") or []
    if 0 in target and node.attribute("allowzero", 0):
        raise Cannot("it makes an empty tensor")
    total = 1
    for f in forms:
        total *= f.size
    sizes = [forms[k].size if n == 0 else n for k, n in enumerate(target)]
    if -1 in sizes:
        known = 1
        for n in sizes:
            known *= n if n != -1 else 1
        sizes[sizes.index(-1)] = total // max(known, 1)
    out = reshape(forms, sizes)
    trace.give(node.outputs[0], out)
    # -1 infers, and 0 copies where the axis stays what it was: both follow by themselves.
    follows = [n < 0 or (n == 0 and resolve(out[k]) is resolve(forms[k])) for k, n in enumerate(target)]
    trace.repair(node, 1, "shape", [None if f else form for form, f in zip(out, follows, strict=True)])


def _flatten(node: Node, trace: Trace) -> None:
    forms = trace.axes(node.inputs[0])
    axis = node.attribute("axis", 1)
    axis += len(forms) * (axis < 0)
    trace.give(node.outputs[0], [multiply(forms[:axis]), multiply(forms[axis:])])


def _transpose(node: Node, trace: Trace) -> None:
    forms = trace.axes(node.inputs[0])
    order = node.attribute("perm") or range(len(forms))[::-1]
    trace.give(node.outputs[0], [forms[k] for k in order])


def _squeeze(node: Node, trace: Trace) -> None:
    forms = trace.axes(node.inputs[0])
    axes = trace.integers(node, 1, "axes")
    ones = {k for k, f in enumerate(forms) if f.size == 1}
    if axes is None:
        for k, form in enumerate(forms):
            if k not in ones:
                # Down to one channel, this axis would be squeezed away as well.
                fix(form, Reason(node.op, node.label, "names no axes, so an axis of one element would vanish"))
    gone = ones if axes is None else {a % len(forms) for a in axes}
    trace.give(node.outputs[0], [f for k, f in enumerate(forms) if k not in gone])


def _unsqueeze(node: Node, trace: Trace) -> None:
    forms = list(trace.axes(node.inputs[0]))
    axes = trace.integers(node, 1, "axes") or []
    rank = len(forms) + len(axes)
    new = {a % rank for a in axes}
    old = iter(forms)
    trace.give(node.outputs[0], [ONE if k in new else next(old) for k in range(rank)])


def _blocks(node: Node, trace: Trace) -> Sizes:
    block = node.attribute("blocksize")
    return {"r": [block], "s": [block]}


def _depth_to_space(node: Node, trace: Trace) -> str:
    packed = "c r! s!" if node.attribute("mode", "DCR") == "CRD" else "r! s! c"
    return f"b ({packed}) y! x! -> b c (y r) (x s)"


BLOCKS = "is a block of pixels"

RULES = {
    "Reshape": Movement(_reshape),
    "Flatten": Movement(_flatten),
    "Transpose": Movement(_transpose),
    "Squeeze": Movement(_squeeze),
    "Unsqueeze": Movement(_unsqueeze),
    "DepthToSpace": Einop(_depth_to_space, BLOCKS, _blocks),
    "SpaceToDepth": Einop("b c (y! r!) (x! s!) -> b (r s c) y x", BLOCKS, _blocks),
}
