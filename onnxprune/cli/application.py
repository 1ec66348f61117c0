"""How the command ends: results, failures in one line with the fix, and exit statuses."""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NoReturn

import click

from onnxprune.cli.output import Output
from onnxprune.errors import OnnxPruneError

INTERRUPTED = 130  # what shells give a program that Ctrl-C ended: 128 + SIGINT


@dataclass(frozen=True)
class Failure:
    """What went wrong, what to do about it, and the exit status."""

    what: str
    fix: str
    status: int


class Application(click.Group):
    """The group of all verbs; no error leaves it as a traceback unless `--debug` is given."""

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any) -> NoReturn:  # type: ignore[override]
        """Run one verb and end the process with its exit status."""
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # names that the terminal cannot show
        words = list(sys.argv[1:] if args is None else args) or ["--help"]
        try:
            sys.exit(super().main(words, prog_name, standalone_mode=False, **extra) or 0)
        except (Exception, KeyboardInterrupt) as error:
            # Options may not have been parsed yet, so the words themselves say what the user wants to see.
            if "--debug" in words:
                traceback.print_exc()
            failure = explain(error)
            Output(as_json="--json" in words).failure(failure.what, failure.fix)
            sys.exit(failure.status)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs in the order in which they were added: the whole job first."""
        return list(self.commands)


def explain(error: BaseException) -> Failure:
    """An error in words for the user."""
    if isinstance(error, OnnxPruneError):
        return Failure(_line(error.what), _line(error.fix), error.exit_code)
    if isinstance(error, click.Abort | KeyboardInterrupt):
        return Failure("interrupted", "nothing was half-written; run it again", INTERRUPTED)
    if isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "onnxprune"
        return Failure(_line(error.format_message()), f"see `{command} --help`", 2)
    if isinstance(error, MemoryError):
        return Failure("out of memory", "close other programs, or use a machine with more memory", 2)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Failure(f"cannot print: {error.strerror}", "free some disk space, or print elsewhere", 2)
    what = f"internal error, a bug in onnxprune: {type(error).__name__}: {error}"
    return Failure(_line(what), "run it again with --debug for the traceback, and report it", 2)


def _line(text: str) -> str:
    return " ".join(text.split())


class Verb(click.Command):
    """A command whose help shows its options in sections."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, those of a section together."""
        options = [p for p in self.get_params(ctx) if isinstance(p, click.Option)]
        for title, members in groupby(options, lambda option: getattr(option, "section", "Other options")):
            with formatter.section(title):
                formatter.write_dl([record for option in members if (record := option.get_help_record(ctx))])
