"""Convolutions, matrix products, Einsum."""

from tests.rules.cases.build import Case, case, versions


def conv(note: str, free: str, x: tuple[int, ...], w: tuple[int, ...], bias: int = 0, **more: object) -> Case:
    """A convolution of a stored tensor."""
    inputs = {"x": x, "w": w} | ({"b": (bias,)} if bias else {})
    return case("Conv", free, inputs, note=note, **more)


def deconv(note: str, free: str, x: tuple[int, ...], w: tuple[int, ...], bias: int = 0, **more: object) -> Case:
    """A transposed convolution of a stored tensor."""
    inputs = {"x": x, "w": w} | ({"b": (bias,)} if bias else {})
    return case("ConvTranspose", free, inputs, note=note, **more)


def product(free: str, a: tuple[int, ...], b: tuple[int, ...], **more: object) -> Case:
    """A matrix product."""
    return case("MatMul", free, {"a": a, "b": b}, note=f"{len(a)}d {len(b)}d", **more)


def einsum(equation: str, free: str, *shapes: tuple[int, ...], note: str = "") -> Case:
    """An Einsum of operands a, b, c."""
    return case("Einsum", free, dict(zip("abc", shapes, strict=False)), equation=equation, note=note or equation)


def gemm(note: str, free: str, c: tuple[int, ...] | None = None, **more: object) -> Case:
    """4 x 6 times 6 x 5, either transposed on request."""
    a = (6, 4) if more.get("transA") else (4, 6)
    b = (5, 6) if more.get("transB") else (6, 5)
    return case("Gemm", free, {"a": a, "b": b} | ({} if c is None else {"c": c}), note=note, **more)


ALL = "x.0 x.1 w.0 w.1 b.0"
BAR = "a.0 a.1 b.0 b.1"

CASES = [
    *(conv("", ALL, (2, 4, 6, 6), (6, 4, 3, 3), 6, opset=v) for v in versions("Conv")),
    conv("1d strided", ALL, (2, 4, 9), (6, 4, 3), 6, strides=[2], pads=[1, 0]),
    conv("3d dilated", "x.0 x.1 w.0 w.1", (2, 4, 6, 6, 6), (3, 4, 2, 3, 1), dilations=[2, 2, 1]),
    conv("same upper", "x.0 x.1 w.0 w.1", (2, 4, 7, 6), (6, 4, 3, 2), auto_pad="SAME_UPPER", strides=[2, 3]),
    conv("same lower", "x.0 x.1 w.0 w.1", (2, 4, 7, 6), (6, 4, 3, 3), auto_pad="SAME_LOWER", strides=[2, 3]),
    conv("valid", "x.0 x.1 w.0 w.1", (2, 4, 7, 6), (6, 4, 3, 3), auto_pad="VALID", strides=[2, 2]),
    conv("groups", ALL, (2, 8, 5, 5), (12, 4, 3, 3), 12, group=2),
    conv("depthwise", "x.0 x.1 w.0 b.0", (2, 6, 5, 5), (6, 1, 3, 3), 6, group=6),
    conv("depthwise twice", "x.0 x.1 w.0", (2, 6, 5, 5), (12, 1, 3, 3), group=6),
    conv("one group per two", "x.0 x.1 w.0 w.1", (2, 6, 5, 5), (3, 2, 3, 3), group=3),
    *(deconv("", ALL, (2, 4, 5, 5), (4, 6, 3, 3), 6, opset=v) for v in versions("ConvTranspose")),
    deconv("strided", "x.0 x.1 w.0 w.1", (2, 4, 5), (4, 6, 3), strides=[2], pads=[1, 1], output_padding=[1]),
    deconv("output shape", "x.0 x.1 w.0 w.1", (2, 4, 5, 5), (4, 6, 3, 3), strides=[2, 2], output_shape=[10, 11]),
    deconv("same upper", "x.0 x.1 w.0 w.1", (2, 4, 5, 5), (4, 6, 3, 3), auto_pad="SAME_UPPER", strides=[2, 2]),
    deconv("valid", "x.0 x.1 w.0 w.1", (2, 4, 5, 5), (4, 6, 3, 3), auto_pad="VALID", strides=[2, 1], dilations=[1, 2]),
    deconv("groups", ALL, (2, 8, 5, 5), (8, 3, 3, 3), 6, group=2),
    deconv("depthwise", "x.0 x.1 w.0 b.0", (2, 6, 5, 5), (6, 1, 3, 3), 6, group=6),
    *(gemm("", f"{BAR} c.0", (5,), opset=v) for v in versions("Gemm")),
    gemm("transposed", f"{BAR} c.0", (5,), transA=1, transB=1, alpha=0.5, beta=2.0),
    gemm("transposed left", f"{BAR} c.0 c.1", (4, 5), transA=1),
    gemm("row bias", f"{BAR} c.1", (1, 5), transB=1),
    gemm("column bias", f"{BAR} c.0", (4, 1)),
    gemm("bias of one", BAR, (1,)),
    gemm("bias of one by one", BAR, (1, 1)),
    gemm("scalar bias", BAR, ()),
    gemm("no bias", BAR),
    *(product(BAR, (4, 6), (6, 5), opset=v) for v in versions("MatMul")),
    product("a.0 b.0 b.1", (6,), (6, 5)),
    product("a.0 a.1 b.0", (4, 6), (6,)),
    product("a.0 b.0", (6,), (6,)),
    product("a.0 a.1 a.2 b.0 b.1", (3, 4, 6), (6, 5)),
    product("a.0 a.1 b.0 b.1 b.2", (4, 6), (3, 6, 5)),
    product("a.0 b.0 b.1 b.2", (6,), (3, 6, 5)),
    product("a.0 a.1 a.2 b.0", (3, 4, 6), (6,)),
    product("a.0 a.2 a.3 b.1 b.2 b.3", (3, 1, 4, 6), (1, 2, 6, 5)),
    product("a.0 a.1 a.2 b.0 b.1 b.2", (3, 4, 6), (3, 6, 5)),
    einsum("ij,jk->ik", BAR, (3, 4), (4, 5)),
    einsum("bij,bjk->bik", "a.0 a.1 a.2 b.0 b.1 b.2", (2, 3, 4), (2, 4, 5)),
    einsum("bhid,bhjd->bhij", "a.0 a.1 a.2 a.3 b.0 b.1 b.2 b.3", (2, 3, 4, 5), (2, 3, 6, 5)),
    einsum("ij,kj", BAR, (3, 4), (5, 4), note="implicit"),
    einsum(" i j , j -> i ", "a.0 a.1 b.0", (3, 4), (4,), note="spaces"),
    einsum("ij->ji", "a.0 a.1", (3, 4)),
    einsum("ij->i", "a.0", (3, 4)),
    einsum("ij,k->ik", "a.0 b.0", (3, 4), (5,)),
    einsum("i,j->ij", "a.0 b.0", (3,), (5,)),
    einsum("i,i->", "a.0 b.0", (3,), (3,)),
    einsum("...ij,...jk->...ik", "a.0 a.1 a.2 b.0 b.1 b.2", (2, 3, 4), (2, 4, 5), note="dots"),
    einsum("...ij,jk->...ik", "a.0 a.1 a.2 a.3 b.0 b.1", (2, 3, 4, 5), (5, 6), note="dots in one"),
    einsum("b...c,oc->b...o", "a.0 a.1 a.2 a.3 b.0 b.1", (2, 3, 4, 5), (6, 5), note="dots inside"),
    einsum("i...,i...->...", "a.0 a.1 b.0 b.1", (3, 4), (3, 4), note="dots kept"),
    einsum("ij,jk,kl->il", "a.0 a.1 b.0 b.1 c.0 c.1", (3, 4), (4, 5), (5, 6)),
    einsum("aB,Bc->ca", BAR, (3, 4), (4, 5)),
    einsum("ii->i", "", (3, 3), note="diagonal"),
]
