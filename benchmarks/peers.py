"""The rivals' published figures on the exam's models: parameters removed at ratio 0.5, in percent.

Measured with onnxsim 0.8.1 (all exact by the oracle) and Torch-Pruning 1.6.1. None: fails, more than 200 s, or not
published. wide_resnet50_2 is not in the published table: its figure is from `exam_torch_pruning`.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Peer:
    """One model's figures.

    Attributes:
        onnxsim: removed by onnxsim.
        torch_pruning: removed by Torch-Pruning.
        inexact: whether Torch-Pruning's model is not the masked original (it prunes the width of LayerNorm).
        floor: what we require of ourselves where the rivals leave much to be had.
    """

    onnxsim: float | None = None
    torch_pruning: float | None = None
    inexact: bool = False
    floor: float | None = None

    @property
    def required(self) -> float | None:
        """The least share to remove: within a point of the better exact rival, or our own floor."""
        if self.floor is not None:
            return self.floor
        exact = [self.onnxsim, None if self.inexact else self.torch_pruning]
        return max((x - 1 for x in exact if x is not None), default=None)


PEERS = {
    "alexnet": Peer(57.6, 73.3),
    "vgg11_bn": Peer(54.4),
    "resnet18": Peer(47.0, 73.9),
    "resnet50": Peer(51.6, 72.9),
    "resnext50_32x4d": Peer(41.7, 72.9),
    "wide_resnet50_2": Peer(torch_pruning=74.2),
    "densenet121": Peer(38.4, 71.5),
    "googlenet": Peer(31.3, 36.2),
    "inception_v3": Peer(31.1, 63.9),
    "mobilenet_v2": Peer(65.2, 65.1),
    "mobilenet_v3_small": Peer(55.1, 64.2),
    "mnasnet0_5": Peer(28.1, 59.4),
    "efficientnet_b0": Peer(49.9, 67.8),
    "efficientnet_v2_s": Peer(50.5),
    "regnet_y_400mf": Peer(26.5, 72.3),
    "regnet_x_400mf": Peer(49.6, 73.0),
    "shufflenet_v2_x1_0": Peer(15.3),
    "squeezenet1_1": Peer(49.9, 64.5),
    "convnext_tiny": Peer(45.3, 74.0, inexact=True),
    "vit_b_16": Peer(32.7, 32.7, floor=49.0),
    "swin_t": Peer(30.0, floor=45.0),
    "swin_v2_t": Peer(29.7, floor=45.0),
    "maxvit_t": Peer(27.0, floor=39.0),
    "fcn_resnet50": Peer(68.7, 74.9),
    "deeplabv3_mobilenet_v3_large": Peer(18.8, 74.7),
    "lraspp_mobilenet_v3_large": Peer(45.6, 74.0),
}
