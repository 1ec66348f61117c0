"""Random pruning of small graphs, judged by running: at the sizes that were traced, and at others."""

from collections.abc import Iterable, Mapping

import numpy as np
import onnx

import onnxprune
from onnxprune.analysis import Analysis
from onnxprune.mask import Mask, make_mask
from tests import independent
from tests.micrographs.build import Arrays, Signature, build

SIZES = (1, 3)


def model_of(body: str, arrays: Arrays, inputs: str = "float[N, 3, 8, 8] x", **head: object) -> onnxprune.Model:
    """A model in memory from onnx's text form."""
    return onnxprune.Model(build(body, arrays, Signature(inputs=inputs, **head)))  # type: ignore[arg-type]


def random_mask(analysis: Analysis, seed: int, only: Iterable[str] | None = None) -> Mask:
    """About half of the units of all groups, or of some; at least one stays and one goes."""
    rng = np.random.default_rng(seed)
    kept = {}
    for group in analysis.groups:
        if only is None or group.name in only:
            keep = rng.random(group.size) < 0.5
            first, second = rng.permutation(group.size)[:2]
            keep[first], keep[second] = True, False
            kept[group.name] = keep
    return make_mask(analysis, kept, {})


def prune(model: onnxprune.Model, seed: int = 0, only: Iterable[str] | None = None) -> onnx.ModelProto:
    """The model pruned at random and certified."""
    analysis = onnxprune.analyze(model)
    assert analysis.groups
    return onnxprune.apply(model, random_mask(analysis, seed, only), analysis=analysis).proto


def assert_exact(model: onnxprune.Model, seeds: Iterable[int] = (0, 1, 2), only: Iterable[str] | None = None) -> None:
    """Whatever goes, the rest computes the same, whatever size the free dimensions have."""
    for seed in seeds:
        pruned = prune(model, seed, only)
        onnx.checker.check_model(pruned, full_check=True)
        for size in SIZES:
            found = independent.check(_sized(model.proto, size), _sized(pruned, size), seed=seed)
            assert found.exact, (seed, size, found)


def _sized(model: onnx.ModelProto, size: int) -> onnx.ModelProto:
    """A copy whose free dimensions are `size`."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for value in (*copy.graph.input, *copy.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if not dim.dim_value:
                dim.dim_value = size
    return copy


def group_sizes(model: onnxprune.Model) -> dict[str, int]:
    """Groups by name."""
    return {group.name: group.size for group in onnxprune.analyze(model).groups}


def reasons(model: onnxprune.Model) -> Mapping[tuple[str, int], str]:
    """Why axes are frozen, by tensor and axis."""
    return {(axis.tensor, axis.axis): axis.reason for axis in onnxprune.analyze(model).frozen}
