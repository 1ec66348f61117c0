"""How early one could have told what a training removes: every forecaster after every epoch, against the selection."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onnxprune.report.files import document, write_text
from onnxprune.torch import plots
from onnxprune.torch.forecast import FORECASTERS, Selection, agreement, chance_agreement, scores

AGREEMENT, PICTURE = "agreement.json", "agreement.png"


@dataclass(frozen=True)
class Foresight:
    """Agreements of forecasts with the selection that was made, by Jaccard's index of the removed units.

    Attributes:
        epochs: after which the forecasts are made.
        by_forecaster: the agreement after each of them, by forecaster.
        chance: that of random selections of as many units.
    """

    epochs: list[int]
    by_forecaster: dict[str, list[float]]
    chance: list[float]


def foresight(history: np.ndarray, late: np.ndarray, select: Selection) -> Foresight:
    """Try all forecasters on the beginnings of a history.

    Args:
        history: scales `(epochs, units)`, up to the epoch at which was pruned.
        late: the units that were removed then, bool `(units,)`.
        select: which units scales `(units,)` would remove.
    """
    epochs = list(range(1, len(history) + 1))
    forecasts = {
        name: [select(scores(forecaster, history[:epoch], len(history) - epoch)) for epoch in epochs]
        for name, forecaster in FORECASTERS.items()
    }
    found = {name: [agreement(removed, late) for removed in each] for name, each in forecasts.items()}
    return Foresight(epochs, found, [chance_agreement(removed, late) for removed in forecasts["last"]])


def write_foresight(found: Foresight, saved: float, folder: Path) -> None:
    """Write `agreement.json` and its picture; `saved` is the share of the training's multiply-accumulates."""
    content: dict[str, Any] = {**asdict(found), "macs saved": saved}
    write_text(folder / AGREEMENT, document(content))
    plots.agreements(found.epochs, found.by_forecaster, found.chance, folder / PICTURE)
