"""Accuracies of models that are compared: given by hand, or measured on labelled samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from onnxprune.cli import options
from onnxprune.cli.options import Assignment, as_mapping
from onnxprune.errors import UsageError
from onnxprune.graph import Model
from onnxprune.search.samples import accuracy, fitting, read_samples

knowing = options.under("What the models are worth")


@dataclass(frozen=True)
class Quality:
    """Where accuracies are from."""

    accuracy: dict[str, float]
    samples: Path | None

    def of(self, models: Sequence[Model], names: Sequence[str]) -> dict[str, float]:
        """Accuracies by name: those given by hand, and for all others those on the samples.

        Raises:
            UsageError: one is given of no model, or the samples cannot be read.
            ModelError: a model does not run on the samples, or is no classifier.
        """
        known = self.named(names, [str(model.path) for model in models])
        if self.samples is None:
            return known
        samples = read_samples(self.samples)
        missing = [(name, model) for name, model in zip(names, models, strict=True) if name not in known]
        return known | {name: accuracy(model, fitting(model, samples, any_batch=True)) for name, model in missing}

    def named(self, names: Sequence[str], paths: Sequence[str] = ()) -> dict[str, float]:
        """Those given by hand, by the models' names; they may be given by paths, too.

        Raises:
            UsageError: one is given of no model.
        """
        known = dict(zip(paths, names, strict=False)) | {name: name for name in names}
        for name in self.accuracy:
            if name not in known:
                raise UsageError(f"--accuracy {name}: no such model; they are {', '.join(names)}", "check its name")
        return {known[name]: value for name, value in self.accuracy.items()}


quality = options.bundled(
    "quality",
    Quality,
    knowing(
        "--accuracy",
        type=Assignment(click.FLOAT),
        multiple=True,
        callback=as_mapping,
        metavar="NAME=VALUE",
        help="Of a model, by its file name: higher is better (repeatable).",
    ),
    knowing(
        "--samples",
        type=options.FILE,
        metavar="FILE.npz",
        help="Measure the accuracies of all others, which are classifiers, in onnxruntime on the CPU: arrays `inputs` "
        "and `labels`.",
    ),
)
