"""What is tied to what, what is frozen and why; and that nothing unknown is guessed."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxprune
from onnxprune.coupling import couple, input_shape
from onnxprune.forms import Fixed, is_fixed
from onnxprune.graph import Graph
from tests.micrographs.build import batch_norm, ints, scalars, weights
from tests.pruning import assert_exact, group_sizes, model_of, prune, reasons

ENDS = weights(w0=(8, 3, 1, 1), w1=(5, 8, 1, 1))
PICKS = {"picks": np.array([1, 0, 1, 1, 0, 1, 1, 0], bool).reshape(8, 1, 1)}
DOUBLE = '<domain: "local", opset_import: ["": 13]> {name} (p) => (r) {{ {body} }}'


def between(operators: str, arrays: dict | None = None, **head: object) -> onnxprune.Model:
    """conv, OPERATORS from a to s, conv."""
    body = f"a = Conv (x, w0)\n{operators}\ny = Conv (s, w1)"
    return model_of(body, ENDS | (arrays or {}), **{"outputs": "float[N, 5, 8, 8] y", **head})  # type: ignore[arg-type]


def with_function(model: onnxprune.Model, name: str, body: str) -> onnxprune.Model:
    """The model with a function of its own, in the domain `local`."""
    text = f'<ir_version: 8, opset_import: ["": 13, "local": 1]> m () => () {{ }} {DOUBLE.format(name=name, body=body)}'
    model.proto.functions.extend(onnx.parser.parse_model(text).functions)
    return model


def frozen_by(model: onnxprune.Model, tensor: str = "w0", axis: int = 0) -> str:
    """Why an axis of a stored tensor is frozen; the model still runs through `analyze` and `apply`."""
    assert not [g for g in onnxprune.analyze(model).groups if (tensor, axis) in {(m.tensor, m.axis) for m in g.members}]
    return reasons(model)[tensor, axis]


# --- ends of the graph -------------------------------------------------------------------------------------------


def test_inputs_and_outputs_stay() -> None:
    model = between("s = Sigmoid (a)")
    why = reasons(model)
    assert "'x' is an input of the graph" in why["w0", 1]
    assert "'y' is an output of the graph" in why["w1", 0]
    assert group_sizes(model) == {"w0": 8}


@pytest.mark.parametrize("name", ["a", "s", "i", "w1"])
def test_whatever_is_an_output_too_stays(name: str) -> None:
    """An inner tensor, the end of a chain of Identities, a weight."""
    model = between("s = Sigmoid (a) h = Identity (a) i = Identity (h)")
    shape = [5, 8, 1, 1] if name == "w1" else ["N", 8, 8, 8]
    model.proto.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    assert f"{name!r} is an output of the graph" in frozen_by(model)


def test_a_stored_mask_that_is_an_output_stays() -> None:
    model = between("s = Where (picks, a, fill)", PICKS | weights(fill=(1, 8, 1, 1)))
    assert_exact(model)
    model.proto.graph.output.append(helper.make_tensor_value_info("picks", TensorProto.BOOL, [8, 1, 1]))
    assert "'picks' is an output of the graph" in frozen_by(model)


def test_sizes_of_symbolic_dimensions() -> None:
    (value,) = onnx.parser.parse_graph("g (float[N, 3, H, W] x) => (float y) { y = Identity (x) }").input
    assert input_shape(value, {}) == [1, 3, 256, 256]
    assert input_shape(value, {"H": 32, "*": 7}) == [7, 3, 32, 7]


def test_inputs_that_are_no_tensors() -> None:
    text = '<ir_version: 8, opset_import: ["": 13]> g (seq(float[2, 3]) x, float[2, 4] z, int64 i) => (float[2, 5] y) {'
    body = "e = SequenceAt (x, i) m = MatMul (e, w0) n = MatMul (z, w1) p = Add (m, n) y = MatMul (p, w2) }"
    proto = onnx.parser.parse_model(text + body)
    arrays = weights(w0=(3, 8), w1=(4, 8), w2=(8, 5))
    proto.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in arrays.items())
    model = onnxprune.Model(proto)
    assert group_sizes(model) == {}
    assert "SequenceAt" in reasons(model)["w0", 0] or "not known" in reasons(model)["w0", 0]


# --- what is not known is frozen, and named ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operators", "arrays", "reason"),
    [
        ("s = GatherElements (a, zero)", ints(zero=[[[[0]]]]), "GatherElements 's': no rule for this operator"),
        ("s, i, j, k = Unique <axis = 1> (a)", {}, "Unique 's': no rule"),
        ("n = Shape (a) r = RandomNormalLike (a) s = Add (a, r)", {}, "RandomNormalLike 'r': no rule"),
    ],
)
def test_an_unknown_operator_freezes_what_it_reads(operators: str, arrays: dict, reason: str) -> None:
    assert reason in frozen_by(between(operators, arrays))


def test_the_name_of_the_node_is_told() -> None:
    model = between("s = CumSum (a, one)", ints(one=1))
    model.proto.graph.node[1].name = "/body/sum"
    assert "CumSum '/body/sum'" in frozen_by(model)


@pytest.mark.parametrize("name", ["Twice", "Mul", "Shape", "Sigmoid"])
def test_operators_of_other_domains_are_not_taken_for_ours(name: str) -> None:
    model = with_function(between(f"s = local.{name} (a)", domains=', "local": 1'), name, "r = Add (p, p)")
    assert f"{name} 's': no rule for this operator" in frozen_by(model)


def test_arithmetic_of_other_domains_is_not_evaluated() -> None:
    """`local.Mul` halves the number of channels."""
    body = "k = Shape (a) c = Gather (k, one) d = local.Mul (c) e = Unsqueeze (d, z) t = Concat <axis = 0> (b, e, m)"
    operators = f"{body} r = Reshape (a, t) q = ReduceMax <keepdims = 0> (r) s = Mul (a, q)"
    arrays = ints(one=1, z=[0], b=[0], m=[-1])
    model = with_function(
        between(operators, arrays, domains=', "local": 1'), "Mul", "t = Constant <value_int = 2> () r = Div (p, t)"
    )
    assert "Mul 'd'" in frozen_by(model)


def test_sparse_tensors_are_not_read() -> None:
    model = between("s = Add (a, bias)", weights(bias=(1, 8, 1, 1)))
    graph = model.proto.graph
    graph.initializer.remove(next(t for t in graph.initializer if t.name == "bias"))
    values = helper.make_tensor("bias", TensorProto.FLOAT, [2], [1.0, 2.0])
    graph.sparse_initializer.append(
        helper.make_sparse_tensor(values, helper.make_tensor("at", TensorProto.INT64, [2], [1, 5]), [1, 8, 1, 1])
    )
    assert "not known" in frozen_by(model)


@pytest.mark.parametrize("opset", [9, 15])
def test_batch_statistics_are_no_inference(opset: int) -> None:
    """In training mode BatchNormalization has more outputs: the running statistics, which lose channels, too."""
    more = ", m, v, i, j" if opset == 9 else ", m, v"
    mode = "" if opset == 9 else "<training_mode = 1>"
    operators = f"s{more} = BatchNormalization {mode} (a, n_s, n_b, n_m, n_v)"
    model = between(operators, batch_norm("n", 8), opset=opset)
    assert "BatchNormalization 's'" in frozen_by(model)


def test_a_node_that_is_not_understood_is_frozen() -> None:
    """Attributes that no valid node has: the reason is told, nothing is raised."""
    model = between("s = Transpose <perm = [0, 7, 2, 3]> (a)")
    assert "is not understood" in frozen_by(model)


# --- subgraphs ---------------------------------------------------------------------------------------------------

CHOICE = """
    c = Conv (s, w2)
    q = ReduceMax <keepdims = 0> (x)
    f = Greater (q, zero)
    y = If (f) <
        then_branch = yes () => (float[2, 5, 8, 8] t) {{ t = Sigmoid (c) }},
        else_branch = no () => (float[2, 5, 8, 8] e) {{ {other} }}
    >
"""


def choosing(operators: str, other: str, arrays: dict) -> onnxprune.Model:
    """conv, OPERATORS from a to s, conv; then an If whose second branch is OTHER."""
    body = f"a = Conv (x, w0)\n{operators}\n{CHOICE.format(other=other)}"
    arrays = weights(w0=(8, 3, 1, 1), w2=(5, 8, 1, 1)) | scalars(zero=0) | arrays
    return model_of(body, arrays, "float[2, 3, 8, 8] x", outputs="float[2, 5, 8, 8] y")


def test_a_branch_that_reads_nothing_of_them_freezes_nothing() -> None:
    model = choosing("s = Sigmoid (a)", "e = Tanh (c)", {})
    assert group_sizes(model) == {"w0": 8}
    assert_exact(model)


NESTED = """
    e = If (f) <
        then_branch = p () => (float g) { g = Conv (s, w2) },
        else_branch = n () => (float h) { h = Tanh (c) }
    >
"""


@pytest.mark.parametrize(
    ("other", "arrays"),
    [
        ("e = Conv (s, w2)", {}),
        ("r = ReduceSum <keepdims = 0> (s) e = Mul (c, r)", {}),
        ("r = ReduceSum <keepdims = 0> (w0) e = Mul (c, r)", {}),
        (NESTED, {}),
    ],
    ids=["activation", "sum of it", "weight", "nested"],
)
def test_what_a_branch_reads_stays(other: str, arrays: dict) -> None:
    assert "If 'y'" in frozen_by(choosing("s = Sigmoid (a)", other, arrays))


def test_a_stored_mask_that_a_branch_reads_stays() -> None:
    """Booleans that shape arithmetic looked at before are frozen like any other tensor."""
    other = "g = Cast <to = 1> (picks) h = ReduceSum <keepdims = 0> (g) e = Mul (c, h)"
    model = choosing("s = Where (picks, a, fill)", other, PICKS | weights(fill=(1, 8, 1, 1)))
    assert "If 'y'" in frozen_by(model)


def test_a_taken_branch_makes_no_groups() -> None:
    """A tensor filled inside of a branch is none of the graph's channels."""
    body = """
        a = Conv (x, w0)
        s = Sigmoid (a)
        k = Shape (x)
        n = Gather (k, one)
        f = Equal (n, three)
        r = If (f) <
            then_branch = yes () => (float[2, 3] t) {
                i = Cast <to = 7> (sizes)
                u = ConstantOfShape <value = float[1] {0.2}> (i)
                t = MatMul (u, w2)
            },
            else_branch = no () => (float[2, 3] e) { e = MatMul (v, w3) }
        >
        y = Conv (s, w1)
    """
    arrays = ENDS | weights(w2=(9, 3), w3=(3, 3), v=(2, 3)) | ints(one=1, three=3, sizes=[2, 9])
    model = model_of(body, arrays)
    assert group_sizes(model) == {"w0": 8}
    assert_exact(model)


def test_a_loop_freezes_what_it_captures_alone() -> None:
    body = """
        a = Conv (x, w0)
        s = Sigmoid (a)
        z = Conv (s, w2)
        u = Loop (n, yes, start) <body = turn (int64 i, bool c, float[2, 8, 8, 8] v) => (bool d, float[2, 8, 8, 8] o) {
            d = Identity (c)
            o = Add (v, z)
        }>
        y = Conv (u, w1)
    """
    arrays = ENDS | weights(w2=(8, 8, 1, 1), start=(2, 8, 8, 8)) | ints(n=3) | {"yes": np.array(True)}
    model = model_of(body, arrays, "float[2, 3, 8, 8] x", outputs="float[2, 5, 8, 8] y")
    assert group_sizes(model) == {"w0": 8}
    assert "Loop 'u'" in reasons(model)["w2", 0]
    assert_exact(model)


# --- one tensor, several roles -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operators", "arrays"),
    [
        ("m = Mul (a, a) s = Add (m, m)", {}),
        ("b = Conv (a, w2) t = Tanh (b) s = ConvTranspose (t, w2)", weights(w2=(6, 8, 1, 1))),
        ("b = Conv (a, w2) t = ConvTranspose (a, w2) s = Add (b, t)", weights(w2=(8, 8, 1, 1))),
        ("n = BatchNormalization (a, v, v, v, v) s = Sigmoid (n)", {"v": abs(weights(v=(8,))["v"]) + 1}),
        ("c = Concat <axis = 1> (a, a) s = Conv (c, w2)", weights(w2=(8, 16, 1, 1))),
        (
            "n = Not (picks) b = Where (picks, a, c) s = Where (n, d, b)",
            PICKS | weights(c=(1, 8, 1, 1), d=(1, 8, 1, 1)),
        ),
        (
            "b = DequantizeLinear (q, sc) s = Conv (a, b)",
            {"q": np.arange(-32, 32, dtype=np.int8).reshape(8, 8, 1, 1)} | scalars(sc=0.1),
        ),
        ("r = PRelu (a, v) s = Add (v, r)", weights(v=(8, 1, 1))),
    ],
    ids=[
        "squares",
        "there and back",
        "both ways",
        "one vector",
        "twice",
        "mask and its opposite",
        "bytes",
        "slope and shift",
    ],
)
def test_one_tensor_in_two_roles(operators: str, arrays: dict) -> None:
    model = between(operators, arrays)
    assert group_sizes(model)
    for seed in range(3):
        prune(model, seed)


def test_a_stored_mask_counted_as_data_stays() -> None:
    operators = "b = Where (picks, a, c) g = Cast <to = 1> (picks) h = ReduceSum <keepdims = 0> (g) s = Mul (b, h)"
    model = between(operators, PICKS | weights(c=(1, 8, 1, 1)))
    assert "reduced over" in frozen_by(model) or "numbers" in frozen_by(model)


def test_weights_computed_from_the_input() -> None:
    """A convolution whose kernel the network makes itself."""
    body = """
        a = Conv (x, w0)
        g = GlobalAveragePool (a)
        r = Reshape (g, flat)
        k = MatMul (r, w2)
        v = Reshape (k, kernel)
        s = Sigmoid (a)
        b = Conv (s, v)
        c = Sigmoid (b)
        y = Conv (c, w1)
    """
    arrays = weights(w0=(8, 3, 1, 1), w2=(8, 48), w1=(5, 6, 1, 1)) | ints(flat=[1, 8], kernel=[6, 8, 1, 1])
    model = model_of(body, arrays, "float[1, 3, 8, 8] x")
    assert group_sizes(model) == {"w0": 8, "w2": 6}
    for seed in range(3):
        prune(model, seed)


def test_a_tensor_times_its_transpose() -> None:
    body = """
        p = MatMul (x, w0)
        s = Sigmoid (p)
        t = Transpose <perm = [0, 2, 1]> (s)
        c = MatMul (t, s)
        d = MatMul (c, w1)
        e = MatMul (s, d)
        y = MatMul (e, w2)
    """
    model = model_of(body, weights(w0=(6, 8), w1=(8, 5), w2=(5, 3)), "float[N, 7, 6] x", outputs="float[N, 7, 3] y")
    assert group_sizes(model) == {"w0": 8, "w1": 5}
    for seed in range(3):
        prune(model, seed)


def test_rows_that_are_columns_too() -> None:
    """A matrix added to its transpose: row k and column k go together."""
    body = """
        p = MatMul (x, w0)
        r = Reshape (p, square)
        t = Transpose <perm = [0, 2, 1]> (r)
        o = Add (r, t)
        s = Sigmoid (o)
        f = Flatten (s)
        y = MatMul (f, w1)
    """
    model = model_of(body, weights(w0=(6, 16), w1=(16, 5)) | ints(square=[0, 4, 4]), "float[N, 6] x")
    assert group_sizes(model) == {"w0": 4}
    assert_exact(model)


def test_a_shift_by_one_ties_all_channels_together() -> None:
    body = """
        p = MatMul (x, w0)
        a = Slice (p, zero, seven, last)
        b = Slice (p, one, eight, last)
        o = Add (a, b)
        s = Sigmoid (o)
        y = MatMul (s, w1)
    """
    arrays = weights(w0=(6, 8), w1=(7, 5)) | ints(zero=[0], one=[1], seven=[7], eight=[8], last=[-1])
    model = model_of(body, arrays, "float[N, 6] x")
    assert group_sizes(model) == {}
    assert ("w0", 1) in reasons(model)


# --- types -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "number"), [("float16", 10), ("double", 11)])
def test_other_types_of_floats(kind: str, number: int) -> None:
    dtype = helper.tensor_dtype_to_np_dtype(number)
    arrays = {name: array.astype(dtype) for name, array in weights(w0=(6, 8), w1=(8, 5)).items()}
    body = "a = MatMul (x, w0)\ns = Sigmoid (a)\ny = MatMul (s, w1)"
    model = model_of(body, arrays, f"{kind}[2, 6] x", outputs=f"{kind}[2, 5] y")
    assert group_sizes(model) == {"w0": 8}
    assert prune(model).graph.initializer[0].data_type == number


def test_a_product_of_halves_among_singles() -> None:
    """The mask of the reference has the type of what it masks."""
    body = """
        h = Cast <to = 10> (x)
        q = MatMul (h, wq)
        k = MatMul (h, wk)
        t = Transpose <perm = [0, 2, 1]> (k)
        a = MatMul (q, t)
        b = Cast <to = 1> (a)
        y = Mul (b, scale)
    """
    halves = {name: array.astype(np.float16) for name, array in weights(wq=(4, 8), wk=(4, 8)).items()}
    model = model_of(body, weights(scale=(1, 6, 6)) | halves, "float[2, 6, 4] x")
    assert group_sizes(model) == {"wq": 8}
    prune(model)


def test_only_whole_tensors_are_fixed_objects() -> None:
    """Axes of graph inputs are fixed at once; those of a stored tensor once somebody reads them so."""
    trace = couple(Graph(between("s = Sigmoid (a)")))
    assert all(isinstance(form, Fixed) for form in trace.axes("x"))
    assert [is_fixed(form) for form in trace.axes("w0")] == [False, True, True, True]


def test_an_even_split_of_a_frozen_axis_made_of_parts() -> None:
    """4 rows of 1 | 3, all frozen by then: a Split that states no sizes has none to mend."""
    body = """
        p = MatMul (x, w0)
        r = Reshape (p, rows)
        u = Slice (r, zero, one, two)
        c = CumSum (p, last)
        a, b = Split <axis = -1> (p)
        o = Mul (a, b)
        z = MatMul (o, w1)
        s = Sigmoid (z)
        y = MatMul (s, w2)
    """
    arrays = weights(w0=(6, 16), w1=(8, 5), w2=(5, 3)) | ints(rows=[2, 4, 4], zero=[0], one=[1], two=[2], last=-1)
    model = model_of(body, arrays, "float[2, 6] x")
    assert group_sizes(model) == {"w1": 5}
    assert_exact(model)
