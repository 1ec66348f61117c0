"""Times of parts of models by kind and size, kept in a file that belongs to one device, runtime and setting."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from onnxprune.environment import describe
from onnxprune.errors import UsageError
from onnxprune.latency.runtimes import Setting, runtime
from onnxprune.saving import write_whole

FORMAT, VERSION = "onnxprune-latency", 3
MACHINE = ("cpu", "cores")
EVERY = 1.0
"""Seconds between two writes of the file: what is lost when the process is killed."""

Key = tuple[str, tuple[int, ...]]
"""A segment's kind, that of a network's own sizes, and the sizes of its forms."""


class Table:
    """Seconds by kind and size; None for a segment that does not run by itself.

    Args:
        engine: name of the runtime.
        setting: of the runtime.
        path: a file to go on with and to keep up to date, or None.

    Raises:
        UsageError: the file is damaged, or of another device, runtime or setting.
    """

    def __init__(self, engine: str, setting: Setting, path: Path | None = None):
        self.head = head(engine, setting)
        self.path = path
        self.seconds: dict[Key, float | None] = {}
        self.beside: dict[str, float] = {}
        """By model: what a run takes beside its segments."""
        self.places: dict[str, list[float]] = {}
        """By model: seconds of its segments where they stand."""
        self.corrections: dict[str, float] = {}
        """By model and structure: its measured time by the predicted one."""
        self.runs: dict[str, float] = {}
        """By model: seconds of a run of the whole network, of those that searches know it of."""
        self._written = time.monotonic()
        if path is not None and path.exists():
            self._read(path)

    def add(self, found: Mapping[Key, float | None]) -> None:
        """Enter times; the file follows within a second, or at `flush`."""
        self.seconds.update(found)
        if time.monotonic() - self._written > EVERY:
            self.flush()

    def flush(self) -> None:
        """Write the file now."""
        if self.path is None:
            return
        rows = [[kind, list(sizes), seconds] for (kind, sizes), seconds in self.seconds.items()]
        whole = {"beside": self.beside, "places": self.places, "corrections": self.corrections, "runs": self.runs}
        write_whole(self.path, json.dumps({**self.head, **whole, "rows": rows}).encode())
        self._written = time.monotonic()

    def _read(self, path: Path) -> None:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            others = [name for name, own in self.head.items() if content.get(name) != own]
            known = {} if others else content
            rows = {(str(k), tuple(map(int, s))): _seconds(t) for k, s, t in known.get("rows", [])}
            beside, corrections, runs = (
                {str(of): float(found) for of, found in known.get(name, {}).items()}
                for name in ("beside", "corrections", "runs")
            )
            places = {str(model): [*map(float, own)] for model, own in known.get("places", {}).items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise UsageError(f"{path}: no table of latencies ({error})", "take another file, or remove it") from error
        for name in others:
            raise UsageError(
                f"{path}: measured with {name} {content.get(name)!r}, expected {self.head[name]!r}",
                "times hold for one device, runtime and setting: take another file, or remove it",
            )
        self.seconds, self.places = rows, places
        self.beside, self.corrections, self.runs = beside, corrections, runs


def shared_file(engine: str, setting: Setting) -> Path | None:
    """The user's own table for a device, runtime and setting, in the cache folder; None if that cannot be made."""
    told = json.dumps(head(engine, setting), sort_keys=True)
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "onnxprune"
    try:
        base.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return base / f"latency-{hashlib.sha256(told.encode()).hexdigest()[:12]}.json"


def head(engine: str, setting: Setting) -> dict[str, Any]:
    """What a table belongs to, as plain data."""
    here, usual = describe(), asdict(Setting())
    told = {name: value for name, value in asdict(setting).items() if value != usual[name]}
    device = {name: here[name] for name in MACHINE}
    how = {"runtime": runtime(engine).version, "setting": {name: str(value) for name, value in told.items()}}
    return {"format": FORMAT, "version": VERSION, **device, **how}


def _seconds(value: Any) -> float | None:
    return None if value is None else float(value)
