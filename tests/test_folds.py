"""Reductions of rows, columns, both and all, against dense float64 NumPy: values, shapes, types and derivatives."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairfold import LazyTensor, Vi, Vj

torch = pytest.importorskip("torch")
KINDS = ["numpy", "torch"]
TOLERANCE = {"float32": 3e-6, "float64": 1e-13}


def give(array, kind, dtype="float64"):
    array = np.asarray(array).astype(dtype)
    return torch.from_numpy(array) if kind == "torch" else array


def problem(inner, batch, kind, dtype="float64", m=5, n=7, seed=0):
    """A symbolic array of vectors or numbers for each pair, and the same dense in float64, of arrays as they were stored."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(0.5, 1.5, (*batch, m, 1, 3)).astype(dtype)
    y = rng.uniform(0.5, 1.5, (*batch[-1:], 1, n, 3)).astype(dtype)
    lazy = LazyTensor(give(x, kind, dtype)) - LazyTensor(give(y, kind, dtype))
    full = x.astype("f8") - y.astype("f8")
    return (lazy, full) if inner else (lazy.sum(-1), full.sum(-1))


def axes_of(full, batch):
    """None, and all sets of axes that are not batch axes."""
    own = range(len(batch), full.ndim)
    some = [c for r in range(1, len(own) + 1) for c in itertools.combinations(own, r)]
    return [None, *some, *(c[0] for c in some if len(c) == 1), -1, -2, tuple(range(full.ndim))]


def dense(found):
    """An array; that of a symbolic matrix by products with unit vectors, which are exact."""
    if not isinstance(found, LazyTensor):
        return np.asarray(found.detach() if isinstance(found, torch.Tensor) else found)
    array = found.leaves[0].value
    units = np.eye(found.shape[len(found._batch) + 1])
    columns = [found * Vj(give(u, "torch" if isinstance(array, torch.Tensor) else "numpy", found.dtype)) for u in units]
    return np.stack([np.asarray(c.sum(len(found._batch) + 1)) for c in columns], len(found._batch) + 1)


def lse(a, axis, keepdims):
    return np.log(np.exp(a).sum(axis, keepdims=keepdims))


def norm(a, axis, keepdims):
    return np.sqrt(np.square(a).sum(axis, keepdims=keepdims))


REDUCTIONS = {
    "sum": np.sum, "mean": np.mean, "min": np.min, "max": np.max, "prod": np.prod, "logsumexp": lse, "norm": norm,
    "any": np.any, "all": np.all, "count_nonzero": np.count_nonzero,
    "var": lambda a, axis, keepdims: np.var(a, axis=axis, keepdims=keepdims, ddof=1),
    "std": lambda a, axis, keepdims: np.std(a, axis=axis, keepdims=keepdims, ddof=1),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("name", list(REDUCTIONS))
def test_axes(name, inner, batch, dtype, kind):
    lazy, full = problem(inner, batch, kind, dtype)
    if name in ("any", "all", "count_nonzero"):
        lazy, full = lazy > 0.6, (full > 0.6) * 1.0
    options = {"correction": 1} if name in ("var", "std") else {}
    for axis in axes_of(full, batch):
        alone = inner and axis in (-1, full.ndim - 1, (full.ndim - 1,))
        if alone and name in ("prod", "logsumexp"):
            continue
        for keepdims in (False, True):
            if name == "norm" and axis is None and inner:
                continue
            found = getattr(lazy, name)(axis, keepdims=keepdims, **options)
            want = REDUCTIONS[name](full, axis=axis, keepdims=keepdims)
            assert isinstance(found, LazyTensor) == alone
            assert tuple(found.shape) == want.shape
            if not alone:
                of = {"any": "bool", "all": "bool", "count_nonzero": "int64"}.get(name, dtype)
                assert str(found.dtype).removeprefix("torch.") == of
                assert isinstance(found, torch.Tensor) == (kind == "torch")
            np.testing.assert_allclose(dense(found), want, rtol=20 * TOLERANCE[dtype], atol=5 * TOLERANCE[dtype])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("name", ["argmin", "argmax"])
def test_places(name, inner, batch, kind):
    lazy, full = problem(inner, batch, kind)
    for rounded in (False, True):
        if rounded:  # many ties
            lazy, full = lazy.round(0), np.round(full)
        for keepdims in (False, True):
            for axis in (None, len(batch), len(batch) + 1):
                found = getattr(lazy, name)(axis, keepdims=keepdims)
                np.testing.assert_array_equal(np.asarray(found), getattr(full, name)(axis, keepdims=keepdims))
                assert str(found.dtype).endswith("int64")
            # NumPy's argmin takes no several axes: they are made one.
            start = full.reshape(*batch, -1, *full.shape[len(batch) + 2 :])
            found = getattr(lazy, name)((len(batch), len(batch) + 1), keepdims=keepdims)
            want = getattr(start, name)(len(batch))
            np.testing.assert_array_equal(np.asarray(found).reshape(want.shape), want)
            assert len(found.shape) == (full.ndim if keepdims else full.ndim - 2)
            if inner:
                symbolic = getattr(lazy, name)(-1, keepdims=keepdims)
                assert isinstance(symbolic, LazyTensor)
                np.testing.assert_array_equal(dense(symbolic), getattr(full, name)(-1, keepdims=keepdims))
                best, place = getattr(lazy, f"{name[3:]}_{name}")(-1)
                np.testing.assert_array_equal(dense(best), getattr(full, name[3:])(-1))
                np.testing.assert_array_equal(dense(place), getattr(full, name)(-1))
                want = getattr(full.reshape(*full.shape[:-2], -1), name)(-1)
                np.testing.assert_array_equal(np.asarray(getattr(lazy, name)((-1, -2))), want)


def several_axes(full, batch):
    """All sets of axes that are not batch axes, but the inner one alone."""
    own = range(len(batch), full.ndim)
    return [c for r in range(1, len(own) + 1) for c in itertools.combinations(own, r) if c != (len(batch) + 2,)]


def flattened(full, axes):
    """The dense array with those axes as its last one."""
    return np.moveaxis(full, axes, range(-len(axes), 0)).reshape(*[n for k, n in enumerate(full.shape) if k not in axes], -1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
@pytest.mark.parametrize("inner", [False, True])
def test_selections_of_several_axes(inner, batch, kind):
    lazy, full = problem(inner, batch, kind)
    lazy, full = lazy.round(0), np.round(full)  # many ties
    for axes in [*several_axes(full, batch), tuple(range(full.ndim))]:
        entries = flattened(full, axes)
        last = len(batch) + inner + 1
        for K in {1, 3, min(30, entries.shape[-1])}:
            order = np.argsort(entries, -1, kind="stable")[..., :K]
            values = np.take_along_axis(entries, order, -1)
            if inner and axes[-1] < last:
                order, values = order.swapaxes(-1, -2), values.swapaxes(-1, -2)
            found, index = lazy.Kmin_argKmin(K, axis=axes)
            np.testing.assert_array_equal(found, values, strict=kind == "numpy")
            np.testing.assert_array_equal(index, order, strict=kind == "numpy")
            np.testing.assert_array_equal(lazy.Kmin(K, axis=axes), values)
            np.testing.assert_array_equal(lazy.argKmin(K, axis=axes), order)
            kept = np.asarray(lazy.argKmin(K, axis=axes, keepdims=True))
            assert kept.shape == tuple(K if k == axes[-1] else 1 if k in axes else n for k, n in enumerate(full.shape))
            np.testing.assert_array_equal(flattened(kept, axes), np.argsort(entries, -1, kind="stable")[..., :K])
        for name in ("min", "max"):
            value, place = getattr(lazy, f"{name}_arg{name}")(axes)
            np.testing.assert_array_equal(value, getattr(entries, name)(-1))
            np.testing.assert_array_equal(place, getattr(entries, f"arg{name}")(-1))
            value, place = getattr(lazy, f"{name}_arg{name}")(axes, keepdims=True)
            assert value.shape == place.shape == full.max(axes, keepdims=True).shape
    np.testing.assert_array_equal(lazy.argKmin(4), np.argsort(full.ravel(), kind="stable")[:4])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize("inner", [False, True])
def test_many_smallest(inner, batch, kind):
    """More than a kernel inserts, along one axis."""
    rng = np.random.default_rng(10)
    x, y = rng.integers(-9, 9, (*batch, 5, 1, 2)) * 1.0, rng.integers(-9, 9, (1, 1100, 2)) * 1.0
    y[0, 5] = np.nan
    lazy, full = LazyTensor(give(x, kind)) * LazyTensor(give(y, kind)), x * y
    if not inner:
        lazy, full = lazy.sum(-1), full.sum(-1)
    columns = len(batch) + 1
    order = np.take(np.argsort(full, columns, kind="stable"), range(1050), columns)
    values, index = lazy.Kmin_argKmin(1050, axis=columns)
    np.testing.assert_array_equal(index, order)
    np.testing.assert_array_equal(values, np.take_along_axis(full, order, columns))
    np.testing.assert_array_equal(lazy.T.argKmin(1050, axis=len(batch)), order)
    np.testing.assert_array_equal(lazy.T.Kmin(1050, axis=len(batch), keepdims=True), values.swapaxes(len(batch), columns))


def test_more_smallest_than_a_stack_holds():
    x, y = np.random.default_rng(11).normal(size=(2, 1)), np.random.default_rng(12).normal(size=60_000)
    np.testing.assert_array_equal((Vi(x) * Vj(y[:, None])).sum(-1).argKmin(59_990, axis=1), np.argsort(x * y, 1)[:, :59_990])


@pytest.mark.parametrize("far", [False, True])
def test_many_smallest_of_both_axes(far):
    """Of few rows or of all of them."""
    rng = np.random.default_rng(13)
    x, y = rng.normal(size=(60, 2)), rng.normal(size=(50, 2))
    x[7] *= 100 if far else 1
    lazy, full = -(((Vi(x) - Vj(y)) ** 2).sum(-1)).round(1), -((x[:, None] - y) ** 2).sum(-1).round(1)
    for K in (9, 50, 700, 3000):
        np.testing.assert_array_equal(lazy.argKmin(K), np.argsort(full.ravel(), kind="stable")[:K])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [(), (2,)])
def test_softmax_of_several_axes(batch, kind):
    rng = np.random.default_rng(8)
    for inner in (False, True):
        lazy, full = problem(inner, batch, kind)
        w = rng.normal(size=(7, 3)) if inner else rng.normal(size=7)
        share = np.exp(full)
        for axes in (several_axes(full, batch) if inner else [tuple(range(len(batch), full.ndim))]) + [tuple(range(full.ndim))]:
            want = (share * w).sum(axes) / share.sum(axes)
            np.testing.assert_allclose(lazy.sumsoftmaxweight(Vj(give(w, kind)), axis=axes), want, rtol=1e-13)
            kept = lazy.sumsoftmaxweight(Vj(give(w, kind)), axis=axes, keepdims=True)
            assert tuple(kept.shape) == share.sum(axes, keepdims=True).shape
    lazy, full = problem(False, (), kind)
    v = rng.normal(size=(7, 2))  # more components than the formula
    share = np.exp(full) / np.exp(full).sum()
    np.testing.assert_allclose(lazy.sumsoftmaxweight(Vj(give(v, kind)), axis=(0, 1)), (share[..., None] * v).sum((0, 1)), rtol=1e-13)


def test_axes_that_do_not_exist():
    lazy, _ = problem(False, (), "numpy")
    assert isinstance(lazy.sum(2), LazyTensor)  # of the one component of each pair
    np.testing.assert_allclose(lazy.sum((1, 2)), lazy.sum(1))
    with pytest.raises(ValueError, match="not 3"):
        lazy.sum((0, 3))


OVER_BOTH = {  # of a symbolic matrix, and of the dense one
    "Kmin": (lambda D, y: D.Kmin(5), lambda d, y: d.flatten().sort().values[:5]),
    "min_argmin": (lambda D, y: D.min_argmin()[0], lambda d, y: d.min()),
    "max_argmax": (lambda D, y: D.max_argmax()[0], lambda d, y: d.max()),
    "sumsoftmaxweight": (
        lambda D, y: D.sumsoftmaxweight(Vj(y), axis=(0, 1)),
        lambda d, y: (d.flatten().softmax(0).reshape(6, 7)[..., None] * y).sum((0, 1)),
    ),
}


@pytest.mark.parametrize("name", list(OVER_BOTH))
def test_derivatives_over_both_axes(name):
    """To second order."""
    x, y = (torch.tensor(a, requires_grad=True) for a in np.split(np.random.default_rng(9).normal(size=(13, 2)), [6]))
    found = []
    for reduce, D in zip(OVER_BOTH[name], [((Vi(x) - Vj(y)) ** 2).sum(-1), ((x[:, None] - y) ** 2).sum(-1)], strict=True):
        out = reduce(D, y)
        first = torch.autograd.grad(out.sin().sum(), (x, y), create_graph=True)
        found.append((out, *first, *torch.autograd.grad(sum(g.square().sum() for g in first), (x, y))))
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_places_of_nan(kind):
    x, y = np.arange(1.0, 5), np.arange(1.0, 7)
    y[3] = np.nan
    lazy, full = Vi(give(x, kind)) * Vj(give(y, kind)), x[:, None] * y
    assert lazy.argmin() == full.argmin() == 3
    assert lazy.argmax() == full.argmax() == 3
    for name in ("min", "max", "sum", "mean", "var", "std", "prod", "norm"):
        assert np.isnan(float(getattr(lazy, name)()))
    assert lazy.any()
    assert lazy.count_nonzero() == np.count_nonzero(full)


@pytest.mark.parametrize("kind", KINDS)
def test_weighted_sums_over_both(kind):
    lazy, full = problem(False, (2,), kind)
    w = np.random.default_rng(5).uniform(0.5, 1, 7)
    found = lazy.logsumexp((1, 2), weight=Vj(give(w, kind)))
    np.testing.assert_allclose(found, np.log((np.exp(full) * w).sum((1, 2))), rtol=1e-13)


@pytest.mark.parametrize("name", ["argmin", "argmax", "min_argmin", "max_argmax", "sumsoftmaxweight"])
def test_axes_that_stay(name):
    lazy, full = problem(True, (2,), "numpy")
    weight = (Vj(np.ones(7)),) if name == "sumsoftmaxweight" else ()
    for axis in (1, 2):
        dropped, kept = getattr(lazy, name)(*weight, axis=axis), getattr(lazy, name)(*weight, axis=axis, keepdims=True)
        for a, b in zip(dropped, kept, strict=True) if isinstance(dropped, tuple) else [(dropped, kept)]:
            assert b.shape == tuple(1 if k == axis else n for k, n in enumerate(full.shape))
            np.testing.assert_array_equal(np.squeeze(b, axis), a)


def test_names_of_both_frameworks():
    lazy, full = problem(False, (), "torch")
    want = torch.from_numpy(full)
    torch.testing.assert_close(lazy.sum(dim=1, keepdim=True), want.sum(dim=1, keepdim=True))
    torch.testing.assert_close(lazy.sum(axis=1, dim=1), want.sum(1))
    torch.testing.assert_close(lazy.logsumexp(1, True), want.logsumexp(1, True))
    torch.testing.assert_close(lazy.var(), want.var())  # what is taken off the number of values is the framework's
    torch.testing.assert_close(lazy.std(1), want.std(1))
    numpy, full = problem(False, (), "numpy")
    np.testing.assert_allclose([numpy.var(), numpy.var(ddof=1), numpy.std()], [full.var(), full.var(ddof=1), full.std()])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from(["sum", "mean", "var", "min", "logsumexp", "argmax"]), st.booleans())
def test_any_shape(m, n, name, inner):
    lazy, full = problem(inner, (), "numpy", m=m, n=n, seed=m * 41 + n)
    want = (lse(full, None, False) if name == "logsumexp" else getattr(full, name)()) * 1.0
    np.testing.assert_allclose(getattr(lazy, name)(), want, rtol=1e-12, atol=1e-13)


# ---- accuracy


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("axis", [0, 1, None])
def test_variance_of_data_far_from_zero(axis, dtype):
    """A sum of squares less the squared mean would give nothing. The oracle is of the same numbers less the offset, which is exact."""
    offset = {"float32": 2.0**14, "float64": 2.0**40}[dtype]
    rng = np.random.default_rng(3)
    x, y = (offset + rng.normal(size=300)).astype(dtype), (offset + rng.normal(size=500)).astype(dtype)
    K = Vi(x * 0) + Vj(y) if axis == 1 else Vi(x) + Vj(y * 0)
    want = ((y if axis == 1 else x).astype("f8") - offset).var()
    np.testing.assert_allclose(K.var(axis), np.broadcast_to(want, np.shape(K.var(axis))), rtol=1e-6 if dtype == "float32" else 1e-13)
    naive = (K * K).mean(axis) - K.mean(axis) ** 2
    assert abs(naive / want - 1).max() > 1e-2  # else the test would show nothing


def test_equal_values_have_no_variance():
    K = Vi(np.full(50, 0.1, np.float32)) + Vj(np.zeros(3000, np.float32))
    assert (K.std(1) >= 0).all()
    np.testing.assert_allclose(K.var(1), 0, atol=1e-14)
    x = torch.full((5,), 0.1, requires_grad=True)
    K = Vi(x) + Vj(torch.zeros(30))
    (gradient,) = torch.autograd.grad((K - K).std(1).sum(), x)
    assert torch.equal(gradient, torch.zeros(5))


def test_half_precision_on_the_way():
    """What would overflow in float16, though the result does not."""
    x, y = np.full((4, 1), 200, np.float16), np.full((30_000, 1), 2, np.float16)
    K = Vi(x)[..., 0] * Vj(y)[..., 0]
    np.testing.assert_array_equal(K.mean(1), np.full(4, 400, np.float16))
    np.testing.assert_array_equal(K.mean(), np.float16(400))
    assert K.mean().dtype == np.float16
    np.testing.assert_allclose((K / 400).norm(1), np.full(4, np.sqrt(30_000)), rtol=1e-3)
    np.testing.assert_array_equal((K > 0).count_nonzero(1), np.full(4, 30_000))


def test_counts_beyond_float32():
    K = Vi(np.ones(5000, np.float32)) + Vj(np.zeros(5000, np.float32))
    assert K.count_nonzero() == 25_000_000
    K = Vj(np.ones(2**24 + 3, np.float32)) + Vi(np.zeros(1, np.float32))
    np.testing.assert_array_equal(K.count_nonzero(1), [2**24 + 3])


# ---- nothing to reduce


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("m", "n"), [(0, 4), (4, 0), (0, 0)])
def test_empty(m, n, kind):
    lazy = Vi(give(np.ones((m, 3)), kind)) * Vj(give(np.ones((n, 3)), kind))
    for K in (lazy, lazy.sum(-1)):
        found = [float(getattr(K, name)()) for name in ("sum", "prod", "min", "max", "logsumexp", "argmin", "argmax", "any", "all")]
        assert found == [0, 1, np.inf, -np.inf, -np.inf, -1, -1, 0, 1]
        assert K.count_nonzero((0, 1)).shape == (() if K is not lazy else (3,))
        assert tuple(K.argmin((0, 1)).shape) == (() if K is not lazy else (3,))


@pytest.mark.parametrize("dtype", ["float32", "float64", "bool", "int64", "complex64"])
def test_products_with_no_columns(dtype):
    x, y, b = np.ones((5, 3), np.float32), np.ones((7, 3), np.float32), np.ones((7, 0), dtype)
    for K in (Vi(x) | Vj(y), (Vi(x) | Vj(y)).tril()):
        found, wanted = K @ b, K.dense() @ b
        assert found.shape == wanted.shape and found.dtype == wanted.dtype
    assert ((Vi(x) | Vj(y)) @ np.ones((2, 7, 0))).shape == (2, 5, 0)
    b = torch.ones(7, 0, requires_grad=True)
    ((Vi(torch.tensor(x)) | Vj(torch.tensor(y))) @ b).sum().backward()
    assert b.grad.shape == (7, 0)


# ---- derivatives


@pytest.mark.parametrize("name", ["sum", "mean", "var", "std", "norm", "prod", "logsumexp", "min", "max"])
@pytest.mark.parametrize("axis", [(1, 2), 1, 2, None])
def test_gradients(name, axis):
    rng = np.random.default_rng(8)
    x = torch.tensor(rng.uniform(0.5, 1.5, (2, 4, 1, 3)), requires_grad=True)
    y = torch.tensor(rng.uniform(0.5, 1.5, (1, 6, 3)), requires_grad=True)

    def reduced(K):
        if isinstance(K, LazyTensor):
            return getattr(K, name)(axis)
        axes = tuple(range(3)) if axis is None else axis
        if name == "prod":
            return K.flatten(1).prod(1).prod() if axis is None else K.flatten(1).prod(1) if axis == (1, 2) else K.prod(axis)
        if name == "norm":
            return torch.linalg.vector_norm(K, dim=axes)
        return {"min": K.amin, "max": K.amax}.get(name, getattr(K, name))(dim=axes)

    def both(K):
        out = reduced(K)
        first = torch.autograd.grad((out * torch.arange(1.0, out.numel() + 1).reshape(out.shape)).sin().sum(), (x, y), create_graph=True)
        return (out, *first, *torch.autograd.grad(sum(g.square().sum() for g in first), (x, y)))

    squared = (LazyTensor(x) - LazyTensor(y)) ** 2
    for found, want in zip(both((squared.sum(-1) / 9).exp()), both((((x - y) ** 2).sum(-1) / 9).exp()), strict=True):
        torch.testing.assert_close(found, want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dim", [3, 12])
@pytest.mark.parametrize("rows", [2, 16, 17, 40])
def test_few_rows(rows, dim, random):
    """Enough pairs for a kernel of fewer rows; K, a leftover of columns and every kind of partial."""
    x, y = random.normal(size=(rows, dim)).astype("f"), random.normal(size=(2**18 // rows + 5, dim)).astype("f")
    b = random.normal(size=(len(y), 2)).astype("f")
    distance = ((x.astype(float)[:, None] - y) ** 2).sum(-1)
    K = (Vi(x) - Vj(y)).sqnorm2()  # noqa: N806
    nearest = np.take_along_axis(distance, K.argKmin(7, 1), 1)
    np.testing.assert_allclose(nearest, np.sort(distance, axis=1)[:, :7], rtol=1e-5)
    assert ((-K / 4).exp() @ b).shape == (rows, 2)
    want = np.exp(-distance / 4) @ b
    np.testing.assert_allclose((-K / 4).exp() @ b, want, rtol=0, atol=2e-5 * np.abs(want).max())
    np.testing.assert_allclose((-K).logsumexp(1), np.log(np.exp(-distance).sum(1)), rtol=1e-5, atol=1e-5)
    held = "of the last 2 rows a vector holds the pairs" if dim == 3 else "all rows are in 1 vector"
    assert rows > 2 or held in str((-K).exp().explain())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("dim", "columns"), [(3, 7), (3, 50), (12, 2), (12, 13)])
@pytest.mark.parametrize(("m", "n"), [(3, 5), (70, 300), (33, 64)])
def test_sums_of_products(m, n, dim, columns, dtype, random):
    """A number of the pair times what is long, alone and beside other terms, and their derivatives."""
    x, y, b, v = (random.normal(size=(k, d)) for k, d in ((m, dim), (n, dim), (n, columns), (m, columns)))
    tensors = [torch.tensor(a.astype(dtype), requires_grad=True) for a in (x, y, b, v)]
    full = [t.detach().double().requires_grad_() for t in tensors]
    found, wanted = [], []
    for inputs, results in ((tensors, found), (full, wanted)):
        x_t, y_t, b_t, v_t = inputs
        if inputs is tensors:
            distance = Vi(x_t).sqdist(Vj(y_t))
            once = (-distance / 4).exp() @ b_t
            terms = ((-distance / 4).exp() * Vj(b_t) * Vi(v_t)).concat(distance * (Vi(x_t) - Vj(y_t))).sum(1)
        else:
            distance = ((x_t[:, None] - y_t) ** 2).sum(-1)
            once = (-distance / 4).exp() @ b_t
            factor = (-distance / 4).exp()[..., None] * b_t * v_t[:, None]
            terms = torch.cat([factor, distance[..., None] * (x_t[:, None] - y_t)], -1).sum(1)
        gradients = torch.autograd.grad((once**2).sum() + (terms**2).sum(), inputs)
        results += [once, terms, *gradients]
    for a, w in zip(found, wanted, strict=True):
        w = w.detach().numpy()
        np.testing.assert_allclose(a.detach().numpy(), w, rtol=0, atol=(2e-5 if dtype == "float32" else 1e-13) * np.abs(w).max())


def test_thousands_of_components(random):
    """Partials that no stack holds."""
    x, y, b = (random.normal(size=(n, d)).astype("f") for n, d in ((9, 3), (20, 3), (20, 30_000)))
    distance = ((x[:, None].astype(float) - y) ** 2).sum(-1)
    np.testing.assert_allclose((-(Vi(x) - Vj(y)).sqnorm2()).exp() @ b, np.exp(-distance) @ b, rtol=0, atol=2e-5)
    found = (Vi(x[:, :1]) * Vj(b)).max(1)
    np.testing.assert_allclose(found, (x[:, None, :1] * b).max(1), rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_products_asked_for_again(kind, random):
    """What is kept of a product is for products alike alone: of the same sizes, types and accumulation, and of another array than K's."""
    x, y = random.random((5, 1)), random.random((7, 1))
    X, Y = give(x, kind, "float32"), give(y, kind, "float32")
    K, dense = (-((Vi(X) - Vj(Y)) ** 2).sum(-1)).exp(), np.exp(-((x - y.T) ** 2))
    for b in (random.random((7, 1)), y, random.random((7, 2)), random.random(7), random.random((3, 7, 1)), random.random((7, 1))):
        for dtype in ("float32", "float64"):
            B = Y if b is y and dtype == "float32" else give(b, kind, dtype)
            for _ in range(2):
                found = K @ B
                assert np.asarray(found).dtype == dtype
                np.testing.assert_allclose(found, dense @ b, rtol=2e-6)
    other = (-((Vi(X) - Vj(Y)) ** 2).sum(-1)).exp()  # the same formula of other arrays
    np.testing.assert_allclose(other @ give(y + 1, kind, "float32"), dense @ (y + 1), rtol=2e-6)
    if kind == "torch":
        B = give(random.random((7, 1)), kind, "float32").requires_grad_()
        (K @ B).sum().backward()
        np.testing.assert_allclose(B.grad, dense.sum(0)[:, None], rtol=2e-6)


@pytest.mark.parametrize("value", [1e200, -1e155, 1e154, np.inf, np.nan])
def test_variances_of_large_numbers(value):
    """inf where squares are too large, as NumPy's; nan where the mean is."""
    x, y = np.array([value, 1.0, 2.0, -value]), np.array([1.0, 2.0, 1e10])
    dense = x[:, None] * y
    with np.errstate(all="ignore"):
        for axis in (0, 1, None):
            np.testing.assert_allclose((Vi(x) * Vj(y)).var(axis=axis), dense.var(axis=axis), rtol=1e-12)
            np.testing.assert_allclose((Vi(x) * Vj(y)).std(axis=axis), dense.std(axis=axis), rtol=1e-12)


@pytest.mark.parametrize("axis", [0, 1, (0, 1), None])
@pytest.mark.parametrize("mask", [lambda K: K, lambda K: K.tril(3)], ids=["whole", "tril"])
def test_kept_axes_of_long_weights(mask, axis, random):
    """Whose components, not the matrix's, are the last axis."""
    x, y, w = random.random((5, 3)), random.random((7, 3)), random.random((7, 2))
    K = mask(Vi(x) | Vj(y))
    for name in ("logsumexp", "sumsoftmaxweight"):
        found = getattr(K, name)(axis=axis, weight=Vj(w))
        kept = getattr(K, name)(axis=axis, weight=Vj(w), keepdims=True)
        assert kept.shape == (*np.empty((5, 7)).sum(axis=axis, keepdims=True).shape, 2)
        np.testing.assert_array_equal(kept.reshape(found.shape), found)


def test_counts_of_float64():
    """Of the formula as it is, not of one in a narrower type that could count as far."""
    t = np.array([1.7e9 + 0.25, 1.7e9 + 0.5])
    one, near = np.ones(1), np.array([1, 1 + 1e-9, 2])
    small = np.array([1e-50, 1e-30, 0, 1])
    for K, full in [
        (abs(Vi(t) - Vj(t)) > 0.1, abs(t[:, None] - t) > 0.1),
        (Vi(one) != Vj(near), one[:, None] != near),
        (Vi(one) * Vj(small), one[:, None] * small),
        ((Vi(one) * 1e300) == (Vj(near) * 1e300), one[:, None] * 1e300 == near * 1e300),
        ((Vi(t) - Vj(t)).tril(), np.tril(t[:, None] - t)),
    ]:
        for axis in (0, 1, None):
            np.testing.assert_array_equal(K.count_nonzero(axis), np.count_nonzero(full, axis))
