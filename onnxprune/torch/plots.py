"""Pictures of a pruning: scales over the training, gates, forecasts; as PNG or, by the file's suffix, SVG.

All of them raise what `picture` does.
"""

from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from onnxprune.report.pictures import INK, PALE, SERIES, STRONG, picture, shades
from onnxprune.torch.chipnet import heaviside, logistic

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_CURVES = 40
BINS = 60


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
    with picture(path, 6.5, 2.5 + 0.1 * len(epochs)) as (axes,):
        _ridges(axes, (edges[1:] + edges[:-1]) / 2, roots, epochs)
        axes.set(xlabel=r"scale $|\gamma|$", ylabel="epoch")
        axes.set_title(f"Scales of {history.shape[1]:,} units, epoch by epoch (height: square root of their number)")


def _ridges(axes: "Axes", x: np.ndarray, heights: np.ndarray, epochs: np.ndarray) -> None:
    """Filled curves that stand at their epochs, the first at the top; each covers a part of those before."""
    scale = 4 * max(epochs[-1] - epochs[0], 1) / max(len(epochs) - 1, 1) / heights.max()
    tops = epochs[:, None] - heights * scale
    for epoch, top, colour in zip(epochs, tops, shades(len(epochs)), strict=True):
        axes.fill_between(x, epoch, top, color=colour, linewidth=0, zorder=epoch)
        axes.plot(x, top, color="white", linewidth=0.7, zorder=epoch)
    axes.set(xlim=(0, x[-1]), ylim=(epochs[-1] + 0.3, tops.min()))
    axes.set_yticks(epochs[:: -ceil(len(epochs) / 10)])


def gate_histogram(gates: np.ndarray, path: Path, threshold: float = 0.5) -> None:
    """How many gates `(units,)`, 0 to 1, are how far open; below `threshold` is closed. Counts are logarithmic."""
    closed = int(np.sum(gates < threshold))
    with picture(path, 6, 3.2) as (axes,):
        edges = np.linspace(0, 1, 51).tolist()
        axes.hist([gates[gates < threshold], gates[gates >= threshold]], edges, color=[PALE, STRONG], stacked=True)
        axes.axvline(threshold, color=INK, linewidth=1, linestyle="--")
        axes.set(xlabel="gate", ylabel="gates", xlim=(0, 1), yscale="log")
        axes.set_title(f"{closed:,} of {len(gates):,} gates closed (below {threshold:.2g})")


def gate_curves(betas: Sequence[float], gammas: Sequence[float], path: Path) -> None:
    """ChipNet's two functions (arXiv 2102.07156): the logistic curve for each beta, Heaviside's for each gamma."""
    psi, soft = torch.linspace(-4, 4, 401), torch.linspace(0, 1, 401)
    with picture(path, 8, 3.4, columns=2) as (left, right):
        for beta, colour in zip(betas, shades(len(betas)), strict=True):
            left.plot(psi, logistic(psi, beta), color=colour, label=rf"$\beta = {beta:g}$")
        for gamma, colour in zip(gammas, shades(len(gammas)), strict=True):
            right.plot(soft, heaviside(soft, gamma), color=colour, label=rf"$\gamma = {gamma:g}$")
        left.set(xlabel=r"$\psi$", ylabel=r"$\tilde z$", title=r"Logistic: $\tilde z = 1 / (1 + e^{-\beta\psi})$")
        right.set(
            xlabel=r"$\tilde z$", ylabel="$z$", title=r"Heaviside: $z = 1 - e^{-\gamma\tilde z} + \tilde z e^{-\gamma}$"
        )
        for axes in (left, right):
            axes.legend()
            axes.margins(x=0)


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
    with picture(path, 6, 3.6) as (axes,):
        for number, (name, series) in enumerate(values.items()):
            colour = SERIES[number % len(SERIES)]
            axes.plot(epochs, series, color=colour, label=name, marker="o", markersize=3, linewidth=1.4)
        axes.plot(epochs, chance, color=INK, linewidth=1, linestyle=":", label="chance")
        axes.set(xlabel="forecast after epoch", ylabel="Jaccard of removed units", ylim=(0, 1.02))
        axes.set_title("Agreement of the forecast with the final selection")
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
