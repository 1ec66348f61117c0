"""How far a training is, on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

Show = Callable[[int, str], None]

_silent = ContextVar("silent", default=False)


@contextmanager
def silence() -> Iterator[None]:
    """No bars of trainings: of those inside something that shows how far it is itself."""
    token = _silent.set(True)
    try:
        yield
    finally:
        _silent.reset(token)


@contextmanager
def bar(total: int, done: int, quiet: bool = False) -> Iterator[Show]:
    """A bar on stderr with the time that is left; call what it gives with the steps done and a text.

    Args:
        total: steps of the whole training.
        done: those done before.
        quiet: show nothing; nor is anything shown where stderr is no terminal, or under `silence`.
    """
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeRemainingColumn(), TextColumn("left"))
    hidden = quiet or _silent.get() or not sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=hidden) as progress:
        task = progress.add_task("", total=total, completed=done)
        yield lambda steps, text: progress.update(task, completed=steps, description=text)
