"""Masks: their ranges, their file, and which models they fit."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import onnxprune
from onnxprune.errors import MaskError
from onnxprune.mask import GroupMask, Mask, dropped_by, fit_mask, make_mask, read_mask, structure
from onnxprune.report import document
from tests.independent import tensors
from tests.micrographs import REGISTRY
from tests.micrographs.build import batch_norm, weights
from tests.pruning import model_of, random_mask

BODY = """
    a = Conv (x, w0, b0)
    s = Sigmoid (a)
    c = Conv (s, w1)
    t = Sigmoid (c)
    y = Conv (t, w2)
"""
ARRAYS = weights(w0=(8, 3, 1, 1), b0=(8,), w1=(6, 8, 1, 1), w2=(5, 6, 1, 1))
IMAGE = "float[2, 3, 8, 8] x"
PLAIN = onnxprune.analyze(model_of(BODY, ARRAYS, IMAGE))


@pytest.fixture(scope="module")
def analysis() -> onnxprune.Analysis:
    """Groups of 8 and 6 units."""
    return PLAIN


# Ranges ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.booleans(), min_size=14, max_size=14))
def test_ranges_are_the_removed_units(flags: list[bool]) -> None:
    kept = {"w0": np.array(flags[:8]), "w1": np.array(flags[8:])}
    for group in make_mask(PLAIN, kept, {}).groups:
        assert (group.kept == kept[group.name]).all()
        ends = [end for removed in group.removed for end in removed]
        assert ends == sorted(set(ends)), "ranges ascend, are not empty, and do not touch"


def test_ranges_by_hand(analysis: onnxprune.Analysis) -> None:
    kept = {"w0": np.array([0, 1, 1, 0, 0, 1, 1, 0], bool)}
    whole, rest = make_mask(analysis, kept, {"method": "hand"}).groups
    assert whole == GroupMask("w0", 8, structure(analysis.groups[0]), ((0, 1), (3, 5), (7, 8)))
    assert rest.removed == () and rest.kept.all(), "groups that are not named stay whole"


def test_digests_tell_what_is_removed_and_nothing_else(analysis: onnxprune.Analysis) -> None:
    mask = random_mask(analysis, 0)
    again = replace(mask, provenance={"method": "other"}, fingerprint="other")
    assert mask.digest == again.digest != random_mask(analysis, 1).digest


def test_digests_tell_dropped_branches() -> None:
    digests = {replace(random_mask(PLAIN, 0), branches=names).digest for names in ((), ("a",), ("b",), ("a", "b"))}
    assert len(digests) == 4


# The file -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["attention_packed", "channel_shuffle", "residual", "softmax_over_channels"])
def test_a_file_holds_the_whole_mask(name: str, tmp_path: Path) -> None:
    model = onnxprune.analyze(onnxprune.Model(REGISTRY[name]().model))
    mask = onnxprune.choose(model, keep=0.5, exclude=["y*"])
    path = tmp_path / "mask.json"
    path.write_text(document(mask.to_json()))
    assert read_mask(path) == mask


def test_fields_of_later_versions_are_ignored(analysis: onnxprune.Analysis, tmp_path: Path) -> None:
    mask = random_mask(analysis, 0)
    content = mask.to_json() | {"note": "by hand"}
    content["groups"][0]["note"] = 1
    path = tmp_path / "mask.json"
    path.write_text(json.dumps(content))
    assert read_mask(path) == mask
    del content["provenance"]
    path.write_text(json.dumps(content))
    assert read_mask(path) == replace(mask, provenance={})


def of_group(**changes: object) -> Callable[[dict], object]:
    return lambda content: content["groups"][0].update(changes)


OUTSIDE = r"damaged mask file \(group 'w0' has removed units outside \[0, 8\), or ranges that do not ascend"
NUMBERS = r"damaged mask file \(group 'w0': sizes are whole numbers, ranges are pairs of them"
DAMAGED: list[tuple[Callable[[dict], object], str]] = [
    (lambda c: c.pop("format"), 'not a mask file .expected "format": "onnxprune-mask"'),
    (lambda c: c.update(format="onnxprune-analysis"), "not a mask file"),
    (lambda c: c.update(version=2), "mask version 2, expected 1"),
    (lambda c: c.update(version="1"), "mask version 1, expected 1"),
    (lambda c: c.pop("version"), "mask version None, expected 1"),
    (lambda c: c.pop("fingerprint"), "damaged mask file .'fingerprint'"),
    (lambda c: c.pop("groups"), "damaged mask file .'groups'"),
    (lambda c: c.update(groups=None), "damaged mask file"),
    (lambda c: c.update(groups=7), "damaged mask file"),
    (lambda c: c.update(groups=["w0"]), "damaged mask file"),
    (lambda c: c.update(groups={"w0": []}), "damaged mask file"),
    (lambda c: c.update(provenance=5), "damaged mask file"),
    (lambda c: c.update(provenance="l1"), "damaged mask file"),
    (lambda c: c["groups"][0].pop("name"), "damaged mask file .'name'"),
    (lambda c: c["groups"][0].pop("size"), "damaged mask file .'size'"),
    (lambda c: c["groups"][0].pop("structure"), "damaged mask file .'structure'"),
    (lambda c: c["groups"][0].pop("removed"), "damaged mask file .'removed'"),
    (of_group(size="8"), NUMBERS),
    (of_group(size=8.0), NUMBERS),
    (of_group(size=True), NUMBERS),
    (of_group(size=None), NUMBERS),
    (of_group(removed=[[0.5, 2]]), NUMBERS),
    (of_group(removed=[[True, 2]]), NUMBERS),
    (of_group(removed=[["0", "2"]]), NUMBERS),
    (of_group(removed=[[0, 1, 2]]), NUMBERS),
    (of_group(removed=[[1], [2, 3]]), NUMBERS),
    (of_group(removed=None), "damaged mask file"),
    (of_group(removed=[3, 4]), "damaged mask file"),
    (of_group(removed=[[-1, 2]]), OUTSIDE),
    (of_group(removed=[[7, 9]]), OUTSIDE),
    (of_group(removed=[[3, 3]]), OUTSIDE),
    (of_group(removed=[[4, 2]]), OUTSIDE),
    (of_group(removed=[[4, 5], [1, 2]]), OUTSIDE),
    (of_group(removed=[[1, 4], [3, 6]]), OUTSIDE),
    (of_group(size=-1, removed=[]), NUMBERS),
    (of_group(size=0, removed=[]), NUMBERS),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGED)
def test_damaged_files(
    damage: Callable[[dict], object], message: str, analysis: onnxprune.Analysis, tmp_path: Path
) -> None:
    content = random_mask(analysis, 0).to_json()
    damage(content)
    path = tmp_path / "mask.json"
    path.write_text(json.dumps(content))
    with pytest.raises(MaskError, match=rf"mask\.json: (a )?{message}") as caught:
        read_mask(path)
    assert caught.value.fix


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"mask\.json: not JSON"),
        (b"{", r"mask\.json: not JSON"),
        (b"\xff\xfe{}", r"mask\.json: not JSON"),
        (b"[1]", r"mask\.json: not a mask file"),
        (b"null", r"mask\.json: not a mask file"),
        (b"[" * 100_000, r"mask\.json: not JSON"),
    ],
)
def test_what_is_no_mask_file(data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "mask.json").write_bytes(data)
    with pytest.raises(MaskError, match=message):
        read_mask(tmp_path / "mask.json")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(MaskError, match=r"none\.json: cannot read the mask: No such file"):
        read_mask(tmp_path / "none.json")
    with pytest.raises(MaskError, match="cannot read the mask: Is a directory"):
        read_mask(tmp_path)


def test_files_are_utf_8_whatever_the_locale_is(analysis: onnxprune.Analysis, tmp_path: Path) -> None:
    mask = random_mask(analysis, 0)
    named = replace(mask, groups=tuple(replace(g, name=f"größe.{g.name}") for g in mask.groups))
    path = tmp_path / "mask.json"
    path.write_text(document(named.to_json()), encoding="utf-8")
    code = f"from pathlib import Path; from onnxprune import read_mask; print(read_mask(Path({str(path)!r})).digest)"
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == mask.digest, done.stderr


# Which models a mask fits ---------------------------------------------------------------------------------------


def renamed(model: onnxprune.Model) -> onnxprune.Model:
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    for node in proto.graph.node:
        node.input[:] = [name and f"m.{name}" for name in node.input]
        node.output[:] = [f"m.{name}" for name in node.output]
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        value.name = f"m.{value.name}"
    return onnxprune.Model(proto)


def test_a_mask_says_what_stays(analysis: onnxprune.Analysis) -> None:
    mask = random_mask(analysis, 0, only=["w1"])
    kept, by_structure = fit_mask(analysis, mask)
    assert not by_structure
    ((atom, units),) = kept.items()
    assert atom == analysis.groups[1].atoms[0] and (units == mask.groups[1].kept).all()


def test_units_of_several_atoms_are_told_apart() -> None:
    analysis = onnxprune.analyze(onnxprune.Model(REGISTRY["concat_misaligned"]().model))
    mask = random_mask(analysis, 0)
    kept, _ = fit_mask(analysis, mask)
    for group, entry in zip(analysis.groups, mask.groups, strict=True):
        assert (np.concatenate([kept[atom] for atom in group.atoms]) == entry.kept).all()


def test_other_names_are_matched_by_structure(analysis: onnxprune.Analysis) -> None:
    """A rewritten export of the same network: the same weights stay."""
    mask = random_mask(analysis, 0)
    other = onnxprune.analyze(renamed(analysis.model))
    assert [g.name for g in other.groups] == ["m.w0", "m.w1"]
    first, second = (onnxprune.apply(a.model, mask, verify=False, analysis=a).proto for a in (analysis, other))
    for name, array in tensors(first).items():
        assert (array == tensors(second)[f"m.{name}"]).all()


def test_a_folded_norm_is_matched_by_structure(analysis: onnxprune.Analysis) -> None:
    """With a BatchNormalization more the network is another graph, but its groups are the same."""
    body = BODY.replace("t = Sigmoid (c)", "n = BatchNormalization (c, bn_s, bn_b, bn_m, bn_v)\nt = Sigmoid (n)")
    unfolded = onnxprune.analyze(model_of(body, ARRAYS | batch_norm("bn", 6), IMAGE))
    mask = random_mask(analysis, 0)
    kept, by_structure = fit_mask(unfolded, mask)
    assert by_structure and unfolded.fingerprint != mask.fingerprint
    assert [(k == g.kept).all() for k, g in zip(kept.values(), mask.groups, strict=True)] == [True, True]
    pruned = onnxprune.apply(unfolded.model, mask, analysis=unfolded)
    assert json.loads(pruned.proto.metadata_props[0].value)["by_structure"] is True


OTHERS = {
    "more units": (
        model_of(BODY, ARRAYS | weights(w0=(9, 3, 1, 1), b0=(9,), w1=(6, 9, 1, 1)), IMAGE),
        r"group 'w0' \(8 units\) does not fit .*\(9",
    ),
    "another reader": (
        model_of(BODY.replace("t = Sigmoid (c)", "z = Conv (s, w1)\nu = Add (c, z)\nt = Sigmoid (u)"), ARRAYS, IMAGE),
        r"its group 'w0' \(8 units\) does not fit the model's group 'w0' \(8 units\)",
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_masks_for_other_models(kind: str, analysis: onnxprune.Analysis) -> None:
    model, message = OTHERS[kind]
    with pytest.raises(MaskError, match=f"the mask is for another model: .*{message}"):
        fit_mask(onnxprune.analyze(model), random_mask(analysis, 0))


def test_a_bias_more_or_less_is_the_same_network(analysis: onnxprune.Analysis) -> None:
    """A folded BatchNorm adds one to a convolution that had none."""
    bare = model_of(BODY.replace("x, w0, b0", "x, w0"), {k: v for k, v in ARRAYS.items() if k != "b0"}, IMAGE)
    _, by_structure = fit_mask(onnxprune.analyze(bare), random_mask(analysis, 0))
    assert by_structure


RESIDUAL = onnxprune.analyze(onnxprune.Model(REGISTRY["concat_of_residuals"]().model))


def test_dropped_branches_in_the_file(tmp_path: Path) -> None:
    mask = make_mask(RESIDUAL, {}, {}, ["w3", "w1"])
    assert mask.branches == ("w1", "w3"), "in the graph's order"
    path = tmp_path / "mask.json"
    path.write_text(document(mask.to_json()))
    assert read_mask(path) == mask and not mask.removes_nothing
    assert "branches" not in random_mask(RESIDUAL, 0).to_json(), "files without them are what they were"


@pytest.mark.parametrize("branches", ["w1", [1], ["w1", "w1"], {"w1": 1}, None])
def test_branches_that_are_no_list_of_names(branches: object, tmp_path: Path) -> None:
    path = tmp_path / "mask.json"
    path.write_text(json.dumps(random_mask(RESIDUAL, 0).to_json() | {"branches": branches}))
    with pytest.raises(MaskError, match=r"damaged mask file \(branches are names, each given once"):
        read_mask(path)


@pytest.mark.parametrize(
    ("analysis", "known"), [(PLAIN, "none"), (RESIDUAL, "'w1', 'w3'")], ids=["without branches", "with others"]
)
def test_branches_that_the_model_does_not_have(analysis: onnxprune.Analysis, known: str) -> None:
    mask = replace(make_mask(analysis, {}, {}, ["w1"]), branches=("w7", "w8"))
    with pytest.raises(MaskError, match=f"drops branch 'w7', which the model does not have; its branches are {known}"):
        onnxprune.apply(analysis.model, mask, analysis=analysis)
    assert dropped_by(analysis, replace(mask, branches=())).branches == ()


@pytest.mark.parametrize("groups", [0, 1, 3])
def test_masks_with_other_numbers_of_groups(groups: int, analysis: onnxprune.Analysis) -> None:
    mask = random_mask(analysis, 0)
    other = replace(mask, groups=(mask.groups * 2)[:groups])
    with pytest.raises(MaskError, match=f"it has {groups} groups, the model 2"):
        fit_mask(analysis, other)


def test_a_mask_that_empties_a_group(analysis: onnxprune.Analysis) -> None:
    mask = make_mask(analysis, {"w1": np.zeros(6, bool)}, {})
    with pytest.raises(MaskError, match="group 'w1': the mask removes all 6 units") as caught:
        fit_mask(analysis, mask)
    assert caught.value.fix == "keep at least one"


def test_the_fingerprint_alone_does_not_let_a_mask_pass(analysis: onnxprune.Analysis) -> None:
    """The right fingerprint does not excuse groups in another order."""
    mask = random_mask(analysis, 0)
    swapped = Mask(mask.fingerprint, mask.groups[::-1])
    with pytest.raises(MaskError, match=r"its group 'w1' \(6 units\) does not fit the model's group 'w0'"):
        fit_mask(analysis, swapped)
