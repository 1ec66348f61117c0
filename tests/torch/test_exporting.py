"""Exports: every mode, whatever the batch, of a module that stays as it was; or the reason why not."""

import copy
from contextlib import nullcontext

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from onnxprune.errors import ModelError, UsageError
from onnxprune.execution import run
from onnxprune.graph import Model
from onnxprune.torch.exporting import EXPORTERS, Mode, distinct, evaluation, export, on_cpu, tensors_in

TORCHSCRIPT: tuple[Mode, ...] = ("torchscript", "torchscript-preserve")
DYNAMO: tuple[Mode, ...] = ("dynamo", "dynamo-unoptimized")


class TwoByTwo(nn.Module):
    """Two inputs; a tensor, and in a tuple another one."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm = nn.Linear(4, 3), nn.BatchNorm1d(3)
        self.b = nn.Sequential(nn.Linear(5, 3), nn.Dropout(0.5))

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, tuple[Tensor]]:
        return self.norm(self.a(x)) + self.b(y), (self.b(y),)


class Branching(nn.Module):
    """Takes a branch by the values of its input."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.sum() > 0 else x


class Untranslated(nn.Module):
    """Has an operator that ONNX lacks."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.special.i0(x)


def inputs(batch: int) -> tuple[Tensor, Tensor]:
    return torch.randn(batch, 4), torch.randn(batch, 5)


@pytest.fixture(scope="module")
def net() -> nn.Module:
    """In training mode, but for a part of it."""
    torch.manual_seed(0)
    net = TwoByTwo().train()
    net.norm.eval()
    nn.init.uniform_(net.norm.running_mean)
    return net


# What comes out --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=EXPORTERS)
def exported(request, net: nn.Module) -> onnx.ModelProto:
    return export(net, inputs(1), mode=request.param)


def test_the_export_computes_what_the_module_does_for_any_batch(exported: onnx.ModelProto, net: nn.Module) -> None:
    onnx.checker.check_model(exported, full_check=True)
    assert [value.name for value in exported.graph.input] == ["input", "input1"]
    assert [value.name for value in exported.graph.output] == ["output", "output1"]
    twin = copy.deepcopy(net).eval()
    for batch in (1, 3):
        x, y = inputs(batch)
        with torch.no_grad():
            wanted = tensors_in(twin(x, y))
        (found,) = run(Model(exported), [{"input": x.numpy(), "input1": y.numpy()}])
        for a, b in zip(wanted, found, strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", TORCHSCRIPT)
def test_names_and_opset_may_be_chosen(mode: Mode, net: nn.Module) -> None:
    proto = export(net, inputs(2), mode=mode, inputs=("p", "q"), outputs=("r", "s"), opset=15)
    assert [v.name for v in (*proto.graph.input, *proto.graph.output)] == ["p", "q", "r", "s"]
    assert proto.opset_import[0].version == 15


def test_results_in_a_dict_are_named_too(net: nn.Module) -> None:
    class Named(nn.Module):
        def forward(self, x: Tensor) -> dict[str, object]:
            return {"a": x + 1, "b": [x + 2, (x + 3,)]}

    proto = export(Named(), torch.zeros(1, 2))
    assert [v.name for v in proto.graph.output] == ["output", "output1", "output2"]
    assert {v.type.tensor_type.shape.dim[0].dim_param for v in proto.graph.output} == {"batch"}


@pytest.mark.parametrize("mode", TORCHSCRIPT)
def test_preserving_keeps_names_and_batch_norms(mode: Mode) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    proto = export(distinct(net), torch.zeros(1, 3, 2, 2), mode=mode)
    kept = {tensor.name for tensor in proto.graph.initializer} >= {"0.weight", "0.bias", "1.weight", "1.running_var"}
    assert kept == EXPORTERS[mode].keeps_names
    assert ("BatchNormalization" in {node.op_type for node in proto.graph.node}) == EXPORTERS[mode].keeps_names


# What it leaves behind -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", TORCHSCRIPT)
@pytest.mark.parametrize("breaks", [False, True])
def test_the_module_stays_as_it_was(mode: Mode, breaks: bool, net: nn.Module) -> None:
    part = Untranslated() if breaks else nn.Identity()
    module = nn.ModuleList([copy.deepcopy(net), part])
    module.forward = lambda x, y: module[1](module[0](x, y)[0])
    modes = [each.training for each in module.modules()]
    assert len(set(modes)) == 2
    module[0].a.weight.requires_grad_(False)
    before = {name: (id(t), t.clone(), t.requires_grad) for name, t in module.state_dict(keep_vars=True).items()}
    example, random = inputs(1), torch.get_rng_state()
    with pytest.raises(ModelError) if breaks else nullcontext():
        export(module, example, mode=mode)
    assert [each.training for each in module.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)
    for name, tensor in module.state_dict(keep_vars=True).items():
        identity, value, learns = before[name]
        assert (id(tensor), tensor.requires_grad) == (identity, learns)
        assert torch.equal(tensor, value)
    assert all(p.grad is None for p in module.parameters())


def test_evaluation_ends_with_an_error_too(net: nn.Module) -> None:
    modes = [each.training for each in net.modules()]
    with pytest.raises(KeyError), evaluation(net):
        assert not any(each.training for each in net.modules())
        raise KeyError
    assert [each.training for each in net.modules()] == modes


# Copies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_no_two_tensors_of_a_distinct_copy_are_equal(dtype: torch.dtype) -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.BatchNorm1d(3), nn.InstanceNorm1d(3, affine=True))
    net = net.to(dtype).train()
    before = copy.deepcopy(net.state_dict())
    tensors = [t for t in distinct(net).state_dict().values() if t.ndim]
    assert {t.dtype for t in tensors} == {torch.float32}
    assert len({tuple(t.flatten().tolist()) for t in tensors}) == len(tensors) == 12
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())
    assert net.training and not distinct(net).training
    assert torch.equal(distinct(net)[0].weight, distinct(net)[0].weight)


def test_tied_parameters_of_a_distinct_copy_are_tied() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].weight = net[0].weight
    twin = distinct(net)
    assert twin[1].weight is twin[0].weight is not net[0].weight


def test_examples_are_taken_in_single_precision() -> None:
    images, labels = torch.zeros(1, 3, dtype=torch.float16), torch.zeros(1, dtype=torch.long)
    assert [x.dtype for x in on_cpu((images, labels))] == [torch.float32, torch.long]
    assert on_cpu(images).dtype == torch.float32


# Refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "operator"),
    [("torchscript", "aten::i0"), ("torchscript-preserve", "aten::i0"), ("dynamo", r"prims\.bessel_i0\.default")],
)
def test_an_operator_without_translation_is_named(mode: Mode, operator: str) -> None:
    with pytest.raises(ModelError, match=f"^Untranslated cannot be exported to ONNX: operator {operator} has no"):
        export(Untranslated(), torch.ones(1, 2), mode=mode)


@pytest.mark.parametrize("mode", TORCHSCRIPT)
def test_a_failed_export_leaves_standard_output_alone(mode: Mode, capfd: pytest.CaptureFixture) -> None:
    own = torch._C._jit_onnx_log
    with pytest.raises(ModelError, match="cannot be exported"):
        export(Untranslated(), torch.ones(1, 2), mode=mode)
    assert capfd.readouterr() == ("", "") and torch._C._jit_onnx_log is own


def test_what_forward_prints_is_no_result(capfd: pytest.CaptureFixture) -> None:
    module = nn.Linear(2, 3)
    module.register_forward_hook(lambda *_: print("called"))
    export(module, torch.ones(1, 2))
    out, err = capfd.readouterr()
    assert out == "" and "called" in err


def test_branches_on_values_are_refused_by_dynamo(capfd: pytest.CaptureFixture) -> None:
    with pytest.raises(ModelError, match=r"data-dependent.*\n.*do not branch on the values of tensors"):
        export(Branching(), torch.ones(1, 2), mode="dynamo")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("mode", TORCHSCRIPT)
def test_branches_on_values_are_warned_of_by_torchscript(mode: Mode) -> None:
    with pytest.warns(torch.jit.TracerWarning, match="Python boolean"):
        export(Branching(), torch.ones(1, 2), mode=mode)


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        (nn.Linear(4, 3), {}, r"^Linear fails on the example: mat1 and mat2 shapes cannot be multiplied.*\n.*a tuple"),
        (nn.Bilinear(2, 2, 2), {}, r"^Bilinear fails on the example: .*missing 1 required positional argument"),
        (
            nn.Linear(2, 3),
            {"opset": 99},
            r"^Linear cannot be exported to ONNX: Unsupported .*99\n.* opset$",
        ),
    ],
)
def test_bad_input(module: nn.Module, options: dict, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        export(module, torch.ones(1, 2), **options)


def test_results_without_tensors_are_refused() -> None:
    module = nn.Identity()
    module.forward = lambda x: {"loss": 1.0}
    with pytest.raises(ModelError, match=r"^Identity returns no tensors"):
        export(module, torch.ones(1, 2))


def test_unknown_modes_are_refused(net: nn.Module) -> None:
    with pytest.raises(UsageError, match="unknown export mode 'jit', expected one of dynamo, "):
        export(net, inputs(1), mode="jit")  # type: ignore[arg-type]
