"""One wrong index must be noticed: in the pruned file under the right mask, and in the mask of the right file.

Every model is pruned at keep 0.5 and saved. Then, in one weight that consumes a group's channels, a kept slice is
replaced by a removed one: `onnxprune verify` must exit with 1. The other way round, one kept unit of the mask's largest
group changes places with a removed one: the certificate must say that the file is not exact.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

import onnxprune
from benchmarks.common import KEEP, add_jobs, add_models, all_of, arguments, command_line, record, zoo_models
from benchmarks.corpus import trained_models
from benchmarks.peers import PEERS
from benchmarks.record import Benchmark, Check, Column, Record, Row
from onnxprune.analysis import Analysis
from onnxprune.graph import Graph
from onnxprune.groups import keep_mask
from onnxprune.mask import Mask, fit_mask, make_mask
from tests.micrographs import REGISTRY

NOTHING = "nothing to remove"

BENCHMARK = Benchmark(
    name="corruption",
    claim="One wrong index, in the file or in the mask: does `verify` refuse it?",
    columns=(
        Column("model", "name"),
        Column("right file accepted", "accepted"),
        Column("weight with one wrong index", "weight"),
        Column("exit of verify", "exit", "d"),
        Column("outputs differ by", "file_error", ".1e"),
        Column("wrong mask refused", "mask_refused"),
        Column("outputs differ by", "mask_error", ".1e"),
    ),
    needs=("zoo", "corpus"),
)


@dataclass(frozen=True)
class Subject:
    """A model to corrupt: how its file gets into a folder, and the sizes of its symbolic dimensions."""

    place: Callable[[Path], Path]
    sizes: dict[str, int] = field(default_factory=dict)


def subjects(args: argparse.Namespace) -> Iterator[tuple[str, Subject]]:
    """The exam's models, the corpus and the micro-graphs, by name."""
    for name, path in zoo_models(args.zoo, None, list(PEERS)).items():
        yield f"exam: {name}", Subject(partial(in_place, path))
    for name, model in trained_models(args.corpus).items():
        yield f"corpus: {name}", Subject(partial(in_place, model.path), model.sizes)
    for name, builder in REGISTRY.items():
        case = builder()
        if case.removable and case.runnable:
            yield f"micro: {name}", Subject(partial(written, case.model))


def in_place(path: Path, _: Path) -> Path:
    """A file where it lies."""
    return path


def written(model: onnx.ModelProto, folder: Path) -> Path:
    """A model in memory as a file."""
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


def weights_of(analysis: Analysis) -> list[tuple[str, int]]:
    """Axes of weights on which groups lie, as (tensor, axis): those that consume come first."""
    members = [m for group in analysis.groups for m in group.members]
    rank = {name: len(tensor.dims) for name, tensor in analysis.trace.graph.stored.items()}
    return [(m.tensor, m.axis) for m in sorted(members, key=lambda m: (m.makes, rank[m.tensor] < 2))]


def wrong_weights(analysis: Analysis, mask: Mask) -> Iterator[tuple[str, int, np.ndarray]]:
    """Pruned weights with one wrong slice, as (tensor, axis, values)."""
    kept, _ = fit_mask(analysis, mask)
    for tensor, axis in weights_of(analysis):
        masks = [keep_mask(form, kept) for form in analysis.trace.forms[tensor] or ()]
        if masks[axis].all():
            continue
        whole = analysis.trace.graph.array(tensor)
        index = [np.flatnonzero(m) for m in masks]
        right = whole[np.ix_(*index)]
        index[axis][0] = np.flatnonzero(~masks[axis])[0]
        wrong = whole[np.ix_(*index)]
        if not np.array_equal(right, wrong):  # slices may happen to be equal
            yield tensor, axis, wrong


def corrupt(path: Path, analysis: Analysis, mask: Mask, out: Path) -> str:
    """Write the pruned file with one wrong slice, and say where it is wrong."""
    tensor, axis, wrong = next(wrong_weights(analysis, mask))
    model = onnxprune.load(path)
    stored = Graph(model).stored[tensor]
    stored.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(wrong), stored.name))
    onnxprune.save(model, out)
    return f"{tensor}[{axis}]"


def altered(analysis: Analysis, mask: Mask) -> Mask:
    """A mask that keeps a removed unit of its largest group and removes a kept one."""
    kept = {group.name: group.kept for group in mask.groups}
    largest = max((g for g in mask.groups if g.removed), key=lambda g: g.size)
    units = kept[largest.name]
    here, there = np.flatnonzero(units)[0], np.flatnonzero(~units)[0]
    units[here], units[there] = False, True
    return make_mask(analysis, kept, mask.provenance)


def measure(subject: Subject) -> Row:
    """One model's row."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        analysis = onnxprune.analyze(onnxprune.load(subject.place(folder)), sizes=subject.sizes)
        mask = onnxprune.choose(analysis, keep=KEEP)
        if not any(group.removed for group in mask.groups):
            return {"weight": NOTHING}
        onnxprune.save(onnxprune.apply(analysis.model, mask, verify=False, analysis=analysis), folder / "pruned.onnx")
        return of_right_file(analysis, mask, folder) | of_wrong_file(analysis, mask, folder)


def of_right_file(analysis: Analysis, mask: Mask, folder: Path) -> Row:
    """What the library says of the pruned file under the right mask and under a wrong one."""
    pruned = onnxprune.load(folder / "pruned.onnx")
    right, wrong = (
        onnxprune.verify(analysis.model, pruned, m, analysis=analysis) for m in (mask, altered(analysis, mask))
    )
    return {"accepted": right.exact, "mask_refused": not wrong.exact, "mask_error": wrong.error}


def of_wrong_file(analysis: Analysis, mask: Mask, folder: Path) -> Row:
    """What the command line says of a pruned file with one wrong index."""
    weight = corrupt(folder / "pruned.onnx", analysis, mask, folder / "corrupted.onnx")
    (folder / "mask.json").write_text(json.dumps(mask.to_json()))
    sizes = [word for name, size in analysis.sizes.items() for word in ("--size", f"{name}={size}")]
    files = (analysis.model.path or folder, folder / "corrupted.onnx", "--mask", folder / "mask.json")
    done = command_line("verify", *files, *sizes, "--json")
    found = json.loads(done.stdout)
    return {"weight": weight, "exit": done.returncode, "file_error": found.get("error")}


def checks(results: Record, total: int) -> list[Check]:
    """All wrong files and masks refused, and all right files accepted, wherever something was removed."""
    rows = [row for row in results.rows.values() if row.get("weight") != NOTHING]
    expected = total - (len(results.rows) - len(rows))
    return [
        all_of("right files accepted", [row.get("accepted", False) for row in rows], expected),
        all_of("files with one wrong index refused (exit 1)", [row.get("exit") == 1 for row in rows], expected),
        all_of("masks with one wrong index refused", [row.get("mask_refused", False) for row in rows], expected),
    ]


def main() -> int:
    """Corrupt all models; 1 if one wrong index gets through."""
    parser = arguments(BENCHMARK)
    add_models(parser)
    add_jobs(parser, "several times the largest model in memory")
    args = parser.parse_args()
    results = record(BENCHMARK, args, keep=KEEP)
    everything = dict(subjects(args))
    wanted = {name: s for name, s in everything.items() if not args.models or name.partition(": ")[2] in args.models}
    results.add_all({name: partial(measure, subject) for name, subject in wanted.items()}, args.jobs)
    return results.finish(checks(results, len(everything)))


if __name__ == "__main__":
    sys.exit(main())
