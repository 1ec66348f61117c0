"""HTML elements as text; whatever is not an element already is escaped."""

from __future__ import annotations

from html import escape


class Markup(str):
    """Text that is HTML."""

    __slots__ = ()


def element(tag: str, *children: str, **attributes: str | int | float) -> Markup:
    """An element; a trailing `_` of an attribute's name is left out, others become `-`.

    >>> element("td", "a < b", class_="wide")
    '<td class="wide">a &lt; b</td>'
    """
    named = "".join(f' {_name(name)}="{escape(str(value))}"' for name, value in attributes.items())
    return Markup(f"<{tag}{named}>{join(*children)}</{tag}>")


def join(*children: str) -> Markup:
    """Elements and texts, one after the other."""
    return Markup("".join(c if isinstance(c, Markup) else escape(c, quote=False) for c in children))


def _name(name: str) -> str:
    return name.rstrip("_").replace("_", "-")
