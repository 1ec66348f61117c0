"""Pictures, and what they have in common; as PNG or, by the file's suffix, SVG.

matplotlib is needed for these alone, so it is imported when one is drawn.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxprune.analysis import Analysis
from onnxprune.errors import UsageError
from onnxprune.mask import Mask
from onnxprune.report import data
from onnxprune.saving import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, PALE, STRONG = "#333333", "#ccd3da", "#0072b2"
SERIES = ("#555555", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
"""Colours that the colour-blind can tell apart (Okabe & Ito 2008)."""

_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "svg.hashsalt": "onnxprune",  # without one, and with a date, the same picture would never be the same file
}
_METADATA: dict[str, dict[str, Any]] = {"png": {"Software": None}, "svg": {"Date": None}}


def widths(names: Sequence[str], before: Sequence[int], after: Sequence[int], path: Path) -> None:
    """The units of every layer or group, and how many of them are left."""
    places = np.arange(len(names))
    left = sum(after) / max(sum(before), 1)
    with picture(path, max(4.0, 1.5 + 0.22 * len(names)), 4) as (axes,):
        axes.bar(places, before, color=PALE, width=0.8, label="before")
        axes.bar(places, after, color=STRONG, width=0.8, label="after")
        axes.set_xticks(places, list(names), rotation=90, fontsize=7)
        axes.set(ylabel="units", xlim=(-0.7, len(names) - 0.3))
        axes.set_title(f"{sum(after):,} of {sum(before):,} units left ({left:.0%})")
        axes.legend(ncols=2, loc="lower right", bbox_to_anchor=(1, 1))


def mask_widths(analysis: Analysis, mask: Mask, path: Path) -> None:
    """The widths of all groups under a mask."""
    found = data.widths(analysis, mask)
    names, sizes, kept = ([getattr(w, name) for w in found] for name in ("group", "size", "kept"))
    widths(names, sizes, kept, path)


def courses(values: Mapping[str, Sequence[Sequence[float]]], path: Path) -> None:
    """The best score so far after every evaluation, by sampler: a thin line a seed, a strong one for their mean."""
    with picture(path, 6.5, 3.6) as (axes,):
        for number, (name, seeds) in enumerate(values.items()):
            colour, length = SERIES[number % len(SERIES)], max(map(len, seeds), default=0)
            whole = [np.append(s, np.full(length - len(s), s[-1])) for s in seeds if len(s)]
            for series in whole if len(whole) > 1 else ():
                axes.plot(np.arange(1, length + 1), series, color=colour, linewidth=0.5, alpha=0.5)
            if whole:
                axes.plot(np.arange(1, length + 1), np.mean(whole, 0), color=colour, linewidth=1.6, label=name)
        axes.set(xlabel="evaluations", ylabel="best score so far", title="The search and its controls")
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))


Places = Sequence[tuple[float, float]]


def frontier(judged: Mapping[str, Places], best: Places, path: Path, of: str) -> None:
    """Shares and scores of all that was judged, by sampler, and of those that nothing beats in both."""
    with picture(path, 6.5, 3.6) as (axes,):
        for number, (name, found) in enumerate(judged.items()):
            x, y = np.array(found).T
            axes.scatter(x, y, 9.0, SERIES[number % len(SERIES)], alpha=0.5, label=name)
        x, y = np.array(best).T
        axes.plot(x, y, color=INK, linewidth=1.2, marker="o", markersize=4, label="frontier")
        axes.set(xlabel=f"{of}, share of the whole", ylabel="score", title="What is to be had for what")
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))


def shades(count: int) -> list[tuple[float, float, float, float]]:
    """Colours from dark to light for values in their order."""
    from matplotlib import colormaps

    return [colormaps["viridis"](0.85 * k / max(count - 1, 1)) for k in range(count)]


@contextmanager
def picture(path: Path, width: float, height: float, columns: int = 1) -> Iterator[list["Axes"]]:
    """Axes side by side, `width` x `height` inches in all, to be drawn on; written to `path` at the end.

    Raises:
        UsageError: matplotlib is not installed, or the suffix is another.
        OutputError: the file cannot be written.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in _METADATA:
        raise UsageError(f"{path}: pictures are PNG or SVG", "let the name end in .png or .svg")
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError("pictures need matplotlib", "pip install matplotlib") from error
    content = io.BytesIO()
    with rc_context(_STYLE):
        # Not pyplot's: a figure of our own needs no screen, and is gone when we are done.
        figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
        yield list(figure.subplots(1, columns, squeeze=False)[0])
        figure.savefig(content, format=kind, metadata=_METADATA[kind])
    write_whole(path, content.getbuffer())
