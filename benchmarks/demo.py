"""The main job on a real network: prune the shipped ResNet-11 and show what it costs and what it is still worth.

    python -m benchmarks.demo [--out build/demo]

Every pruned model is proven exact: it computes what the original computes with the removed channels' consumers zeroed.
Whether that is still a good classifier is another matter; the accuracy is measured and shown as it is.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import onnxprune
from benchmarks.common import BUILD
from benchmarks.record import ROOT, Column, Row, print_table
from models.cifar10_input import network_input
from onnxprune.analysis import Analysis
from onnxprune.latency import Comparison, Plan, Setting, compare
from onnxprune.report import Accuracy, Report, render, report_on

ZOO = ROOT / "models" / "zoo"
NAME = "resnet11_cifar10"
SIZES = {"batch": 1}
BATCH = 100

SETTINGS: dict[str, dict[str, Any]] = {
    "keep-0.9": {"keep": 0.9},
    "keep-0.75": {"keep": 0.75},
    "keep-0.5": {"keep": 0.5},
    "macs-0.5": {"target": {"macs": 0.5}},
    "macs-0.5-by-8": {"target": {"macs": 0.5}, "round_to": 8},
}

COLUMNS = (
    Column("model", "name"),
    Column("params", "params", ",d"),
    Column("MMACs", "macs", ".1f"),
    Column("kB", "bytes", ".0f"),
    Column("ms", "latency", ".2f"),
    Column("time", "ratio", ".2f"),
    Column("top-1", "accuracy", ".1f"),
    Column("exact", "exact"),
    Column("error", "error", ".0e"),
)

NOTE = """Exact: the file computes what the original computes with the removed channels' consumers zeroed, to rounding.
That says nothing about accuracy, which falls because nothing was repaired or fine-tuned after the cut.
Time is relative to the original's: batch 1, one thread, models timed in turns in onnxruntime. Its convolutions like
multiples of 8 channels: other widths may save nothing, hence the last line (--round-to 8)."""


@dataclass(frozen=True)
class Sample:
    """Test images, `uint8 (N, 3, 32, 32)`, and their labels, `(N,)`."""

    images: np.ndarray
    labels: np.ndarray

    def accuracy(self, path: Path) -> float:
        """The share of the images that a model labels rightly, in [0, 1]."""
        from onnxruntime import InferenceSession

        session = InferenceSession(str(path), providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        batches = [network_input(self.images[k : k + BATCH]) for k in range(0, len(self.images), BATCH)]
        logits = np.concatenate([session.run(None, {name: batch})[0] for batch in batches])
        return float((logits.argmax(1) == self.labels).mean())


def read_sample(path: Path) -> Sample:
    """The shipped sample of test images."""
    with np.load(path, allow_pickle=False) as file:
        return Sample(file["image"], file["label"])


def prune(analysis: Analysis, options: Mapping[str, Any], out: Path) -> Report:
    """Prune and save, verified, with the facts of it."""
    mask = onnxprune.choose(analysis, **options)
    pruned = onnxprune.apply(analysis.model, mask, verify=False, analysis=analysis)
    certificate = onnxprune.verify(analysis.model, pruned, mask, analysis=analysis)
    certificate.raise_for_failure()
    onnxprune.save(pruned, out)
    return report_on(analysis, mask, out, certificate)


def measured(report: Report, out: Path, sample: Sample, before: float, timing: Comparison) -> Report:
    """The report with accuracy and speed."""
    accuracy = Accuracy("top-1 accuracy", before, sample.accuracy(out), len(sample.labels))
    return replace(report, accuracy=accuracy, timing=timing)


def write(report: Report, out: Path) -> None:
    """The report as a page and as JSON, beside the model."""
    for ending in (".html", ".json"):
        path = out.with_suffix(ending)
        path.write_text(render(report, path))


def costs(timing: Comparison, place: int) -> Row:
    """What the model at a place of the comparison costs."""
    t = timing.models[place]
    facts = {"params": t.params, "macs": t.macs / 1e6, "bytes": t.bytes / 1e3}
    return facts | {"latency": 1e3 * t.seconds.median, "ratio": t.ratio.median}


def row(name: str, report: Report, place: int) -> Row:
    """A pruned model's row."""
    assert report.timing and report.accuracy and report.certificate
    proven = {"exact": report.certificate.exact, "error": report.certificate.error}
    return {"name": name} | costs(report.timing, place) | {"accuracy": 100 * report.accuracy.after} | proven


def run(args: argparse.Namespace, sample: Sample) -> list[Row]:
    """Prune at all settings, measure, write the reports; the rows of the table."""
    source = args.zoo / f"{NAME}.onnx"
    model = onnxprune.load(source)
    analysis = onnxprune.analyze(model, sizes=SIZES)
    paths = {name: args.out / f"{NAME}-{name}.onnx" for name in SETTINGS}
    reports = {name: prune(analysis, options, paths[name]) for name, options in SETTINGS.items()}
    plan = Plan(seconds=args.seconds, setting=Setting(threads=1), sizes=SIZES)
    timing = compare([model, *map(onnxprune.load, paths.values())], plan)
    before = sample.accuracy(source)
    full = {name: measured(r, paths[name], sample, before, timing) for name, r in reports.items()}
    for name, report in full.items():
        write(report, paths[name])
    first = {"name": "original"} | costs(timing, 0) | {"accuracy": 100 * before}
    return [first, *(row(name, report, k) for k, (name, report) in enumerate(full.items(), 1))]


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.demo", description="Prune the shipped trained model.")
    parser.add_argument("--zoo", type=Path, default=ZOO, help="folder of the trained model")
    parser.add_argument("--out", type=Path, default=BUILD / "demo", help="folder of the pruned models and reports")
    parser.add_argument("--seconds", type=float, default=5.0, help="for how long to time")
    return parser.parse_args()


def main() -> int:
    """Run the demonstration."""
    args = parse()
    args.out.mkdir(parents=True, exist_ok=True)
    facts = json.loads((args.zoo / f"{NAME}.json").read_text())
    print(f"{NAME}: trained on CIFAR-10, {facts['test_accuracy']:.2%} of {facts['test_images']} test images right")
    sample = read_sample(args.zoo / "cifar10_sample.npz")
    rows = run(args, sample)
    print_table(f"Pruned by l1; top-1 in % on {len(sample.labels)} test images", COLUMNS, rows)
    print(NOTE)
    print(f"Models and reports: {args.out}/")
    return 0


if __name__ == "__main__":
    sys.exit(main())
