"""Errors in what the user wrote, told by its line; and calling the user's network."""

from __future__ import annotations

import os
import re
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from onnxprune.errors import OnnxPruneError, UsageError

_FOLDERS = [*map(sysconfig.get_path, ("stdlib", "platstdlib", "purelib", "platlib")), str(Path(__file__).parents[1])]
_LIBRARIES = ("<", *(f"{folder}{os.sep}" for folder in _FOLDERS))  # "<" begins what lies in no file
_FROM_WORKER = "Original Traceback (most recent call last)"
"""In the text of what a process that loads data raised; the traceback is in there, too."""
_PLACE = re.compile(r'File "(.+)", line (\d+)')


@contextmanager
def user_code(doing: str, file: str | None, fix: str) -> Iterator[None]:
    """Tells errors in the user's code by its line, without a traceback.

    Args:
        doing: what is done in there.
        file: of which lines are told rather than of others, or None.
        fix: what to do where it fails.

    Raises:
        UsageError: anything was raised in there but our own errors.
    """
    try:
        yield
    except (OnnxPruneError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        where, what = _line(error, file), _said(error)
        raise UsageError(f"{doing} failed at {where}: {type(error).__name__}: {what}", fix) from error


def called(network: nn.Module, inputs: Any) -> Any:
    """A network's outputs for the inputs of a batch: a tuple of those of a network that takes several.

    Raises:
        UsageError: it fails on them.
    """
    fix = "let the task's data give inputs like its example, and the network take any number of them"
    with user_code("the network on a batch of the task's data", None, fix):
        return network(*inputs) if isinstance(inputs, tuple) else network(inputs)


def _said(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return error.msg
    text = str(error).strip()
    return text.splitlines()[-1].removeprefix(f"{type(error).__name__}: ") if _FROM_WORKER in text else text


def _line(error: BaseException, file: str | None) -> str:
    """The last line of the user's file that the error came by, or of another file that is no library's."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}"
    places = _places(error)
    own = [place for place in places if place[0] == file]
    name, number = (own or [place for place in places if not place[0].startswith(_LIBRARIES)] or places)[-1]
    return f"{name}:{number}"


def _places(error: BaseException) -> list[tuple[str, int | None]]:
    """File and line of all calls, the innermost last."""
    if _FROM_WORKER in (text := str(error)):
        return [(name, int(number)) for name, number in _PLACE.findall(text)]
    return [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
