"""The searches of `gpu_bed`: widths by bees, judged without training, with chance as the control."""

import json

from benchmarks.gpu_stages import WEIGHTS, Bed, Figures
from benchmarks.slices import Clock
from onnxprune.report.files import document, write_text
from onnxprune.search.campaign import BEES, CHANCE, Plan, Show, campaign, winner
from onnxprune.search.executors import InProcess
from onnxprune.search.run import best
from onnxprune.search.structures import Structures, Widths
from onnxprune.torch.fitness import CALIBRATION, IMAGES, Recalibrated
from onnxprune.torch.handover import MASK
from onnxprune.torch.jobs import Place, started
from onnxprune.torch.sampling import size_of

FOUND = "search.json"
LIMITS = {"resnet56": (58.5e6, 0.7), "vgg16": (83e6, 0.8)}
"""Of a network: multiply-accumulates, and the largest share of a group."""
TRAINED = 3
"""Passes that training an image takes, in forward passes."""


def searched(bed: Bed, network: str) -> Figures:
    """Search within the network's limits, from `dense` on.

    The folder gets the bees' mask. The figures have the whole network's multiply-accumulates, the best scores, and what
    the bees' search took in epochs of training the whole network.

    Raises:
        OutOfTime: it is not done.
    """
    folder = bed.work / network / "search"
    if not (folder / FOUND).exists():
        write_text(folder / FOUND, document(_search(bed, network)))
    return dict(json.loads((folder / FOUND).read_text(encoding="utf-8")))


def _search(bed: Bed, network: str) -> Figures:
    folder, task, recipe = bed.work / network / "search", bed.task(network), bed.recipe(f"{network}/dense")
    module, binding = started(task, recipe, Place(folder, bed.work / network / "dense" / WEIGHTS))
    (macs, most), whole = LIMITS[network], binding.analysis.cost.macs
    structures = Structures(binding.analysis, Widths(most), {"macs": macs / whole})
    fitness = Recalibrated(task, module, binding, recipe)
    plan = Plan(bed.evaluations, (bed.seed,), controls=(CHANCE,), fitness={"network": network})
    judge = InProcess(lambda: structures.judge(fitness))
    found = campaign(structures, judge, plan, folder, resume=True, show=_looking_at(bed.clock))
    first = winner(found, BEES)
    mask = structures.mask(first.structure, {"method": BEES, "validation": first.score})
    write_text(folder / MASK, document(mask.to_json()))
    forward = bed.evaluations * (macs / whole) * (IMAGES + CALIBRATION) / size_of(task.data("train"))
    scores = {name: best(seeds[0]).score for name, seeds in found.items()}
    return {"whole": whole, "scores": scores, "epochs": forward / TRAINED}


def _looking_at(clock: Clock) -> Show:
    """Stops a search when the time is up; its journal has what it found."""
    return lambda *about: clock.left() and None
