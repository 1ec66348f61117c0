"""Every row of the op table, on real operator calls: shapes, what is free, and that removal is exact."""

import re

import pytest

from onnxprune.rules import TABLE
from tests.rules import one_node
from tests.rules.cases import CASES
from tests.rules.cases.build import Case

every_case = pytest.mark.parametrize("case", CASES, ids=str)


def test_every_row_has_a_case() -> None:
    assert set(TABLE) == {case.op for case in CASES}


def test_no_two_cases_are_called_alike() -> None:
    names = [str(case) for case in CASES]
    assert not {name for name in names if names.count(name) > 1}


@every_case
def test_shapes_are_those_of_the_runtime(case: Case) -> None:
    trace = one_node.analyze(case.model()).trace
    for name, array in zip(case.results, one_node.run(case.model()), strict=True):
        known = name in trace.values or trace.forms[name] is not None
        assert trace.shape(name) == list(array.shape) if known else not case.free


@every_case
def test_what_may_go(case: Case) -> None:
    analysis = one_node.analyze(case.model())
    assert one_node.free_axes(case, analysis.trace) == case.free_axes
    assert re.search(case.reason, " ".join(axis.reason for axis in analysis.frozen))


@every_case
def test_removal_is_exact(case: Case) -> None:
    for seed in range(3 if case.free else 0):
        one_node.assert_exact(case, seed)
