"""What `onnxprune.torch` offers by name."""

import onnxprune.torch
from onnxprune.torch import bind, export, shrink


def test_every_name_is_there():
    assert all(callable(getattr(onnxprune.torch, name)) for name in onnxprune.torch.__all__)
    assert onnxprune.torch.__all__ == sorted(onnxprune.torch._HOMES, key=lambda n: (n.islower(), n))


def test_no_module_hides_a_function():
    import onnxprune.torch.exporting
    import onnxprune.torch.shrinking

    assert (export, shrink) == (onnxprune.torch.export, onnxprune.torch.shrink)
    assert not set(onnxprune.torch._HOMES) & set(onnxprune.torch._HOMES.values())
    assert bind.__module__ == "onnxprune.torch.binding"
