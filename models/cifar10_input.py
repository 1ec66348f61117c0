"""What the CIFAR-10 networks take as input, in numpy: for whoever runs a shipped model without torch."""

import numpy as np

MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)


def network_input(images: np.ndarray) -> np.ndarray:
    """`uint8 (N, 3, H, W)` to the network's float32 input."""
    mean, std = (np.array(v, np.float32).reshape(1, 3, 1, 1) for v in (MEAN, STD))
    return (images.astype(np.float32) / 255 - mean) / std
