"""Costs of structures against counts of the files that are really cut."""

import numpy as np
import pytest

import onnxprune
from onnxprune.cost import Cost, CostModel
from onnxprune.mask import fit_mask
from tests import counting, independent
from tests.micrographs import REGISTRY
from tests.micrographs.build import ints, weights
from tests.pruning import model_of, random_mask

CASES = {name: build() for name, build in REGISTRY.items()}
# Behind an If and a MaxUnpool shapes are not known, and what is not known is not counted.
UNKNOWN = {"captured_by_branch", "max_pool_indices"}
RUNNABLE = sorted(name for name, case in CASES.items() if case.runnable and name not in UNKNOWN)
SIZES = {"*": independent.FREE_SIZE}


@pytest.mark.parametrize("name", RUNNABLE)
def test_counts_are_those_of_the_file(name: str) -> None:
    """Of the whole model and of a random cut of it, without building that."""
    model = onnxprune.Model(CASES[name].model)
    analysis = onnxprune.analyze(model, sizes=SIZES)
    whole = Cost(counting.params(model.proto), counting.macs(model.proto))
    assert analysis.cost == whole
    if analysis.groups:
        mask = random_mask(analysis, 0)
        pruned = onnxprune.apply(model, mask, verify=False, analysis=analysis).proto
        kept = {atom: int(units.sum()) for atom, units in fit_mask(analysis, mask)[0].items()}
        assert analysis.costs.cost(kept) == Cost(counting.params(pruned), counting.macs(pruned))


@pytest.mark.parametrize("name", sorted(UNKNOWN))
def test_what_has_no_known_shape_is_not_counted(name: str) -> None:
    model = onnxprune.Model(CASES[name].model)
    cost = onnxprune.analyze(model).cost
    assert cost.params == counting.params(model.proto) and 0 < cost.macs < counting.macs(model.proto)


def test_only_floats_are_parameters() -> None:
    body = """
        r = Reshape (x, to)
        h = Cast <to = 10> (r)
        y = MatMul (h, w)
    """
    arrays = {"w": np.ones((12, 5), np.float16)} | ints(to=[2, 12])
    assert onnxprune.analyze(model_of(body, arrays, "float[2, 3, 4] x", outputs="float16 y")).cost == Cost(60, 120)


def test_a_weight_used_twice_is_stored_once_and_multiplied_twice() -> None:
    model = model_of("a = MatMul (x, w)\nb = Sigmoid (a)\ny = MatMul (b, w)", weights(w=(6, 6)), "float[2, 6] x")
    assert onnxprune.analyze(model).cost == Cost(36, 2 * 2 * 6 * 6)


def test_macs_grow_with_the_size_of_symbolic_dimensions() -> None:
    model = model_of("y = Conv (x, w)", weights(w=(4, 3, 1, 1)), "float[N, 3, 8, W] x", outputs="float[N, 4, 8, W] y")
    assert onnxprune.analyze(model, sizes={"N": 2, "W": 5}).cost == Cost(12, 2 * 4 * 3 * 8 * 5)


def test_shares() -> None:
    assert Cost(1, 2).share_of(Cost(4, 4)) == {"params": 0.25, "macs": 0.5}
    assert Cost(0, 0).share_of(Cost(0, 0)) == {"params": 0, "macs": 0}


def test_a_part_of_the_cost_is_that_of_its_atoms() -> None:
    """What does not depend on the group is left out; the difference that a cut makes is the whole one."""
    analysis = onnxprune.analyze(onnxprune.Model(CASES["inception"].model))
    for group in analysis.groups:
        part: CostModel = analysis.costs.about(group.atoms)
        kept = {group.atoms[0]: 1}
        whole, less = analysis.costs.cost({}), analysis.costs.cost(kept)
        assert part.cost({}).params <= whole.params
        assert part.cost({}).params - part.cost(kept).params == whole.params - less.params
        assert part.cost({}).macs - part.cost(kept).macs == whole.macs - less.macs
