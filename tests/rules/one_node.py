"""Whether a rule is right about one operator call, judged by running it.

Nothing is an output here, so that whatever the rule leaves free can go: units are removed at random, and the call
on the sliced operands must give the slice of what it gave before, the contracted operands zeroed there.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from onnxprune.analysis import Analysis
from onnxprune.coupling import couple
from onnxprune.forms import is_fixed
from onnxprune.graph import Graph, Model
from onnxprune.groups import Kept, find_groups, frozen_axes, keep_mask
from onnxprune.mask import Mask, fit_mask, make_mask
from onnxprune.repair import settle
from onnxprune.slicing import slice_model
from onnxprune.trace import Trace
from tests.rules.cases.build import Case


def analyze(model: onnx.ModelProto) -> Analysis:
    """What `onnxprune.analyze` finds, but that the outputs are not frozen."""
    graph = Graph(Model(model))
    graph.outputs = []
    trace = couple(graph)
    settle(trace)
    return Analysis(Model(model), trace, tuple(find_groups(trace)), tuple(frozen_axes(trace)), {}, Model(model))


def free_axes(case: Case, trace: Trace) -> set[tuple[str, int]]:
    """(operand, axis) of the data operands' axes that may lose elements."""
    names = [name for name, array in case.inputs.items() if array is not None and array.dtype != np.int64]
    axes = {(n, k): form for n in names for k, form in enumerate(trace.forms.get(n) or ())}
    return {place for place, form in axes.items() if not is_fixed(form)}


def random_mask(analysis: Analysis, seed: int) -> Mask:
    """Half of the units of every group, at least one of them."""
    rng = np.random.default_rng(seed)
    kept = {}
    for group in analysis.groups:
        kept[group.name] = rng.random(group.size) < 0.5
        kept[group.name][rng.integers(group.size)] = True
    return make_mask(analysis, kept, {})


def assert_exact(case: Case, seed: int) -> None:
    """Slicing the operands slices the results, and does nothing else to them."""
    analysis = analyze(case.model())
    mask = random_mask(analysis, seed)
    kept, _ = fit_mask(analysis, mask)
    small = run(slice_model(analysis, mask).proto)
    whole = run(zeroed(analysis, kept))
    for name, got, reference in zip(case.results, small, whole, strict=True):
        index = [np.flatnonzero(keep_mask(form, kept)) for form in analysis.trace.axes(name)]
        expected = reference[np.ix_(*index)] if index else reference
        assert got.shape == expected.shape, f"{name}: {reference.shape} became {got.shape}, not {expected.shape}"
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5, err_msg=name)


def zeroed(analysis: Analysis, kept: Kept) -> onnx.ModelProto:
    """The original; where a removed channel is contracted, one stored operand holds zeros."""
    model = onnx.ModelProto()
    model.CopyFrom(analysis.model.proto)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for contraction in analysis.trace.contractions:
        tensor = stored[contraction.node.inputs[contraction.operand].removesuffix("/cast")]
        rows = np.moveaxis(numpy_helper.to_array(tensor).copy(), contraction.axis, 0)
        rows[~keep_mask(contraction.form, kept)] = 0
        array = np.ascontiguousarray(np.moveaxis(rows, 0, contraction.axis))
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return model


def run(model: onnx.ModelProto) -> list[np.ndarray]:
    """All outputs, from onnxruntime; from onnx's own reference where onnxruntime has no kernel."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    except onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented:
        return [np.asarray(y) for y in ReferenceEvaluator(model).run(None, {})]
    return session.run(None, {})
