"""Work in a process of its own, whose death is an error like any other: no other result goes with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

from onnxprune.errors import ModelError, OnnxPruneError, UsageError, first_line
from onnxprune.graph import Model

T = TypeVar("T")
HINTS = {
    "SIGKILL": "it was killed, most likely for want of memory: use a smaller batch, or a machine with more",
    "SIGTERM": "somebody ended it; run it again",
}
OUT_OF_MEMORY = "use a smaller batch, close other programs, or use a machine with more memory"


@dataclass(frozen=True)
class Told:
    """What a child tells: how far it is, its result, or its error as type, line and fix."""

    share: float | None = None
    result: Any = None
    error: tuple[type[OnnxPruneError], str, str] | None = None


def run_alone(work: Callable[..., T], *args: Any, progress: Callable[[float], None] | None = None) -> T:
    """What `work(*args)` gives in a fresh process; the process ends with it.

    Args:
        work: a function of a module.
        args: for it; models may be among them, or in a sequence.
        progress: is told the share that is done; `work` then gets the keyword `progress`, too.

    Raises:
        OnnxPruneError: of the work itself, as it raised it.
        ModelError: the process died; with the signal's name and the last line that it wrote to stderr.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory() as folder:
        errors = Path(folder) / "stderr"
        packed = [_packed(each) for each in args]
        child = context.Process(target=_child, args=(theirs, errors, work, packed, progress is not None))
        child.start()
        theirs.close()
        try:
            last = _listen(ours, progress)
        finally:
            if child.is_alive() and sys.exc_info()[0] is not None:
                child.kill()
            child.join()
        text = errors.read_text(errors="replace") if errors.exists() else ""
    if last is None:
        raise death(child.exitcode or 0, text)
    print(text, end="", file=sys.stderr)
    if last.error is not None:
        kind, what, fix = last.error
        raise kind(what, fix)
    return last.result


def death(status: int, text: str) -> ModelError:
    """The error for a child that ended by itself: its exit status, negative for a signal, and what it had to say."""
    last = next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
    how, fix = f"with exit status {status}", "run it again with --debug, or with another runtime"
    if status < 0:
        name = signal.Signals(-status).name if -status in {*signal.Signals} else f"signal {-status}"
        how = f"by {name}"
        fix = HINTS.get(name, "the runtime is at fault: use another version of it, or another runtime")
    if "bad_alloc" in text or "MemoryError" in text:
        fix = OUT_OF_MEMORY
    return ModelError(f"the process that measured it died {how}" + (f": {last}" if last else ""), fix)


def _listen(ours: Connection, progress: Callable[[float], None] | None) -> Told | None:
    """The result or the error; None if the child died before it told either."""
    while True:
        try:
            told: Told = ours.recv()
        except (EOFError, ConnectionError):
            return None
        if told.share is None:
            return told
        if progress is not None:
            progress(told.share)


def _child(theirs: Connection, errors: Path, work: Callable[..., Any], args: Sequence[Any], telling: bool) -> None:
    """What the process does."""
    with open(errors, "wb") as file:
        os.dup2(file.fileno(), 2)
    more = {"progress": lambda share: theirs.send(Told(share=share))} if telling else {}
    try:
        told = Told(result=work(*args, **more))
    except OnnxPruneError as error:
        told = Told(error=(type(error), error.what, error.fix))
    except MemoryError:
        told = Told(error=(UsageError, "out of memory", OUT_OF_MEMORY))
    except KeyboardInterrupt:
        os._exit(128 + signal.SIGINT)
    except Exception as error:
        what = f"internal error, a bug in onnxprune: {type(error).__name__}: {first_line(error)}"
        told = Told(error=(OnnxPruneError, what, "report it"))
    theirs.send(told)
    theirs.close()
    # Runtimes that cannot end in order (threads, drivers) would make a failure of what has succeeded.
    sys.stderr.flush()
    os._exit(0)


def _packed(value: Any) -> Any:
    """What can travel: a mapped file is mapped again over there."""
    if isinstance(value, Model):
        return replace(value, mapped=None)
    return [_packed(each) for each in value] if isinstance(value, list | tuple) else value
