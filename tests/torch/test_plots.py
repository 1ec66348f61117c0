"""Pictures are written whole, show what they are given, and say what is wrong."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnxprune.errors import OutputError, UsageError
from onnxprune.report import pictures
from onnxprune.torch import plots

HISTORY = np.abs(np.random.RandomState(0).normal(1, 0.2, (50, 30)))
DRAWN = {
    "scale_history": lambda path: plots.scale_history(HISTORY, path),
    "gate_histogram": lambda path: plots.gate_histogram(np.linspace(0, 1, 30), path),
    "gate_curves": lambda path: plots.gate_curves([1, 6], [2, 256], path),
    "widths": lambda path: pictures.widths(["conv1", "conv2"], [8, 16], [3, 16], path),
    "courses": lambda path: pictures.courses({"bees": [[1, 2], [2, 2, 3]], "random": [[1]]}, path),
    "agreements": lambda path: plots.agreements([1, 2], {"last": [0.5, 1], "sma": [0.4, 0.9]}, [0.3, 0.3], path),
}
TEXTS = {
    "scale_history": ["Scales of 30 units", "epoch", "50"],
    "gate_histogram": ["15 of 30 gates closed"],
    "gate_curves": ["Logistic", "Heaviside"],
    "widths": ["19 of 24 units left (79%)", "conv1", "before", "after"],
    "courses": ["bees", "random", "evaluations"],
    "agreements": ["last", "sma", "chance"],
}


@pytest.mark.parametrize("name", DRAWN)
def test_png_of_a_printable_size(tmp_path: Path, name: str) -> None:
    DRAWN[name](tmp_path / "p.png")
    with Image.open(tmp_path / "p.png") as image:
        assert image.format == "PNG" and min(image.size) >= 400
        assert len(image.convert("RGB").getcolors(1 << 20)) > 50
    assert [path.name for path in tmp_path.iterdir()] == ["p.png"]


@pytest.mark.parametrize("name", DRAWN)
def test_svg_names_what_it_shows_and_is_the_same_every_time(tmp_path: Path, name: str) -> None:
    for file in ("a.svg", "b.SVG"):
        DRAWN[name](tmp_path / file)
    content = (tmp_path / "a.svg").read_bytes()
    assert content == (tmp_path / "b.SVG").read_bytes()
    assert all(f"<!-- {text}".encode() in content for text in TEXTS[name])


@pytest.mark.parametrize("history", [np.zeros((3, 4)), np.ones((1, 1)), HISTORY[:2]], ids=["zeros", "one", "two"])
def test_histories_of_any_size_are_drawn(tmp_path: Path, history: np.ndarray) -> None:
    plots.scale_history(history, tmp_path / "p.png")
    assert (tmp_path / "p.png").stat().st_size > 5000


def test_of_many_epochs_some_are_drawn_with_the_last(tmp_path: Path) -> None:
    plots.scale_history(np.tile(HISTORY, (5, 1)), tmp_path / "p.svg")
    content = (tmp_path / "p.svg").read_text()
    assert "<!-- 250 -->" in content and content.count("FillBetweenPolyCollection") <= plots.MOST_CURVES + 1


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"p\.gif: pictures are PNG or SVG\n  fix: let the name end in \.png or \.svg"):
        DRAWN["widths"](tmp_path / "p.gif")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"p\.png: there is no folder .*nowhere\n  fix: create it first"):
        DRAWN["widths"](tmp_path / "nowhere" / "p.png")


def test_a_picture_that_cannot_be_drawn_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "p.png").write_bytes(b"old")
    with pytest.raises(ValueError, match="dimension"):
        plots.agreements([1, 2], {"last": [0.5]}, [0.3, 0.3], tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"pictures need matplotlib\n  fix: pip install matplotlib"):
        DRAWN["widths"](tmp_path / "p.png")
