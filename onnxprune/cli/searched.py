"""How a search shows where it is, and what it leaves behind."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from onnxprune import api
from onnxprune.cli.judging import FileMaker, TaskMaker
from onnxprune.cli.output import Output
from onnxprune.cli.work import prune
from onnxprune.errors import OutputError
from onnxprune.mask import Mask
from onnxprune.report import Table, pictures
from onnxprune.report.cells import number, table, text
from onnxprune.report.files import document, write_text
from onnxprune.search.campaign import BEES, Found, Plan, Show, compared, proposers, told, winner
from onnxprune.search.evaluation import Evaluation
from onnxprune.search.frontier import Point, frontier
from onnxprune.search.run import best, best_so_far
from onnxprune.search.structures import Structures

SEARCH, COURSES, WIDTHS, WARM, RECALIBRATED = "search.json", "search.png", "widths.png", "warm.pt", "recalibrated.onnx"
MASK, PRUNED = "mask.json", "pruned.onnx"
FRONTIER, FRONTIER_PICTURE = "frontier.json", "frontier.png"


@dataclass(frozen=True)
class Files:
    """A search's folder."""

    folder: Path

    def prepare(self) -> None:
        """Make the folder.

        Raises:
            OutputError: it cannot be made.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{self.folder}: cannot be made: {error.strerror}", "choose another folder") from error

    def inner(self, target: Mapping[str, float]) -> Files:
        """The folder of one of several targets."""
        place = Files(self.folder / "-".join(f"{name}-{share:.6g}" for name, share in target.items()))
        place.prepare()
        return place

    def write(self, structures: Structures, found: Found, mask: Mask) -> dict[str, Any]:
        """The mask, what was found, and its pictures."""
        content = told(found, structures)
        if structures.time is not None:
            first = winner(found)
            units = structures.units(first.structure, first.seed)
            content["measured_latency"] = structures.time.clock.measured(units)
            content["latency_unmeasured"] = sorted(structures.time.clock.unmeasured)
        write_text(self.folder / MASK, document(mask.to_json()))
        write_text(self.folder / SEARCH, document(content))
        series = {name: [best_so_far(evaluations) for evaluations in seeds] for name, seeds in found.items()}
        pictures.courses(series, self.folder / COURSES)
        pictures.mask_widths(structures.analysis, mask, self.folder / WIDTHS)
        return content


@contextmanager
def progress(plan: Plan, out: Output, limits: int = 1) -> Iterator[Show]:
    """The best so far, evaluations a minute and the time left; `limits`: so many campaigns."""
    searches = limits * (1 + len(plan.controls)) * len(plan.seeds)
    start, ended, before = time.monotonic(), 0, ("", -1, 0)
    with out.counting(searches * plan.evaluations) as count:

        def show(name: str, seed: int, evaluations: Sequence[Evaluation]) -> None:
            nonlocal ended, before
            now = (name, seed, len(evaluations))
            if before[0] and (before[:2] != now[:2] or before[2] > now[2]):
                ended += plan.evaluations
            before = now
            done = ended + len(evaluations)
            rate = 60 * done / max(time.monotonic() - start, 1e-9)
            count(done, f"{name} {seed}: best {best(evaluations).score:.4f}, {rate:.0f} a minute")

        yield show


def comparison(found: Found) -> Table:
    """The bees against all controls."""
    rows = [
        (
            row.sampler,
            str(len(found[row.sampler][0])),
            "failed"
            if row.mean is None
            else f"{row.mean:.4f}" + ("" if row.margin is None else f" ± {row.margin:.4f}"),
            row.text,
        )
        for row in compared(found)
    ]
    title = f"Best scores, {len(found[BEES])} seed{'s' if len(found[BEES]) > 1 else ''}"
    columns = [text("sampler"), number("evaluations"), number("best score"), text("bees against it")]
    return table(title, columns, rows)


def latency_told(result: Mapping[str, Any]) -> list[str]:
    """How the limit of the time was kept, if there is one, in words."""
    if "measured_latency" not in result:
        return []
    asked, predicted = (result["winner"][name]["latency"] for name in ("limits", "shares"))
    found = result["measured_latency"]
    words = f"latency: at most {asked:.3f} of the whole asked for, {predicted:.3f} predicted, {found:.3f} measured"
    lines = [words + (": MISSED" if found > asked else "")]
    if left := result["latency_unmeasured"]:
        lines.append(f"{len(left)} parts of the network were not measured, such as {left[0]!r}: they do not run alone")
    return lines


def write_frontier(judged: Sequence[Point], of: str, folder: Path) -> Table:
    """The structures that nothing beats, as a table, a file and a picture."""
    best = frontier(judged)
    write_text(folder / FRONTIER, document({"of": of, "frontier": [asdict(point) for point in best]}))
    groups = {
        name: [(p.share, p.score) for p in judged if p.sampler == name]
        for name in dict.fromkeys(p.sampler for p in judged)
    }
    pictures.frontier(groups, [(p.share, p.score) for p in best], folder / FRONTIER_PICTURE, of)
    rows = [(f"{p.share:.3f}", f"{p.score:.4f}", p.sampler, str(sum(p.widths.values()))) for p in best]
    columns = [number(of), number("score"), text("proposed by"), number("units")]
    return table("Structures that nothing beats in both", columns, rows)


def _mask(structures: Structures, found: Found) -> Mask:
    first = winner(found)
    how = {"method": ", ".join(proposers(found)), "evaluation": first.number, "validation": first.score}
    return structures.mask(first.structure, how, first.seed)


def finish_file(maker: FileMaker, structures: Structures, found: Found, files: Files) -> dict[str, Any]:
    """Write the winner of a search on a model: proven, and with statistics of its own."""
    mask = _mask(structures, found)
    pruned, certificate = prune(structures.analysis, mask, True, lambda step: None)
    assert certificate is not None  # it was asked for
    api.save(pruned, files.folder / PRUNED)
    api.save(maker.fitness(structures).model(mask), files.folder / RECALIBRATED)
    return files.write(structures, found, mask) | {"certificate": certificate.to_json()}


def finish_task(maker: TaskMaker, structures: Structures, found: Found, files: Files) -> dict[str, Any]:
    """Write the winner of a search on a task: proven, and its weights as they were judged."""
    from onnxprune.torch.handover import hand_over, save_weights

    mask, seed = _mask(structures, found), winner(found)
    network, binding = maker.network()
    handed = hand_over(network, binding, mask, files.folder)
    save_weights(maker.fitness(network, binding).network_for(mask, seed.seed), files.folder / WARM)
    return files.write(structures, found, mask) | {"certificate": handed.certificate.to_json()}
