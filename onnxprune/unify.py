"""Making axes one: forms cut, divided and tied to each other, as unification binds variables.

>>> c = Atom(12)
>>> heads, width = divide(c, 3, 4)      # reshape (12,) to (3, 4)
>>> resolve(c)
Product(Atom(3), Atom(4))
>>> left, right = split(width, [2, 2])  # a rotary embedding's halves ...
>>> tie(left, right)                    # ... added to each other
>>> expand(c)
Product(Atom(3), Sum(Atom(2), Atom(2)))
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise

from onnxprune.forms import (
    ONE,
    Atom,
    Fixed,
    Form,
    Product,
    Sum,
    atoms,
    concatenate,
    fix,
    multiply,
    resolve,
)

# A reshape that cuts rows out of a concatenation makes one form a row; beyond this many the axis is fixed instead.
MAX_ROWS = 4096


class FormError(ValueError):
    """Two forms that should be one axis have different sizes."""


def split(form: Form, sizes: Sequence[int]) -> list[Form]:
    """Cut `form` into consecutive pieces of the given sizes (which add up to its size)."""
    form = resolve(form)
    if sum(sizes) != form.size:
        raise FormError(f"pieces of {list(sizes)} do not make up {form.size}")
    if len(sizes) == 1:
        return [form]
    if type(form) is Atom:
        pieces: list[Form] = [Atom(s) if s else Fixed(0) for s in sizes]
        form.bound = concatenate(pieces)
        return pieces
    if type(form) is Fixed:
        return [Fixed(s, form.reason) for s in sizes]
    if isinstance(form, Sum):
        return _split_sum(form, sizes)
    assert isinstance(form, Product)
    return _split_product(form, sizes)


def _split_sum(form: Sum, sizes: Sequence[int]) -> list[Form]:
    cuts = list(accumulate(sizes))
    pieces: list[list[Form]] = [[] for _ in sizes]
    start, k = 0, 0
    for part in form.parts:
        end, inner, owner = start + part.size, [], []
        at = start
        while at < end:
            while cuts[k] <= at:
                k += 1
            stop = min(end, cuts[k])
            inner.append(stop - at)
            owner.append(k)
            at = stop
        for piece, o in zip(split(part, inner), owner, strict=True):
            pieces[o].append(piece)
        start = end
    return [concatenate(p) for p in pieces]


def _split_product(form: Product, sizes: Sequence[int]) -> list[Form]:
    first, *others = form.parts
    rest = multiply(others)
    row = rest.size
    ends = list(accumulate(sizes))
    # A cut inside a row sets that row apart; its inner part is cut as well.
    marks = sorted({m for e in ends for m in (e // row, -(-e // row))} - {0})
    rows = split(first, [e - s for s, e in pairwise([0, *marks])])
    offsets = [*sorted({e % row for e in ends} - {0}), row]
    columns = split(rest, [e - s for s, e in pairwise([0, *offsets])])
    grid = [
        ((s * row, e * row), [multiply([r, rest])] if e - s > 1 else [multiply([r, c]) for c in columns])
        for r, (s, e) in zip(rows, pairwise([0, *marks]), strict=True)
    ]
    flat = [(piece, start) for (start, _), pieces in grid for piece, start in _starts(pieces, start)]
    out = [[piece for piece, start in flat if end - size <= start < end] for end, size in zip(ends, sizes, strict=True)]
    for pieces in out:
        # Alone it can not go: whatever it feeds would be left empty.
        if len(pieces) == 1 and isinstance(pieces[0], Product) and pieces[0].parts[0].size == 1:
            fix(pieces[0].parts[0], "a single row cut out of a product")
    return [concatenate(p) for p in out]


def _starts(pieces: Sequence[Form], start: int) -> list[tuple[Form, int]]:
    return list(zip(pieces, accumulate((p.size for p in pieces[:-1]), initial=start), strict=True))


def rows_of(n: int, row: Form, reason: str) -> list[Form]:
    """`n` copies of `row`, fixed as a whole where they are too many to list."""
    if n > MAX_ROWS:
        fix(row, reason)
        return [Fixed(n * row.size, reason)]
    return [row] * n


def divide(form: Form, outer: int, inner: int) -> tuple[Form, Form]:
    """Factors of sizes `outer` and `inner` whose row-major product is `form`."""
    form = resolve(form)
    if outer * inner != form.size:
        raise FormError(f"{outer} x {inner} is not {form.size}")
    if inner == 1 or outer == 1:
        return (form, ONE) if inner == 1 else (ONE, form)
    if type(form) is Atom:
        a, b = Atom(outer), Atom(inner)
        form.bound = Product((a, b), form.size)
        return a, b
    if type(form) is Fixed:
        return Fixed(outer, form.reason), Fixed(inner, form.reason)
    if isinstance(form, Sum):
        return _divide_sum(form, outer, inner)
    assert isinstance(form, Product)
    return _divide_product(form, outer, inner)


def _divide_product(form: Product, outer: int, inner: int) -> tuple[Form, Form]:
    parts, taken, need = list(form.parts), [], inner
    while need > 1:
        last = parts.pop()
        if need % last.size == 0:
            taken.append(last)
            need //= last.size
        elif last.size % need == 0:
            a, b = divide(last, last.size // need, need)
            parts.append(a)
            taken.append(b)
            need = 1
        else:
            reason = f"a reshape to {outer} x {inner} cuts across its factors"
            fix(form, reason)
            return Fixed(outer, reason), Fixed(inner, reason)
    return multiply(parts), multiply(reversed(taken))


def _divide_sum(form: Sum, outer: int, inner: int) -> tuple[Form, Form]:
    if all(p.size % inner == 0 for p in form.parts):
        pairs = [divide(p, p.size // inner, inner) for p in form.parts]
        for _, b in pairs[1:]:
            tie(pairs[0][1], b)
        return concatenate(a for a, _ in pairs), pairs[0][1]
    reason = f"a reshape to {outer} x {inner} cuts across concatenated channels"
    if outer > MAX_ROWS:
        fix(form, reason)
        return Fixed(outer, reason), Fixed(inner, reason)
    rows = split(form, [inner] * outer)
    for row in rows[1:]:
        tie(rows[0], row)
    return Fixed(outer, reason), rows[0]


def tie(a: Form, b: Form) -> None:
    """Make two axes one: element k of `a` goes iff element k of `b` goes.

    Raises:
        FormError: their sizes differ.
    """
    pending = [(a, b)]
    while pending:
        a, b = pending.pop()
        a, b = resolve(a), resolve(b)
        if a is b:
            continue
        if a.size != b.size:
            raise FormError(f"axes of {a.size} and {b.size} elements are not one axis")
        pending.extend(_tie_once(a, b))


def _tie_once(a: Form, b: Form) -> list[tuple[Form, Form]]:
    if type(a) is Fixed or type(b) is Fixed:
        fixed, other = (a, b) if type(a) is Fixed else (b, a)
        fix(other, fixed.reason)  # type: ignore[union-attr]
        return []
    if type(a) is Atom and type(b) is Atom:
        old, new = (a, b) if a.serial < b.serial else (b, a)
        new.bound = old
        return []
    if type(a) is Atom or type(b) is Atom:
        atom, form = (a, b) if type(a) is Atom else (b, a)
        _bind(atom, form)  # type: ignore[arg-type]
        return []
    if isinstance(a, Product) and isinstance(b, Product):
        return _match_products(a, b)
    return _match_sums(a, b)


def _bind(atom: Atom, form: Form) -> None:
    inside = list(atoms(form))
    if atom not in inside:
        atom.bound = form
        return
    # The rest of a form of the same size has size 1 each: if one of those went, the whole axis would.
    for other in inside:
        if other is not atom:
            fix(other, "an axis tied to a factor of itself")


def _match_sums(a: Form, b: Form) -> list[tuple[Form, Form]]:
    ends = sorted({e for f in (a, b) for e in _ends(f)})
    sizes = [e - s for s, e in zip([0, *ends], ends, strict=False)]
    return list(zip(split(a, sizes), split(b, sizes), strict=True))


def _ends(form: Form) -> Iterable[int]:
    return accumulate(p.size for p in form.parts) if isinstance(form, Sum) else [form.size]


def _match_products(a: Product, b: Product) -> list[tuple[Form, Form]]:
    left, right, pairs = list(a.parts), list(b.parts), []
    while left and right:
        x, y = left.pop(), right.pop()
        if x.size == y.size:
            pairs.append((x, y))
        elif x.size % y.size == 0:
            outer, inner = divide(x, x.size // y.size, y.size)
            left.append(outer)
            pairs.append((inner, y))
        elif y.size % x.size == 0:
            outer, inner = divide(y, y.size // x.size, x.size)
            right.append(outer)
            pairs.append((x, inner))
        else:
            reason = "two reshapes of it have no common refinement"
            fix(a, reason)
            fix(b, reason)
            return []
    for rest in (*left, *right):
        fix(rest, "a single row cut out of a product")
    return pairs


def reshape(forms: Sequence[Form], sizes: Sequence[int]) -> list[Form]:
    """Axes of a row-major reshape of axes `forms` to `sizes`: their common refinement.

    >>> b, c = Atom(2), Atom(12)
    >>> reshape([b, c], [2, 3, 4]), resolve(c)
    ([Atom(2), Atom(3), Atom(4)], Product(Atom(3), Atom(4)))
    """
    out: list[Form] = []
    source = [f for f in forms if f.size != 1]
    wanted = list(sizes)
    i = j = 0
    while j < len(wanted):
        if wanted[j] == 1:
            out.append(ONE)
            j += 1
            continue
        have, need, i0, j0 = 1, 1, i, j
        while have != need or have == 1:
            if have <= need and i < len(source):
                have *= source[i].size
                i += 1
            elif j < len(wanted) and (have > need or i == len(source)):
                need *= wanted[j]
                j += 1
            else:
                raise FormError(f"{[f.size for f in forms]} does not reshape to {list(sizes)}")
        out.extend(factor(multiply(source[i0:i]), wanted[j0:j]))
    if i != len(source):
        raise FormError(f"{[f.size for f in forms]} does not reshape to {list(sizes)}")
    return out


def factor(form: Form, sizes: Sequence[int]) -> list[Form]:
    """Factors of the given sizes, the first one outermost, whose product is `form`."""
    out: list[Form] = []
    for size in reversed(sizes[1:]):
        form, inner = divide(form, form.size // max(size, 1), size)
        out.append(inner)
    return [form, *reversed(out)] if sizes else []


def take(form: Form, index: Sequence[int]) -> Form:
    """The form of `x[index]` where `x` has `form`: runs of consecutive indices are cut out and put together."""
    starts = [k for k, i in enumerate(index) if k == 0 or i != index[k - 1] + 1]
    runs = [(index[s], index[e - 1] + 1) for s, e in zip(starts, [*starts[1:], len(index)], strict=True)]
    ends = sorted({e for run in runs for e in run} | {form.size})
    ends = [e for e in ends if e > 0]
    begin = [0, *ends[:-1]]
    pieces = split(form, [e - s for s, e in zip(begin, ends, strict=True)])
    position = {s: k for k, s in enumerate(begin)} | {form.size: len(pieces)}
    return concatenate(p for start, stop in runs for p in pieces[position[start] : position[stop]])
