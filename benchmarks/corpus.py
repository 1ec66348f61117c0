"""Nine real trained models from six exporters: analyzed, pruned and exact, or frozen with the reasons named."""

import json
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType

import onnxprune
from benchmarks.common import KEEP, all_of, arguments, judge, load_module, record
from benchmarks.record import Benchmark, Check, Column, Record, Row
from onnxprune.analysis import Analysis
from onnxprune.report.data import frozen_reasons

REASONS = 3

BENCHMARK = Benchmark(
    name="corpus",
    claim="Real trained models at keep 0.5",
    columns=(
        Column("model", "name"),
        Column("exporter", "producer"),
        Column("opset", "opset", "d"),
        Column("groups", "groups", "d"),
        Column("frozen axes", "frozen", "d"),
        Column("params removed (%)", "removed", ".1f"),
        Column("exact", "exact"),
        Column("certified", "certified"),
        Column("error", "error", ".1e"),
        Column("why axes are frozen", "reasons"),
    ),
    needs=("exam", "corpus"),
)


@dataclass(frozen=True)
class Trained:
    """A model of the corpus.

    Attributes:
        path: its file.
        sizes: of symbolic dimensions by name, as they are in the input that is known to run.
        producer: its exporter.
        opset: version of the default domain.
    """

    path: Path
    sizes: dict[str, int]
    producer: str
    opset: int


def trained_models(folder: Path) -> dict[str, Trained]:
    """The corpus by name."""
    listed = json.loads((folder / "corpus.json").read_text())
    return {entry["name"]: _trained(folder, entry) for entry in listed}


def _trained(folder: Path, entry: dict) -> Trained:
    pairs = (p for i in entry["inputs"] for p in zip(i["declared_shape"], i["concrete_shape"], strict=True))
    sizes = {name: size for name, size in pairs if isinstance(name, str)}
    return Trained(folder / f"{entry['name']}.onnx", sizes, entry["producer"], entry["opset"]["ai.onnx"])


def main_reasons(analysis: Analysis) -> str:
    """Why axes are frozen, the most frequent reasons first."""
    return "; ".join(f"{r.op} {r.reason} ({r.axes})".strip() for r in frozen_reasons(analysis)[:REASONS])


def prune(analysis: Analysis, model: Trained, oracle: ModuleType) -> Row:
    """What the oracle and the certificate say of the pruned model; nothing where the mask removes nothing."""
    mask = onnxprune.choose(analysis, keep=KEEP, score="l1")
    if not any(group.removed for group in mask.groups):
        return {"removed": 0.0}
    pruned = onnxprune.apply(analysis.model, mask, verify=False, analysis=analysis)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "pruned.onnx"
        onnxprune.save(pruned, out)
        found = judge(oracle, model.path, out, sizes=model.sizes)
    certificate = onnxprune.verify(analysis.model, pruned, mask, analysis=analysis)
    findings = {key: found[key] for key in ("removed", "exact", "alive")}
    return findings | {"certified": certificate.exact, "error": found["reldiff"]}


def measure(model: Trained, oracle: ModuleType) -> Row:
    """One model's row."""
    analysis = onnxprune.analyze(onnxprune.load(model.path), sizes=model.sizes)
    facts = {
        "producer": model.producer,
        "opset": model.opset,
        "groups": len(analysis.groups),
        "frozen": len(analysis.frozen),
        "reasons": main_reasons(analysis),
        "unexplained": sum(not axis.reason for axis in analysis.frozen),
    }
    return facts | prune(analysis, model, oracle)


def sound(row: Row) -> bool:
    """Pruned and exact, or wholly frozen with reasons."""
    if row.get("groups"):
        return row.get("exact", False) and row.get("certified", False)
    return row.get("frozen", 0) > 0 and not row["unexplained"]


def checks(results: Record, expected: int) -> list[Check]:
    """What the claim requires of the whole table."""
    rows = results.rows.values()
    return [
        all_of("trained models analyzed without an error", ["groups" in row for row in rows], expected),
        all_of("trained models pruned and exact, or frozen with reasons", [sound(row) for row in rows], expected),
    ]


def main() -> int:
    """Measure all models; 1 if the claim fails."""
    args = arguments(BENCHMARK).parse_args()
    oracle = load_module(args.exam / "oracle.py")
    results = record(BENCHMARK, args, keep=KEEP)
    models = trained_models(args.corpus)
    for name, model in models.items():
        results.add(name, partial(measure, model, oracle))
    return results.finish(checks(results, len(models)))


if __name__ == "__main__":
    sys.exit(main())
