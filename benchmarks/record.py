"""What a benchmark found: rows and checks on disk with the environment they were measured in, and as tables."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from onnxprune.environment import describe, installed

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
ABSENT = "-"

Row = dict[str, Any]


@dataclass(frozen=True)
class Column:
    """One column of a table: its title, the row's key, and how Python formats the value."""

    title: str
    key: str
    form: str = ""

    def text(self, row: Mapping[str, Any]) -> str:
        """The cell of a row."""
        value = row.get(self.key)
        if value is None:
            return ABSENT
        if isinstance(value, bool):
            return "yes" if value else "NO"
        return str(value) if isinstance(value, str) else format(value, self.form)


@dataclass(frozen=True)
class Check:
    """One figure of a claim: what was required, what was measured, and whether that is enough."""

    figure: str
    required: str
    measured: str
    passed: bool


@dataclass(frozen=True)
class Benchmark:
    """A claim and the shape of its results.

    Attributes:
        name: of the script and of its result file.
        claim: what the figures are to show, one line.
        columns: of its table.
        needs: which of the folders `exam`, `zoo` and `corpus` it reads.
        rivals: packages whose versions belong to the environment.
    """

    name: str
    claim: str
    columns: tuple[Column, ...]
    needs: tuple[str, ...] = ()
    rivals: tuple[str, ...] = ()

    def path(self, folder: Path = RESULTS) -> Path:
        """The result file."""
        return folder / f"{self.name}.json"

    @property
    def environment(self) -> dict[str, Any]:
        """Machine and versions, the rivals' too."""
        return describe() | {name: installed(name) or "none" for name in self.rivals}


def package_digest() -> str:
    """A hash of the package's sources, by which its figures belong to it."""
    files = sorted((ROOT / "onnxprune").rglob("*.py"))
    return hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()[:16]


@dataclass
class Record:
    """A benchmark's results while they are made; the file is written after every row.

    Rows that the same package gave in the same environment with the same options are taken from the file, so that
    a stopped run continues.
    """

    benchmark: Benchmark
    options: Mapping[str, Any]
    folder: Path = RESULTS
    rows: dict[str, Row] = field(default_factory=dict)

    @cached_property
    def head(self) -> dict[str, Any]:
        """What rows must agree on to stand in one file; fixed when the run starts."""
        return {
            "benchmark": self.benchmark.name,
            "package": package_digest(),
            "options": json.loads(json.dumps(dict(self.options))),
            "environment": self.benchmark.environment,
        }

    def resume(self) -> Record:
        """Take over the rows of the file that are still good."""
        path = self.benchmark.path(self.folder)
        if path.exists():
            old = json.loads(path.read_text())
            if all(old.get(key) == value for key, value in self.head.items()):
                self.rows = {row["name"]: row for row in old["rows"] if "failure" not in row}
        return self

    def add(self, name: str, measure: Callable[[], Row]) -> Row:
        """Measure a row, unless it is there already; one that fails has its `failure` alone."""
        if name not in self.rows:
            try:
                row = measure()
            except Exception as error:  # a row that fails must not take the others with it; it fails its checks
                row = {"failure": f"{type(error).__name__}: {_clean(str(error))}"}
            self.rows[name] = {"name": name} | row
            self._write([])
        print(f"{name}: {self.rows[name].get('failure', 'done')}", flush=True)
        return self.rows[name]

    def add_all(
        self, measures: Mapping[str, Callable[[], Row]], jobs: int, first: Sequence[Callable[[], object]] = ()
    ) -> None:
        """Measure rows in several processes; not for rows of times, which would disturb each other.

        They end in the order in which they are given, after those that an earlier run of other ones left. What comes
        `first` is begun before, and leaves what rows use.
        """
        new = {name: measure for name, measure in measures.items() if name not in self.rows}
        with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
            for prepare in first if new else ():
                pool.submit(prepare)
            names = {pool.submit(measure): name for name, measure in new.items()}
            for future in as_completed(names):
                self.add(names[future], future.result)
        others = {name: row for name, row in self.rows.items() if name not in measures}
        self.rows = others | {name: self.rows[name] for name in measures}

    def finish(self, checks: Sequence[Check], summary: Sequence[str] = ()) -> int:
        """Write the checks, print everything, and return the exit code: 1 if a check failed.

        `summary` is what the rows say together, a line each; it stands under their table in documents.
        """
        self._write(checks, summary)
        show(self.benchmark, list(self.rows.values()), checks)
        print(*summary, sep="\n")
        return 0 if all(c.passed for c in checks) else 1

    def column(self, key: str) -> list[Any]:
        """Values of the rows that have one under `key`."""
        return [row[key] for row in self.rows.values() if row.get(key) is not None]

    def flags(self, key: str) -> list[bool]:
        """Whether `key` holds, for every row; not where the row failed."""
        return [row.get(key, False) for row in self.rows.values()]

    def _write(self, checks: Sequence[Check], summary: Sequence[str] = ()) -> None:
        content = (
            self.head
            | {
                "claim": self.benchmark.claim,
                "date": time.strftime("%Y-%m-%d", time.gmtime()),
                "checks": [asdict(c) for c in checks],
                "rows": list(self.rows.values()),
            }
            | ({"summary": list(summary)} if summary else {})
        )
        path = self.benchmark.path(self.folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        os.replace(temporary, path)


def _clean(message: str) -> str:
    """An error's first line without the folders of this machine."""
    first = message.strip().splitlines()[0] if message.strip() else ""
    return re.sub(r"(?:/[\w.+-]+)+/", "", first)[:300]


def show(benchmark: Benchmark, rows: Sequence[Row], checks: Sequence[Check]) -> None:
    """Print the table, the failed rows and the checks."""
    print_table(benchmark.claim, benchmark.columns, rows)
    for row in rows:
        if "failure" in row:
            print(f"{row['name']}: {row['failure']}")
    for check in checks:
        mark = "pass" if check.passed else "FAIL"
        print(f"{mark}  {check.figure}: {check.measured} (required: {check.required})")


def print_table(title: str, columns: Sequence[Column], rows: Sequence[Row]) -> None:
    """A table on the terminal."""
    table = Table(title=title)
    for k, column in enumerate(columns):
        table.add_column(column.title, justify="right" if k else "left")
    for row in rows:
        table.add_row(*(escape(column.text(row)) for column in columns))
    Console(width=None if sys.stdout.isatty() else 150).print(table)


def markdown(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table: the first column on the left, the others on the right."""
    head = ["| " + " | ".join(c.title for c in columns) + " |", "|---" + "|--:" * (len(columns) - 1) + "|"]
    return "\n".join(head + list(_lines(columns, rows)))


def _lines(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for row in rows:
        yield "| " + " | ".join(c.text(row).replace("|", "\\|") for c in columns) + " |"
