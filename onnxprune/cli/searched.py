"""How a search shows where it is, and what it leaves behind."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from onnxprune import api
from onnxprune.cli.judging import FileNetwork, TaskNetwork
from onnxprune.cli.output import Output
from onnxprune.cli.work import latency_words, prune
from onnxprune.errors import OutputError
from onnxprune.mask import Mask
from onnxprune.report import Table, pictures
from onnxprune.report.cells import number, table, text
from onnxprune.report.files import MASK, PRUNED, document, write_text
from onnxprune.search.calibration import has_statistics
from onnxprune.search.campaign import BEES, Found, Plan, Show, proposers, told, winner
from onnxprune.search.evaluation import Evaluation, Executor, Job
from onnxprune.search.frontier import Point, frontier
from onnxprune.search.promise import SMALLER, Promise
from onnxprune.search.run import best, best_so_far
from onnxprune.search.structures import Structures
from onnxprune.verify import Certificate

SEARCH, COURSES, WIDTHS, WARM, RECALIBRATED = "search.json", "search.png", "widths.png", "warm.pt", "recalibrated.onnx"
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

    def inner(self, limit: str) -> Files:
        """The folder of one of several limits."""
        place = Files(self.folder / limit)
        place.prepare()
        return place

    def write(self, structures: Structures, found: Found, first: Evaluation, promise: Promise | None) -> dict[str, Any]:
        """What was found, the first of all, and what was promised of its time among it, and pictures."""
        content = told(found, structures, first)
        if promise is not None and structures.time is not None:
            content["latency"] = {**promise.to_json(), "unmeasured": sorted(structures.time.clock.unmeasured)}
        write_text(self.folder / SEARCH, document(content))
        series = {name: [best_so_far(evaluations) for evaluations in seeds] for name, seeds in found.items()}
        pictures.courses(series, self.folder / COURSES)
        pictures.mask_widths(
            structures.analysis, structures.mask(first.structure, {}, first.seed), self.folder / WIDTHS
        )
        return content


class Counted:
    """An executor that knows how fast it is: what a journal tells is not judged, and does not count."""

    def __init__(self, executor: Executor):
        self._executor, self._judged, self._start = executor, 0, 0.0

    def run(self, jobs: Sequence[Job]) -> Iterator[Evaluation]:
        """The judgements, as they come."""
        if jobs:
            self._start = self._start or time.monotonic()
        for evaluation in self._executor.run(jobs):
            self._judged += 1
            yield evaluation

    def rate(self) -> float:
        """Evaluations a minute."""
        return 60 * self._judged / max(time.monotonic() - self._start, 1e-9) if self._judged else 0.0

    def __enter__(self) -> Self:
        self._executor.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._executor.__exit__(*error)


@contextmanager
def progress(plan: Plan, out: Output, rate: Callable[[], float], limits: int = 1) -> Iterator[Show]:
    """The best so far, evaluations a minute and the time left; `limits`: so many campaigns."""
    searches = limits * (1 + len(plan.controls)) * len(plan.seeds)
    ended, before = 0, ("", -1, 0)
    with out.counting(searches * plan.evaluations) as count:

        def show(name: str, seed: int, evaluations: Sequence[Evaluation]) -> None:
            nonlocal ended, before
            now = (name, seed, len(evaluations))
            if before[0] and (before[:2] != now[:2] or before[2] > now[2]):
                ended += plan.evaluations
            before = now
            told = f"{name} {seed}: best {best(evaluations).score:.4f}, {rate():.0f} a minute"
            count(ended + len(evaluations), told)

        yield show


def comparison(result: Mapping[str, Any]) -> Table:
    """The bees against all controls, of what `told` tells."""
    counts, rows = result["evaluations"], []
    for row in result["comparison"]:
        margin = "" if row["margin"] is None else f" ± {row['margin']:.4f}"
        score = "failed" if row["mean"] is None else f"{row['mean']:.4f}{margin}"
        rows.append((row["sampler"], str(counts[row["sampler"]][0]), score, row["text"]))
    seeds = len(counts[BEES])
    limits = ", ".join(f"{name}={share:g}" for name, share in result["winner"]["limits"].items())
    title = f"Best scores, {seeds} seed{'s' if seeds > 1 else ''}" + (f", {limits}" if limits else "")
    columns = [text("sampler"), number("evaluations"), number("best score"), text("bees against it")]
    return table(title, columns, rows)


def latency_told(result: Mapping[str, Any]) -> list[str]:
    """How the limit of the time was kept, if there is one, in words."""
    if "latency" not in result:
        return []
    (words,) = latency_words(result)
    first, tries = result["winner"], result["latency"]["tries"]
    who = " and ".join(first["proposed_by"]) or SMALLER
    lines = [words if is_kept(result) else f"{words}: MISSED"]
    lines.append(f"taken: a structure of score {first['score']:.4f} ({who}), after {tries} had been measured")
    if left := result["latency"]["unmeasured"]:
        lines.append(f"{len(left)} parts of the network were not measured, such as {left[0]!r}: they do not run alone")
    return lines


def is_kept(result: Mapping[str, Any]) -> bool:
    """Whether the limit of the time was kept, if there is one."""
    return "latency" not in result or bool(result["latency"]["kept"])


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


def finish(
    network: FileNetwork | TaskNetwork, structures: Structures, found: Found, promise: Promise | None, files: Files
) -> dict[str, Any]:
    """Write the best, or the one that keeps the promise: proven, and with its weights as they were judged.

    Raises:
        VerificationError: the pruned model is not the masked original.
        OutputError: a file cannot be written.
    """
    first = promise.best.evaluation if promise else winner(found)
    method = ", ".join(proposers(found, first)) or SMALLER
    how: dict[str, Any] = {"method": method, "evaluation": first.number, "validation": first.score}
    if promise and structures.time:
        best, engine = promise.best, structures.time.clock.engine
        how["latency"] = {"runtime": engine, "measured": asdict(best.ratio), "predicted": best.predicted}
    mask = structures.mask(first.structure, how, first.seed)
    write = _write_file if isinstance(network, FileNetwork) else _write_task
    certificate = write(network, mask, first.seed, files.folder)  # type: ignore[arg-type]  # each has its network
    return files.write(structures, found, first, promise) | {"certificate": certificate.to_json()}


def _write_file(network: FileNetwork, mask: Mask, seed: int, folder: Path) -> Certificate:
    fitness = network.fitness
    pruned, certificate = prune(fitness.analysis, mask, True, lambda step: None)
    assert certificate is not None  # it was asked for
    api.save(pruned, folder / PRUNED)
    write_text(folder / MASK, document(mask.to_json()))
    if has_statistics(pruned):
        api.save(fitness.model(mask), folder / RECALIBRATED)
    return certificate


def _write_task(network: TaskNetwork, mask: Mask, seed: int, folder: Path) -> Certificate:
    from onnxprune.torch.handover import hand_over, save_weights

    handed = hand_over(network.network, network.binding, mask, folder)
    save_weights(network.fitness.network_for(mask, seed), folder / WARM)
    return handed.certificate
