"""What the command prints: results on stdout (for people, or one JSON document), all else on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, TaskID, TextColumn
from rich.progress import TimeElapsedColumn as Elapsed
from rich.progress import TimeRemainingColumn as Remaining

from onnxprune.report.cells import Table
from onnxprune.report.files import document
from onnxprune.report.terminal import plain, terminal_table

UNBOUNDED = 200  # columns where no terminal says how wide it is


class Paper(Console):
    """A console for one stream: as wide as the terminal, and silent once nobody reads any more."""

    def __init__(self, stream: TextIO):
        super().__init__(file=stream, width=None if stream.isatty() else UNBOUNDED, highlight=False, markup=False)

    def on_broken_pipe(self) -> None:
        """Let the work and its exit status stand: `onnxprune verify ... | head -1` still says whether it failed."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())


@dataclass(frozen=True)
class Output:
    """Where one verb's words go.

    Attributes:
        as_json: the result is one JSON document.
        quiet: nothing but errors and JSON is printed.
    """

    as_json: bool = False
    quiet: bool = False

    def result(self, content: Mapping[str, Any], *shown: Table | str) -> None:
        """Print what came out: `content` as JSON, or what is shown to people."""
        paper = Paper(sys.stdout)
        if self.as_json:
            paper.out(document(content), end="", highlight=False)
        elif not self.quiet:
            for item in shown:
                if isinstance(item, Table):
                    paper.print("", terminal_table(item), "", sep="\n")
                else:
                    paper.print(plain(item), soft_wrap=True)

    def note(self, text: str) -> None:
        """Print what is worth knowing beside the result."""
        if not self.quiet:
            Paper(sys.stderr).print(f"note: {plain(text)}", soft_wrap=True)

    def failure(self, what: str, fix: str) -> None:
        """Print what went wrong and the fix."""
        if self.as_json:
            Paper(sys.stdout).out(document({"error": what, "fix": fix}), end="", highlight=False)
            return
        paper = Paper(sys.stderr)
        paper.print(f"error: {plain(what)}", soft_wrap=True)
        if fix:
            paper.print(f"fix: {plain(fix)}", soft_wrap=True)

    @contextmanager
    def steps(self) -> Iterator[Callable[[str], None]]:
        """A spinner with the time that has passed; call what it gives with the name of each step."""
        with self._progress(SpinnerColumn(), TextColumn("{task.description}"), Elapsed()) as progress:
            task = progress.add_task("", total=None)
            yield lambda name: progress.update(task, description=f"{name} ...")

    @contextmanager
    def bar(self, name: str) -> Iterator[Callable[[float], None]]:
        """A bar with the time that is left; call what it gives with the share that is done."""
        with self._progress(TextColumn("{task.description}"), BarColumn(), Remaining(), TextColumn("left")) as progress:
            task = progress.add_task(name, total=1.0)
            yield lambda share: progress.update(task, completed=share)

    @contextmanager
    def stages(self) -> Iterator[Callable[[str, float], None]]:
        """Bars with the time that is left, one after the other; call what it gives with a name and the share done."""
        with self._progress(TextColumn("{task.description}"), BarColumn(), Remaining(), TextColumn("left")) as progress:
            tasks: dict[str, TaskID] = {}

            def tell(name: str, share: float) -> None:
                for other in [other for other in tasks if other != name]:
                    progress.remove_task(tasks.pop(other))
                if name not in tasks:
                    tasks[name] = progress.add_task(name, total=1.0)
                progress.update(tasks[name], completed=share)

            yield tell

    @contextmanager
    def counting(self, total: int) -> Iterator[Callable[[int, str], None]]:
        """A bar with the time that is left; call what it gives with how many of `total` are done, and a text."""
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), Remaining(), TextColumn("left"))
        with self._progress(*columns) as progress:
            task = progress.add_task("", total=total)
            yield lambda done, text: progress.update(task, completed=done, description=text)

    def _progress(self, *columns: ProgressColumn) -> Progress:
        hidden = self.quiet or not sys.stderr.isatty()
        return Progress(*columns, console=Paper(sys.stderr), transient=True, disable=hidden)
