"""The algebra of axes, against what numpy does to masks of kept elements."""

import doctest
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxprune import unify
from onnxprune.forms import (
    ONE,
    Atom,
    Fixed,
    Form,
    Product,
    Sum,
    atoms,
    concatenate,
    expand,
    fix,
    is_fixed,
    multiply,
    reason_of,
    resolve,
)
from onnxprune.unify import FormError, divide, factor, reshape, split, take, tie

Kept = Mapping[Atom, np.ndarray]
SIZES = [1, 2, 3, 4, 6, 8, 12]


def mask(form: Form, kept: Kept) -> np.ndarray:
    """Which elements of an axis stay; written apart from the package's own."""
    form = resolve(form)
    if isinstance(form, Atom):
        return kept[form]
    if isinstance(form, Fixed):
        return np.ones(form.size, bool)
    masks = [mask(part, kept) for part in form.parts]
    return np.concatenate(masks) if isinstance(form, Sum) else region(masks).ravel()


def region(masks: Sequence[np.ndarray]) -> np.ndarray:
    """The kept part of a tensor whose axes keep `masks`."""
    return reduce(np.logical_and.outer, masks, np.array(True))


# --- random programs -------------------------------------------------------------------------------------------


@dataclass
class World:
    """Axes that random operations made, and what must hold of their masks afterwards.

    Attributes:
        axes: all forms so far.
        laws: given kept atoms, pairs of arrays that must be equal.
    """

    draw: Callable
    axes: list[Form] = field(default_factory=list)
    laws: list[Callable[[Kept], tuple[np.ndarray, np.ndarray]]] = field(default_factory=list)

    def pick(self, size: int | None = None) -> Form:
        """An axis made before, or a new one."""
        known = [a for a in self.axes if size in (None, a.size)]
        if known and self.draw(st.integers(0, 3)):
            return self.draw(st.sampled_from(known))
        size = size or self.draw(st.sampled_from(SIZES))
        new: Form = Fixed(size, "given") if self.draw(st.integers(0, 5)) == 0 else Atom(size)
        self.axes.append(new)
        return new

    def cuts(self, size: int) -> list[int]:
        """Sizes that add up to `size`; some may be 0."""
        ends = sorted(self.draw(st.lists(st.integers(0, size), max_size=3)))
        return [b - a for a, b in zip([0, *ends], [*ends, size], strict=True)]

    def know(self, law: Callable[[Kept], tuple[np.ndarray, np.ndarray]], *made: Form) -> None:
        """Add what was made and the law it must follow."""
        self.axes.extend(made)
        self.laws.append(law)

    # Each of these applies one operation and notes its law.

    def do_split(self) -> None:
        axis = self.pick()
        sizes = self.cuts(axis.size)
        pieces = split(axis, sizes)
        assert [p.size for p in pieces] == sizes
        self.know(
            lambda k: (mask(axis, k), np.concatenate([mask(p, k) for p in pieces])), *[p for p in pieces if p.size]
        )

    def do_concatenate(self) -> None:
        parts = [self.pick() for _ in range(self.draw(st.integers(1, 3)))]
        whole = concatenate(parts)
        self.know(lambda k: (mask(whole, k), np.concatenate([mask(p, k) for p in parts])), whole)

    def do_take(self) -> None:
        axis = self.pick()
        index = self.draw(st.lists(st.integers(0, axis.size - 1), min_size=1, max_size=6))
        taken = take(axis, index)
        self.know(lambda k: (mask(taken, k), mask(axis, k)[index]), taken)

    def do_tie(self) -> None:
        a = self.pick()
        b = self.pick(a.size)
        tie(a, b)
        self.know(lambda k: (mask(a, k), mask(b, k)))

    def do_divide(self) -> None:
        axis = self.pick()
        inner = self.draw(st.sampled_from([n for n in range(1, axis.size + 1) if axis.size % n == 0]))
        a, b = divide(axis, axis.size // inner, inner)
        assert (a.size, b.size) == (axis.size // inner, inner)
        self.know(lambda k: (mask(axis, k), region([mask(a, k), mask(b, k)]).ravel()), a, b)

    def do_multiply(self) -> None:
        parts = [self.pick() for _ in range(self.draw(st.integers(1, 2)))]
        whole = multiply(parts)
        if whole.size <= 48:
            self.know(lambda k: (mask(whole, k), region([mask(p, k) for p in parts]).ravel()), whole)

    def do_reshape(self) -> None:
        axes = [self.pick() for _ in range(self.draw(st.integers(1, 3)))]
        sizes = self.draw(factorizations(int(np.prod([a.size for a in axes]))))
        out = reshape(axes, sizes)
        assert [f.size for f in out] == sizes
        # An axis of one element can not lose it: whoever gives a tensor its axes sees to that.
        for f in (*axes, *out):
            if f.size == 1:
                fix(f, "the only element")
        self.know(lambda k: tuple(region([mask(f, k) for f in side]).ravel() for side in (axes, out)), *out)  # type: ignore[arg-type]

    def do_fix(self) -> None:
        axis = self.pick()
        fix(axis, "on purpose")
        self.know(lambda k: (mask(axis, k), np.ones(axis.size, bool)))


@st.composite
def factorizations(draw: Callable, size: int) -> list[int]:
    """Factors of `size`, ones among them."""
    out, rest = [], size
    while rest > 1:
        out.append(draw(st.sampled_from([n for n in range(1, rest + 1) if rest % n == 0])))
        rest //= out[-1]
    return out or [1]


ELEMENTWISE = ["split", "concatenate", "take", "tie"]
ALL = [*ELEMENTWISE, "tie", "divide", "multiply", "reshape", "fix"]


def programs(data: st.DataObject, operations: list[str]) -> World:
    """A world after a few random operations."""
    world = World(data.draw)
    for name in data.draw(st.lists(st.sampled_from(operations), min_size=2, max_size=9)):
        getattr(world, f"do_{name}")()
    return world


def random_kept(world: World, seed: int) -> dict[Atom, np.ndarray]:
    """A choice for every free atom; all of them are gone now and then."""
    rng = np.random.default_rng(seed)
    free = {a for axis in world.axes for a in atoms(axis)}
    return {a: rng.random(a.size) < rng.choice([0.2, 0.7]) for a in sorted(free, key=lambda a: a.serial)}


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_whatever_is_kept_every_operation_holds(data: st.DataObject) -> None:
    world = programs(data, ALL)
    for seed in range(4):
        kept = random_kept(world, seed)
        for law in world.laws:
            np.testing.assert_array_equal(*law(kept))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_expand_says_the_same(data: st.DataObject) -> None:
    world = programs(data, ALL)
    kept = random_kept(world, 0)
    for axis in world.axes:
        np.testing.assert_array_equal(mask(expand(axis), kept), mask(axis, kept))
        assert is_fixed(axis) == (not any(True for _ in atoms(axis)))
        assert not is_fixed(axis) or mask(axis, {}).all()


# --- completeness: where operations only move elements, nothing more is tied than they tie ----------------------


class Elements:
    """Union-find on single elements: 0 stands for all that is fixed."""

    def __init__(self) -> None:
        self.parent = [0]

    def new(self, n: int) -> list[int]:
        """`n` elements, each on its own."""
        start = len(self.parent)
        self.parent.extend(range(start, start + n))
        return list(range(start, start + n))

    def find(self, k: int) -> int:
        """The class of an element."""
        while self.parent[k] != k:
            k = self.parent[k]
        return k

    def unite(self, a: Sequence[int], b: Sequence[int]) -> None:
        """Element k of `a` is element k of `b`."""
        for x, y in zip(a, b, strict=True):
            low, high = sorted((self.find(x), self.find(y)))
            self.parent[high] = low


def elements(form: Form) -> Iterator[tuple[Atom, int] | None]:
    """What the package says each element is: an element of an atom, or fixed."""
    form = resolve(form)
    if isinstance(form, Sum):
        for part in form.parts:
            yield from elements(part)
    else:
        assert not isinstance(form, Product)
        yield from ((form, k) if isinstance(form, Atom) else None for k in range(form.size))


def _moved(draw: Callable, pairs: list[tuple[Form, list[int]]], scalar: Elements) -> None:
    """One operation that only moves elements, on forms and on single elements."""
    form, ids = draw(st.sampled_from(pairs))
    kind = draw(st.sampled_from(ELEMENTWISE))
    if kind == "split":
        at = draw(st.integers(0, form.size))
        pairs.extend(zip(split(form, [at, form.size - at]), (ids[:at], ids[at:]), strict=True))
    elif kind == "concatenate":
        other, more = draw(st.sampled_from(pairs))
        pairs.append((concatenate([form, other]), ids + more))
    elif kind == "take" and form.size:
        index = draw(st.lists(st.integers(0, form.size - 1), min_size=1, max_size=6))
        pairs.append((take(form, index), [ids[k] for k in index]))
    elif kind == "tie":
        other, more = draw(st.sampled_from([p for p in pairs if p[0].size == form.size]))
        tie(form, other)
        scalar.unite(ids, more)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_movements_tie_what_they_must_and_no_more(data: st.DataObject) -> None:
    scalar = Elements()
    pairs: list[tuple[Form, list[int]]] = [(Fixed(3, "given"), [0, 0, 0])]
    pairs += [(Atom(n), scalar.new(n)) for n in (3, 4, 4, 6)]
    for _ in range(data.draw(st.integers(1, 10))):
        _moved(data.draw, pairs, scalar)
    said: dict[object, int] = {None: 0}
    for form, ids in pairs:
        for name, number in zip(elements(form), ids, strict=True):
            assert said.setdefault(name, scalar.find(number)) == scalar.find(number)
    assert len(set(said.values())) == len(said), "two names for one element"


# --- examples --------------------------------------------------------------------------------------------------


def test_documented_examples() -> None:
    result = doctest.testmod(unify, extraglobs={"expand": expand})
    assert result.attempted > 5 and not result.failed


def test_a_reshape_there_and_back_ties_nothing() -> None:
    a, b = Atom(6), Atom(4)
    (flat,) = reshape([a, b], [24])
    back = reshape([flat], [6, 4])
    assert [resolve(f) for f in back] == [a, b]


def test_heads_and_their_width_stay_two_groups() -> None:
    q, k = Atom(12), Atom(12)
    for axis in (q, k):
        heads, width = reshape([Fixed(2), axis], [2, 3, 4])[1:]
        assert (heads.size, width.size) == (3, 4)
    tie(q, k)
    assert repr(expand(q)) == "Product(Atom(3), Atom(4))"
    assert list(atoms(q)) == list(atoms(k))


def test_a_cut_inside_a_row_sets_that_row_apart() -> None:
    rows, columns = Atom(3), Atom(4)
    first, second = split(multiply([rows, columns]), [6, 6])
    assert repr(expand(rows)) == "Sum(Atom(1), Atom(1), Atom(1))"
    assert repr(expand(columns)) == "Sum(Atom(2), Atom(2))"
    top, middle, bottom = atoms(rows)
    kept = {a: np.ones(a.size, bool) for a in atoms(multiply([rows, columns]))}
    kept[middle] = np.zeros(1, bool)
    assert mask(first, kept).tolist() == [True] * 4 + [False] * 2
    assert mask(second, kept).tolist() == [False] * 2 + [True] * 4
    assert {top, bottom} < set(kept)


def test_a_row_that_is_cut_out_alone_stays() -> None:
    rows, columns = Atom(3), Atom(4)
    split(multiply([rows, columns]), [4, 8])
    assert repr(expand(rows)) == "Sum(Fixed(1), Atom(2))" and not is_fixed(columns)


def test_two_ways_to_divide_meet_in_their_refinement() -> None:
    c = Atom(24)
    divide(c, 4, 6)
    divide(c, 2, 12)
    assert repr(expand(c)) == "Product(Atom(2), Atom(2), Atom(6))"


def test_divisions_without_a_common_refinement_are_fixed() -> None:
    c = Atom(12)
    divide(c, 3, 4)
    divide(c, 4, 3)
    assert is_fixed(c) and "cuts across" in str(reason_of(c))


def test_a_concatenation_divides_where_its_parts_do() -> None:
    a, b = Atom(4), Atom(6)
    outer, inner = divide(concatenate([a, b]), 5, 2)
    assert repr(outer) == "Sum(Atom(2), Atom(3))"
    assert repr(expand(a)) == "Product(Atom(2), Atom(2))" and list(atoms(inner)) == list(atoms(a))[1:]


def test_seams_that_do_not_meet_are_cut() -> None:
    a, b, c, d = Atom(8), Atom(4), Atom(4), Atom(8)
    tie(concatenate([a, b]), concatenate([c, d]))
    assert [x.size for x in atoms(a)] == [4, 4] and next(atoms(d)) is list(atoms(a))[1]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: tie(Atom(3), Atom(4)), "axes of 3 and 4 elements are not one axis"),
        (lambda: split(Atom(3), [1, 1]), r"pieces of \[1, 1\] do not make up 3"),
        (lambda: divide(Atom(6), 4, 2), "4 x 2 is not 6"),
        (lambda: reshape([Atom(6)], [4]), r"\[6\] does not reshape to \[4\]"),
        (lambda: reshape([Atom(6), Atom(2)], [6]), "does not reshape"),
        (lambda: reshape([Atom(6)], [6, 2]), "does not reshape"),
    ],
)
def test_what_does_not_fit_is_refused(wrong: Callable[[], object], message: str) -> None:
    with pytest.raises(FormError, match=message):
        wrong()


def test_normal_forms() -> None:
    a = Atom(3)
    assert concatenate([]).size == 0 and multiply([]) is ONE
    assert concatenate([a]) is a and multiply([a, ONE]) is a
    assert (
        repr(concatenate([Fixed(2), Fixed(3), a, concatenate([a, Fixed(1)])]))
        == "Sum(Fixed(5), Atom(3), Atom(3), Fixed(1))"
    )
    assert repr(multiply([Fixed(2), Fixed(3), multiply([a, Fixed(2)])])) == "Product(Fixed(6), Atom(3), Fixed(2))"
    assert [f.size for f in factor(Atom(24), [2, 3, 4])] == [2, 3, 4]


def test_the_reason_is_kept_through_all_that_follows() -> None:
    a, b = Atom(6), Atom(6)
    fix(a, "because")
    tie(b, multiply([Atom(2), Atom(3)]))
    tie(a, b)
    assert is_fixed(b) and reason_of(b) == "because"
    assert reason_of(split(a, [2, 4])[1]) == "because"
    assert reason_of(Atom(2)) is None


def test_size_of_a_channel_count_does_not_matter() -> None:
    wide = Atom(1 << 40)
    outer, inner = divide(wide, 1 << 20, 1 << 20)
    split(inner, [1 << 19, 1 << 19])
    assert repr(expand(wide)) == f"Product(Atom({1 << 20}), Sum(Atom({1 << 19}), Atom({1 << 19})))"
    assert outer.size == 1 << 20
