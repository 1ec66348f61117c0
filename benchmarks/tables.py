"""The documents' tables out of the results: `python -m benchmarks.tables [--check]`.

Between `<!-- table:NAME -->` and `<!-- /table -->` stands the table of `results/NAME.json`; `table:checks` is that of
all checks. Where a benchmark was not run to its end, that is said in the table's place. Every document with such
markers is filled; `--check` changes nothing and exits with 1 where one differs.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from benchmarks.exam import BENCHMARKS, SUMMARY, all_checks
from benchmarks.record import RESULTS, ROOT, Column, markdown

MARKED = re.compile(r"(<!-- table:(\w+) -->\n).*?(<!-- /table -->)", re.DOTALL)
BY_NAME = {b.name: b for b in BENCHMARKS}
HARDWARE = ("cpu", "cores")
HIDDEN = ("platform",)
LONG = 60
"""Tables of more rows are folded away, below what was to be shown by them."""
CHECKS = (Column("figure", "figure"), Column("required", "required"), Column("measured", "measured"))


def documents(root: Path = ROOT) -> list[Path]:
    """The documents that have tables."""
    return [path for path in (*root.glob("*.md"), *sorted(root.glob("docs/*.md"))) if MARKED.search(path.read_text())]


def result(name: str, folder: Path = RESULTS) -> dict[str, Any] | None:
    """The result of a benchmark that ran to its end: a run that was stopped has no checks yet."""
    path = BY_NAME[name].path(folder)
    found = json.loads(path.read_text()) if path.exists() else {}
    return found if found.get("checks") else None


def not_measured(names: list[str]) -> str:
    """What stands where there is nothing to show."""
    return f"*Not measured yet: {', '.join(f'`python -m benchmarks.{name}`' for name in names)}.*"


def footnote(found: dict[str, Any]) -> str:
    """Where and when the figures were measured."""
    facts = {k: v for k, v in found["environment"].items() if k not in HIDDEN}
    versions = ", ".join(f"{k} {v}" for k, v in facts.items() if k not in (*HARDWARE, "onnxruntime"))
    return f"{facts['cpu']}, {facts['cores']} cores; {versions}, {facts['onnxruntime']}; {found['date']}."


def table(name: str, folder: Path = RESULTS) -> str:
    """One table as Markdown, or the words that it was not measured.

    Raises:
        SystemExit: there is no benchmark of this name.
    """
    if name == SUMMARY.name:
        return summary(folder)
    if name not in BY_NAME:
        raise SystemExit(f"no benchmark {name!r}; expected one of {', '.join([SUMMARY.name, *BY_NAME])}")
    found = result(name, folder)
    if found is None:
        return not_measured([name])
    drawn = markdown(BY_NAME[name].columns, found["rows"])
    if len(found["rows"]) > LONG:
        drawn = f"<details><summary>{len(found['rows'])} rows</summary>\n\n{drawn}\n\n</details>"
    checked = markdown(CHECKS, found["checks"]) if len(found["rows"]) > LONG else ""
    said = "".join(f"- {line}\n" for line in found.get("summary", ()))
    return "\n\n".join(filter(None, [checked, drawn, said.rstrip(), footnote(found)]))


def summary(folder: Path = RESULTS) -> str:
    """All checks, and which benchmarks have none yet."""
    missing = [name for name in BY_NAME if result(name, folder) is None]
    drawn = [markdown(SUMMARY.columns, all_checks(folder))] if len(missing) < len(BY_NAME) else []
    return "\n\n".join(drawn + ([not_measured(missing)] if missing else []))


def filled(text: str, folder: Path = RESULTS) -> str:
    """The text with all its tables as the results have them."""
    return MARKED.sub(lambda found: f"{found[1]}{table(found[2], folder)}\n{found[3]}", text)


def main() -> int:
    """Write the tables; with `--check`, 1 if they are not what the results say."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tables", description="Fill the documents' tables.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 where tables and results differ")
    parser.add_argument("--file", type=Path, nargs="+", help="files with markers; all of README.md and docs/ otherwise")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the result files")
    args = parser.parse_args()
    differs = [refresh(path, args.results, args.check) for path in args.file or documents()]
    return int(args.check and any(differs))


def refresh(path: Path, folder: Path, check: bool) -> bool:
    """Fill one document, or only say whether it differs from the results."""
    old = path.read_text()
    new = filled(old, folder)
    if new != old:
        print(
            f"{path.name} differs from the results; fix: python -m benchmarks.tables" if check else f"{path.name}: new"
        )
        if not check:
            path.write_text(new)
    return new != old


if __name__ == "__main__":
    sys.exit(main())
