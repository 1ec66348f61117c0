"""The bar: on terminals only."""

import io
import sys

import pytest

from onnxprune.torch.progress import bar, silence


class Screen(io.StringIO):
    """A stream that may be a terminal."""

    def __init__(self, terminal: bool):
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.mark.parametrize(("terminal", "quiet"), [(True, False), (False, False), (True, True)])
def test_progress_is_for_people_at_terminals(monkeypatch: pytest.MonkeyPatch, terminal: bool, quiet: bool) -> None:
    screen = Screen(terminal)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with bar(10, 4, quiet) as show:
        show(5, "epoch 2/3, loss [0.5]")
    shown = terminal and not quiet
    assert ("epoch 2/3, loss [0.5]" in screen.getvalue(), "left" in screen.getvalue()) == (shown, shown)


def test_nothing_is_shown_under_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(True)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with silence(), bar(10, 4) as show:
        show(5, "epoch 2/3")
    assert screen.getvalue() == ""
    with bar(10, 4) as show:
        show(5, "epoch 2/3")
    assert "epoch 2/3" in screen.getvalue()
