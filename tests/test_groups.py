"""Groups: their units, where these lie, and golden listings of known architectures.

After a change that is meant, write them anew with `GOLDEN=write pytest tests/test_groups.py tests/models`, and read the
diff.
"""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import onnxprune
from onnxprune.analysis import Analysis
from onnxprune.forms import Atom, Fixed, Form, concatenate, multiply, resolve
from onnxprune.groups import count, keep_mask, occurrences, unit_index
from tests.micrographs import REGISTRY
from tests.micrographs.build import ints, weights
from tests.pruning import model_of, random_mask

ROOT = Path(__file__).parents[1]
GOLDEN = Path(__file__).parent / "golden"
CORPUS = ROOT.parent / "shared" / "corpus"

MICROGRAPHS = [
    *["attention_dynamic", "attention_packed", "channel_shuffle", "c2f", "concat_misaligned", "deconv_decoder"],
    *[
        "depthwise",
        "flatten_fc",
        "glu",
        "group_norm_21",
        "grouped",
        "grouped_query",
        "inception",
        "residual",
        "se_gate",
    ],
    *["shared_head", "weight_in_series", "window_partition", "yolo_head"],
]
# Of models/, in small versions: tests/models/test_architectures.py.
ARCHITECTURES = [
    *["densenet_cifar", "googlenet_cifar", "mobilenetv2_cifar", "preresnet_cifar", "resnet_cifar", "vgg_cifar"],
    "wrn_cifar",
]


# --- forms, kept units and counts --------------------------------------------------------------------------------

ATOMS = [Atom(2), Atom(3), Atom(4)]
LEAVES: st.SearchStrategy[Form] = st.sampled_from([*ATOMS, Fixed(1), Fixed(2)])
FORMS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(concatenate), st.lists(inner, min_size=1, max_size=2).map(multiply)
    ),
    max_leaves=6,
)
CHOICES = st.integers(0, 2**9 - 1)


def chosen(bits: int) -> dict[Atom, np.ndarray]:
    """Kept elements of the atoms: one bit each."""
    flags = np.array([bits >> k & 1 for k in range(9)], bool)
    return dict(zip(ATOMS, np.split(flags, [2, 5]), strict=True))


@settings(max_examples=300, deadline=None)
@given(FORMS, CHOICES)
def test_counts_are_those_of_the_masks(form: Form, bits: int) -> None:
    kept = chosen(bits)
    counts = {atom: int(mask.sum()) for atom, mask in kept.items()}
    assert keep_mask(form, kept).shape == (form.size,)
    assert count(form, counts) == keep_mask(form, kept).sum()
    assert count(form, {}) == form.size and keep_mask(form, {}).all()


@settings(max_examples=300, deadline=None)
@given(FORMS, st.sampled_from(ATOMS))
def test_every_unit_takes_its_elements_along(form: Form, atom: Atom) -> None:
    """Without products of an atom with itself: those take fewer."""
    times = sum(n for a, n in occurrences(form) if a is atom)
    squared = any(n > 1 for n in Counter(a for p in _products(form) for a in p).values())
    for unit in range(atom.size if not squared else 0):
        kept = {atom: np.arange(atom.size) != unit}
        assert (~keep_mask(form, kept)).sum() == times
        assert ((unit_index(form, {atom: 0}) == unit) == ~keep_mask(form, kept)).all()


def _products(form: Form) -> Iterator[list[Atom]]:
    """For each element of a sum of products the atoms that it depends on."""
    form = resolve(form)
    if isinstance(form, Atom | Fixed):
        yield [form] if isinstance(form, Atom) else []
    elif type(form).__name__ == "Sum":
        for part in form.parts:
            yield from _products(part)
    else:
        combined: list[list[Atom]] = [[]]
        for part in form.parts:
            combined = [a + b for a in combined for b in _products(part)]
        yield from combined


# --- groups of a graph -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_groups_are_told_apart_and_lie_where_they_say(name: str) -> None:
    analysis = onnxprune.analyze(onnxprune.Model(REGISTRY[name]().model))
    names = [group.name for group in analysis.groups]
    assert len(set(names)) == len(names)
    atoms = [atom for group in analysis.groups for atom in group.atoms]
    assert len(set(atoms)) == len(atoms), "a unit in two groups"
    shapes = {key: tuple(t.dims) for key, t in analysis.trace.graph.stored.items()}
    for group in analysis.groups:
        assert group.size == sum(a.size for a in group.atoms) > 1
        for member in group.members:
            form = analysis.trace.axes(member.tensor)[member.axis]
            assert shapes[member.tensor][member.axis] == member.size
            index = unit_index(form, group.first_units)
            gone = np.array([_gone(form, group, unit) for unit in range(group.size)])
            assert (gone.sum(axis=1) <= member.multiplicity).all() and gone.any(axis=1).all()
            assert ((index >= 0) == gone.any(axis=0)).all()


def _gone(form: Form, group: onnxprune.Group, unit: int) -> np.ndarray:
    """Elements of an axis that go with one unit of a group."""
    units = np.arange(group.size) != unit
    kept = {atom: units[start : start + atom.size] for atom, start in group.first_units.items()}
    return ~keep_mask(form, kept)


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_same_graph_same_groups(name: str) -> None:
    first, second = (onnxprune.analyze(onnxprune.Model(REGISTRY[name]().model)) for _ in range(2))
    assert listing(first) == listing(second)
    assert first.fingerprint == second.fingerprint


def test_factors_of_one_axis_are_numbered() -> None:
    body = "p = MatMul (x, w0) r = Reshape (p, t) m = ReduceMax <axes = [2], keepdims = 0> (r) y = MatMul (m, w1)"
    model = model_of(body, weights(w0=(6, 12), w1=(3, 5)) | ints(t=[0, 3, 4]), "float[N, 6] x")
    (group,) = onnxprune.analyze(model).groups
    assert (group.name, group.size, group.producers, group.consumers) == ("w0", 3, ("p",), ("y",))
    assert [(m.tensor, m.axis, m.size, m.multiplicity, m.makes) for m in group.members] == [
        ("w0", 1, 12, 4, True),
        ("w1", 0, 3, 1, False),
    ]
    frozen = {(f.tensor, f.axis): (f.size, f.frozen) for f in onnxprune.analyze(model).frozen}
    assert frozen["w0", 1] == (12, 4), "the other factor"


def test_names_of_weights_without_a_name_are_those_of_their_nodes() -> None:
    model = model_of(
        "p = MatMul (x, w0) s = Sigmoid (p) y = MatMul (s, w1)", weights(w0=(6, 8), w1=(8, 5)), "float[2, 6] x"
    )
    graph = model.proto.graph
    graph.initializer[0].name = graph.node[0].input[1] = "onnx::MatMul_17"
    graph.node[0].name = "/blocks/0/fc1/MatMul"
    assert [g.name for g in onnxprune.analyze(model).groups] == ["blocks.0.fc1.MatMul"]


def test_masks_that_leave_an_axis_whole_leave_its_tensor_alone() -> None:
    model = onnxprune.Model(REGISTRY["residual"]().model)
    analysis = onnxprune.analyze(model)
    mask = random_mask(analysis, 0, only=[])
    pruned = onnxprune.apply(model, mask, analysis=analysis)
    assert list(pruned.proto.graph.initializer) == list(model.proto.graph.initializer)
    assert list(pruned.proto.graph.node) == list(model.proto.graph.node)


# --- golden listings ---------------------------------------------------------------------------------------------


def listing(analysis: Analysis) -> str:
    """Groups with all that they lie on, then how many axes are frozen for which reason."""
    lines = []
    for group in analysis.groups:
        lines.append(f"{group.name}: {group.size} units")
        lines += [f"    {_member(member)}" for member in group.members]
        lines.append(f"    made by {_some(group.producers)}; consumed by {_some(group.consumers)}")
    why = Counter(axis.reason for axis in analysis.frozen)
    lines += [f"frozen, {number}: {reason}" for reason, number in sorted(why.items())]
    return "\n".join([*lines, ""])


def _member(member: onnxprune.groups.Member) -> str:
    times = f" x{member.multiplicity}" if member.multiplicity > 1 else ""
    return f"{'makes' if member.makes else 'bears'} {member.tensor}[{member.axis}] of {member.size}{times}"


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "nobody"


def check_golden(name: str, analysis: Analysis) -> None:
    """Compare with the committed listing, or write it."""
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(listing(analysis))
    assert path.exists(), f"no {path.name} yet: GOLDEN=write pytest {Path(__file__).name}"
    assert listing(analysis) == path.read_text()


@pytest.mark.parametrize("name", MICROGRAPHS)
def test_listing_of_a_small_graph(name: str) -> None:
    check_golden(name, onnxprune.analyze(onnxprune.Model(REGISTRY[name]().model)))


def test_listing_of_the_shipped_network() -> None:
    check_golden("resnet11", onnxprune.analyze(onnxprune.load(ROOT / "models/zoo/resnet11_cifar10.onnx")))


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.onnx")), ids=lambda path: path.stem)
def test_listing_of_a_model_from_the_wild(path: Path) -> None:
    """Skipped where the corpus is not at hand."""
    check_golden(path.stem, onnxprune.analyze(onnxprune.load(path)))


def test_every_listing_belongs_to_a_test() -> None:
    known = {*MICROGRAPHS, *ARCHITECTURES, "resnet11", *(path.stem for path in CORPUS.glob("*.onnx"))}
    if CORPUS.is_dir():
        assert {path.stem for path in GOLDEN.glob("*.txt")} == known
