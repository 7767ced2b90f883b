"""LazyTensors of NumPy arrays and PyTorch tensors: how they are made, what they compute; the oracle is dense float64 NumPy."""

from __future__ import annotations

import math
import operator

import numpy as np
import pytest

import pairfold
from pairfold import LazyTensor, Pm, Vi, Vj, cat, concat, where
from pairfold.runtime import cpu

torch = pytest.importorskip("torch")
M, N, D = 5, 7, 3
X, Y = np.random.default_rng(1).uniform(0.5, 1.5, (M, D)), np.random.default_rng(2).uniform(0.5, 1.5, (N, D))
XD, YD = X[:, None, :], Y[None, :, :]
KINDS = ["numpy", "torch"]


def give(array, kind: str, dtype: str = "float64"):
    """The array in a framework; a number stays one."""
    if isinstance(array, (int, float)):
        return array
    array = np.asarray(array).astype(dtype)
    return torch.from_numpy(array) if kind == "torch" else array


def dense(lazy: LazyTensor) -> np.ndarray:
    """Every pair of a symbolic matrix: its products with unit vectors are exact."""
    array = next(leaf.value for leaf in lazy.leaves if not isinstance(leaf.value, float))
    unit = np.eye(lazy.shape[1], dtype=str(array.dtype).removeprefix("torch."))
    units = [torch.from_numpy(u) if isinstance(array, torch.Tensor) else u for u in unit]
    return np.stack([np.asarray((lazy * Vj(u)).sum(1)) for u in units], 1)


def close(lazy, wanted, **tolerance):
    found = dense(lazy) if isinstance(lazy, LazyTensor) else np.asarray(lazy)
    np.testing.assert_allclose(found, wanted, **({"rtol": 1e-12} | tolerance))


# ---- making


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("shape", "axis", "is_a", "lazy_shape"),
    [
        ((5, 1, 3), None, "i", (5, 1, 3)),
        ((1, 7, 3), None, "j", (1, 7, 3)),
        ((1, 1, 3), None, "p", (1, 1, 3)),
        ((3,), None, "p", (1, 1, 3)),
        ((1,), None, "p", (1, 1)),
        ((), None, "p", (1, 1)),
        ((5, 1), None, "i", (5, 1)),
        ((1, 7), None, "j", (1, 7)),
        ((1, 1), None, "p", (1, 1)),
        ((5, 1, 1), None, "i", (5, 1, 1)),
        ((1, 7, 1), None, "j", (1, 7, 1)),
        ((5, 3), 0, "i", (5, 1, 3)),
        ((7, 3), 1, "j", (1, 7, 3)),
        ((1, 3), 0, "i", (1, 1, 3)),
        ((1, 3), 1, "j", (1, 1, 3)),
    ],
)
def test_made_from_an_array(shape, axis, is_a, lazy_shape, dtype, kind):
    lazy = LazyTensor(give(np.ones(shape), kind, dtype), axis=axis)
    assert lazy.shape == lazy_shape
    assert lazy.ndim == len(lazy_shape)
    assert len(lazy) == lazy_shape[0]
    assert lazy.dtype == dtype
    assert [leaf.axis for leaf in lazy.leaves] == [is_a]
    assert repr(lazy) == f"LazyTensor({ {'i': 'x', 'j': 'y', 'p': 'p'}[is_a] }0, shape={lazy_shape}, {dtype}, {kind})"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("make", "shape", "lazy_shape"),
    [
        (Vi, (5, 3), (5, 1, 3)),
        (Vi, (5,), (5, 1)),
        (Vj, (7, 3), (1, 7, 3)),
        (Vj, (7,), (1, 7)),
        (Vi, (1, 1), (1, 1, 1)),
        (Pm, (3,), (1, 1, 3)),
        (Pm, (1,), (1, 1)),
        (Pm, (), (1, 1)),
        (Pm, (1, 1, 3), (1, 1, 3)),
        (Pm, (1, 3), (1, 1, 3)),
    ],
)
def test_variables(make, shape, lazy_shape, kind):
    assert make(give(np.ones(shape), kind)).shape == lazy_shape


@pytest.mark.parametrize("number", [2, 2.0, 0.5, -0.5, 0.3, -0.3, 0, -0.0, 1e300, np.float64(0.3), np.float64(2), True * 3, float("inf")])
def test_made_from_a_number(number):
    lazy = LazyTensor(number)
    assert (lazy.shape, lazy.ndim, lazy.dtype) == ((1, 1), 2, None)
    close(Vi(X[:, 0]) * number, X[:, :1] * number)


def test_zeros_have_signs():
    x = np.array([1.0, 2.0])
    for lazy in (1 / (Vi(x) * -0.0), Vi(x) / -0.0, -Vi(x) / 0.0):
        np.testing.assert_array_equal(lazy.dense()[:, 0], [-np.inf, -np.inf])


def test_made_from_itself():
    lazy = Vi(X) * 2
    again = LazyTensor(lazy)
    assert again.formula is lazy.formula
    assert repr(again) == repr(lazy)


def test_repr_shows_the_formula():
    kernel = (-((Vi(X) - Vj(Y)) ** 2).sum(-1)).exp()
    assert repr(kernel) == "LazyTensor(exp(-sum((x0 - y1)**2)), shape=(5, 7), float64, numpy)"
    assert repr(LazyTensor(3)) == "LazyTensor(3, shape=(1, 1))"
    assert "x0" in repr(Vi(X) * 0.3)


def test_one_array_is_one_variable():
    assert len((Vi(X) * Vi(X) + Vj(X)).leaves) == 2


# ---- operators

NUMBERS = [2, 0.3, -1.5]
BINARY = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow, operator.lt, operator.le, operator.gt, operator.ge,
          operator.eq, operator.ne]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("op", BINARY, ids=lambda f: f.__name__)
def test_operators_with_anything(op, kind):
    lazy = Vi(give(X, kind)) * Vj(give(Y, kind))
    full = XD * YD
    others = [*NUMBERS, np.float64(0.7), XD, YD, X[2], X[:, :1, None], Y[:, :1][None], np.array(0.7), np.array([0.7])]
    for other in others:
        with np.errstate(all="ignore"):
            close(op(lazy, give(other, kind)), op(full, other) * 1.0)
            close(op(give(other, kind), lazy), op(other, full) * 1.0)
    close(op(lazy, Vj(give(Y, kind))), op(full, YD) * 1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_operators_of_the_issue(kind):
    x = give(XD, kind)
    lazy = LazyTensor(x) - LazyTensor(give(YD, kind))
    full = XD - YD
    close(x - lazy, XD - full)
    close(x * lazy, XD * full)
    close(2 / lazy, 2 / full)
    close(2**lazy, 2**full)
    close(-lazy, -full)
    close(+lazy, full)
    close(abs(lazy), abs(full))
    close(lazy**-2, full**-2.0)
    close(abs(lazy) ** 0.5, abs(full) ** 0.5)
    close(abs(lazy) ** -0.5, abs(full) ** -0.5)
    close(abs(lazy) ** 1.7, abs(full) ** 1.7)
    close(lazy**0, full**0)
    close(lazy**1, full)
    close(lazy**3, full**3)
    close(x < lazy, (XD < full) * 1.0)
    close(x >= lazy, (XD >= full) * 1.0)
    close(x == lazy, (XD == full) * 1.0)
    close(lazy | x, (full * XD).sum(-1))
    close(x | lazy, (full * XD).sum(-1))


FUNCTIONS = {
    "exp": np.exp, "log": np.log, "sqrt": np.sqrt, "rsqrt": lambda a: 1 / np.sqrt(a), "square": np.square, "abs": np.abs, "sign": np.sign,
    "step": lambda a: (a >= 0) * 1.0, "relu": lambda a: np.maximum(a, 0), "sin": np.sin, "cos": np.cos,
    "sqnorm2": lambda a: (a**2).sum(-1), "norm2": lambda a: np.sqrt((a**2).sum(-1)), "norm": lambda a: np.sqrt((a**2).sum(-1)),
    "normalize": lambda a: a / np.sqrt((a**2).sum(-1, keepdims=True)),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name, kind):
    full = XD * YD - (0.2 if name not in ("log", "sqrt", "rsqrt") else 0)
    lazy = Vi(give(X, kind)) * Vj(give(Y, kind)) - (0.2 if name not in ("log", "sqrt", "rsqrt") else 0)
    close(getattr(lazy, name)(), FUNCTIONS[name](full))


@pytest.mark.parametrize("kind", KINDS)
def test_methods_of_several(kind):
    x, y = Vi(give(X, kind)), Vj(give(Y, kind))
    close(x.minimum(y), np.minimum(XD, YD))
    close(x.maximum(1.1), np.maximum(XD, np.ones((1, N, 1)) * 1.1)[:, :1])
    close((x + y).clamp(1.8, 2.2), (XD + YD).clip(1.8, 2.2))
    close((x - y).clamp(give(-X[0] / 9, kind), y), np.minimum(np.maximum(XD - YD, -X[0] / 9), YD))
    close((x - y).ifelse(x, 0), np.where(XD - YD >= 0, XD, 0))
    close(x.sqdist(y), ((XD - YD) ** 2).sum(-1))
    close(x.dot(y), (XD * YD).sum(-1))
    close(x.power(2), XD**2)
    close(x.concat(y), np.concatenate([XD + 0 * YD, YD + 0 * XD], -1))
    close(concat([x, y, x * y]), np.concatenate([XD + 0 * YD, YD + 0 * XD, XD * YD], -1))
    close(cat([x]), XD)
    close(where(x < y, x, 2.0), np.where(XD < YD, XD, 2.0))
    close(where(give(XD, kind), x, y), XD + 0 * YD)
    close((x * y).sum(-1), (XD * YD).sum(-1))
    close((x * y).sum(dim=2), (XD * YD).sum(-1))
    close((x - y).min(axis=-1), (XD - YD).min(-1))
    close((x - y).max(2), (XD - YD).max(-1))


@pytest.mark.parametrize("kind", KINDS)
def test_components(kind):
    lazy, full = Vi(give(X, kind)) * Vj(give(Y, kind)), XD * YD
    for k in range(-D, D):
        close(lazy[..., k], full[..., k])
        close(lazy[:, :, k], full[..., k])
    close(lazy[..., 1:3], full[..., 1:3])
    close(lazy[:, :, :-1], full[..., :-1])
    close(lazy[..., :], full)
    close(lazy.elem(2), full[..., 2])
    close(lazy.extract(1, 2), full[..., 1:])
    close(lazy.extract(0, 3), full)
    assert lazy[..., 1].shape == (M, N)
    assert lazy[..., 1:2].shape == (M, N, 1)
    assert lazy[..., np.int64(1)].shape == (M, N)


@pytest.mark.parametrize("kind", KINDS)
def test_inner_dimensions_broadcast(kind):
    x, y = Vi(give(X, kind)), Vj(give(Y[:, 0], kind))
    assert (x * y).shape == (M, N, D)
    close(x * y, XD * YD[..., :1])
    assert (Vi(give(X[:, 0], kind)) * y).shape == (M, N)
    assert (Vi(give(X[:, :1], kind)) * y).shape == (M, N, 1)


# ---- reductions and products


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_reductions(kind, dtype):
    x, y = give(X, kind, dtype), give(Y, kind, dtype)
    matrix, full = Vi(x).dot(Vj(y)), (XD * YD).sum(-1)
    vector, fuller = Vi(x) * Vj(y), XD * YD
    tolerance = {"rtol": 1e-5 if dtype == "float32" else 1e-12}
    kinds = {"sum": np.sum, "prod": np.prod, "min": np.min, "max": np.max, "argmin": np.argmin, "argmax": np.argmax,
             "logsumexp": lambda a, axis: np.log(np.exp(a).sum(axis))}  # fmt: skip
    for name, numpy in kinds.items():
        for lazy, values in ((matrix, full), (vector, fuller)):
            for axis in (0, 1):
                for found in (getattr(lazy, name)(axis=axis), getattr(lazy, name)(dim=axis), getattr(lazy, name)(axis)):
                    assert type(found) is type(x)
                    assert str(found.dtype).endswith("int64" if name.startswith("arg") else dtype)
                    close(found, numpy(values, axis=axis), **tolerance)
    for axis in (0, 1):
        (low, where_low), (high, where_high) = matrix.min_argmin(axis), vector.max_argmax(axis)
        close(low, full.min(axis), **tolerance)
        close(where_low, full.argmin(axis))
        close(high, fuller.max(axis), **tolerance)
        close(where_high, fuller.argmax(axis))
        order = np.argsort(full, axis)
        close(matrix.argKmin(3, axis=axis), order.T[:, :3] if axis == 0 else order[:, :3])
        close(vector.Kmin(2, dim=axis), np.moveaxis(np.sort(fuller, axis), axis, 1)[:, :2], **tolerance)
        values, index = matrix.Kmin_argKmin(np.int64(2), axis=axis)
        close(values, np.moveaxis(np.sort(full, axis), axis, 1)[:, :2], **tolerance)
        close(index, np.moveaxis(order, axis, 1)[:, :2])
        close(matrix.logsumexp(axis, weight=y[:, 0][None]), np.log((np.exp(full) * Y[:, 0]).sum(axis)), **tolerance)
        close(matrix.logsumexp(axis, weight=Vj(y))[:, 1], np.log((np.exp(full) * Y[:, 1]).sum(axis)), **tolerance)
        share = np.exp(full) / np.exp(full).sum(axis, keepdims=True)
        close(matrix.sumsoftmaxweight(Vj(y), axis), (share[..., None] * YD).sum(axis), **tolerance)
        close(matrix.sumsoftmaxweight(Vj(y[:, 0]), axis), (share * Y[:, 0]).sum(axis), **tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_products(kind):
    lazy, full = Vi(give(X, kind)).dot(Vj(give(Y, kind))), X @ Y.T
    b, c = np.random.default_rng(3).normal(size=(N, 2)), np.random.default_rng(4).normal(size=(2, M))
    close(lazy @ give(b, kind), full @ b)
    close(lazy @ give(b[:, 0], kind), full @ b[:, 0])
    close(lazy.T @ give(c.T, kind), full.T @ c.T)
    close(lazy.t() @ give(c[0], kind), full.T @ c[0])
    close(give(c, kind) @ lazy, c @ full)
    close(give(c[0], kind) @ lazy, c[0] @ full)
    close(lazy @ give(b[:, :1], kind), full @ b[:, :1])
    assert lazy.T.shape == (N, M)
    close(lazy.T, full.T)
    close(lazy.T.T, full)
    close((Vi(give(X, kind)) - Vj(give(Y, kind))).T, (XD - YD).swapaxes(0, 1))
    close(Vi(give(X[:, 0], kind)) @ give(b, kind), X[:, :1] * b.sum(0))  # a column of numbers, the same in every column


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("axis", [0, 1])
def test_matrices_of_one_axis(axis, kind):
    close(Vi(give(X, kind)).sum(axis), X if axis == 1 else X.sum(0)[None])
    close(Vj(give(Y, kind)).sum(axis), Y if axis == 0 else Y.sum(0)[None])
    close((Vi(give(X, kind)) * 0 + 1).sum(axis), np.ones((M, D)) if axis == 1 else np.full((1, D), M))
    close(LazyTensor(give(X[0], kind)).sum(axis), X[:1])


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_row_or_column(kind):
    x, y = give(X[:1], kind), give(Y, kind)
    close((LazyTensor(x[:, None, :]) * LazyTensor(y[None])).sum(1), (X[:1, None] * YD).sum(1))
    close((Vi(x) * Vj(y)).sum(0), X[:1] * Y)
    close((Vi(x) * Vj(y[:1])).sum(-1).argKmin(1, axis=1), [[0]])


# ---- arrays are read where they are


def _views(array):
    """The same numbers, laid out differently."""
    wide = np.zeros((2 * len(array), 3 * array.shape[1]))
    wide[::2, ::3] = array
    reverse = np.ascontiguousarray(array[::-1, ::-1])
    locked = array.copy()
    locked.flags.writeable = False
    raw = np.zeros(array.nbytes + 4, np.uint8)
    unaligned = raw[4:].view(np.float64).reshape(array.shape)
    unaligned[:] = array
    return {
        "transposed": np.ascontiguousarray(array.T).T,
        "stepped": wide[::2, ::3],
        "negative": reverse[::-1, ::-1],
        "locked": locked,
        "unaligned": unaligned,
    }


@pytest.mark.parametrize("layout", ["transposed", "stepped", "negative", "locked", "unaligned"])
def test_layouts_of_numpy(layout):
    x, y = _views(X)[layout], _views(Y)[layout]
    for lazy in (Vi(x) - Vj(y), LazyTensor(x[:, None, :]) - LazyTensor(y[None]), LazyTensor(x, axis=0) - LazyTensor(y, axis=1)):
        np.testing.assert_array_equal((lazy**2).sum(axis=1), (Vi(X) - Vj(Y)).square().sum(axis=1))
    close(Vi(X).dot(Vj(Y)) @ _views(Y)[layout], X @ Y.T @ Y)
    close(Vi(x[:, 0]) * Vj(y[:, 1]), X[:, :1] * Y[:, 1])


@pytest.mark.cpu
@pytest.mark.parametrize("layout", ["transposed", "stepped"])
def test_layouts_of_torch(layout):
    x, y = torch.from_numpy(_views(X)[layout]), torch.from_numpy(_views(Y)[layout])
    assert not x.is_contiguous()
    close((Vi(x) - Vj(y)).square().sum(1), ((XD - YD) ** 2).sum(1))


def test_expanded_arrays():
    row = torch.from_numpy(X[:1]).expand(M, D)
    close((Vi(row) * Vj(torch.from_numpy(Y))).sum(1), (X[:1, None] * YD).sum(1).repeat(M, 0))
    close((Vi(np.broadcast_to(X[:, :1], (M, D))) * Vj(Y)).sum(1), (X[:, None, :1] * YD).sum(1))
    close(Vi(torch.from_numpy(X).expand(4, M, D)[1]) * Vj(torch.from_numpy(Y)), XD * YD)


def test_tensors_with_lazy_bits():
    x = torch.from_numpy(X)
    negated = torch.complex(torch.zeros(M, D, dtype=torch.float64), x).conj().imag
    assert negated.is_neg()
    close(Vi(negated) * Vj(torch.from_numpy(Y)), -XD * YD)


@pytest.mark.parametrize("kind", KINDS)
def test_arrays_are_not_copied(kind):
    x, y = give(X.copy(), kind), give(Y.copy(), kind)
    lazy = (Vi(x) * LazyTensor(y[None])).sum(-1)
    before = np.asarray(lazy.sum(1))
    x *= 2
    close(lazy.sum(1), 2 * before)
    y[:] = 1
    close(lazy.sum(1), N * 2 * X.sum(1))


# ---- numbers do not compile anew


def test_numbers_change_without_compiling():
    def fit(scale, power):
        return (((Vi(X) - Vj(Y)) ** 2).sum(-1) * scale + 0.1).__pow__(power).sum(axis=1)

    full = ((XD - YD) ** 2).sum(-1)
    close(fit(0.31, 1.1), ((full * 0.31 + 0.1) ** 1.1).sum(1))
    before = set(cpu._kernels)
    for scale, power in ((0.77, 1.3), (1.234, 2.7), (123.4, 0.3)):
        close(fit(scale, power), ((full * scale + 0.1) ** power).sum(1))
    assert set(cpu._kernels) == before


def test_sizes_and_arrays_change_without_compiling():
    (Vi(X) - Vj(Y)).sqnorm2().sum(axis=1)
    before = set(cpu._kernels)
    for m in (1, 3, 100):
        (Vi(np.ones((m, D))) - Vj(np.ones((m + 1, D)))).sqnorm2().sum(axis=1)
        (Vi(X) - Vj(np.ones((m + 1, D)))).sqnorm2().sum(dim=1)
    assert set(cpu._kernels) == before


@pytest.mark.parametrize("kind", KINDS)
def test_parameters(kind):
    x, y = Vi(give(X, kind)), Vj(give(Y, kind))
    weights = give(np.array([1.0, 2.0, -3.0]), kind)
    close(x * Pm(weights) - y, XD * [1, 2, -3] - YD)
    close(x * weights - y, XD * [1, 2, -3] - YD)
    close((x - y) * Pm(0.3), (XD - YD) * 0.3)
    close((x - y) * Pm(give(np.array(0.3), kind)), (XD - YD) * 0.3)
    close((x - y) * 0.3 + (x * 0.7), (XD - YD) * 0.3 + XD * 0.7)


# ---- derivatives, symbolic


def test_grad():
    x, y = Vi(X), Vj(Y)
    kernel = (-((x - y) ** 2).sum(-1)).exp()
    difference = XD - YD
    full = np.exp(-(difference**2).sum(-1, keepdims=True))
    close(kernel.grad(x), -2 * difference * full)
    close(kernel.grad(y), 2 * difference * full)
    close(kernel.grad(x, 2.5), -5 * difference * full)
    close(kernel.grad(x).sum(1), (-2 * difference * full).sum(1), rtol=1e-9)
    b = np.arange(7.0)
    close(kernel.grad(x, Vj(b)), -2 * difference * full * b[None, :, None])
    close((x * y).grad(x, Vi(X * 2)), 2 * XD * YD)
    close(x.grad(x) + 0 * y, np.ones((M, N, D)))
    # Of a gradient: the trace of the Hessian.
    hessian = sum(dense(kernel.grad(x)[..., k].grad(x)[..., k]) for k in range(D))
    close(hessian, (full * (4 * difference**2 - 2)).sum(-1), rtol=1e-10)


def test_diff():
    x, y = Vi(X), Vj(Y)
    kernel = (-((x - y) ** 2).sum(-1)).exp()
    difference = XD - YD
    full = np.exp(-(difference**2).sum(-1))
    v = np.random.default_rng(3).normal(size=(M, D))
    close(kernel.diff(x, Vi(v)), -2 * (difference * v[:, None]).sum(-1) * full)
    close((x * y).diff(y, Vj(Y)), XD * YD)
    assert kernel.diff(x, Vi(v)).shape == (M, N)
    assert (x * y).diff(x, Vi(v)).shape == (M, N, D)


def test_grad_of_a_parameter_and_of_nothing():
    p, x, y = Pm(np.array([0.5, 1.5, 2.5])), Vi(X), Vj(Y)
    lazy = ((x * p) | y).exp()
    close(lazy.grad(p), np.exp((XD * YD * [0.5, 1.5, 2.5]).sum(-1))[..., None] * XD * YD)
    zero = (x * 0 + y).grad(x)
    close(zero.sum(1), np.zeros((M, D)))


def test_public_names():
    for name in pairfold.__all__:
        assert getattr(pairfold, name)


@pytest.mark.parametrize("kind", KINDS)
def test_floor_division_goes_where_numpys_does(kind):
    numbers = np.array([5.0, -5.0, 0.0, 0.3, -0.3, np.inf, -np.inf, np.nan, 1.0, 7.5])
    by = np.array([2.0, -2.0, np.inf, -np.inf, 0.0, np.nan, 0.1, -0.3])
    lazy, divisor = Vi(give(numbers, kind)), Vj(give(by, kind))
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(np.asarray((lazy // divisor).dense()), np.floor_divide(numbers[:, None], by))
        for number in (2.0, -0.3, 0, math.inf):
            np.testing.assert_array_equal(np.asarray((lazy // number).dense())[:, 0], np.floor_divide(numbers, number))
            np.testing.assert_array_equal(np.asarray((number // divisor).dense())[0], np.floor_divide(number, by))
