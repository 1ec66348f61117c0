"""Data movement that cuts, joins, repeats or picks elements along an axis."""

from __future__ import annotations

import numpy as np

from onnxprune.forms import ONE, Atom, Fixed, Form, concatenate, fix, is_fixed, multiply, reason_of
from onnxprune.graph import Node
from onnxprune.rules.rule import Movement
from onnxprune.trace import Cannot, Reason, Reindex, Trace
from onnxprune.unify import divide, split, take, tie


def _concat(node: Node, trace: Trace) -> None:
    parts = [trace.axes(name) for name in node.inputs]
    rank = len(parts[0])
    axis = node.attribute("axis", 1) % rank
    out = list(parts[0])
    for forms in parts[1:]:
        for k in range(rank):
            if k != axis:
                tie(out[k], forms[k])
    out[axis] = concatenate(forms[axis] for forms in parts)
    trace.give(node.outputs[0], out)


def _split(node: Node, trace: Trace) -> None:
    forms = list(trace.axes(node.inputs[0]))
    axis = node.attribute("axis", 0) % len(forms)
    n = len(node.outputs)
    sizes = trace.integers(node, 1, "split")
    if trace.run_time(node, 1):
        fix(forms[axis], Reason(node.op, node.label, AT_RUN_TIME))
    if not sizes:
        chunk = -(-forms[axis].size // node.attribute("num_outputs", n))
        sizes = [min(chunk, forms[axis].size - k * chunk) for k in range(n)]
        if not is_fixed(forms[axis]):
            _split_evenly(node, trace, forms, axis)
            return
    pieces = split(forms[axis], sizes)
    for output, piece in zip(node.outputs, pieces, strict=True):
        trace.give(output, [*forms[:axis], piece, *forms[axis + 1 :]])
    trace.repair(node, 1, "split", pieces)


def _split_evenly(node: Node, trace: Trace, forms: list[Form], axis: int) -> None:
    """A Split that states no sizes keeps splitting evenly only if every piece loses as many elements."""
    n = len(node.outputs)
    if forms[axis].size % n:
        raise Cannot("it splits an axis unevenly without stating the sizes")
    outer, piece = divide(forms[axis], n, forms[axis].size // n)
    fix(outer, Reason(node.op, node.label, "states no sizes, so every piece must lose the same elements"))
    for output in node.outputs:
        trace.give(output, [*forms[:axis], piece, *forms[axis + 1 :]])


def _slice(node: Node, trace: Trace) -> None:
    forms = list(trace.axes(node.inputs[0]))
    starts = trace.integers(node, 1, "starts") or []
    ends = trace.integers(node, 2, "ends") or []
    axes = trace.integers(node, 3, "axes") or list(range(len(starts)))
    steps = trace.integers(node, 4) or [1] * len(starts)
    new_starts: list[Form | None] = [None] * len(starts)
    new_ends: list[Form | None] = [None] * len(starts)
    varying = trace.run_time(node, 1) | trace.run_time(node, 2) | trace.run_time(node, 4)
    for k, (start, end, axis, step) in enumerate(zip(starts, ends, axes, steps, strict=True)):
        axis %= len(forms)
        if k in varying:
            fix(forms[axis], Reason(node.op, node.label, AT_RUN_TIME))
        n = forms[axis].size
        chosen = range(n)[slice(start, end if step > 0 or end >= -n else None, step)]
        if is_fixed(forms[axis]):
            forms[axis] = Fixed(len(chosen), reason_of(forms[axis]))
        elif step == 1:
            before, inside, _ = split(forms[axis], [chosen.start, len(chosen), n - chosen.start - len(chosen)])
            forms[axis], new_starts[k] = inside, before
            new_ends[k] = concatenate([before, inside]) if end <= n else None
        elif chosen == range(chosen.start, n, step) and n % step == 0 and 0 <= start < step:
            # x[k::s] picks one element of every row of s: the rows can go, the columns can not.
            forms[axis], columns = divide(forms[axis], n // step, step)
            fix(columns, Reason(node.op, node.label, f"picks every {step}th element"))
            new_ends[k] = multiply([forms[axis], columns])
        elif step == -1 and len(chosen) == n and (start == -1 or start >= n) and end < -n:
            forms[axis] = take(forms[axis], chosen)  # open at both ends: it follows by itself
        else:
            raise Cannot(f"it picks channels with step {step}")
    trace.give(node.outputs[0], forms)
    trace.repair(node, 1, "starts", new_starts)
    trace.repair(node, 2, "ends", new_ends)


def _gather(node: Node, trace: Trace) -> None:
    forms = list(trace.axes(node.inputs[0]))
    axis = node.attribute("axis", 0) % len(forms)
    axis_form = forms[axis]
    shape = trace.shape(node.inputs[1])
    index = trace.known(node, 1) if len(shape) == 1 and not is_fixed(axis_form) else None
    if index is None:
        if not is_fixed(axis_form):
            _pick(node, trace, axis_form, shape)
        index_forms = trace.axes(node.inputs[1]) if shape else ()
        trace.give(node.outputs[0], [*forms[:axis], *index_forms, *forms[axis + 1 :]])
        return
    out = take(axis_form, [i % axis_form.size for i in index])
    trace.reindexes.append(Reindex(node, 1, axis_form, out))
    trace.give(node.outputs[0], [*forms[:axis], out, *forms[axis + 1 :]])


def _pick(node: Node, trace: Trace, form: Form, shape: list[int]) -> None:
    """A scalar index drops the axis: that element stays, others before it may shift the index."""
    index = trace.known(node, 1) if not shape else None
    if index is None:
        fix(form, Reason(node.op, node.label, "looks up elements by indices that are no constant list"))
        return
    k = index[0] % form.size
    before, one, after = split(form, [k, 1, form.size - k - 1])
    fix(one, Reason(node.op, node.label, "picks this element alone"))
    if index[0] < 0:
        fix(after, Reason(node.op, node.label, "picks an element by its distance from the end"))
    else:
        trace.repair(node, 1, "", [before])


def _pad(node: Node, trace: Trace) -> None:
    forms = list(trace.axes(node.inputs[0]))
    rank = len(forms)
    pads = trace.integers(node, 1, "pads")
    if pads is None:
        pads = trace.integers(node, 1, "paddings") or []
    axes = [a % rank for a in trace.integers(node, 3) or range(rank)]
    mode = node.attribute("mode", "constant")
    wanted: list[Form | None] = [None] * len(pads)
    varying = {k % max(len(axes), 1) for k in trace.run_time(node, 1)}
    for k, axis in enumerate(axes):
        if k in varying:
            fix(forms[axis], Reason(node.op, node.label, AT_RUN_TIME))
        before, after = pads[k], pads[k + len(axes)]
        if not before and not after:
            continue
        if mode != "constant":
            fix(forms[axis], Reason(node.op, node.label, f"pads it by {mode}"))
        forms[axis], wanted[k], wanted[k + len(axes)] = _pad_axis(forms[axis], before, after)
    trace.give(node.outputs[0], forms)
    trace.repair(node, 1, "pads" if "pads" in node.attributes else "paddings", wanted)


def _pad_axis(form: Form, before: int, after: int) -> tuple[Form, Form | None, Form | None]:
    """Added elements are channels like others, made by the Pad: removing one lowers the padding."""
    if before < 0 or after < 0:
        fix(form, "a negative Pad crops it")
    if is_fixed(form):
        return Fixed(form.size + before + after, reason_of(form)), None, None
    first: Form = Atom(before) if before else Fixed(0)
    last: Form = Atom(after) if after else Fixed(0)
    return concatenate([first, form, last]), first if before else None, last if after else None


def _expand(node: Node, trace: Trace) -> None:
    forms = list(trace.axes(node.inputs[0]))
    target = trace.integers(node, 1) or []
    rank = max(len(forms), len(target))
    forms = [ONE] * (rank - len(forms)) + forms
    lead = rank - len(target)
    varying = trace.run_time(node, 1)
    wanted: list[Form | None] = []
    for k, n in enumerate(target, lead):
        if forms[k].size == 1 and n != 1:
            forms[k] = Fixed(n, Reason(node.op, node.label, AT_RUN_TIME)) if k - lead in varying else Atom(n)
        wanted.append(forms[k] if n != 1 else None)
    trace.give(node.outputs[0], forms)
    trace.repair(node, 1, "", wanted)


def _filled(node: Node, trace: Trace) -> None:
    sizes = trace.integers(node, 0) or []
    varying = trace.run_time(node, 0)
    forms: list[Form] = [Atom(n) if n > 1 and k not in varying else Fixed(n) for k, n in enumerate(sizes)]
    trace.give(node.outputs[0], forms)
    trace.repair(node, 0, "", forms)


def _tile(node: Node, trace: Trace) -> None:
    forms = trace.axes(node.inputs[0])
    repeats = trace.integers(node, 1) or []
    reason = Reason(node.op, node.label, "is a number of copies")
    trace.give(node.outputs[0], [multiply([Fixed(r, reason), f]) for f, r in zip(forms, repeats, strict=True)])


def _resize(node: Node, trace: Trace) -> None:
    """Resize and Upsample: axes whose size changes are resampled, the others pass."""
    forms = list(trace.axes(node.inputs[0]))
    rank = len(forms)
    named = node.attribute("axes")
    axes = [a % rank for a in named] if named else list(range(rank))
    sizes = trace.integers(node, 3)
    scales = [1.0 if n == forms[a].size else 0.0 for a, n in zip(axes, sizes or (), strict=False)]
    if sizes is None:
        operand = 2 if node.op == "Resize" and trace.opset >= 11 else 1
        scales = trace.floats(node, operand, "scales") or []
        # As runtimes multiply, in single precision.
        sizes = [int(np.float32(forms[a].size) * np.float32(s)) for a, s in zip(axes, scales, strict=True)]
    elif node.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise Cannot("it keeps the aspect ratio, so its sizes are not those it states")
    cropped = node.attribute("coordinate_transformation_mode") == "tf_crop_and_resize"
    wanted: list[Form | None] = [None] * len(sizes)
    for k, (axis, n) in enumerate(zip(axes, sizes, strict=True)):
        if scales[k] != 1 or cropped:
            reason = Reason(node.op, node.label, "is resampled")
            fix(forms[axis], reason)
            forms[axis] = Fixed(n, reason)
        wanted[k] = forms[axis]
    trace.give(node.outputs[0], forms)
    if node.input(3):
        trace.repair(node, 3, "", wanted)


def _scatter_nd(node: Node, trace: Trace) -> None:
    """Rows written to known places: each keeps its place among the rows that stay."""
    forms, updates = trace.axes(node.inputs[0]), trace.axes(node.inputs[2])
    shape = trace.shape(node.inputs[1])
    index = None if is_fixed(forms[0]) else trace.known(node, 1)
    if index is None or len(shape) != 2 or shape[1] != 1 or node.attribute("reduction", "none") != "none":
        _scatter(node, trace)
        return
    written = take(forms[0], [i % forms[0].size for i in index])
    for a, b in zip((written, *forms[1:]), updates, strict=True):
        tie(a, b)
    trace.reindexes.append(Reindex(node, 1, forms[0], written))
    trace.give(node.outputs[0], forms)


def _scatter(node: Node, trace: Trace) -> None:
    """Elements are written to computed places: the result has the first operand's shape, and nothing can go."""
    reason = Reason(node.op, node.label, "writes to computed places")
    for name in node.inputs:
        for form in trace.axes(name):
            fix(form, reason)
    trace.give(node.outputs[0], [Fixed(n, reason) for n in trace.shape(node.inputs[0])])


AT_RUN_TIME = "is cut or sized by a number that is only known at run time"

RULES = {
    "Concat": Movement(_concat),
    "ConstantOfShape": Movement(_filled),
    "Expand": Movement(_expand),
    "Gather": Movement(_gather),
    "Pad": Movement(_pad),
    "Resize": Movement(_resize),
    "ScatterElements": Movement(_scatter),
    "ScatterND": Movement(_scatter_nd),
    "Slice": Movement(_slice),
    "Split": Movement(_split),
    "Tile": Movement(_tile),
    "Upsample": Movement(_resize),
}
