"""Reductions of formulas given as text, with KeOps's conventions, against dense float64 NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from docs import keops as documented
from pairfold import FormulaError
from pairfold.formula.parse import functions
from pairfold.pykeops import common, reductions

from .helpers import FRAMEWORKS, array, close, clouds, module

frameworks = pytest.mark.parametrize("framework", FRAMEWORKS)
ALIASES = ["x = Vi(3)", "y = Vj(3)", "b = Vj(2)", "p = Pm(1)"]
DIFFERENCES = "(x - y)"


def setting(framework, random, batch=()):
    c = clouds(framework, random, batch=batch)
    b, p = random.standard_normal((*batch, 9, 2)), np.array([0.7])
    c.arrays = (c.x, c.y, array(framework, b), array(framework, p))
    c.b, c.p = b[..., None, :, :], p
    c.kernel = np.exp(-c.p * ((c.dense_x - c.dense_y) ** 2).sum(-1, keepdims=True))
    return c


# The reduction, its formula, what else it takes, and what it is of dense values along an axis.
REDUCTIONS = {
    "Sum": ("Exp(-p*SqDist(x,y)) * b", {}, lambda c, a: (c.kernel * c.b).sum(a)),
    "LogSumExp": ("-p*SqDist(x,y)", {}, lambda c, a: special.logsumexp(np.log(c.kernel), axis=a)),
    "LogSumExp weighted": ("-p*SqDist(x,y)", {"formula2": "Square(b)"}, lambda c, a: np.log((c.kernel * c.b**2).sum(a))),
    "LogSumExpWeight": ("-p*SqDist(x,y)", {"formula2": "Square(b)"}, lambda c, a: np.log((c.kernel * c.b**2).sum(a))),
    "SumSoftMaxWeight": ("-p*SqDist(x,y)", {"formula2": "b"}, lambda c, a: (c.kernel * c.b).sum(a) / c.kernel.sum(a)),
    "SoftMax": ("-p*SqDist(x,y)", {"formula2": "b"}, lambda c, a: (c.kernel * c.b).sum(a) / c.kernel.sum(a)),
    "Max_SumShiftExp": ("-p*SqDist(x,y)", {}, lambda c, a: _shifted(c, a, np.ones(1))),
    "Max_SumShiftExpWeight": ("-p*SqDist(x,y)", {"formula2": "b"}, lambda c, a: _shifted(c, a, c.b)),
    "Min": (DIFFERENCES, {}, lambda c, a: (c.dense_x - c.dense_y).min(a)),
    "Max": (DIFFERENCES, {}, lambda c, a: (c.dense_x - c.dense_y).max(a)),
    "ArgMin": (DIFFERENCES, {}, lambda c, a: (c.dense_x - c.dense_y).argmin(a)),
    "ArgMax": (DIFFERENCES, {}, lambda c, a: (c.dense_x - c.dense_y).argmax(a)),
    "Min_ArgMin": (DIFFERENCES, {}, lambda c, a: ((c.dense_x - c.dense_y).min(a), (c.dense_x - c.dense_y).argmin(a))),
    "MaxArgMax": (DIFFERENCES, {}, lambda c, a: ((c.dense_x - c.dense_y).max(a), (c.dense_x - c.dense_y).argmax(a))),
    "KMin": ("SqDist(x,y)", {"opt_arg": 2}, lambda c, a: _first(np.sort(-np.log(c.kernel) / c.p, a), a)),
    "ArgKMin": ("SqDist(x,y)", {"opt_arg": 2}, lambda c, a: _first(np.argsort(-c.kernel, a), a)),
    "KMin of vectors": (DIFFERENCES, {"opt_arg": 2}, lambda c, a: _rows(np.sort(c.dense_x - c.dense_y, a), a)),
    "KMin_ArgKMin": (
        "SqDist(x,y)", {"opt_arg": 2}, lambda c, a: tuple(_first(f(-np.log(c.kernel) / c.p, a), a) for f in (np.sort, np.argsort)),
    ),
}  # fmt: skip


def _shifted(c, axis, weights):
    largest = np.log(c.kernel).max(axis, keepdims=True)
    sums = (np.exp(np.log(c.kernel) - largest) * weights).sum(axis)
    return np.concatenate([np.squeeze(largest, axis), sums], -1)


def _rows(values, axis):
    return np.moveaxis(values, axis, -2)[..., :2, :]


def _first(values, axis):
    return _rows(values, axis)[..., 0]


@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", REDUCTIONS)
@frameworks
def test_reductions(framework, name, axis, batch, random):
    c = setting(framework, random, batch)
    formula, options, expect = REDUCTIONS[name]
    genred = c.keops.Genred(formula, ALIASES, reduction_op=name.split(" ")[0], axis=axis, **options)
    found, expected = genred(*c.arrays), expect(c, len(batch) + axis)
    if not isinstance(expected, tuple):
        found, expected = (found,), (expected,)
    for a, b in zip(found, expected, strict=True):
        close(a, b)
        if b.dtype == np.int64:
            assert "int64" in str(a.dtype)


TEXTS = {
    "IntInv(-2) * SqNorm2(x-y)": lambda x, y: -((x - y) ** 2).sum(-1, keepdims=True) / 2,
    "Powf(Abs(x), IntCst(3)) + Pow(y, 2)": lambda x, y: abs(x) ** 3 + y**2,
    "Norm2(x - y) * RatCst(1, 4)": lambda x, y: np.linalg.norm(x - y, axis=-1, keepdims=True) / 4,
    "WeightedSqDist(Square(x), x, y)": lambda x, y: (x**2 * (x - y) ** 2).sum(-1, keepdims=True),
    "WeightedSqNorm(Exp(y), x)": lambda x, y: (np.exp(y) * x**2).sum(-1, keepdims=True),
    "Exp(-(x|y)) * Elem(x, 1)": lambda x, y: np.exp(-(x * y).sum(-1, keepdims=True)) * x[..., 1:2],
    "Sum(Normalize(x) * Sqrt(Abs(y)))": lambda x, y: (x / np.linalg.norm(x, axis=-1, keepdims=True) * np.sqrt(abs(y))).sum(
        -1, keepdims=True
    ),
    "Extract(Concat(x, y), 2, 2)": lambda x, y: np.concatenate(np.broadcast_arrays(x[..., 2:], y[..., :1]), -1),
    "IfElse(x - y, Step(x), Sign(y)) + ReLU(x) * Inv(2 + Cos(y)) - Sin(x)": lambda x, y: (
        np.where(x - y >= 0, x >= 0, np.sign(y)) + np.maximum(x, 0) / (2 + np.cos(y)) - np.sin(x)
    ),
    "Grad(Exp(-SqDist(x,y)), x, IntCst(1))": lambda x, y: -2 * (x - y) * np.exp(-((x - y) ** 2).sum(-1, keepdims=True)),
    "TensorDot(x, y, Ind(3), Ind(3), Ind(0), Ind(0))": lambda x, y: (x * y).sum(-1, keepdims=True),
    "Clamp(x, y, y + 1) + Mod(x, 2, 0) + Round(y, 1) + Minus(x)": lambda x, y: np.clip(x, y, y + 1) + np.mod(x, 2) + np.round(y, 1) - x,
    "MatVecMult(TensorProd(x, y), x) + Scal(2, y) + Divide(y, 4) + Add(x, y)": lambda x, y: (
        x * (x * y).sum(-1, keepdims=True) + 3.25 * y + x
    ),
}


@pytest.mark.parametrize("text", TEXTS)
@frameworks
def test_texts(framework, text, random):
    c = clouds(framework, random)
    found = c.keops.Genred(text, ["x = Vi(0,3)", "y = Vj(1,3)"], axis=1)(c.x, c.y)
    close(found, np.broadcast_to(TEXTS[text](c.dense_x, c.dense_y), (7, 9, found.shape[-1])).sum(1))


@frameworks
def test_keywords_that_mean_nothing(framework, random):
    c = setting(framework, random)
    genred = c.keops.Genred(
        "Exp(-p*SqDist(x,y)) * b", ALIASES, reduction_op="Sum", axis=1, dtype="float32", cuda_type="float32", dtype_acc="float64",
        use_double_acc=False, sum_scheme="block_sum", enable_chunks=False, rec_multVar_highdim=True, use_fast_math=False,
    )  # fmt: skip
    expected = (c.kernel * c.b).sum(1)
    for backend in ("auto", "CPU", "GPU", "GPU_1D", "GPU_2D", "GPU_1D_host", "GPU_1D_device"):
        close(genred(*c.arrays, backend=backend, device_id=-1), expected)
    assert (genred.axis, genred.reduction_op, genred.opt_arg) == (1, "Sum", None)


@frameworks
def test_out(framework, random):
    c = setting(framework, random)
    genred = c.keops.Genred("Exp(-p*SqDist(x,y)) * b", ALIASES, axis=1)
    out = array(framework, np.full((7, 2), np.nan))
    assert genred(*c.arrays, out=out) is out
    close(out, (c.kernel * c.b).sum(1))
    with pytest.raises(ValueError, match="result's shape"):
        genred(*c.arrays, out=out[:3])


def test_out_under_autograd(random):
    torch = pytest.importorskip("torch")
    c = setting("torch", random)
    x = c.x.clone().requires_grad_()
    genred = c.keops.Genred("Exp(-p*SqDist(x,y)) * b", ALIASES, axis=1)
    out = torch.empty(7, 2, dtype=torch.float64)
    expected = ((-0.7 * ((x[:, None] - c.y) ** 2).sum(-1)).exp() @ c.arrays[2]).square().sum()
    for _ in range(2):  # the second time it holds the first result
        address = out.data_ptr()
        found = genred(x, *c.arrays[1:], out=out)
        assert found.data_ptr() == address
        (g,) = torch.autograd.grad(found.square().sum(), x)
        close(g, torch.autograd.grad(expected, x, retain_graph=True)[0].numpy())


@frameworks
def test_ranges(framework, random):
    c = setting(framework, random)
    mask = np.zeros((7, 9, 1))
    mask[:4, :5] = mask[4:, 5:] = 1
    ranges = [[[0, 4], [4, 7]], [1, 2], [[0, 5], [5, 9]], [[0, 5], [5, 9]], [1, 2], [[0, 4], [4, 7]]]
    ranges = tuple(array(framework, r, "int32") for r in ranges)
    for axis in (0, 1):
        genred = c.keops.Genred("Exp(-p*SqDist(x,y)) * b", ALIASES, axis=axis)
        close(genred(*c.arrays, ranges=ranges), (c.kernel * c.b * mask).sum(axis))


@frameworks
def test_aliases(framework, random):
    c = clouds(framework, random)
    expected = ((c.dense_x - c.dense_y) ** 2).sum(-1, keepdims=True).sum(1)
    Genred = c.keops.Genred
    close(Genred("SqDist(x,y)", ("x=Vi(3)", "y=Vj(3)"), axis=1)(c.x, c.y), expected)
    close(Genred("SqDist(x,y)", ["y = Vj(1,3)", "x = Vi(0,3)"], axis=1)(c.x, c.y), expected)
    close(Genred("SqDist(x,y)", ["x = Vx(3)", "y = Vy(3)"], axis=1)(c.x, c.y), expected)
    close(Genred("SqDist(Var(0,3,0),Var(1,3,1))", [], axis=1)(c.x, c.y), expected)
    close(Genred("SqDist(Vi(0,3),Vj(1,3))", [], axis=1)(c.x, c.y), expected)
    # what the formula lacks still tells how many columns there are
    close(Genred("x", ["x = Vi(3)", "y = Vj(3)"], axis=1)(c.x, c.y), 9 * c.dense_x[:, 0])
    close(Genred("x", ["x = Vi(3)", "y = Vj(3)"], axis=0)(c.x, c.y), np.tile(c.dense_x.sum(0), (9, 1)))
    # nor do variables get lost that a derivative makes vanish
    vanishing = Genred("Grad(Grad(x + Var(1,3,1), x, Var(2,3,0)), x, Var(3,3,0))", ["x = Vi(0,3)"], axis=1)
    close(vanishing(c.x, c.y, c.x, c.x), np.zeros((7, 3)))
    default = Genred("SqDist(x,y)", ["x = Vi(3)", "y = Vj(3)"])  # reduces i
    assert default(c.x, c.y).shape == (9, 1)


@frameworks
def test_errors(framework, random):
    c = clouds(framework, random)
    Genred, aliases = c.keops.Genred, ["x = Vi(3)", "y = Vj(3)"]
    with pytest.raises(FormulaError, match=r"did you mean 'SqDist'"):
        Genred("SqDits(x,y)", aliases)
    with pytest.raises(FormulaError, match="unknown alias 'z'"):
        Genred("SqDist(x,z)", aliases)
    with pytest.raises(ValueError, match="no reduction 'Mean'"):
        Genred("SqDist(x,y)", aliases, reduction_op="Mean")
    with pytest.raises(ValueError, match="needs the number K"):
        Genred("SqDist(x,y)", aliases, reduction_op="KMin")
    with pytest.raises(ValueError, match="formula of its weights"):
        Genred("SqDist(x,y)", aliases, reduction_op="SumSoftMaxWeight")
    with pytest.raises(ValueError, match="axis must be 0"):
        Genred("SqDist(x,y)", aliases, axis=2)
    with pytest.raises(TypeError, match="no option 'axes'"):
        Genred("SqDist(x,y)", aliases, axes=1)
    with pytest.raises(ValueError, match="takes 2 arrays, not 1"):
        Genred("SqDist(x,y)", aliases)(c.x)
    with pytest.raises(ValueError, match="D = 3"):
        Genred("SqDist(x,y)", aliases)(c.x, c.y[:, :2])


@frameworks
def test_generic(framework, random):
    c = setting(framework, random)
    keops = c.keops
    sums = keops.generic_sum("Exp(-p*SqDist(x,y)) * b", "a = Vi(2)", *ALIASES)
    close(sums(*c.arrays), (c.kernel * c.b).sum(1))
    close(keops.generic_sum("Exp(-p*SqDist(x,y))", "a = Vj(1)", *ALIASES)(*c.arrays), c.kernel.sum(0))
    close(keops.generic_logsumexp("-p*SqDist(x,y)", "a = Vi(1)", *ALIASES, dtype="float64")(*c.arrays), np.log(c.kernel.sum(1)))
    close(keops.generic_argmin("SqDist(x,y)", "a = Vi(1)", *ALIASES)(*c.arrays), (-c.kernel).argmin(1))
    close(keops.generic_argkmin("SqDist(x,y)", "a = Vi(4)", *ALIASES)(*c.arrays), np.argsort(-c.kernel[..., 0], 1)[:, :4])


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 4), st.integers(1, 3), st.integers(0, 99))
def test_shapes(m, n, d, e, seed):
    random = np.random.default_rng(seed)
    x, y, b = (random.standard_normal(s) for s in ((m, d), (n, d), (n, e)))
    genred = module("numpy").Genred("Exp(-SqDist(x,y))*b", [f"x = Vi({d})", f"y = Vj({d})", f"b = Vj({e})"], axis=1)
    close(genred(x, y, b), np.exp(-((x[:, None] - y) ** 2).sum(-1)) @ b)


def test_derivatives(random):
    torch = pytest.importorskip("torch")
    c = setting("torch", random)
    arrays = [a.clone().requires_grad_() for a in c.arrays]
    genred = c.keops.Genred("Exp(-p*SqDist(x,y)) * b", ALIASES, axis=1)

    def derivatives(result):
        first = torch.autograd.grad((result**2).sum(), arrays, create_graph=True)
        return [*first, *torch.autograd.grad(sum((g**2).sum() for g in first), arrays)]

    x, y, b, p = arrays
    dense = (-p * ((x[:, None] - y) ** 2).sum(-1)).exp() @ b
    for found, expected in zip(derivatives(genred(*arrays)), derivatives(dense), strict=True):
        close(found, expected.detach().numpy(), 1e-8)


@frameworks
def test_gradients_as_text(framework, random):
    """Without a cotangent, KeOps takes the variable after those of the formula, of the category that the gradient's is not."""
    c = setting(framework, random)
    x, y, b, p = c.arrays
    g, h = random.standard_normal((9, 2)), random.standard_normal((7, 2))
    weighted = c.kernel * (c.b * g).sum(-1, keepdims=True)
    by_rows = c.keops.Genred("Grad(Exp(-p*SqDist(x,y)) * b, x)", [*ALIASES, "g = Vj(2)"], axis=1)
    expected = -2 * c.p * (weighted * (c.dense_x - c.dense_y)).sum(1)
    close(by_rows(x, y, b, p, array(framework, g)), expected)
    by_columns = c.keops.Genred("Grad(Exp(-p*SqDist(x,y)) * b, b)", [*ALIASES, "h = Vi(2)"], axis=0)
    close(by_columns(x, y, b, p, array(framework, h)), (c.kernel * h[:, None]).sum(0))
    with pytest.raises(ValueError, match="takes 5 arrays, not 4"):
        c.keops.Genred("Grad(Exp(-p*SqDist(x,y)) * b, x)", ALIASES, axis=1)(x, y, b, p)


@frameworks
def test_no_name_of_keops_is_missing(framework):
    lazy, complex_one = module(framework).LazyTensor, module(framework).ComplexLazyTensor
    assert [name for name in documented.METHODS if not hasattr(lazy, name)] == []
    assert [name for name in documented.COMPLEX_METHODS if not hasattr(complex_one, name)] == []
    assert set(documented.REDUCTIONS) <= set(reductions.REDUCTIONS)
    assert set(documented.OPERATORS) <= set(functions())


def test_common():
    assert common.get_type("a = Vi(3)") == ("a", 0, 3, None) and common.get_type("Vj(2,5)") == (None, 1, 5, 2)
    assert common.get_type("Var(1,4,2)", 7) == (None, 2, 4, 1) and common.get_type("p=Pm(2)", 3) == ("p", 2, 2, 3)
    assert common.get_sizes(["x = Vi(3)", "p = Pm(1)", "y = Vj(3)"], np.ones((5, 3)), np.ones(1), np.ones((6, 3))) == (5, 6)
    assert common.complete_aliases("Var(1, 3, 1)*x", ["x = Vi(3)"]) == ["x = Vi(3)", "Var(1,3,1)"]
    assert (common.axis2cat(1), common.cat2axis(0)) == (0, 1)
    assert common.check_broadcasting(None, (2,)) == (2,) and common.check_broadcasting((3, 1), (2,)) == (3, 2)
    with pytest.raises(ValueError):
        common.axis2cat(2)
    with pytest.raises(ValueError):
        common.check_broadcasting((3,), (2,))


@frameworks
def test_parameters_may_have_an_axis_in_the_place_of_rows(framework, random):
    x, y, b, g = (random.standard_normal(s) for s in ((7, 3), (9, 3), (9, 1), (1, 1)))
    sums = module(framework).Genred("Exp(-Square(g)*SqDist(x,y))*b", ["g=Pm(1)", "x=Vi(3)", "y=Vj(3)", "b=Vj(1)"], axis=1)
    want = np.exp(-(g**2) * ((x[:, None] - y) ** 2).sum(-1)) @ b
    for parameter in (g, g[0]):
        found = sums(*(array(framework, a) for a in (parameter, x, y, b)))
        assert tuple(found.shape) == (7, 1)
        close(found, want)


@frameworks
@pytest.mark.parametrize(
    ("batch", "shape"),
    [((2, 4), (2, 1, 1)), ((2, 4), (4, 1)), ((2, 4), (2, 4, 1, 1)), ((2, 4), (2, 1, 1, 1)), ((4, 1), (4, 1, 1)), ((4, 2), (4, 1, 1)),
     ((2, 4), (1,)), ((4,), (4, 1, 1)), ((4,), (4, 1)), ((4,), ())],
)  # fmt: skip
def test_parameters_of_batches(batch, shape, framework, random):
    x, y, g = (random.standard_normal(s) for s in ((*batch, 7, 3), (*batch, 9, 3), shape))
    k = len(batch)
    of_pairs = g[..., None] if len(shape) == k + 2 else g[..., None, None]  # (…, 1, 1, D), or (…, D) with the rows' axis or without
    want = np.exp(-(of_pairs**2) * ((x[..., :, None, :] - y[..., None, :, :]) ** 2).sum(-1, keepdims=True)).sum(-2)
    keops = module(framework)
    given = [array(framework, a) for a in (g, x, y)]
    close(keops.Genred("Exp(-Square(g)*SqDist(x,y))", ["g=Pm(1)", "x=Vi(3)", "y=Vj(3)"], axis=1)(*given), want)
    g_, x_, y_ = keops.Pm(0, 1), keops.Vi(1, 3), keops.Vj(2, 3)
    close((-(g_**2) * x_.sqdist(y_)).exp().sum(axis=1)(*given), want)


@frameworks
@pytest.mark.parametrize("batch", [(), (4,)])
def test_numbers_without_an_axis_of_their_own(batch, framework, random):
    x, y, b, c = (random.standard_normal(s) for s in ((*batch, 7, 3), (*batch, 9, 3), (*batch, 9), (*batch, 7)))
    keops = module(framework)
    given = [array(framework, a) for a in (x, y, b, c)]
    aliases = ["x=Vi(3)", "y=Vj(3)", "b=Vj(1)", "c=Vi(1)"]
    kernel = np.exp(-((x[..., :, None, :] - y[..., None, :, :]) ** 2).sum(-1))
    want = (c[..., None] * kernel * b[..., None, :]).sum(-1, keepdims=True)
    close(keops.Genred("c*Exp(-SqDist(x,y))*b", aliases, axis=1)(*given), want)
    x_, y_, b_, c_ = keops.Vi(0, 3), keops.Vj(1, 3), keops.Vj(2, 1), keops.Vi(3, 1)
    close((c_ * (-x_.sqdist(y_)).exp() * b_).sum(axis=1)(*given), want)
    product = keops.Genred("a*b", ["a=Vi(1)", "b=Vj(1)"], axis=1)(given[3], given[2])
    close(product, c[..., None] * b.sum(-1)[..., None, None])
    with pytest.raises(ValueError, match=r"b = Var\(2,2,1\), array 2, has shape \(…, N, D\) with D = 2"):
        keops.Genred("Exp(-SqDist(x,y))*b", ["x=Vi(3)", "y=Vj(3)", "b=Vj(2)"], axis=1)(*given[:3])
    with pytest.raises(ValueError, match=r"Var\(2,2,1\), array 2, has shape"):
        ((-x_.sqdist(y_)).exp() * keops.Vj(2, 2)).sum(axis=1)(*given[:3])


@frameworks
def test_complex_arrays_of_pairs(framework, random):
    x, y = random.standard_normal((7, 2)), random.standard_normal((9, 2))
    z = random.standard_normal((9, 1)) + 1j * random.standard_normal((9, 1))
    sums = module(framework).Genred("ComplexMult(ComplexExp1j(-x|y), z)", ["x=Vi(2)", "y=Vj(2)", "z=Vj(2)"], axis=1)
    want = np.exp(-1j * x @ y.T) @ z
    close(sums(*(array(framework, a) for a in (x, y, z))), np.concatenate([want.real, want.imag], 1))


@frameworks
def test_formulas_and_variables_of_lazy_tensors(framework, random):
    c = clouds(framework, random)
    K = (-(c.x_i - c.y_j).sqnorm2() * 1.7).exp() + 0.3
    assert all(type(v) is type(c.x) for v in K.variables)
    want = (np.exp(-1.7 * ((c.dense_x - c.dense_y) ** 2).sum(-1)) + 0.3).sum(1)[:, None]
    close(c.keops.Genred(K.formula, [], axis=1)(*K.variables), want)


@frameworks
def test_weights_of_what_has_none(framework):
    with pytest.raises(ValueError, match="Sum has no weights: formula2 is for LogSumExp"):
        module(framework).Genred("x", ["x=Vi(1)"], "Sum", formula2="x")
