"""`choose`: widths, what is left out, and budgets, against the files that are really cut."""

from itertools import pairwise

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import onnxprune
from onnxprune.cost import Cost
from onnxprune.errors import UsageError
from onnxprune.mask import fit_mask, masked_cost
from onnxprune.ranking import Limits, rank, shares
from onnxprune.resources import resource_terms, usage
from tests import counting
from tests.micrographs import REGISTRY
from tests.micrographs.build import batch_norm, weights
from tests.pruning import model_of

CHAIN = """
    a = Conv <pads = [1, 1, 1, 1]> (x, w0, b0)
    s = Sigmoid (a)
    c = Conv (s, w1)
    t = Sigmoid (c)
    d = Conv (t, w2)
    u = Sigmoid (d)
    y = Conv (u, w3)
"""
ARRAYS = weights(w0=(24, 3, 3, 3), b0=(24,), w1=(10, 24, 1, 1), w2=(3, 10, 1, 1), w3=(5, 3, 1, 1))
POOLED = weights(w0=(6, 3, 1, 1), w1=(4, 6, 1, 1), w2=(5, 4, 1, 1))
IMAGE = "float[2, 3, 8, 8] x"


@pytest.fixture(scope="module")
def chain() -> onnxprune.Analysis:
    """Groups of 24, 10 and 3 units."""
    return onnxprune.analyze(model_of(CHAIN, ARRAYS, IMAGE))


def widths(mask: onnxprune.Mask) -> dict[str, int]:
    return {group.name: int(group.kept.sum()) for group in mask.groups}


def cut(analysis: onnxprune.Analysis, mask: onnxprune.Mask) -> onnx.ModelProto:
    return onnxprune.apply(analysis.model, mask, verify=False, analysis=analysis).proto


def cost_of(proto: onnx.ModelProto) -> Cost:
    """Counted from the file, not from the analysis."""
    return Cost(counting.params(proto), counting.macs(proto))


# Widths ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"keep": 1}, (24, 10, 3)),
        ({"keep": 0.5}, (12, 5, 2)),
        ({"keep": 0.25}, (6, 3, 1)),  # 2.5 and 0.75: to the nearest, the larger one of two
        ({"keep": 0.001}, (1, 1, 1)),
        ({"keep": 0.5, "round_to": 8}, (16, 8, 3)),  # 12 lies between 8 and 16; 3 is less than a step
        ({"keep": 0.4, "round_to": 8}, (8, 8, 3)),
        ({"keep": 0.95, "round_to": 4}, (24, 8, 3)),  # to multiples alone ...
        ({"keep": 1, "round_to": 4}, (24, 10, 3)),  # ... or the whole group
        ({"keep": 0.25, "min_keep": 4}, (6, 4, 3)),
        ({"keep": 0.01, "min_keep": 5, "round_to": 4}, (8, 8, 3)),
        ({"keep": 0.01, "min_keep": 100}, (24, 10, 3)),
    ],
)
def test_widths_of_a_share(chain: onnxprune.Analysis, options: dict, kept: tuple[int, ...]) -> None:
    assert tuple(widths(onnxprune.choose(chain, **options)).values()) == kept


@given(st.integers(1, 300), st.floats(0, 1), st.integers(1, 40), st.integers(1, 40), st.integers(0, 20))
def test_widths_are_allowed_and_nearest(size: int, share: float, step: int, least: int, twentieths: int) -> None:
    """By trying all widths."""
    enough = [w for w in range(1, size + 1) if w >= least and 20 * w >= twentieths * size]
    allowed = [w for w in enough if w % step == 0] or [size]
    width = Limits(step, least, twentieths / 20).nearest(size, size * share)
    assert width == size or width in allowed
    assert abs(width - size * share) <= min(abs(w - size * share) for w in allowed) + 1e-9 * size


def test_the_best_units_stay_and_of_equal_ones_the_first() -> None:
    arrays = {"w0": np.ones((6, 3, 1, 1), np.float32), "w1": np.ones((5, 6, 1, 1), np.float32)}
    arrays["w0"][[1, 4]] = 2
    analysis = onnxprune.analyze(model_of("a = Conv (x, w0)\ns = Sigmoid (a)\ny = Conv (s, w1)", arrays, IMAGE))
    assert onnxprune.choose(analysis, keep=0.5).groups[0].kept.tolist() == [True, True, False, False, True, False]


# What is left out -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patterns", "whole"),
    [
        (["w1"], {"w1"}),  # a group, or the weight that makes it
        (["w?"], {"w0", "w1", "w2"}),
        (["b0"], {"w0"}),  # another tensor that makes the same channels
        (["a", "d"], {"w0", "w2"}),  # nodes that make them
        (["w3", "y"], set()),  # what only reads them
    ],
)
def test_excluded_groups_stay_whole(chain: onnxprune.Analysis, patterns: list[str], whole: set[str]) -> None:
    found = widths(onnxprune.choose(chain, keep=0.5, exclude=patterns))
    assert {g.name for g in chain.groups if found[g.name] == g.size} == whole


@pytest.mark.parametrize("factor", ["auto", "outer", "inner", "all"])
def test_only_the_groups_of_the_factor_shrink(factor: str) -> None:
    analysis = onnxprune.analyze(onnxprune.Model(REGISTRY["grouped"]().model))
    found = widths(onnxprune.choose(analysis, keep=0.5, factor=factor))  # type: ignore[arg-type]
    whole = {"outer": {"w0:1", "w1"}, "all": set()}.get(factor, {"w0:0"})
    assert {g.name for g in analysis.groups if found[g.name] == g.size} == whole


def test_coupled_groups_may_be_left_out() -> None:
    analysis = onnxprune.analyze(onnxprune.Model(REGISTRY["se_gate"]().model))
    mask = onnxprune.choose(analysis, keep=0.5, uncoupled_only=True)
    assert {name for name, width in widths(mask).items() if width == analysis.groups[0].size} == {"w0"}
    assert mask.provenance["uncoupled_only"] is True


# Budgets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("score", ["l1", "random"])
@pytest.mark.parametrize(
    "target", [{"macs": 0.5}, {"params": 0.5}, {"macs": 0.2}, {"params": 0.9}, {"macs": 0.6, "params": 0.4}]
)
@pytest.mark.parametrize("name", ["chain", "c2f", "grouped", "inception", "residual", "attention_packed", "flatten_fc"])
def test_budgets_are_met_by_a_unit(name: str, target: dict, score: str, chain: onnxprune.Analysis) -> None:
    """The file's cost is within every budget; with one unit more somewhere some budget would be exceeded."""
    analysis = chain if name == "chain" else onnxprune.analyze(onnxprune.Model(REGISTRY[name]().model))
    whole = cost_of(analysis.model.proto)
    try:
        mask = onnxprune.choose(analysis, target=target, score=score)  # type: ignore[arg-type]
    except UsageError:
        assert over(cost_of(cut(analysis, onnxprune.choose(analysis, keep=1e-9, score=score))), whole, target)
        return
    assert not over(cost_of(cut(analysis, mask)), whole, target)
    wider = [one_more(mask, index) for index, group in enumerate(mask.groups) if group.removed]
    assert any(over(cost_of(cut(analysis, other)), whole, target) for other in wider) or not wider


def over(cost: Cost, whole: Cost, target: dict) -> bool:
    """Whether a cost exceeds one of the budgets."""
    return any(getattr(cost, name) > share * getattr(whole, name) for name, share in target.items())


def one_more(mask: onnxprune.Mask, index: int) -> onnxprune.Mask:
    """The mask with one more unit in one of its groups."""
    group = mask.groups[index]
    (first, end), *rest = group.removed
    removed = (((first + 1, end),) if first + 1 < end else ()) + tuple(rest)
    changed = onnxprune.mask.GroupMask(group.name, group.size, group.structure, removed)
    return onnxprune.Mask(mask.fingerprint, (*mask.groups[:index], changed, *mask.groups[index + 1 :]))


def test_a_budget_for_everything_removes_nothing(chain: onnxprune.Analysis) -> None:
    assert not any(group.removed for group in onnxprune.choose(chain, target={"macs": 1, "params": 1}).groups)


def test_limits_hold_under_a_budget(chain: onnxprune.Analysis) -> None:
    mask = onnxprune.choose(chain, target={"params": 0.5}, round_to=4, min_keep=6, exclude=["w2"])
    found = widths(mask)
    assert found["w0"] % 4 == 0 and found["w0"] >= 8 and found["w1"] in (8, 10) and found["w2"] == 3
    assert not over(cost_of(cut(chain, mask)), cost_of(chain.model.proto), {"params": 0.5})


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(2, 12), min_size=1, max_size=4),
    st.sampled_from(["macs", "params"]),
    st.floats(0.02, 1),
    st.integers(1, 5),
    st.integers(1, 5),
    st.integers(0, 3),
)
def test_any_budget_is_met_or_out_of_reach(
    sizes: list[int], resource: str, share: float, step: int, least: int, seed: int
) -> None:
    analysis = onnxprune.analyze(matrices(sizes))
    limits = Limits(step, least)
    chosen = {"score": "random", "seed": seed, "round_to": step, "min_keep": least}
    try:
        mask = onnxprune.choose(analysis, target={resource: share}, **chosen)  # type: ignore[dict-item]
    except UsageError:
        narrowest = cost_by_hand([limits.floor(size) for size in sizes])
        assert narrowest > share * cost_by_hand(sizes)
        return
    found = list(widths(mask).values())
    assert all(w == size or (w >= least and w % step == 0) for w, size in zip(found, sizes, strict=True))
    assert counting.params(cut(analysis, mask)) == cost_by_hand(found) <= share * cost_by_hand(sizes)


def matrices(sizes: list[int]) -> onnxprune.Model:
    """Matrix products of these widths from 7 to 5 channels; as many parameters as MACs."""
    ends = [7, *sizes, 5]
    steps = [f"a{k} = MatMul (s{k}, w{k})\ns{k + 1} = Sigmoid (a{k})" for k in range(len(ends) - 1)]
    arrays = weights(**{f"w{k}": (ends[k], ends[k + 1]) for k in range(len(ends) - 1)})
    return model_of("\n".join(steps), arrays, "float[1, 7] s0", outputs=f"float s{len(ends) - 1}")


def cost_by_hand(sizes: list[int]) -> int:
    ends = [7, *sizes, 5]
    return sum(a * b for a, b in pairwise(ends))


# Other resources ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("resource", ["channels", "volume"])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_channels_and_volume_are_budgets_too(chain: onnxprune.Analysis, resource: str, share: float) -> None:
    """All layers but the last; all have maps of one size, so that both resources are the same share."""
    found = list(widths(onnxprune.choose(chain, target={resource: share})).values())  # type: ignore[dict-item]
    assert sum(found) <= share * 37 < sum(found) + 1


def test_volume_counts_maps(chain: onnxprune.Analysis) -> None:
    whole = [usage(resource_terms(chain, resource), {}) for resource in ("channels", "volume")]
    assert whole == [24 + 10 + 3, (24 + 10 + 3) * 2 * 8 * 8]
    pooled = onnxprune.analyze(
        model_of(
            "a = Conv (x, w0)\np = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (a)\n"
            "b = Conv (p, w1)\ny = Conv (b, w2)",
            POOLED,
            IMAGE,
        )
    )
    counts = fit_mask(pooled, onnxprune.choose(pooled, keep=0.5))[0]
    kept = {atom: int(units.sum()) for atom, units in counts.items()}
    assert usage(resource_terms(pooled, "volume"), {}) == (6 * 64 + 4 * 16) * 2
    assert usage(resource_terms(pooled, "volume"), kept) == (3 * 64 + 2 * 16) * 2


# Ranking --------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(2, 12), min_size=1, max_size=4),
    st.floats(0.02, 1),
    st.integers(1, 5),
    st.integers(1, 5),
    st.integers(0, 100),
)
def test_a_ranking_fills_its_budget(sizes: list[int], share: float, step: int, least: int, seed: int) -> None:
    """It is never exceeded, no further step of any group fits, and of every group the best units stay."""
    analysis, limits, rng = onnxprune.analyze(matrices(sizes)), Limits(step, least), np.random.default_rng(seed)
    scores = {group.name: rng.integers(0, 20, group.size).astype(float) for group in analysis.groups}
    whole = cost_by_hand(sizes)
    try:
        mask = rank(analysis, scores, {"params": share}, limits)
    except UsageError as error:
        narrowest = cost_by_hand([limits.floor(size) for size in sizes])
        assert narrowest / whole > share and f"the least is params={narrowest / whole:.4f}" in error.what
        return
    found = list(widths(mask).values())
    assert counting.params(cut(analysis, mask)) == cost_by_hand(found)
    assert cost_by_hand(found) / whole <= share
    assert all(w == size or (w >= least and w % step == 0) for w, size in zip(found, sizes, strict=True))
    for k, (width, size) in enumerate(zip(found, sizes, strict=True)):
        assert width == size or cost_by_hand([*found[:k], min(size, width + step), *found[k + 1 :]]) / whole > share
    for group in mask.groups:
        stay, go = scores[group.name][group.kept], scores[group.name][~group.kept]
        assert not len(go) or stay.min() >= go.max()


def test_the_lowest_scores_of_all_groups_go_first(chain: onnxprune.Analysis) -> None:
    scores = {"w0": np.arange(24.0), "w1": np.arange(10.0) + 100, "w2": np.arange(3.0) + 100}
    mask = rank(chain, scores, {"channels": 0.5})
    assert widths(mask) == {"w0": 5, "w1": 10, "w2": 3}
    assert mask.groups[0].removed == ((0, 19),)


def test_groups_without_scores_stay_whole(chain: onnxprune.Analysis) -> None:
    mask = rank(chain, {"w1": np.zeros(10)}, {"params": 0.8}, provenance={"method": "taste"})
    assert {name for name, width in widths(mask).items() if width == {"w0": 24, "w1": 10, "w2": 3}[name]} == {
        "w0",
        "w2",
    }
    told = {"method": "taste", "target": {"params": 0.8}, "round_to": 1, "min_keep": 1}
    assert mask.provenance == told


def test_every_budget_of_a_ranking_is_met(chain: onnxprune.Analysis) -> None:
    scores = {group.name: np.linspace(0, 1, group.size) for group in chain.groups}
    target = {"macs": 0.5, "params": 0.6, "volume": 0.45}
    mask = rank(chain, scores, target)  # type: ignore[arg-type]
    counts = {atom: int(units.sum()) for atom, units in fit_mask(chain, mask)[0].items()}
    terms = {name: resource_terms(chain, name) for name in target}  # type: ignore[arg-type]
    assert all(usage(terms[name], counts) <= share * usage(terms[name], {}) for name, share in target.items())
    assert not any(group.removed for group in rank(chain, scores, {"macs": 1}).groups)


# Refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give either a share to keep or a target"),
        ({"target": {}}, "give either a share to keep or a target"),
        ({"keep": 0.5, "target": {"macs": 0.5}}, "give either a share to keep or a target"),
        ({"keep": 0}, r"keep is 0, expected a share in \(0, 1\]"),
        ({"keep": float("nan")}, "keep is nan, expected a share"),
        ({"target": {"macs": 1.5}}, r"macs is 1\.5, expected a share"),
        ({"target": {"time": 0.5}}, r"unknown target \['time'\]"),
        ({"keep": 0.5, "score": "taste"}, "unknown score 'taste', expected one of l1, l2, bn, random"),
        ({"keep": 0.5, "round_to": 0}, "round_to and min_keep are at least 1"),
        ({"keep": 0.5, "min_keep": 0}, "round_to and min_keep are at least 1"),
        ({"target": {"macs": 1e-4}}, r"no structure meets macs=0\.0001: .* the least is macs=0\.0\d+"),
        ({"target": {"macs": 0.5, "params": 0.1}, "min_keep": 9}, r"no structure meets macs=0\.5, params=0\.1: "),
        ({"target": {"macs": 0.5}, "exclude": ["*"]}, r"the least is macs=1\.0000"),
        ({"keep": 0.5, "exclude": ["w1", "w9*"]}, r"--exclude w9\*: no group, node or stored tensor has such a name"),
        ({"keep": 0.5, "factor": "middle"}, "unknown factor 'middle', expected one of auto, outer, inner, all"),
    ],
)
def test_usage_errors(chain: onnxprune.Analysis, options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        onnxprune.choose(chain, **options)
    assert caught.value.fix


@pytest.mark.parametrize(
    ("options", "fix"),
    [
        ({}, "raise the target, or let more factors go with --factor all"),
        ({"min_keep": 2, "factor": "all"}, "raise the target, or lower --min-keep"),
        ({"min_keep": 2, "round_to": 2, "factor": "all"}, "raise the target, or lower --min-keep and --round-to"),
    ],
)
def test_the_advice_on_a_target_out_of_reach_is_of_what_binds(
    chain: onnxprune.Analysis, options: dict, fix: str
) -> None:
    with pytest.raises(UsageError) as caught:
        onnxprune.choose(chain, target={"macs": 1e-4}, **options)
    assert caught.value.fix == fix


def test_the_least_that_is_told_can_be_had(chain: onnxprune.Analysis) -> None:
    """To the digits that are shown."""
    least = cost_of(cut(chain, onnxprune.choose(chain, keep=1e-9))).share_of(cost_of(chain.model.proto))
    with pytest.raises(UsageError, match=f"the least is params={least['params']:.4f}, macs={least['macs']:.4f}\n"):
        onnxprune.choose(chain, target={"params": 1e-3, "macs": 1e-3})
    onnxprune.choose(chain, target={name: share + 1e-4 for name, share in least.items()})  # type: ignore[misc]


# Provenance and seeds -------------------------------------------------------------------------------------------


def test_the_provenance_repeats_the_choice(chain: onnxprune.Analysis) -> None:
    options = {"target": {"macs": 0.7}, "score": "random", "seed": 3, "round_to": 2, "min_keep": 2}
    options |= {"exclude": ["w2"], "factor": "all", "uncoupled_only": True}
    mask = onnxprune.choose(chain, **options)  # type: ignore[arg-type]
    told = dict(mask.provenance)
    assert onnxprune.choose(chain, score=told.pop("method"), **told) == mask
    plain = {"method": "l1", "seed": 0, "keep": 0.5, "round_to": 1, "min_keep": 1, "factor": "auto"}
    assert onnxprune.choose(chain, keep=0.5).provenance == plain


@pytest.mark.parametrize("how", [{"keep": 0.5}, {"target": {"macs": 0.5}}])
def test_seeds_decide_and_nothing_else(how: dict) -> None:
    def chosen(seed: int) -> str:
        analysis = onnxprune.analyze(model_of(CHAIN, ARRAYS, IMAGE))
        return onnxprune.choose(analysis, score="random", seed=seed, **how).digest

    assert chosen(1) == chosen(1) != chosen(2)


def test_groups_without_a_batch_norm_are_chosen_by_l1() -> None:
    """One group has a BatchNormalization, the other has none."""
    body = """
        a = Conv (x, w0)
        n = BatchNormalization (a, bn_s, bn_b, bn_m, bn_v)
        s = Sigmoid (n)
        c = Conv (s, w1)
        t = Sigmoid (c)
        y = Conv (t, w2)
    """
    arrays = weights(w0=(8, 3, 1, 1), w1=(6, 8, 1, 1), w2=(5, 6, 1, 1)) | batch_norm("bn", 8)
    analysis = onnxprune.analyze(model_of(body, arrays, IMAGE))
    by_scale, by_l1 = (onnxprune.choose(analysis, keep=0.5, score=score).groups for score in ("bn", "l1"))
    assert set(np.flatnonzero(by_scale[0].kept)) == set(np.argsort(-arrays["bn_s"])[:4])
    assert by_scale[1] == by_l1[1] and by_scale[0] != by_l1[0]


# Branches -------------------------------------------------------------------------------------------------------

BLOCKS = """
    a = Conv (x, w0)
    b = Conv (a, w1)
    c = Add (a, b)
    d = Conv (c, w2)
    e = Sigmoid (d)
    f = Conv (e, w3)
    g = Add (c, f)
    h = Conv (g, w4)
    i = Add (g, h)
    y = Conv (i, w5)
"""
SQUARES = weights(
    w0=(8, 3, 1, 1), w1=(8, 8, 1, 1), w2=(12, 8, 1, 1), w3=(8, 12, 1, 1), w4=(8, 8, 1, 1), w5=(5, 8, 1, 1)
)


@pytest.fixture(scope="module")
def blocks() -> onnxprune.Analysis:
    """Three residual branches: w1, w3 (with w2 in it) and w4."""
    return onnxprune.analyze(model_of(BLOCKS, SQUARES, IMAGE))


SCORES = {"w1": 0.5, "w3": 0.1, "w4": 0.3}


@pytest.mark.parametrize(
    ("target", "dropped"),
    [
        ({"params": 1.0}, ()),
        ({"params": 0.9}, ("w3",)),
        ({"macs": 0.5}, ("w3",)),
        ({"macs": 0.49}, ("w3", "w4")),
        ({"macs": 0.9, "params": 0.3}, ("w1", "w3", "w4")),
        ({"channels": 0.7}, ("w3",)),
        ({"volume": 0.5}, ("w3", "w4")),
    ],
)
def test_the_fewest_branches_of_the_lowest_scores_go(
    target: dict, dropped: tuple[str, ...], blocks: onnxprune.Analysis
) -> None:
    mask = onnxprune.choose_branches(blocks, SCORES, target, {"method": "hand"})
    assert mask.branches == dropped and mask.provenance == {"method": "hand", "target": target}
    whole, less = (cost_of(p) for p in (blocks.model.proto, cut(blocks, mask)))
    assert masked_cost(blocks, mask) == less
    left = shares(blocks, mask, ["params", "macs"])
    assert left == {"params": less.params / whole.params, "macs": less.macs / whole.macs}
    assert all(left.get(name, 0) <= share for name, share in target.items())


def test_of_equal_scores_the_first_goes_first(blocks: onnxprune.Analysis) -> None:
    mask = onnxprune.choose_branches(blocks, dict.fromkeys(SCORES, 1.0), {"macs": 0.95})
    assert mask.branches == ("w1",)


def test_branches_without_scores_stay(blocks: onnxprune.Analysis) -> None:
    assert onnxprune.choose_branches(blocks, {"w4": 1.0}, {"macs": 0.95}).branches == ("w4",)


@pytest.mark.parametrize(
    ("scores", "target", "message"),
    [
        (
            SCORES,
            {"macs": 0.1},
            r"no structure meets macs=0.1: with all 3 residual branches dropped the least is macs=0.1",
        ),
        ({"w4": 1.0}, {"macs": 0.5}, r"no structure meets macs=0.5: with all 1 residual branches dropped"),
        (
            {"w2": 1.0},
            {"macs": 0.5},
            "scores are for branch 'w2', which the model does not have; its branches are 'w1'",
        ),
        (SCORES, {"time": 0.5}, r"unknown target \['time'\]"),
        (SCORES, {"macs": 0.0}, r"macs is 0.0, expected a share in \(0, 1\]"),
    ],
)
def test_branches_that_cannot_be_chosen(scores: dict, target: dict, message: str, blocks: onnxprune.Analysis) -> None:
    with pytest.raises(UsageError, match=message):
        onnxprune.choose_branches(blocks, scores, target)


def test_a_model_without_residual_branches(chain: onnxprune.Analysis) -> None:
    with pytest.raises(UsageError, match="the model has no residual branch to drop"):
        onnxprune.choose_branches(chain, {}, {"macs": 0.5})


def test_the_cost_of_a_branch(blocks: onnxprune.Analysis) -> None:
    costs = {b.name: blocks.branch_cost(b) for b in blocks.branches}
    assert costs == {"w1": Cost(64, 64 * 128), "w3": Cost(192, 192 * 128), "w4": Cost(64, 64 * 128)}
