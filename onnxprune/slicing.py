"""`apply`: the masked channels removed from the model's own tensors; nothing else of the file changes."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, numpy_helper
from onnx.helper import make_tensor_value_info

from onnxprune.analysis import Analysis
from onnxprune.branches import NOTHING, Dropped
from onnxprune.bypass import bypass
from onnxprune.collector import no_collection
from onnxprune.embedded import inlined
from onnxprune.environment import own_version
from onnxprune.errors import MaskError, ModelError
from onnxprune.external import is_embedded, is_external, is_outside
from onnxprune.forms import Atom, Fixed, Form, is_fixed, resolve
from onnxprune.graph import Graph, Model
from onnxprune.groups import Kept, count, keep_mask, kept_numbers
from onnxprune.lazy import LazySlice, slices_alike
from onnxprune.mask import Mask, dropped_by, fit_mask
from onnxprune.repair import mismatches, plan_edits
from onnxprune.tensors import PACKED_BITS
from onnxprune.trace import Trace

METADATA = "onnxprune"
# Tensors of at most this many elements are sliced together with others of their shape, this many at a time.
_SMALL = 256
_AT_ONCE = 4096
_APART = {TensorProto.STRING, *PACKED_BITS}

Index = tuple[np.ndarray | None, ...]


@no_collection()
def slice_model(analysis: Analysis, mask: Mask) -> Model:
    """The pruned model, not verified.

    Large tensors in external files are not read: they are sliced while the model is saved.

    Raises:
        MaskError: the mask does not fit, or leaves sizes that the graph cannot state.
    """
    kept, matched = fit_mask(analysis, mask)
    edits = Edits(analysis.trace, kept, dropped_by(analysis, mask))
    proto, arrays = _copy(analysis.model, edits)
    bypass(proto.graph, analysis.trace.graph, edits.dropped)
    provenance = {**mask.provenance, "mask": mask.digest, "fingerprint": mask.fingerprint, "by_structure": matched}
    provenance |= {"folded": analysis.folded} if analysis.folded else {}
    _set_metadata(proto, provenance)
    return Model(proto, analysis.model.path, arrays)


class Edits:
    """All changes to a graph, by place.

    Attributes:
        index: kept elements per axis of every stored tensor that shrinks (None: the whole axis).
        attributes: new values by node index and attribute name.
        inputs: new integer tensors by node index and input position.
        counts: kept elements of every atom.
        dropped: what goes with dropped branches; no sizes are written there.
    """

    def __init__(self, trace: Trace, kept: Kept, dropped: Dropped = NOTHING):
        self.trace, self.dropped = trace, dropped
        numbers = kept_numbers(kept)
        self.counts = {atom: len(numbers.get(atom, mask)) for atom, mask in kept.items()}
        self.index = _kept_index(trace, kept, numbers)
        planned = plan_edits(trace, self.counts)
        if wrong := [m.node for m in mismatches(trace, self.counts, planned) if m.node.index not in dropped.nodes]:
            node = wrong[0]
            raise MaskError(
                f"{node.op} {node.label!r} would read a wrong size after this mask",
                "prune the groups around it alike, or leave them out with --exclude",
            )
        planned = {(n, s): v for (n, s), v in planned.items() if n not in dropped.nodes}
        self.attributes = {(n, s): v for (n, s), v in planned.items() if isinstance(s, str)}
        self.inputs = {(n, s): v for (n, s), v in planned.items() if isinstance(s, int)}
        for r in trace.reindexes:
            if r.node.index not in dropped.nodes and (new := _reindexed(trace, r, kept)):
                self.inputs[r.node.index, r.slot] = new[0]


def _kept_index(trace: Trace, kept: Kept, numbers: Mapping[Atom, np.ndarray]) -> dict[str, Index]:
    table = {}
    compounds: dict[int, np.ndarray | None] = {}
    for name in trace.graph.stored:
        forms = trace.forms.get(name)
        if forms:
            index = tuple([None if type(f) is Fixed else _axis_index(f, kept, numbers, compounds) for f in forms])
            if any(i is not None for i in index):
                table[name] = index
    return table


def _axis_index(
    form: Form, kept: Kept, numbers: Mapping[Atom, np.ndarray], compounds: dict[int, np.ndarray | None]
) -> np.ndarray | None:
    form = resolve(form)
    if type(form) is Fixed:
        return None
    if type(form) is Atom:
        return numbers.get(form)
    if id(form) not in compounds:
        mask = keep_mask(form, kept)
        compounds[id(form)] = None if mask.all() else np.flatnonzero(mask)
    return compounds[id(form)]


def _reindexed(trace: Trace, reindex: Any, kept: Kept) -> list[np.ndarray]:
    source, out = keep_mask(reindex.source, kept), keep_mask(reindex.out, kept)
    if source.all() and out.all():
        return []
    name = reindex.node.inputs[reindex.slot]
    old = trace.graph.array(name) if name in trace.graph.stored else trace.values[name].array
    rank = np.cumsum(source) - 1
    rows = old.reshape(len(out), -1)[out]
    new = rank[rows % len(source)].astype(old.dtype)
    return [new.reshape(-1, *old.shape[1:])]


def _copy(model: Model, edits: Edits) -> tuple[ModelProto, dict[str, LazySlice]]:
    """A new proto with sliced tensors; the unchanged parts are copied, the removed ones never are."""
    old, new = model.proto, ModelProto()
    for field, value in old.ListFields():
        if field.name != "graph":
            _copy_field(new, field.name, value)
    arrays: dict[str, LazySlice] = {}
    alike: dict[Hashable, list[tuple[TensorProto, TensorProto, Index]]] = {}
    for field, value in old.graph.ListFields():
        if field.name != "initializer":
            _copy_field(new.graph, field.name, value)
    shapes, add = edits.trace.graph.shapes, new.graph.initializer.add
    for tensor in old.graph.initializer:
        if (name := tensor.name) in edits.dropped.tensors:
            continue
        target = add()
        index = edits.index.get(name)
        if index is None:
            target.CopyFrom(inlined(tensor, model.base) if is_embedded(tensor) else tensor)
        elif (likeness := _likeness(tensor, shapes[name], index)) is not None:
            alike.setdefault(likeness, []).append((target, tensor, index))
        else:
            _slice_into(target, tensor, LazySlice(tensor, model.base, index), arrays)
    for cuts in alike.values():
        for start in range(0, len(cuts), _AT_ONCE):
            _slice_alike(cuts[start : start + _AT_ONCE], model.base)
    _edit_nodes(new.graph, edits, model)
    _edit_shapes(new.graph, edits)
    return new, arrays


def _likeness(tensor: TensorProto, shape: tuple[int, ...], index: Index) -> Hashable:
    """What small tensors have in common that are sliced together; None for one that is not."""
    kind = tensor.data_type
    if prod(shape) > _SMALL or kind in _APART or is_external(tensor):
        return None
    return kind, shape, tuple([-1 if keep is None else len(keep) for keep in index])


def _slice_alike(cuts: list[tuple[TensorProto, TensorProto, Index]], base: Path | None) -> None:
    values = slices_alike([tensor for _, tensor, _ in cuts], [index for *_, index in cuts], base)
    data, size = values.tobytes(), values[0].nbytes
    empty = TensorProto(dims=values.shape[1:], data_type=cuts[0][1].data_type)
    for k, (target, tensor, _) in enumerate(cuts):
        target.CopyFrom(empty)
        target.name = tensor.name
        target.raw_data = data[k * size : (k + 1) * size]
        _document(target, tensor)


def _copy_field(target: Any, name: str, value: Any) -> None:
    if isinstance(value, int | float | str | bytes):
        setattr(target, name, value)
    elif hasattr(value, "CopyFrom"):
        getattr(target, name).CopyFrom(value)
    else:
        getattr(target, name).extend(value)


def _slice_into(target: TensorProto, tensor: TensorProto, part: LazySlice, arrays: dict[str, LazySlice]) -> None:
    if is_outside(tensor):
        target.CopyFrom(tensor)
        del target.dims[:]
        target.dims.extend(part.shape)
        arrays[tensor.name] = part
        return
    if tensor.data_type in _APART:
        target.CopyFrom(numpy_helper.from_array(part.array()))
    else:
        target.CopyFrom(TensorProto(dims=part.shape, data_type=tensor.data_type))
        target.raw_data = b"".join(map(bytes, part.chunks()))
    target.name = tensor.name
    _document(target, tensor)


def _document(target: TensorProto, tensor: TensorProto) -> None:
    if tensor.doc_string:
        target.doc_string = tensor.doc_string
    if tensor.metadata_props:
        target.metadata_props.extend(tensor.metadata_props)


def _edit_nodes(graph: GraphProto, edits: Edits, model: Model) -> None:
    source = edits.trace.graph
    for name, index in source.constant_nodes.items():
        if name in edits.index:
            part = LazySlice(source.stored[name], model.base, edits.index[name])
            _set_constant(graph.node[index], part.array())
    for (node, attribute), value in edits.attributes.items():
        _set_integers(graph.node[node], attribute, value)
    for (node, slot), value in edits.inputs.items():
        _set_input(graph, edits, node, slot, value)


def _set_constant(node: NodeProto, array: np.ndarray) -> None:
    del node.attribute[:]
    tensor = numpy_helper.from_array(np.asarray(array, order="C"))
    node.attribute.add(name="value", type=AttributeProto.TENSOR).t.CopyFrom(tensor)


def _set_integers(node: NodeProto, name: str, value: np.ndarray) -> None:
    attribute = next(a for a in node.attribute if a.name == name)
    if attribute.type == AttributeProto.INT:
        attribute.i = int(value.ravel()[0])
    else:
        attribute.ints[:] = [int(v) for v in value.ravel()]


def _set_input(graph: GraphProto, edits: Edits, index: int, slot: int, value: np.ndarray) -> None:
    """Write a constant where it lies if all its readers want the same, else give this node one of its own."""
    source = edits.trace.graph
    name = source.nodes_by_index[index].inputs[slot]
    if name in source.stored and _agree(edits, name, value):
        if name in source.constant_nodes:
            _set_constant(graph.node[source.constant_nodes[name]], value)
            return
        tensor = next(t for t in graph.initializer if t.name == name)
        tensor.CopyFrom(numpy_helper.from_array(np.asarray(value, order="C"), name))
        return
    own = f"{name}/{source.nodes_by_index[index].outputs[0]}/{slot}"
    graph.initializer.append(numpy_helper.from_array(np.asarray(value, order="C"), own))
    if source.model.proto.ir_version < 4:
        # Up to IR version 3 every initializer is an input, too.
        graph.input.append(make_tensor_value_info(own, graph.initializer[-1].data_type, value.shape))
    graph.node[index].input[slot] = own


def _agree(edits: Edits, name: str, value: np.ndarray) -> bool:
    source = edits.trace.graph
    if name in source.captured or name in source.outputs:
        return False
    readers = [(n.index, slot) for n, slot in source.readers[name] if n.index not in edits.dropped.nodes]
    wanted = [edits.inputs.get(reader) for reader in readers]
    return all(w is not None and np.array_equal(w, value) for w in wanted)


def _edit_shapes(graph: GraphProto, edits: Edits) -> None:
    """Sizes in value infos and in inputs that are weights."""
    for info in (*graph.value_info, *graph.input):
        forms = edits.trace.forms.get(info.name)
        if forms and len(forms) == len(info.type.tensor_type.shape.dim):
            _edit_dims(info, forms, edits.counts)


def _edit_dims(info: ValueInfoProto, forms: Iterable[Any], counts: Mapping[Atom, int]) -> None:
    for dim, form in zip(info.type.tensor_type.shape.dim, forms, strict=True):
        if dim.HasField("dim_value") and type(form) is not Fixed and not is_fixed(form):
            dim.dim_value = count(form, counts)


def _set_metadata(proto: ModelProto, provenance: Mapping[str, Any]) -> None:
    entry = next((p for p in proto.metadata_props if p.key == METADATA), None) or proto.metadata_props.add(key=METADATA)
    entry.value = json.dumps({"version": own_version(), **provenance}, sort_keys=True)


def require_weights(graph: Graph) -> None:
    """Refuse a model that has nothing to prune.

    Raises:
        ModelError: no tensor of floating point is stored in it.
    """
    if not any(t.data_type in (1, 10, 11, 16) for t in graph.stored.values()):
        raise ModelError("the model stores no floating-point weights", "export it with its weights inside")
