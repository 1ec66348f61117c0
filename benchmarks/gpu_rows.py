"""The rows of `gpu_bed`: what they train, what comes of it, and what that must be."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from benchmarks.common import at_least, at_most
from benchmarks.gpu_search import searched
from benchmarks.gpu_stages import Bed, Figures
from benchmarks.record import Check, Record, Row
from benchmarks.slices import seconds_of

GOOD, SMALL = 93.5, 2.3
"""Percent, and millions of parameters: of the published 93.78 and 2.25."""
DROP = 0.5
"""Percentage points that a pruned network may lose."""
PUBLISHED_SEARCH = 30
"""Epochs: the paper's smallest colony makes 15 evaluations of two."""
TRAINING = 60.0
"""Percent of the late training's multiply-accumulates."""


@dataclass(frozen=True)
class Plan:
    """A row: what is published, the trainings that it takes, by their folders, and what they give."""

    published: str
    stages: tuple[str, ...]
    measure: Callable[[Bed], Figures]
    checks: Callable[[Figures], list[Check]]


def vgg19(bed: Bed) -> Figures:
    """Network slimming as published: 160 epochs with the pull, 70 % of the channels go, 160 epochs."""
    sparse = bed.sparse("vgg19", {"channels": 0.3}, 1e-4)
    return left(bed.fine("vgg19"), sparse)


def resnet56(bed: Bed) -> Figures:
    """Network slimming, from the trained network on, to 1/2.1 of its multiply-accumulates."""
    dense = bed.dense("resnet56")
    sparse = bed.sparse("resnet56", {"macs": 1 / 2.1}, 1e-5, "dense")
    return left(bed.fine("resnet56"), sparse) | {"against": "dense", "baseline": 100 * dense["test"]}


def chipnet(bed: Bed) -> Figures:
    """ChipNet, from the same trained network on."""
    dense, found = bed.dense("resnet56"), bed.chip("resnet56", "macs", 0.47)
    return left(found, found) | {"against": "dense", "baseline": 100 * dense["test"]}


def early(bed: Bed) -> Figures:
    """Pruned as soon as the selection has settled against pruned at the end and fine-tuned."""
    sparse = bed.sparse("vgg16", {"channels": 0.3}, 1e-4)
    late, found = bed.fine("vgg16"), bed.early("vgg16", {"channels": 0.3}, 1e-4)
    spent = work(found, bed, "vgg16/early") / (
        work(sparse, bed, "vgg16/sparse") + work(late, bed, "vgg16/fine", sparse)
    )
    baseline = {"against": "late", "baseline": 100 * late["test"]}
    return left(found, found) | baseline | {"training": 100 * spent, "epoch": found["pruned"]["epoch"]}


def bees(network: str, bed: Bed) -> Figures:
    """The widths that the bees find, judged without training, from the trained network on."""
    dense, search = bed.dense(network), searched(bed, network)
    end = bed.found(network)
    cost, baseline = end["cost"], {"against": "dense", "baseline": 100 * dense["test"]}
    share = {"macs": 100 * cost["macs"] / search["whole"], "params": cost["params"] / 1e6}
    how = {"scores": search["scores"], "macs_in_millions": cost["macs"] / 1e6, "search_epochs": search["epochs"]}
    return {"accuracy": 100 * end["test"], **share, **baseline, **how}


def found_checks(name: str, row: Figures, accuracy: float, macs: float) -> list[Check]:
    """Those of a search: the accuracy, millions of multiply-accumulates, and how long it took."""
    return [
        reaches(name, row, accuracy),
        at_most(f"{name}: MACs", row["macs_in_millions"], macs, " M"),
        at_most(f"{name}: search, in epochs", row["search_epochs"], PUBLISHED_SEARCH / 10, ""),
    ]


def left(end: Figures, pruned: Figures) -> Figures:
    """Accuracy and size at the end, given the figures of the training in which the network was pruned."""
    whole = pruned["pruned"]["cost"]["before"]
    macs, params = 100 * end["cost"]["macs"] / whole["macs"], end["cost"]["params"] / 1e6
    return {"accuracy": 100 * end["test"], "macs": macs, "params": params}


def work(found: Figures, bed: Bed, stage: str, before: Figures | None = None) -> float:
    """Multiply-accumulates of a training, in epochs of the whole network.

    `before` are the figures of the training that pruned the network, if this one began with the small one.
    """
    epochs, pruned = bed.recipe(stage).epochs, (before or found)["pruned"]
    share = pruned["cost"]["after"]["macs"] / pruned["cost"]["before"]["macs"]
    first = 0 if before else pruned["epoch"]
    return first + (epochs - first) * share


def reaches(name: str, row: Figures, limit: float) -> Check:
    """The check of an accuracy."""
    return at_least(f"{name}: accuracy", row["accuracy"], limit, " %")


def loses(name: str, row: Figures) -> Check:
    """The check of an accuracy against another."""
    drop = row["baseline"] - row["accuracy"]
    return Check(f"{name}: accuracy lost", f"≤ {DROP:g}", f"{drop:.2f}", drop <= DROP)


PLANS: Mapping[str, Plan] = {
    "vgg19": Plan(
        "93.78 % at 2.25 M (slimming, 70 % of the channels)",
        ("vgg19/sparse", "vgg19/fine"),
        vgg19,
        lambda row: [
            reaches("VGG19 without 70 % of its channels", row, GOOD),
            at_most("VGG19 without 70 % of its channels: parameters", row["params"], SMALL, " M"),
        ],
    ),
    "resnet56": Plan(
        "93.5 % and more at 2.1 times fewer MACs",
        ("resnet56/dense", "resnet56/sparse", "resnet56/fine"),
        resnet56,
        lambda row: [
            reaches("ResNet-56 at 2.1 times fewer MACs", row, GOOD),
            at_most("ResNet-56 at 2.1 times fewer MACs: MACs left", row["macs"], 100 / 2.1, " %"),
        ],
    ),
    "chipnet": Plan(
        "next to no drop at 0.47 of the MACs",
        ("resnet56/dense", "resnet56/chip/soft", "resnet56/chip/fine"),
        chipnet,
        lambda row: [
            loses("ChipNet's ResNet-56", row),
            at_most("ChipNet's ResNet-56: MACs left", row["macs"], 47, " %"),
        ],
    ),
    "early": Plan(
        "as good as late pruning, for less training",
        ("vgg16/sparse", "vgg16/fine", "vgg16/early"),
        early,
        lambda row: [
            loses("VGG16 pruned early, against late", row),
            at_most("VGG16 pruned early: training's MACs by the late one's", row["training"], TRAINING, " %"),
            at_most("VGG16 pruned early: epoch", row["epoch"], 20, ""),
        ],
    ),
    "bees-resnet56": Plan(
        "93.23 % at 58.54 M (ABCPruner, 0.7)",
        ("resnet56/dense", "resnet56/found/fine"),
        partial(bees, "resnet56"),
        lambda row: found_checks("the bees' ResNet-56", row, 93.2, 58.5),
    ),
    "bees-vgg16": Plan(
        "93.08 % at 82.81 M (ABCPruner, 0.8)",
        ("vgg16/dense", "vgg16/found/fine"),
        partial(bees, "vgg16"),
        lambda row: found_checks("the bees' VGG16", row, 93.0, 83),
    ),
}


def measure(name: str, bed: Bed) -> Row:
    """One row."""
    found = PLANS[name].measure(bed)
    minutes = seconds_of(bed.work / stage for stage in PLANS[name].stages) / 60
    return {"published": PLANS[name].published, **found, "minutes": minutes}


def checks(results: Record) -> list[Check]:
    """Those of all rows; one that is not measured fails."""
    found = []
    for name, plan in PLANS.items():
        row = results.rows.get(name, {})
        if "accuracy" in row:
            found += plan.checks(row)
        else:
            found.append(Check(f"GPU row {name}", "measured", row.get("failure", "not measured"), False))
    return found
