"""Pictures of a pruning: scales over the training, gates, widths, forecasts; as PNG or, by the file's suffix, SVG.

matplotlib is needed for these alone, so it is imported when one is drawn. All of them raise UsageError where it is not
installed or the suffix is another, and OutputError where the file cannot be written.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from onnxprune.errors import UsageError
from onnxprune.external import write_all
from onnxprune.saving import writing
from onnxprune.torch.chipnet import heaviside, logistic

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_CURVES = 40
BINS = 60

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


def scale_history(history: np.ndarray, path: Path) -> None:
    """How the scales |gamma| are distributed after every epoch: curves in front of each other, the last at the front.

    Heights are square roots of counts: else the units that are at zero in the end would leave all others flat.

    Args:
        history: `(epochs, units)`, not negative; of many epochs, evenly spaced ones are drawn.
        path: of the picture.
    """
    epochs = np.arange(len(history), 0, -ceil(len(history) / MOST_CURVES))[::-1]
    edges = np.linspace(0, float(history.max()) or 1.0, BINS + 1)
    roots = np.sqrt([np.histogram(history[epoch - 1], edges)[0] for epoch in epochs])
    with _picture(path, 6.5, 2.5 + 0.1 * len(epochs)) as (axes,):
        _ridges(axes, (edges[1:] + edges[:-1]) / 2, roots, epochs)
        axes.set(xlabel=r"scale $|\gamma|$", ylabel="epoch")
        axes.set_title(f"Scales of {history.shape[1]:,} units, epoch by epoch (height: square root of their number)")


def _ridges(axes: "Axes", x: np.ndarray, heights: np.ndarray, epochs: np.ndarray) -> None:
    """Filled curves that stand at their epochs, the first at the top; each covers a part of those before."""
    scale = 4 * max(epochs[-1] - epochs[0], 1) / max(len(epochs) - 1, 1) / heights.max()
    tops = epochs[:, None] - heights * scale
    for epoch, top, colour in zip(epochs, tops, _shades(len(epochs)), strict=True):
        axes.fill_between(x, epoch, top, color=colour, linewidth=0, zorder=epoch)
        axes.plot(x, top, color="white", linewidth=0.7, zorder=epoch)
    axes.set(xlim=(0, x[-1]), ylim=(epochs[-1] + 0.3, tops.min()))
    axes.set_yticks(epochs[:: -ceil(len(epochs) / 10)])


def gate_histogram(gates: np.ndarray, path: Path, threshold: float = 0.5) -> None:
    """How many gates `(units,)`, 0 to 1, are how far open; below `threshold` is closed. Counts are logarithmic."""
    closed = int(np.sum(gates < threshold))
    with _picture(path, 6, 3.2) as (axes,):
        edges = np.linspace(0, 1, 51).tolist()
        axes.hist([gates[gates < threshold], gates[gates >= threshold]], edges, color=[PALE, STRONG], stacked=True)
        axes.axvline(threshold, color=INK, linewidth=1, linestyle="--")
        axes.set(xlabel="gate", ylabel="gates", xlim=(0, 1), yscale="log")
        axes.set_title(f"{closed:,} of {len(gates):,} gates closed (below {threshold:.2g})")


def gate_curves(betas: Sequence[float], gammas: Sequence[float], path: Path) -> None:
    """ChipNet's two functions (arXiv 2102.07156): the logistic curve for each beta, Heaviside's for each gamma."""
    psi, soft = torch.linspace(-4, 4, 401), torch.linspace(0, 1, 401)
    with _picture(path, 8, 3.4, columns=2) as (left, right):
        for beta, colour in zip(betas, _shades(len(betas)), strict=True):
            left.plot(psi, logistic(psi, beta), color=colour, label=rf"$\beta = {beta:g}$")
        for gamma, colour in zip(gammas, _shades(len(gammas)), strict=True):
            right.plot(soft, heaviside(soft, gamma), color=colour, label=rf"$\gamma = {gamma:g}$")
        left.set(xlabel=r"$\psi$", ylabel=r"$\tilde z$", title=r"Logistic: $\tilde z = 1 / (1 + e^{-\beta\psi})$")
        right.set(
            xlabel=r"$\tilde z$", ylabel="$z$", title=r"Heaviside: $z = 1 - e^{-\gamma\tilde z} + \tilde z e^{-\gamma}$"
        )
        for axes in (left, right):
            axes.legend()
            axes.margins(x=0)


def _shades(count: int) -> list[tuple[float, float, float, float]]:
    """Colours from dark to light for values in their order."""
    from matplotlib import colormaps

    return [colormaps["viridis"](0.85 * k / max(count - 1, 1)) for k in range(count)]


def widths(names: Sequence[str], before: Sequence[int], after: Sequence[int], path: Path) -> None:
    """The units of every layer or group, and how many of them are left."""
    places = np.arange(len(names))
    left = sum(after) / max(sum(before), 1)
    with _picture(path, max(4.0, 1.5 + 0.22 * len(names)), 4) as (axes,):
        axes.bar(places, before, color=PALE, width=0.8, label="before")
        axes.bar(places, after, color=STRONG, width=0.8, label="after")
        axes.set_xticks(places, list(names), rotation=90, fontsize=7)
        axes.set(ylabel="units", xlim=(-0.7, len(names) - 0.3))
        axes.set_title(f"{sum(after):,} of {sum(before):,} units left ({left:.0%})")
        axes.legend(ncols=2, loc="lower right", bbox_to_anchor=(1, 1))


def agreements(
    epochs: Sequence[int], values: Mapping[str, Sequence[float]], chance: Sequence[float], path: Path
) -> None:
    """How well each forecaster tells, after each of the epochs, which units are removed in the end.

    Args:
        epochs: numbers of the epochs, `E`.
        values: by forecaster, the agreement (0 to 1) after each epoch, `(E,)`.
        chance: the agreement of random selections, `(E,)`.
        path: of the picture.
    """
    with _picture(path, 6, 3.6) as (axes,):
        for number, (name, series) in enumerate(values.items()):
            colour = SERIES[number % len(SERIES)]
            axes.plot(epochs, series, color=colour, label=name, marker="o", markersize=3, linewidth=1.4)
        axes.plot(epochs, chance, color=INK, linewidth=1, linestyle=":", label="chance")
        axes.set(xlabel="forecast after epoch", ylabel="Jaccard of removed units", ylim=(0, 1.02))
        axes.set_title("Agreement of the forecast with the final selection")
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))


@contextmanager
def _picture(path: Path, width: float, height: float, columns: int = 1) -> Iterator[list["Axes"]]:
    """Axes side by side, `width` x `height` inches in all, to be drawn on; written to `path` at the end."""
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
    with writing(path) as file:
        write_all(file, content.getbuffer())
