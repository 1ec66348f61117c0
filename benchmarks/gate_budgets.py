"""ChipNet's hard masks against their budgets: what the pruned ONNX model really has, by counting its tensors.

Gates are random; a budget has to hold for any gates. Nothing of our cost model is used for what is counted: params are
the stored weights, channels, volume and multiply-accumulates come from onnx's own shapes of the pruned graph.
"""

import sys
from functools import partial
from math import prod

import onnx
import torch
from onnx import ModelProto, shape_inference

import onnxprune
from benchmarks.common import all_of, arguments, record
from benchmarks.networks import built
from benchmarks.record import Benchmark, Check, Column, Record, Row
from onnxprune.resources import RESOURCES, Resource
from onnxprune.torch.binding import bind
from onnxprune.torch.chipnet import ChipGates, ChipNet
from onnxprune.torch.filling import filled

SHARES = (0.6, 0.4, 0.2, 0.1)
NAMES = ("resnet20", "resnet56", "preresnet164", "vgg16_bn", "densenet40", "mobilenetv2")
LEAST = 0.97
LAYERS = ("Conv", "Gemm", "MatMul")

BENCHMARK = Benchmark(
    name="gate_budgets",
    claim="Share of a resource that is left, counted on the pruned model, by the budget that was set",
    columns=(
        Column("network", "network"),
        Column("resource", "resource"),
        *(Column(f"{share:g}", f"at {share:g}", ".4f") for share in SHARES),
    ),
    rivals=("torch",),
)


def counted(proto: ModelProto) -> dict[str, dict[str, int]]:
    """Of every layer, by output name, what it has of each resource for one image; of params only what is stored."""
    inferred = shape_inference.infer_shapes(proto)
    values = (*inferred.graph.value_info, *inferred.graph.output, *inferred.graph.input)
    shapes = {v.name: [d.dim_value or 1 for d in v.type.tensor_type.shape.dim] for v in values}
    weights = {t.name: list(t.dims) for t in proto.graph.initializer}
    layers = {}
    for node in proto.graph.node:
        if node.op_type in LAYERS:
            out, weight = shapes[node.output[0]], weights[node.input[1]]
            taken = prod(weight[1:]) if node.op_type == "Conv" else weight[1]
            layers[node.output[0]] = {"channels": out[1], "volume": prod(out), "macs": prod(out) * taken}
    return layers


def params(proto: ModelProto) -> int:
    """Elements of all stored floats."""
    return sum(prod(t.dims) for t in proto.graph.initializer if t.data_type == onnx.TensorProto.FLOAT)


def left(dense: ModelProto, pruned: ModelProto, resource: Resource) -> float:
    """The share of a resource that the pruned model has; of channels and volume without the last layer's."""
    if resource == "params":
        return params(pruned) / params(dense)
    before, after = counted(dense), counted(pruned)
    if resource != "macs":
        ends = {output.name for output in dense.graph.output}
        before, after = ({k: v for k, v in layers.items() if k not in ends} for layers in (before, after))
    return sum(v[resource] for v in after.values()) / sum(v[resource] for v in before.values())


def measure(name: str, resource: Resource) -> Row:
    """One network's row for one resource."""
    network, example = built(name)
    gated = ChipGates(network, bind(network, example))
    model = filled(gated.binding, network)
    analysis = onnxprune.analyze(model)
    row: Row = {"network": name, "resource": resource}
    for share in SHARES:
        with torch.no_grad():
            gated.gates.normal_(generator=torch.Generator().manual_seed(0))
        mask = ChipNet(gated, resource, share).harden()[0]
        pruned = onnxprune.apply(model, mask, verify=False, analysis=analysis)
        row[f"at {share:g}"] = left(model.proto, pruned.proto, resource)
    return row


def checks(results: Record) -> list[Check]:
    """Whether every budget is met, and used."""
    pairs = [(row[f"at {share:g}"], share) for row in results.rows.values() for share in SHARES]
    good = [LEAST * share <= got <= share for got, share in pairs]
    return [all_of(f"budgets that are met, and used to {LEAST:.0%}", good, len(NAMES) * len(RESOURCES) * len(SHARES))]


def main() -> int:
    """Measure all networks; 1 if the claim fails."""
    args = arguments(BENCHMARK).parse_args()
    results = record(BENCHMARK, args, shares=SHARES)
    for name in NAMES:
        for resource in RESOURCES:
            results.add(f"{name} {resource}", partial(measure, name, resource))
    return results.finish(checks(results))


if __name__ == "__main__":
    sys.exit(main())
