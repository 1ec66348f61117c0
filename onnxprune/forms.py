"""What an axis is made of.

A *form* describes the elements of an axis, in order:

    Atom(n)             n elements that live or die one by one, each on its own
    Fixed(n, reason)    n elements that are never removed, and why
    Sum(a, b, ...)      the elements of a, then those of b ...          (Concat)
    Product(a, b, ...)  row-major pairs of an element of a and one of b (Reshape)

An element of a product is removed iff *any* of its factors' elements is removed, so removal is always a
product and every tensor stays rectangular. Atoms are the variables, which `unify` binds to other forms of the
same size. Nothing here knows ONNX, and no cost depends on the number of channels: 64 and 65,536 channels are
one Atom each.

The same idea serves sharding propagation (factors of an op's sharding rule); here elements matter too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import count

_serial = count()


class Atom:
    """`size` elements, each removable on its own; `bound` once it is known to be another form."""

    __slots__ = ("bound", "serial", "size")

    def __init__(self, size: int):
        self.size = size
        self.bound: Form | None = None
        self.serial = next(_serial)

    def __repr__(self) -> str:
        return f"Atom({self.size})" if self.bound is None else repr(resolve(self))


class Fixed:
    """`size` elements that stay; `reason` is told to the user."""

    __slots__ = ("reason", "size")

    def __init__(self, size: int, reason: object = None):
        self.size = size
        self.reason = reason

    def __repr__(self) -> str:
        return f"Fixed({self.size})"


class _Compound:
    __slots__ = ("parts", "size")

    def __init__(self, parts: tuple[Form, ...], size: int):
        self.parts = parts
        self.size = size

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.parts))})"


class Sum(_Compound):
    """Parts end to end."""

    __slots__ = ()


class Product(_Compound):
    """Parts in row-major order, the last one running fastest."""

    __slots__ = ()


Form = Atom | Fixed | Sum | Product
ONE = Fixed(1)


def resolve(form: Form) -> Form:
    """What `form` is known to be: follow bindings (and shorten the path)."""
    if type(form) is not Atom or form.bound is None:
        return form
    end: Form = form
    while type(end) is Atom and end.bound is not None:
        end = end.bound
    while type(form) is Atom and form.bound is not None and form is not end:
        form.bound, form = end, form.bound
    return end


def expand(form: Form) -> Form:
    """`form` with every binding followed, all the way down."""
    form = resolve(form)
    if isinstance(form, Sum):
        return concatenate([expand(p) for p in flat_parts(form)])
    if isinstance(form, Product):
        return multiply([expand(p) for p in flat_parts(form)])
    return form


def atoms(form: Form) -> Iterator[Atom]:
    """The unbound atoms of a form, left to right, repeated where they repeat."""
    form = resolve(form)
    if type(form) is Atom:
        return iter((form,))
    return iter(()) if type(form) is Fixed else _atoms_inside(form)


def _atoms_inside(form: Form) -> Iterator[Atom]:
    stack = [form]
    while stack:
        top = resolve(stack.pop())
        if type(top) is Atom:
            yield top
        elif isinstance(top, _Compound):
            stack.extend(reversed(top.parts))


def is_fixed(form: Form) -> bool:
    """Whether no element can go."""
    form = resolve(form)
    return type(form) is Fixed or (type(form) is not Atom and next(_atoms_inside(form), None) is None)


def fixed_parts(form: Form) -> Iterator[Fixed]:
    """The fixed parts and factors of a form, left to right."""
    stack = [form]
    while stack:
        top = resolve(stack.pop())
        if type(top) is Fixed:
            yield top
        elif isinstance(top, _Compound):
            stack.extend(reversed(top.parts))


def reason_of(form: Form) -> object:
    """The first reason why elements of this form are fixed, or None."""
    return next((p.reason for p in fixed_parts(form) if p.reason is not None), None)


def concatenate(parts: Iterable[Form]) -> Form:
    """The sum of `parts`, flat, neighbouring fixed parts merged."""
    flat: list[Form] = []
    for part in _flatten(parts, Sum):
        last = flat[-1] if flat else None
        if type(part) is Fixed and type(last) is Fixed:
            flat[-1] = Fixed(last.size + part.size, last.reason or part.reason)
        elif part.size:
            flat.append(part)
    if not flat:
        return Fixed(0)
    return flat[0] if len(flat) == 1 else Sum(tuple(flat), sum(p.size for p in flat))


def multiply(parts: Iterable[Form]) -> Form:
    """The product of `parts`, flat, neighbouring fixed parts merged, fixed ones of size 1 dropped."""
    flat: list[Form] = []
    size = 1
    for part in _flatten(parts, Product):
        size *= part.size
        last = flat[-1] if flat else None
        if type(part) is not Fixed:
            flat.append(part)
        elif type(last) is Fixed:
            flat[-1] = Fixed(last.size * part.size, last.reason or part.reason)
        elif part.size != 1:
            flat.append(part)
    if not flat:
        return ONE
    return flat[0] if len(flat) == 1 else Product(tuple(flat), size)


def _flatten(parts: Iterable[Form], kind: type[Sum] | type[Product]) -> Iterator[Form]:
    stack = list(parts)[::-1]
    while stack:
        part = resolve(stack.pop())
        if isinstance(part, kind):
            stack.extend(reversed(part.parts))
        else:
            yield part


def flat_parts(form: Sum | Product) -> list[Form]:
    """The parts of a sum that are no sums, or of a product that are no products, in order."""
    return list(_flatten(form.parts, type(form)))


def fix(form: Form, reason: object) -> None:
    """Nothing of `form` may go from now on."""
    for atom in list(atoms(form)):
        atom.bound = atom.bound or Fixed(atom.size, reason)
