"""Every small graph: what can go goes, what cannot stays, and the rest computes exactly the same."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxprune
from onnxprune.errors import VerificationError
from tests import independent
from tests.independent import tensors
from tests.micrographs import REGISTRY, Case

NAMES = sorted(REGISTRY)
CASES = {name: REGISTRY[name]() for name in NAMES}
PRUNABLE = [name for name in NAMES if CASES[name].removable]
STUCK = [name for name in NAMES if not CASES[name].removable and CASES[name].reason]
EXPLAINED = [name for name in NAMES if CASES[name].reason]


def load(case: Case, folder: Path) -> onnxprune.Model:
    """The case's model, by way of a file."""
    path = folder / "micro.onnx"
    onnx.save(case.model, path)
    return onnxprune.load(path)


def sizes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Shapes of all constants by name."""
    return {name: array.shape for name, array in tensors(model).items()}


def verified(model: onnxprune.Model, pruned: onnxprune.Model, mask: onnxprune.Mask) -> bool:
    """Whether the package's own certificate holds."""
    try:
        return onnxprune.verify(model, pruned, mask).exact
    except VerificationError:
        return False


def corruptions(whole: onnx.ModelProto, part: onnx.ModelProto) -> Iterator[tuple[str, onnx.ModelProto]]:
    """Copies of `part` in which one kept index of one axis of a weight is replaced by a removed one."""
    before, after = tensors(whole), tensors(part)
    for name, array in before.items():
        if array.dtype.kind != "f" or array.ndim < 2 or array.shape == after[name].shape:
            continue
        mask = independent.kept_elements(array, after[name])
        kept = [np.unique(where) for where in np.nonzero(mask)]
        if tuple(map(len, kept)) != after[name].shape:  # groups that keep different channels: no product of indices
            continue
        for axis in range(array.ndim):
            if len(kept[axis]) < array.shape[axis]:
                yield f"{name}[{axis}]", _with_tensor(part, name, array[np.ix_(*_one_swapped(kept, axis, array))])


def _one_swapped(kept: list[np.ndarray], axis: int, array: np.ndarray) -> list[np.ndarray]:
    removed = np.setdiff1d(np.arange(array.shape[axis]), kept[axis])
    swapped = list(kept)
    swapped[axis] = np.concatenate([removed[:1], kept[axis][1:]])
    return swapped


def _with_tensor(model: onnx.ModelProto, name: str, array: np.ndarray) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    held = {tensor.name: tensor for tensor in copy.graph.initializer}
    held |= {node.output[0]: node.attribute[0].t for node in copy.graph.node if node.op_type == "Constant"}
    held[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), held[name].name))
    return copy


def _by_hand(keep: list[int]) -> onnx.ModelProto:
    """The residual graph with all its groups sliced by hand."""
    pruned = REGISTRY["residual"]().model
    for name, removable in CASES["residual"].removable.items():
        array = tensors(pruned)[name]
        for axis in removable:
            array = array.take(keep, axis)
        pruned = _with_tensor(pruned, name, array)
    return pruned


@pytest.mark.parametrize("name", NAMES)
def test_graph_is_valid_and_alive(name: str) -> None:
    case = CASES[name]
    if not case.deprecated:
        onnx.checker.check_model(case.model, full_check=True)
    assert set(case.removable) | set(case.frozen) <= set(tensors(case.model))
    assert set(tensors(case.model)) <= {name for node in case.model.graph.node for name in node.input}
    if case.runnable:
        first, second = (independent.run(case.model, independent.draw_inputs(case.model, seed)) for seed in (0, 1))
        assert max(map(independent.distance, first, second)) > 0.01
        assert all(np.isfinite(output).all() for output in first)


def test_independent_check_accepts_a_slice_and_nothing_else() -> None:
    whole, keep = CASES["residual"].model, [0, 2, 3, 7]
    pruned = _by_hand(keep)
    assert independent.check(whole, pruned).exact
    assert not independent.check(whole, whole).exact, "nothing was removed"
    wrong = list(corruptions(whole, pruned))
    assert {name for name, _ in wrong} == {"w0[0]", "w1[0]", "w1[1]", "w2[1]"}
    assert not any(independent.check(whole, model).exact for _, model in wrong)
    scaled = _with_tensor(pruned, "w2", tensors(pruned)["w2"] * np.float32(1.01))
    assert "values" in independent.check(whole, scaled).reason
    shuffled = _with_tensor(pruned, "b1", tensors(pruned)["b1"][::-1])
    assert "order" in independent.check(whole, shuffled).reason


@pytest.mark.parametrize("name", PRUNABLE)
def test_what_can_go_goes(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    model = load(case, tmp_path)
    mask = onnxprune.choose(onnxprune.analyze(model), keep=0.5)
    pruned = onnxprune.apply(model, mask, verify=case.runnable)
    before, after = sizes(case.model), sizes(pruned.proto)
    gone = {(w, a): (before[w][a], after[w][a]) for w, removable in case.removable.items() for a in removable}
    stayed = {(w, a): (before[w][a], after[w][a]) for w, frozen in case.frozen.items() for a in frozen}
    assert not {axis: size for axis, size in gone.items() if not 0 < size[1] < size[0]}, "should have shrunk"
    assert not {axis: size for axis, size in stayed.items() if size[0] != size[1]}, "should not have shrunk"
    if case.halved:
        assert not {axis: size for axis, size in gone.items() if size[1] * 2 != size[0]}, "should be halved"


@pytest.mark.parametrize("name", [name for name in PRUNABLE if CASES[name].runnable])
def test_independent_check_agrees(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    model = load(case, tmp_path)
    mask = onnxprune.choose(onnxprune.analyze(model), keep=0.5)
    pruned = onnxprune.apply(model, mask, verify=True)
    found = independent.check(case.model, pruned.proto, case.cuts)
    assert found.exact, found


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", [name for name in PRUNABLE if CASES[name].runnable])
def test_random_masks_are_exact(name: str, seed: int, tmp_path: Path) -> None:
    case = CASES[name]
    model = load(case, tmp_path)
    mask = onnxprune.choose(onnxprune.analyze(model), keep=0.5, score="random", seed=seed)
    pruned = onnxprune.apply(model, mask, verify=True)
    found = independent.check(case.model, pruned.proto, case.cuts, seed=seed)
    assert found.exact, found


@pytest.mark.parametrize("factor", ["inner", "outer", "all"])
@pytest.mark.parametrize("name", [name for name in PRUNABLE if CASES[name].runnable])
def test_every_factor_is_exact(name: str, factor: Literal["inner", "outer", "all"], tmp_path: Path) -> None:
    case = CASES[name]
    model = load(case, tmp_path)
    mask = onnxprune.choose(onnxprune.analyze(model), keep=0.3, score="random", factor=factor, seed=7)
    pruned = onnxprune.apply(model, mask, verify=True)
    found = independent.check(case.model, pruned.proto, case.cuts)
    assert found.exact, found


@pytest.mark.parametrize("name", [name for name in PRUNABLE if CASES[name].runnable])
def test_a_corrupted_index_is_noticed(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    model = load(case, tmp_path)
    mask = onnxprune.choose(onnxprune.analyze(model), keep=0.5)
    pruned = onnxprune.apply(model, mask, verify=False)
    wrong = list(corruptions(case.model, pruned.proto))
    assert wrong
    missed = [what for what, proto in wrong if verified(model, onnxprune.Model(proto), mask)]
    assert not missed, "the package's verify was content"
    content = {what for what, proto in wrong if independent.check(case.model, proto, case.cuts).exact}
    assert content <= set(case.alone), "the independent check was content"


@pytest.mark.parametrize("name", STUCK)
def test_what_cannot_go_stays(name: str, tmp_path: Path) -> None:
    model = load(CASES[name], tmp_path)
    mask = onnxprune.choose(onnxprune.analyze(model), keep=0.5)
    assert not any(group.removed for group in mask.groups)
    assert sizes(onnxprune.apply(model, mask, verify=False).proto) == sizes(CASES[name].model)


@pytest.mark.parametrize("name", EXPLAINED)
def test_reasons_name_the_op(name: str, tmp_path: Path) -> None:
    frozen = onnxprune.analyze(load(CASES[name], tmp_path)).frozen
    assert re.search(CASES[name].reason, " ".join(axis.reason for axis in frozen)), frozen


@pytest.mark.parametrize("name", NAMES)
def test_every_axis_has_a_group_or_a_reason(name: str, tmp_path: Path) -> None:
    analysis = onnxprune.analyze(load(CASES[name], tmp_path))
    explained = {(axis.tensor, axis.axis) for axis in analysis.frozen if axis.reason}
    grouped = {(member.tensor, member.axis) for group in analysis.groups for member in group.members}
    floats = {key: array for key, array in tensors(CASES[name].model).items() if array.dtype.kind == "f"}
    floats.pop("scales", None)  # of Resize and Upsample: its axis is a list of axes
    all_axes = {(key, axis) for key, array in floats.items() for axis, size in enumerate(array.shape) if size > 1}
    assert not all_axes - explained - grouped, "neither removable nor explained"
