"""The way back inside for large tensors that `read_model` left in the model's own file."""

from pathlib import Path

from onnx import ModelProto, TensorProto

from onnxprune.external import is_embedded, opened, reference
from onnxprune.tensors import stored_bytes


def inlined(tensor: TensorProto, base: Path | None) -> TensorProto:
    """An embedded tensor with its values inside.

    Args:
        tensor: embedded (see `is_embedded`); not changed.
        base: the model's folder.

    Raises:
        ModelError: the file is gone or has changed since the model was read.
    """
    where = reference(tensor, base, stored_bytes(tensor.data_type, tensor.dims))
    whole = TensorProto()
    whole.CopyFrom(tensor)
    whole.ClearField("external_data")
    whole.ClearField("data_location")
    with opened(tensor, where) as file:
        whole.raw_data = bytes(file.read(where.offset, where.length))
    return whole


def self_contained(proto: ModelProto, base: Path | None) -> ModelProto:
    """The model with all embedded tensors inside, as it is in its file; the same object where it has none.

    Raises:
        ModelError: as `inlined`.
    """
    places = [k for k, tensor in enumerate(proto.graph.initializer) if is_embedded(tensor)]
    if not places:
        return proto
    whole = ModelProto()
    whole.CopyFrom(proto)
    for k in places:
        whole.graph.initializer[k].CopyFrom(inlined(proto.graph.initializer[k], base))
    return whole
