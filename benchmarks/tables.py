"""The README's tables out of the results: `python -m benchmarks.tables [--check]`.

Between `<!-- table:NAME -->` and `<!-- /table -->` stands the table of `results/NAME.json`; `table:checks` is that of
all checks. `--check` changes nothing and exits with 1 where the file differs.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from benchmarks.exam import BENCHMARKS, SUMMARY, all_checks
from benchmarks.record import RESULTS, ROOT, markdown

MARKED = re.compile(r"(<!-- table:(\w+) -->\n).*?(<!-- /table -->)", re.DOTALL)
BY_NAME = {b.name: b for b in BENCHMARKS}
HARDWARE = ("cpu", "cores")
HIDDEN = ("platform",)


def footnote(result: dict[str, Any]) -> str:
    """Where and when the figures were measured."""
    facts = {k: v for k, v in result["environment"].items() if k not in HIDDEN}
    versions = ", ".join(f"{k} {v}" for k, v in facts.items() if k not in (*HARDWARE, "onnxruntime"))
    return f"{facts['cpu']}, {facts['cores']} cores; {versions}, {facts['onnxruntime']}; {result['date']}."


def table(name: str, folder: Path = RESULTS) -> str:
    """One table as Markdown.

    Raises:
        SystemExit: there is no benchmark, or no result, of this name.
    """
    if name == SUMMARY.name:
        return markdown(SUMMARY.columns, all_checks(folder))
    if name not in BY_NAME:
        raise SystemExit(f"no benchmark {name!r}; expected one of {', '.join([SUMMARY.name, *BY_NAME])}")
    path = BY_NAME[name].path(folder)
    if not path.exists():
        raise SystemExit(f"no {path.name}; fix: python -m benchmarks.{name}")
    result = json.loads(path.read_text())
    return f"{markdown(BY_NAME[name].columns, result['rows'])}\n\n{footnote(result)}"


def filled(text: str, folder: Path = RESULTS) -> str:
    """The text with all its tables as the results have them."""
    return MARKED.sub(lambda found: f"{found[1]}{table(found[2], folder)}\n{found[3]}", text)


def main() -> int:
    """Write the tables; with `--check`, 1 if they are not what the results say."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tables", description="Fill the README's tables.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 where tables and results differ")
    parser.add_argument("--file", type=Path, default=ROOT / "README.md", help="the file with the markers")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the result files")
    args = parser.parse_args()
    old = args.file.read_text()
    new = filled(old, args.results)
    if args.check:
        if new != old:
            print(f"{args.file.name} differs from the results; fix: python -m benchmarks.tables")
        return int(new != old)
    args.file.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
