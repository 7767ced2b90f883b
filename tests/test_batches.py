"""Batch axes before (M, N): every reduction, on both axes, as NumPy and PyTorch broadcast them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairfold import LazyTensor, get_num_threads, set_num_threads
from pairfold.reductions import KMIN, REDUCTIONS
from pairfold.runtime import cpu
from pairfold.runtime.compile import host
from tests.helpers import eps

torch = pytest.importorskip("torch")


def arrays(rng, batches, m, n, dim, dtype):
    """Rows, columns, a parameter and weights, each with batch axes of its own."""
    rows, columns, parameter, weight = batches
    return (
        rng.random((*rows, m, 1, dim)).astype(dtype),
        rng.random((*columns, 1, n, dim)).astype(dtype),
        rng.uniform(0.2, 1, size=(*parameter, 1, 1, 1)).astype(dtype),
        rng.normal(size=(*weight, 1, n, 2)).astype(dtype),
    )


def kernel(x, y, p, exp):
    return exp(-(((x - y) ** 2) * p).sum(-1))


def dense(x, y, p):
    return kernel(*(a.astype(np.float64) for a in (x, y, p)), np.exp)


@st.composite
def batch_shapes(draw):
    """Four shapes that broadcast: each the whole, some axes of length one, some left off."""
    whole = draw(st.sampled_from([(), (3,), (2, 3), (2, 1, 3)]))
    shapes = []
    for _ in range(4):
        own = tuple(n if draw(st.booleans()) else 1 for n in whole)
        shapes.append(own[draw(st.integers(0, len(whole))) :])
    return shapes


@settings(max_examples=40, deadline=None)
@given(
    batches=batch_shapes(),
    m=st.sampled_from([1, 5, 16, 70]),
    n=st.sampled_from([1, 7, 33, 130]),
    dim=st.sampled_from([1, 3, 10]),
    dtype=st.sampled_from(["float32", "float64"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_reductions(batches, m, n, dim, dtype, seed):
    x, y, p, w = arrays(np.random.default_rng(seed), batches, m, n, dim, dtype)
    K, full = kernel(*map(LazyTensor, (x, y, p)), lambda f: f.exp()), dense(x, y, p)
    assert K.shape == np.broadcast_shapes(full.shape)
    rtol = 60 * eps(dtype)
    full_w = w.astype(np.float64)
    for axis in (-2, -1):
        np.testing.assert_allclose(K.sum(axis), full.sum(axis), rtol=rtol)
        np.testing.assert_allclose(K.logsumexp(axis), np.log(np.exp(full).sum(axis)), rtol=rtol, atol=rtol)
        np.testing.assert_allclose(K.max(axis), full.max(axis), rtol=rtol)
        index = K.argmin(axis)
        np.testing.assert_allclose(np.take_along_axis(full, np.expand_dims(index, axis), axis).squeeze(axis), full.min(axis), rtol=rtol)
        for name, reduction in KMIN.items():
            found = getattr(K, name)(1, axis=axis)
            value = found[0] if reduction.public == 2 else found
            if name != "argKmin":
                np.testing.assert_allclose(value[..., 0], full.min(axis), rtol=rtol)
    product = (np.broadcast_to(full, np.broadcast_shapes(full.shape, (*w.shape[:-3], 1, 1)))) @ full_w[..., 0, :, :]
    np.testing.assert_allclose(K @ w[..., 0, :, :], product, rtol=rtol, atol=rtol * np.abs(product).max())
    soft = (np.exp(full)[..., None] * full_w).sum(-2) / np.exp(full).sum(-1)[..., None]
    np.testing.assert_allclose(K.sumsoftmaxweight(w, axis=-1), soft, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("name", sorted(set(REDUCTIONS) - {"logsumexp_weight", "sumsoftmaxweight"}))
@pytest.mark.parametrize("axis", [2, 3])
def test_every_reduction_is_that_of_each_batch(name, axis):
    rng = np.random.default_rng(3)
    x, y, p, _ = arrays(rng, [(4, 1), (3,), (4, 1), ()], 21, 18, 3, "float64")
    K, full = kernel(*map(LazyTensor, (x, y, p)), lambda f: f.exp()), dense(x, y, p)
    reduction = REDUCTIONS[name](4) if name in KMIN else REDUCTIONS[name]()
    found = getattr(K, name)(*[4] * (name in KMIN), axis=axis)
    found = found if isinstance(found, tuple) else (found,)
    for a in range(4):
        for b in range(3):
            values = full[a, b] if axis == 3 else full[a, b].T
            for got, want in zip(found, reduction.numpy(values[:, :, None]), strict=True):
                want = want[..., 0]
                assert got.dtype == (np.int64 if want.dtype == np.int64 else np.float64)
                np.testing.assert_allclose(got[a, b], want, rtol=1e-13)


@pytest.mark.parametrize("batches", [[(3,), (3,), (3,), (3,)], [(2, 3), (3,), (2, 1), ()], [(), (3,), (), (1,)]])
@pytest.mark.parametrize("reduction", ["sum", "logsumexp", "max", "product", "softmax"])
def test_derivatives(batches, reduction):
    """To second order, against dense PyTorch."""
    inputs = [torch.tensor(a, requires_grad=True) for a in arrays(np.random.default_rng(5), batches, 12, 9, 3, "float64")]

    def result(x, y, p, w, lazy):
        make = LazyTensor if lazy else lambda a: a
        K = kernel(*map(make, (x, y, p)), torch.exp if not lazy else lambda f: f.exp())
        if reduction == "product":
            return K @ w[..., 0, :, :]
        if reduction == "softmax":
            if lazy:
                return K.sumsoftmaxweight(w, axis=-1)
            return (torch.softmax(K, -1)[..., None] * w).sum(-2)
        if reduction == "max":
            return K.max(dim=-1) if lazy else K.amax(-1)
        return getattr(K, reduction)(dim=-1)

    grads = []
    for lazy in (True, False):
        out = result(*inputs, lazy)
        first = torch.autograd.grad(out.sin().sum(), inputs, create_graph=True, allow_unused=True)
        some = [g for g in first if g is not None]
        second = torch.autograd.grad(sum(g.square().sum() for g in some), inputs, allow_unused=True)
        grads.append((out, *first, *second))
    for got, want in zip(*grads, strict=True):
        assert (got is None) == (want is None) or (want if got is None else got).abs().max() == 0
        if got is not None and want is not None:
            assert got.shape == want.shape
            torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


def test_vmap_adds_a_batch_axis():
    rng = np.random.default_rng(6)
    x, y = torch.tensor(rng.normal(size=(4, 11, 3))), torch.tensor(rng.normal(size=(9, 3, 4)))
    s = torch.tensor(rng.uniform(0.5, 1, size=(2, 1, 1, 1)))

    def f(x, y, exp, make):
        return kernel(make(x[:, None]), make(y[None]), make(s), exp).sum(-1)

    got = torch.func.vmap(lambda x, y: f(x, y, lambda k: k.exp(), LazyTensor), in_dims=(0, 2))(x, y)
    want = torch.stack([f(x[k], y[..., k], torch.exp, lambda a: a) for k in range(4)])
    torch.testing.assert_close(got, want)


def test_strides_are_followed():
    """Transposed, reversed, repeated and sliced batches are read in place."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=(3, 40, 6, 5))[::-1, ::2, ::3].transpose(2, 0, 1, 3)  # (2, 3, 20, 5)
    y = np.broadcast_to(rng.normal(size=(1, 3, 8, 5)), (2, 3, 8, 5))
    K = LazyTensor(x[..., :, None, :]) | LazyTensor(y[..., None, :, :])
    np.testing.assert_allclose(K.sum(-1), np.einsum("abid,abjd->abi", x, y), rtol=1e-12)


def test_many_batches_in_turns(monkeypatch):
    monkeypatch.setattr(cpu, "SCRATCH_BYTES", 20_000)
    rng = np.random.default_rng(8)
    x, y = rng.normal(size=(50, 33, 1, 3)), rng.normal(size=(50, 1, 29, 3))
    d = ((x - y) ** 2).sum(-1)
    D = ((LazyTensor(x) - LazyTensor(y)) ** 2).sum(-1)
    np.testing.assert_allclose(D.sum(2), d.sum(2), rtol=1e-12)
    np.testing.assert_array_equal(D.argKmin(5, axis=1), d.argsort(1, kind="stable")[:, :5].swapaxes(1, 2))


def test_inner_products_with_batches():
    """Above the size where squared distances may become inner products."""
    rng = np.random.default_rng(9)
    x, y = rng.random((2, 4200, 1, 12)).astype("f4") / 4, rng.random((2, 1, 4100, 12)).astype("f4") / 4
    x[1] += 50  # of one batch the differences lose less
    y[1] += 50
    D = ((LazyTensor(x) - LazyTensor(y)) ** 2).sum(-1)
    rows = rng.integers(0, 4200, 20)
    full = np.stack([((x[b][rows].astype("f8") - y[b].astype("f8")) ** 2).sum(-1) for b in range(2)])
    np.testing.assert_allclose((-D).exp().sum(2)[:, rows], np.exp(-full).sum(-1), rtol=2e-6)
    np.testing.assert_allclose(D.Kmin(3, axis=2)[:, rows], np.sort(full, -1)[..., :3], rtol=1e-5)


def test_no_batches_and_empty_ones():
    x, y = np.ones((0, 4, 1, 3)), np.ones((0, 1, 5, 3))
    K = LazyTensor(x) | LazyTensor(y)
    assert K.shape == (0, 4, 5)
    assert K.sum(2).shape == (0, 4)
    assert K.argKmin(2, axis=2).shape == (0, 4, 2)
    empty = LazyTensor(np.ones((2, 4, 1, 3))) | LazyTensor(np.ones((2, 1, 0, 3)))
    np.testing.assert_array_equal(empty.sum(2), np.zeros((2, 4)))


@pytest.mark.cpu
@pytest.mark.parametrize("batches", [3, 70, 513])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("vectors", [1, 3])
def test_batches_whose_rows_are_joined(batches, dtype, vectors, random, monkeypatch):
    """A vector and a row more: the last vector of each would be empty, so rows of two batches share one."""
    monkeypatch.setattr(cpu, "PAIRS_WORTH_A_KERNEL", 1)
    lanes = host().vector_bits // (8 * np.dtype(dtype).itemsize)
    m = vectors * lanes + 1
    x, y, b = (random.random((batches, n, d)).astype(dtype) for n, d in ((m, 3), (67, 3), (67, 2)))
    squares = ((x[:, :, None].astype("f8") - y[:, None]) ** 2).sum(-1)
    rtol = 60 * eps(dtype)

    def joined():
        return next(reversed(cpu._kernels.values())).plan.schedule.joined

    def lazy(x):
        return ((LazyTensor(x[:, :, None]) - LazyTensor(y[:, None])) ** 2).sum(-1)

    K = lazy(x)
    weights = np.exp(-squares)
    for found, wanted in [
        ((-K).exp() @ b, weights @ b),
        (K.sum(2, accumulate="compensated"), squares.sum(2)),
        ((1 - K / 100).prod(2), (1 - squares / 100).prod(2)),
        (K.min(2), squares.min(2)),
        (K.max_argmax(2)[0], squares.max(2)),
        (np.take_along_axis(squares, K.argmin(2)[..., None], 2)[..., 0], squares.min(2)),
        ((-K).logsumexp(2), np.log(weights.sum(2))),
        ((-K).sumsoftmaxweight(b[:, None], axis=2), weights @ b / weights.sum(2, keepdims=True)),
    ]:
        assert joined() == (lanes > 2)
        np.testing.assert_allclose(np.reshape(found, wanted.shape), wanted, rtol=rtol, atol=rtol)
    # Neighbours look at few pairs; and what is not one batch after the other in memory cannot be joined.
    np.testing.assert_allclose(K.Kmin(3, 2), np.sort(squares, 2)[..., :3], rtol=rtol, atol=rtol)
    assert not joined()
    np.testing.assert_allclose(
        (-lazy(x[::-1])).exp() @ b, np.exp(-((x[::-1, :, None].astype("f8") - y[:, None]) ** 2).sum(-1)) @ b, rtol=rtol
    )
    assert not joined()


@pytest.mark.cpu
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("columns", "in_place"),
    [
        (lambda y: y, True),
        (lambda y: y[:1], True),  # of all batches
        (lambda y: y[::-1], True),
        (lambda y: y[:, ::-1], False),
        (lambda y: y[:, ::2], False),
        (lambda y: y[..., ::-1], False),
        (lambda y: np.asfortranarray(y), False),
        (lambda y: y.astype("float16"), False),
    ],
)
def test_columns_are_read_in_place(columns, in_place, dtype, random, monkeypatch):
    """Of joined batches, where the arrays have them as a tile reads them."""
    monkeypatch.setattr(cpu, "PAIRS_WORTH_A_KERNEL", 1)
    lanes = host().vector_bits // (8 * np.dtype(dtype).itemsize)
    x, y, v = (random.random((70, n, d)).astype(dtype) for n, d in ((lanes + 1, 3), (67, 3), (67, 2)))
    y, v = columns(y), columns(v)
    squares = ((x[:, :, None].astype("f8") - y[:, None]) ** 2).sum(-1)
    K = ((LazyTensor(x[:, :, None]) - LazyTensor(y[:, None])) ** 2).sum(-1)
    rtol = 60 * eps(dtype)
    np.testing.assert_allclose((-K).exp() @ v, np.exp(-squares) @ v.astype("f8"), rtol=rtol, atol=rtol)
    schedule = next(reversed(cpu._kernels.values())).plan.schedule
    assert not schedule.joined or schedule.in_place == in_place
    told = str((-K).exp().explain(reduction="@", b=v))
    assert ("once a column" in told) != schedule.in_place and ("as the arrays have it" in told) == schedule.in_place
    np.testing.assert_allclose((-K).logsumexp(2), np.log(np.exp(-squares).sum(2)), rtol=rtol, atol=rtol)
    # What is computed once a column is packed, and with it all of the columns.
    found = ((-K).exp() * LazyTensor(v[:, None]).sin()).sum(2)
    np.testing.assert_allclose(found, np.exp(-squares) @ np.sin(v.astype("f8")), rtol=rtol, atol=rtol)
    assert not next(reversed(cpu._kernels.values())).plan.schedule.in_place


@pytest.mark.parametrize("batches", [64, 65, 200, 1111])
def test_many_small_batches(batches, random):
    """A few of them are one thread's at a time, and those left over come last."""
    x, y, b = (random.normal(size=(batches, n, d)) for n, d in ((7, 3), (5, 3), (5, 2)))
    s = random.normal(size=(batches, 1, 1))
    distance = ((x[:, :, None] - y[:, None]) ** 2).sum(-1)
    K = (-(LazyTensor(s[:, None]) ** 2) * ((LazyTensor(x[:, :, None]) - LazyTensor(y[:, None])) ** 2).sum(-1)).exp()  # noqa: N806
    np.testing.assert_allclose(K @ b, np.exp(-(s**2) * distance) @ b, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(K.argKmin(3, 2)[..., 0], np.argsort(np.exp(-(s**2) * distance), axis=2, kind="stable")[:, :, :3])
    before = get_num_threads()
    try:
        results = []
        for threads in (1, 2, 5):
            set_num_threads(threads)
            results.append(K.logsumexp(1))
    finally:
        set_num_threads(None)
    assert get_num_threads() == before
    assert all((r == results[0]).all() for r in results)
