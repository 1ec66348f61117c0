"""Options that say where models run and on what: runtimes, their settings, sizes and inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import click

from onnxprune.cli import options
from onnxprune.cli.kinds import PRECISIONS, Axis, Cpus, Shape, Sizes, Sweep
from onnxprune.errors import UsageError
from onnxprune.graph import Model
from onnxprune.latency import RUNTIMES, Plan, Setting
from onnxprune.latency.inputs import check_inputs, read_inputs, sizes_of
from onnxprune.latency.runtimes import runtime
from onnxprune.latency.runtimes.base import SEARCHES, Range

running = options.under("Where to run")


@dataclass(frozen=True)
class Running:
    """Where to run, and on what."""

    runtime: tuple[str, ...]
    threads: int
    cpus: tuple[int, ...]
    device: int
    precision: str
    tf32: bool
    nhwc: bool
    cudnn_search: str
    cuda_graph: bool
    binding: bool
    fallback: bool
    cache: Path | None
    engine_range: Mapping[str, Range]
    sweep: tuple[Axis, ...]
    shape: Mapping[str, tuple[int, ...]]
    inputs: Path | None

    @property
    def setting(self) -> Setting:
        """The library's form."""
        return Setting(
            threads=self.threads,
            device=self.device,
            tf32=self.tf32,
            nhwc=self.nhwc,
            search=self.cudnn_search,
            graph=self.cuda_graph,
            binding=self.binding,
            precision=self.precision,
            cache=self.cache,
            ranges=self.engine_range,
            fallback=self.fallback,
        )

    def plans(self, model: Model, plan: Plan) -> list[Plan]:
        """The plan for every runtime and every point of the sweep; `plan` says the rest.

        Raises:
            UsageError: sizes, shapes and inputs contradict each other or the model, or a name is swept twice.
        """
        plan = replace(self._sized(model, plan), cpus=self.cpus)
        self._check_sweep(plan)
        points = list(product(*([(axis, value) for value in axis.values] for axis in self.sweep)))
        plans = [replace(plan, runtime=name, setting=setting) for name, setting in self._settings()]
        return [self._at(each, point) for each in plans for point in points]

    def _settings(self) -> list[tuple[str, Setting]]:
        """The setting of every runtime; where there are several, each gets of it what it takes.

        Raises:
            UsageError: something is set that none of several takes.
        """
        if len(self.runtime) == 1:
            return [(self.runtime[0], self.setting)]
        accepted = {name: {"precision", *runtime(name).accepts} for name in self.runtime}
        plain, own = vars(Setting()), vars(self.setting)
        if left := [name for name in own if own[name] != plain[name] and not any(name in a for a in accepted.values())]:
            raise UsageError(f"none of these runtimes takes {left[0]} ({own[left[0]]!r})", "leave it out")
        return [(name, Setting(**{k: own[k] for k in own if k in accepted[name]})) for name in self.runtime]

    def _at(self, plan: Plan, point: Sequence[tuple[Axis, Any]]) -> Plan:
        for axis, value in point:
            plan = axis.at(plan, value)
        return plan

    def _sized(self, model: Model, plan: Plan) -> Plan:
        """The plan with all sizes that are told."""
        inputs = read_inputs(self.inputs) if self.inputs else None
        told = [sizes_of(model, self.shape), check_inputs(model, inputs) if inputs is not None else {}]
        sizes = dict(plan.sizes)
        for name, size in ((name, size) for found in told for name, size in found.items()):
            if sizes.setdefault(name, size) != size:
                raise UsageError(
                    f"dimension {name!r} is both {sizes[name]} and {size}", "give --size, --shape or --inputs, not two"
                )
        return replace(plan, sizes=sizes, inputs=inputs)

    def _check_sweep(self, plan: Plan) -> None:
        names = [name for axis in self.sweep for name in axis.names]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UsageError(f"--sweep {twice[0]} is given twice", "give all values at once, with commas")
        if both := sorted({*names} & {*plan.sizes}):
            raise UsageError(f"{both[0]!r} is swept, and has a size already", "leave one of the two out")
        if len({*self.runtime}) < len(self.runtime):
            raise UsageError("a runtime is given twice", "name it once: the first model is timed twice anyway")


run = options.bundled(
    "run",
    Running,
    running(
        "--runtime",
        type=click.Choice(list(RUNTIMES)),
        multiple=True,
        default=("cpu",),
        help="cpu, cuda, ort-tensorrt: onnxruntime's. tensorrt: TensorRT by itself. May be repeated.",
    ),
    running("--threads", type=click.IntRange(min=0), default=0, metavar="N", help="On the CPU (0: the default)."),
    running("--cpus", type=Cpus(), default=(), metavar="LIST", help="Use these processors only: 0,2 or 0-3."),
    running("--device", type=click.IntRange(min=0), default=0, metavar="N", help="Number of the GPU."),
    running("--precision", type=click.Choice(PRECISIONS), default="fp32", help="Where it can be chosen."),
    running("--tf32", is_flag=True, help="Let a GPU multiply single precision in TF32."),
    running("--nhwc", is_flag=True, help="Let a GPU compute convolutions with channels last."),
    running("--cudnn-search", type=click.Choice(SEARCHES), default=SEARCHES[0], help="How cuDNN finds convolutions."),
    running("--cuda-graph", is_flag=True, help="Replay a recorded CUDA graph."),
    running("--binding/--no-binding", default=True, help="Keep inputs and outputs on the GPU."),
    running("--fallback", is_flag=True, help="Let nodes that the runtime lacks run elsewhere; else that is an error."),
    running("--cache", type=options.FILE, metavar="FOLDER", help="For TensorRT's engines and timings."),
    running(
        "--engine-range",
        type=options.Assignment(Sizes()),
        multiple=True,
        callback=options.as_mapping,
        metavar="NAME=MIN:OPT:MAX",
        help="Sizes of a dimension that TensorRT builds its engine for: batch=1:8:64. Else the one that is run.",
    ),
    running(
        "--sweep",
        type=Sweep(),
        multiple=True,
        metavar="NAME=V,V,...",
        help="Measure at each of these values: sizes of a dimension (batch=1,8,64; height+width=224,320 change "
        "together), precision=fp32,fp16 or threads=1,2. May be repeated: all combinations.",
    ),
    running(
        "--shape",
        type=options.Assignment(Shape()),
        multiple=True,
        callback=options.as_mapping,
        metavar="INPUT=SHAPE",
        help="The shape of an input, instead of --size: x=1x3x224x224.",
    ),
    running("--inputs", type=options.FILE, metavar="FILE", help="Your own inputs, an .npz file of arrays by name."),
)
