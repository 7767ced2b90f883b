"""Masked matrices and block-sparse patterns: against dense matrices whose other pairs are not there."""

from __future__ import annotations

import copy
import pickle
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairfold import LazyTensor, Vi, Vj, identity
from pairfold.cluster import from_matrix
from pairfold.fold import ROWS_WORTH_CONTRACTING
from pairfold.runtime.pattern import Pattern
from tests.helpers import eps

torch = pytest.importorskip("torch")


def cuts(rng, length, count):
    """Ranges between random cuts, in random order, some left off."""
    edges = np.unique(np.concatenate([[0, length], rng.integers(0, length + 1, count)]))
    ranges = np.stack([edges[:-1], edges[1:]], axis=1)
    return rng.permutation(ranges[rng.random(len(ranges)) < 0.9])


def check(K, full, there, dtype="float64", w=None):
    """Every reduction of a masked matrix on both axes; `there` says which pairs of the dense one there are."""
    rtol = 100 * eps(dtype)
    np.testing.assert_allclose(K.dense(), full * there, rtol=rtol, atol=rtol)
    for offset in (0, 3, -2):
        np.testing.assert_allclose(K.diagonal(offset), np.diagonal(full * there, offset), rtol=rtol)
    i, j = (np.arange(40) * 7 % n for n in full.shape)
    np.testing.assert_allclose(K.at(i, j), (full * there)[i, j], rtol=rtol)
    for axis in (0, 1):
        some = there.any(axis)
        np.testing.assert_allclose(K.sum(axis), (full * there).sum(axis), rtol=rtol, atol=rtol)
        if dtype == "float64":  # else products vanish
            np.testing.assert_allclose(K.prod(axis), np.where(there, full, 1).prod(axis), rtol=20 * rtol)
        low = np.where(there, full, np.inf)
        np.testing.assert_allclose(K.min(axis), low.min(axis), rtol=rtol)
        np.testing.assert_array_equal(K.argmin(axis), np.where(some, low.argmin(axis), -1))
        value, index = K.max_argmax(axis)
        high = np.where(there, full, -np.inf)
        np.testing.assert_allclose(value, high.max(axis), rtol=rtol)
        np.testing.assert_array_equal(index, np.where(some, high.argmax(axis), -1))
        with np.errstate(divide="ignore"):
            np.testing.assert_allclose(K.logsumexp(axis), np.log((np.exp(full) * there).sum(axis)), rtol=rtol, atol=rtol)
        k = min(3, full.shape[axis])
        value, index = K.Kmin_argKmin(k, axis=axis)
        order = np.moveaxis(np.argsort(low, axis=axis, kind="stable"), axis, 1)[:, :k]
        values = np.take_along_axis(np.moveaxis(low, axis, 1), order, 1)
        np.testing.assert_array_equal(index, np.where(np.isfinite(values), order, -1))
        np.testing.assert_allclose(value, np.where(np.isfinite(values), values, np.nan), rtol=rtol)


@st.composite
def problems(draw):
    m, n = draw(st.sampled_from([1, 7, 64, 150])), draw(st.sampled_from([1, 9, 64, 200]))
    return m, n, np.random.default_rng(draw(st.integers(0, 2**32 - 1)))


def data(rng, m, n, dtype="float64"):
    x, y = rng.random((m, 3)).astype(dtype), rng.random((n, 3)).astype(dtype)
    return Vi(x), Vj(y), ((x[:, None].astype("f8") - y) ** 2).sum(-1)


@settings(max_examples=6, deadline=None)
@given(problems(), st.sampled_from(["float32", "float64"]))
def test_blocks(problem, dtype):
    m, n, rng = problem
    x, y, full = data(rng, m, n, dtype)
    rows, columns = cuts(rng, m, 4), cuts(rng, n, 5)
    keep = rng.random((len(rows), len(columns))) < 0.5
    there = np.zeros((m, n), bool)
    for (a, b), met in zip(rows, keep, strict=True):
        for c, d in columns[met]:
            there[a:b, c:d] = True
    check(((x - y) ** 2).sum(-1).blocks(rows, columns, keep), full, there, dtype)


@settings(max_examples=6, deadline=None)
@given(problems(), st.integers(-80, 80), st.integers(-80, 80))
def test_bands(problem, lower, upper):
    m, n, rng = problem
    x, y, full = data(rng, m, n)
    D, ones = ((x - y) ** 2).sum(-1), np.ones((m, n), bool)
    check(D.tril(upper), full, np.tril(ones, upper))
    check(D.triu(lower), full, np.triu(ones, lower))
    i, j = np.arange(m)[:, None], np.arange(n)
    check(D.band(lower, upper), full, (i - lower <= j) & (j <= i + upper))
    check(D.tril(upper).T, full.T, np.tril(ones, upper).T)


@settings(max_examples=6, deadline=None)
@given(problems(), st.sampled_from([1, 4, 40]))
def test_labels(problem, labels):
    m, n, rng = problem
    x, y, full = data(rng, m, n)
    a, b = rng.integers(-1, labels, m), rng.integers(0, labels, n)
    D = ((x - y) ** 2).sum(-1)
    there = a[:, None] == b
    check(D.same_label(a, b), full, there)
    check(D.T.same_label(b, a).T, full, there)
    v = rng.random((n, 2))
    np.testing.assert_allclose(D.same_label(a, b) @ v, (full * there) @ v, rtol=1e-12, atol=1e-12)


@settings(max_examples=8, deadline=None)
@given(problems(), st.permutations(["tril", "band", "labels", "blocks", "others"]), st.integers(2, 4), st.booleans())
def test_masks_of_masks(problem, kinds, count, transposed):
    """What one leaves of another, in any order."""
    m, n, rng = problem
    x, y, full = data(rng, m, n)
    K, there = ((x - y) ** 2).sum(-1), np.ones((m, n), bool)
    i, j = np.arange(m)[:, None], np.arange(n)
    for k, kind in enumerate(kinds[:count]):
        if kind == "tril":
            K, new = K.tril(9), j <= i + 9
        elif kind == "band":
            K, new = K.band(70, 30), (i - 70 <= j) & (j <= i + 30)
        elif kind == "blocks":
            rows, columns = cuts(rng, m, 4), cuts(rng, n, 5)
            keep = rng.random((len(rows), len(columns))) < 0.8
            K, new = K.blocks(rows, columns, keep), np.zeros((m, n), bool)
            for (a, b), met in zip(rows, keep, strict=True):
                for c, d in columns[met]:
                    new[a:b, c:d] = True
        else:
            a, b = rng.integers(-1, 3, m), rng.integers(0, 4, n)
            K, new = K.same_label(a, b), a[:, None] == b
        there = there & new
        if transposed and k == 0:
            K, there, full, i, j, m, n = K.T, there.T, full.T, np.arange(n)[:, None], np.arange(m), n, m
    np.testing.assert_allclose(K.dense(), full * there, rtol=1e-12)
    for axis in (0, 1):
        np.testing.assert_allclose(K.sum(axis), (full * there).sum(axis), rtol=1e-12, atol=1e-12)
        nearest = np.where(there, full, np.inf).argmin(axis)
        np.testing.assert_array_equal(K.argmin(axis), np.where(there.any(axis), nearest, -1))


@pytest.mark.parametrize("framework", ["numpy", "torch"])
def test_diagonals_of_masked_matrices(framework):
    rng = np.random.default_rng(3)
    x, y, labels = rng.random((2, 6, 3)), rng.random((2, 6, 3)), np.array([1, 0, 1, 2, 0, 1])
    give = torch.tensor if framework == "torch" else np.asarray
    K = LazyTensor(give(x)[:, :, None]) * LazyTensor(give(y)[:, None])
    full = x[:, :, None] * y[:, None]
    i, j = np.arange(6)[:, None], np.arange(6)
    tiles = (i < 3) & (j >= 1) & (j < 4) | (i >= 3) & (j >= 4)
    for masked, there in [
        (K.tril(-1), j < i),
        (K.same_label(labels, labels[::-1].copy()), labels[:, None] == labels[::-1]),
        (K.blocks([[0, 3], [3, 6]], [[1, 4], [4, 6]]).triu(1), tiles & (j > i)),
    ]:
        for offset in (0, 2, -3):
            wanted = np.diagonal(full * there[..., None], offset, 1, 2).swapaxes(1, 2)
            np.testing.assert_allclose(np.asarray(masked.diagonal(offset)), wanted)
            np.testing.assert_allclose(np.asarray(masked.trace(offset)), wanted.sum(1))
    operator = (LazyTensor(give(x[0])[:, None]) | LazyTensor(give(y[0])[None])).tril() + identity(6)
    np.testing.assert_allclose(np.asarray(operator.diagonal()), np.diagonal(np.tril(x[0] @ y[0].T)) + 1)
    z = torch.tensor(x[0], requires_grad=True)
    (g,) = torch.autograd.grad((LazyTensor(z[:, None]) | LazyTensor(z[None])).same_label(labels, labels[::-1].copy()).trace(), z)
    np.testing.assert_allclose(g, 2 * x[0] * (labels == labels[::-1])[:, None])


def test_ranges_of_a_masked_matrix():
    x = np.random.default_rng(5).random((6, 2))
    K, blocks = (Vi(x) | Vj(x)).tril(), np.array([[0, 3], [3, 6]])
    K.ranges = from_matrix(blocks, blocks, np.array([[True, False], [True, False]]))
    there = np.tril(np.ones((6, 6))) * (np.arange(6) < 3)
    np.testing.assert_allclose(K.sum(1), (x @ x.T * there).sum(1))

    assert K.ranges is not None
    K.ranges = from_matrix(blocks, blocks, np.array([[False, False], [False, True]]))
    there = np.tril(np.ones((6, 6))) * np.outer(np.arange(6) > 2, np.arange(6) > 2)
    np.testing.assert_allclose(K.sum(1), (x @ x.T * there).sum(1))
    K.ranges = None
    np.testing.assert_allclose(K.sum(1), np.tril(x @ x.T).sum(1))
    K.ranges = None  # there are none
    K.ranges = from_matrix(blocks, blocks, np.eye(2, dtype=bool))
    later = K.T.triu().tril(1)
    for newer in (later, later.T):
        with pytest.raises(ValueError, match="the ranges are part of a mask that came after them"):
            newer.ranges = None
    with pytest.raises(TypeError, match="ranges are six arrays, or None, not 3"):
        K.ranges = 3


def test_ranges_of_a_transposed_matrix():
    """They are swapped, and taken off and replaced as those of the matrix itself."""
    x = np.random.default_rng(5).random((6, 2))
    K, blocks = (Vi(x) | Vj(x)).tril(), np.array([[0, 3], [3, 6]])
    K.ranges = from_matrix(blocks, blocks, np.array([[True, False], [True, False]]))
    there = np.tril(np.ones((6, 6))) * (np.arange(6) < 3)
    transposed = K.T
    for found, wanted in zip(transposed.ranges, (*K.ranges[3:], *K.ranges[:3]), strict=True):
        np.testing.assert_array_equal(found, wanted)
    np.testing.assert_allclose(transposed.sum(1), (x @ x.T * there).sum(0))
    transposed.ranges = from_matrix(blocks, blocks, np.array([[False, True], [False, False]]))
    there = np.triu(np.ones((6, 6))) * np.outer(np.arange(6) < 3, np.arange(6) > 2)
    np.testing.assert_allclose(transposed.sum(1), (x @ x.T * there).sum(1))
    transposed.ranges = None
    np.testing.assert_allclose(transposed.sum(1), np.triu(x @ x.T).sum(1))
    assert K.ranges is not None


def test_products_of_masked_matrices_have_diagonals():
    x, y = np.random.default_rng(6).random((2, 7, 2))
    K, L, k = Vi(x) | Vj(y), Vi(y) | Vj(x), x @ y.T
    labels = np.array([0, 1, 0, 2, 1, 0, 2])
    for left, right, a, b in [
        (K.tril(), L.tril(), np.tril(k), np.tril(k.T)),
        (K.tril(1), L.triu(), np.tril(k, 1), np.triu(k.T)),
        (K.same_label(labels, labels), L.band(2, 1), k * (labels[:, None] == labels), np.triu(np.tril(k.T, 1), -2)),
        (K, L.tril(), k, np.tril(k.T)),
    ]:
        np.testing.assert_allclose((left @ right).diagonal(), np.diagonal(a @ b))
        np.testing.assert_allclose((left @ right).trace(), np.trace(a @ b))


def test_dense_masked_matrices_within_transforms():
    x, y = torch.rand(5, 2), torch.rand(6, 2)
    a, b = torch.arange(5) % 2, torch.arange(6) % 2
    there = (a[:, None] == b).float()
    found = torch.func.grad(lambda x: ((Vi(x) | Vj(y)).same_label(a, b).tril(2).dense() ** 2).sum())(x)
    wanted = torch.func.grad(lambda x: ((x @ y.T * there).tril(2) ** 2).sum())(x)
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("kind", ["band", "labels"])
def test_hessians_through_masked_solves(kind):
    x, labels, i = torch.rand(5, 2, dtype=torch.float64), torch.arange(5) % 2, torch.arange(5)
    there = (i[:, None] - i).abs() <= 1 if kind == "band" else labels[:, None] == labels

    def lazy(x):
        K = (-((Vi(x) - Vj(x)) ** 2).sum(-1)).exp()
        return (K.band(1, 1) if kind == "band" else K.same_label(labels, labels)).solve(x, alpha=9.0, tol=1e-12).sum()

    def dense(x):
        return torch.linalg.solve((-((x[:, None] - x) ** 2).sum(-1)).exp() * there + 9 * torch.eye(5), x).sum()

    torch.testing.assert_close(torch.func.hessian(lazy)(x), torch.func.hessian(dense)(x), rtol=1e-6, atol=1e-9)


def test_equal_ranges_are_one_mask():
    x, blocks, keep = np.random.default_rng(5).random((6, 2)), np.array([[0, 3], [3, 6]]), np.eye(2, dtype=bool)
    K, L = Vi(x) | Vj(x), Vi(x) | Vj(2 * x)
    K.ranges, L.ranges = from_matrix(blocks, blocks, keep), from_matrix(blocks.copy(), blocks, keep)
    np.testing.assert_allclose((K + L).sum(1), (3 * x @ x.T * np.kron(keep, np.ones((3, 3)))).sum(1))
    L.ranges = from_matrix(blocks, blocks, ~keep)
    with pytest.raises(ValueError, match="different masks"):
        K + L


@pytest.mark.parametrize("k", [10**30, 2**63, 2**62, -(2**62), -(10**30)])
def test_diagonals_beyond_the_corners(k):
    K = Vi(np.ones(5)) * Vj(np.ones(7))
    assert K.tril(k).sum() == (35 if k > 0 else 0) and K.triu(k).sum() == (0 if k > 0 else 35)


def test_causal_within_labels():
    """Attention of several texts one after the other, each word to those before it in its own, with gradients."""
    rng = np.random.default_rng(8)
    length, texts = 150, np.sort(rng.integers(0, 4, 150))
    q, k, v = (torch.tensor(rng.standard_normal((2, length, 5)), requires_grad=True) for _ in range(3))
    scores = (LazyTensor(q[:, :, None]) * LazyTensor(k[:, None])).sum(-1)
    ours = scores.same_label(texts, texts).tril().sumsoftmaxweight(LazyTensor(v[:, None]), 2)
    there = torch.tensor((texts[:, None] == texts) & np.tril(np.ones((length, length), bool)))
    theirs = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=there, scale=1.0)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    cotangent = torch.tensor(rng.standard_normal(ours.shape))
    for mine, its in zip(torch.autograd.grad(ours, (q, k, v), cotangent), torch.autograd.grad(theirs, (q, k, v), cotangent), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-9, atol=1e-9)
    nothing = scores.same_label(texts, texts + 9).tril()
    assert (nothing.sum(2) == 0).all() and (nothing.argmin(2) == -1).all()


def test_patterns_of_both():
    """Blocks of several masks are cut along each other: none of them is computed that one has not."""
    K = Vi(np.ones(400)) * Vj(np.ones(300))
    tiles = K.blocks([[0, 200], [200, 400]], [[0, 150], [150, 300]])
    both = tiles.tril()._mask.pattern
    above = 64 * (150 - 64) + 64 * (150 - 128) + 56 * (300 - 256)  # of 64 rows each, or of what the first tile leaves
    assert both.pairs == tiles._mask.pattern.pairs - above
    assert (both & both).pairs == both.pairs and (both & tiles._mask.pattern).columns.tolist() == both.columns.tolist()


def test_what_is_masked_is_not_computed():
    """nan and infinity outside the mask do no harm."""
    x, y = np.ones((130, 1)), np.ones((140, 1))
    y[100:] = np.nan
    x[:20] = np.inf
    K = Vi(x) * Vj(y)
    rows = np.arange(130)
    there = K.blocks([[20, 130]], [[0, 100]], np.ones((1, 1), bool))
    np.testing.assert_array_equal(there.sum(1)[:, 0], np.where(rows >= 20, 100, 0))
    np.testing.assert_array_equal(K.tril(-40).sum(1)[60:, 0], np.maximum(rows[60:] - 39, 0))


@pytest.mark.parametrize("kind", ["blocks", "tril", "labels"])
@pytest.mark.parametrize("reduction", ["sum", "logsumexp", "min", "Kmin", "product"])
def test_derivatives(kind, reduction):
    """To second order; of rows without pairs there are none."""
    rng = np.random.default_rng(3)
    m, n = 90, 75
    inputs = [torch.tensor(rng.random(s), requires_grad=True) for s in ((m, 2), (n, 2), (n, 3))]
    a, b = rng.integers(0, 5, m), rng.integers(1, 6, n)
    rows, columns = np.array([[3, 50], [50, 88]]), np.array([[0, 30], [30, 75]])
    keep = np.array([[True, False], [True, True]])
    there = {
        "blocks": (np.arange(m)[:, None] >= 3) & (np.arange(m)[:, None] < 88) & ((np.arange(m)[:, None] >= 50) | (np.arange(n) < 30)),
        "tril": np.tril(np.ones((m, n), bool), -4),
        "labels": a[:, None] == b,
    }[kind]
    mask = torch.tensor(there)

    def both(lazy):
        x, y, v = inputs
        K = (-(((Vi(x) - Vj(y)) if lazy else (x[:, None] - y)) ** 2).sum(-1)).exp()
        if lazy:
            K = {"blocks": lambda: K.blocks(rows, columns, keep), "tril": lambda: K.tril(-4), "labels": lambda: K.same_label(a, b)}[kind]()
        if reduction == "product":
            out = K @ v if lazy else (K * mask) @ v
        elif reduction == "sum":
            out = K.sum(0) if lazy else (K * mask).sum(0)
        elif reduction == "logsumexp":
            some = mask.any(1)
            out = K.logsumexp(1)[some] if lazy else torch.where(mask, K, -torch.inf)[some].logsumexp(1)
        elif reduction == "min":
            out = K.min(1) if lazy else torch.where(mask, K, torch.inf).amin(1)
            out = out[mask.any(1)]
        else:
            out = K.Kmin(2, axis=1) if lazy else torch.where(mask, K, torch.inf).sort(1).values[:, :2]
            out = out[mask.sum(1) >= 2]
        first = torch.autograd.grad(out.sin().sum(), inputs[:2], create_graph=True)
        return (out, *first, *torch.autograd.grad(sum(g.square().sum() for g in first), inputs[:2]))

    for got, want in zip(both(True), both(False), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-11)


def test_batches_share_a_mask():
    rng = np.random.default_rng(4)
    x, y = rng.random((3, 80, 1, 2)), rng.random((1, 90, 2))
    full = ((x - y) ** 2).sum(-1)
    D = ((LazyTensor(x) - LazyTensor(y)) ** 2).sum(-1)
    np.testing.assert_allclose(D.tril(3).sum(2), np.tril(full, 3).sum(2), rtol=1e-12)
    a, b = rng.integers(0, 4, 80), rng.integers(0, 4, 90)
    there = a[:, None] == b
    np.testing.assert_allclose(D.same_label(a, b).sum(1), (full * there).sum(1), rtol=1e-12)
    np.testing.assert_array_equal(D.same_label(a, b).argmin(2), np.where(there, full, np.inf).argmin(2))


def masked(name, K, rng):
    """A matrix with a mask, and which pairs it has."""
    m, n = K.shape
    a, b = rng.integers(0, 4, m), rng.integers(0, 4, n)
    blocks = np.array([[0, m // 2], [m // 2, m]]), np.array([[0, n // 3], [n // 3, n]])
    same, keep = a[:, None] == b, np.array([[True, False], [True, True]])
    met = np.repeat(np.repeat(keep, [m // 2, m - m // 2], 0), [n // 3, n - n // 3], 1)
    if name == "ranges":
        K.ranges = from_matrix(*blocks, keep)
        return K, met
    return {
        "tril": lambda: (K.tril(2), np.tril(np.ones((m, n), bool), 2)),
        "band": lambda: (K.band(3, 5).T.tril(1).T, np.triu(np.tril(np.ones((m, n), bool), 5), -1)),
        "labels": lambda: (K.same_label(a, b), same),
        "blocks": lambda: (K.blocks(*blocks, keep), met),
        "labels and band": lambda: (K.same_label(a, b).triu(-4), np.triu(same, -4)),
        "blocks and labels": lambda: (K.blocks(*blocks, keep).same_label(a, b), met & same),
    }[name]()


@pytest.mark.parametrize("name", ["tril", "band", "labels", "blocks", "ranges", "labels and band", "blocks and labels"])
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_some_rows_and_columns(name, kind, random):
    """Those that are picked have the pairs that they had; once more picked, and masked, too."""
    m, n = 70, 45
    x, y = random.random((m, 3)), random.random((n, 3))
    to = np.asarray if kind == "numpy" else torch.tensor
    K, there = masked(name, ((Vi(to(x)) - Vj(to(y))) ** 2).sum(-1), random)
    full = ((x[:, None] - y) ** 2).sum(-1)
    rows, columns, few = random.integers(-m, m, 50), random.integers(0, n, 60), random.random(m) < 0.3
    for key, own in [
        (np.s_[5:40], np.s_[5:40]),
        (np.s_[:, 30:3:-2], np.s_[:, 30:3:-2]),
        (np.s_[::3, :20], np.s_[::3, :20]),
        (np.s_[to(rows)], rows),
        (np.s_[:, to(columns)], np.s_[:, columns]),
        (np.ix_(to(rows), columns) if kind == "numpy" else (to(rows)[:, None], to(columns)), np.ix_(rows, columns)),
        (np.s_[to(few)], few),
    ]:
        picked = K[key]
        assert picked.shape == full[own].shape
        check(picked, full[own], there[own])
        check(picked[3:, ::-1].triu(-1), full[own][3:, ::-1], np.triu(there[own][3:, ::-1], -1))
    for key in (7, np.s_[:, 11], np.s_[:, -1], (20, 4), np.s_[3, 5:20]):
        np.testing.assert_allclose(K[key], (full * there)[key], rtol=1e-12)
    i, j = random.integers(0, m, 30), random.integers(0, n, 30)
    np.testing.assert_allclose(K[to(i), to(j)], (full * there)[i, j], rtol=1e-12)
    np.testing.assert_allclose(K[to(i)[:, None, None], to(j)].reshape(-1), (full * there)[i[:, None, None], j].reshape(-1), rtol=1e-12)
    with pytest.raises(IndexError, match=r"the rows of a masked matrix \(70, 45\) are no batches"):
        K[:, None]
    assert K[:0].sum(0).tolist() == [0] * n and K[:, :0].sum(1).tolist() == [0] * m


def test_some_rows_of_batches(random):
    x, y = random.random((4, 30, 2)), random.random((1, 20, 2))
    K = (LazyTensor(x[:, :, None]) | LazyTensor(y[:, None])).tril(3)
    full = np.tril(x @ y.swapaxes(-1, -2), 3)
    np.testing.assert_allclose(K[1:3, 5:, ::2].sum(1), full[1:3, 5:, ::2].sum(1), rtol=1e-12)
    np.testing.assert_allclose(K[2, ::-1].sum(0), full[2, ::-1].sum(0), rtol=1e-12)
    i, j, b = random.integers(0, 30, 9), random.integers(0, 20, 9), random.integers(0, 4, 9)
    np.testing.assert_allclose(K[b, i, j], full[b, i, j], rtol=1e-12)
    np.testing.assert_allclose(K[..., i, j], full[..., i, j], rtol=1e-12)
    x = torch.tensor(x[0], requires_grad=True)
    (slope,) = torch.autograd.grad(((Vi(x) | Vj(torch.tensor(y[0]))).tril(3)[5:, ::2] ** 2).sum(), x)
    wanted = np.zeros((30, 2))
    wanted[5:] = 2 * full[0, 5:, ::2] @ y[0, ::2]
    np.testing.assert_allclose(slope, wanted, rtol=1e-12)


def test_ranges_stay_part_of_what_is_picked(random):
    K, _ = masked("ranges", Vi(random.random((8, 2))) | Vj(random.random((9, 2))), random)
    some = K[2:, ::2]
    assert some.ranges is None
    with pytest.raises(ValueError, match="the ranges are part of a mask that came after them"):
        some.ranges = None


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0)])
def test_labels_of_nothing(shape):
    m, n = shape
    K = LazyTensor(np.random.rand(m, 1, 3)) | LazyTensor(np.random.rand(1, n, 3))
    masked = K.same_label(np.zeros(m, int), np.zeros(n, int))
    np.testing.assert_array_equal(masked.sum(0), np.zeros(n))
    np.testing.assert_array_equal(masked.sum(1), np.zeros(m))


@pytest.mark.parametrize("kind", ["numpy", "torch"])
@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.parametrize("inner", [False, True])
def test_means(inner, batch, kind):
    """As of NumPy's masked arrays, and nan where nothing is left."""
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(*batch, 90, 1, 2)) + 3, rng.normal(size=(1, 80, 2))
    a, b = rng.integers(0, 5, 90), rng.integers(1, 6, 80)
    i, j = np.arange(90)[:, None], np.arange(80)
    x_i, y_j = (LazyTensor(torch.tensor(v) if kind == "torch" else v) for v in (x, y))
    whole, full = (x_i * y_j, x * y) if inner else ((x_i * y_j).sum(-1), (x * y).sum(-1))
    rows, columns = len(batch), len(batch) + 1
    for K, there in (
        (whole.tril(-4), j <= i - 4),
        (whole.same_label(a, b), a[:, None] == b),
        (whole.blocks([[3, 50]], [[0, 30]], np.ones((1, 1), bool)), (i >= 3) & (i < 50) & (j < 30)),
    ):
        there = np.broadcast_to(there[..., None] if inner else there, full.shape)
        masked = np.ma.masked_array(full, ~there)
        for axis in (rows, columns, (rows, columns), None, *[(columns, columns + 1)] * inner):
            count = there.sum(axis, keepdims=True)
            mean, var = (np.ma.filled(getattr(masked, name)(axis, keepdims=True) * 1.0, np.nan) for name in ("mean", "var"))
            np.testing.assert_allclose(K.mean(axis, keepdims=True), mean, rtol=1e-12, atol=1e-15)
            np.testing.assert_allclose(K.mean(axis), mean.reshape(np.shape(K.mean(axis))), rtol=1e-12, atol=1e-15)
            np.testing.assert_allclose(K.var(axis, keepdims=True, ddof=0), var, rtol=1e-10, atol=1e-13)
            np.testing.assert_allclose(K.std(axis, keepdims=True, ddof=0), var**0.5, rtol=1e-10, atol=1e-13)
            some = count > 1
            np.testing.assert_allclose(np.asarray(K.var(axis, True, ddof=1))[some], (var * count)[some] / (count[some] - 1), rtol=1e-10)
            counts = (K > 3).count_nonzero(axis, keepdims=True)
            np.testing.assert_array_equal(counts, ((full > 3) & there).sum(axis, keepdims=True))


def test_means_of_complex_numbers():
    z, w = np.random.default_rng(9).normal(size=(2, 7, 3)) @ np.array([1, 1j, 0.5])
    full = np.ma.masked_array(z[:, None] * w, np.triu(np.ones((7, 7), bool), 1))
    K = (Vi(z) * Vj(w)).tril()
    for axis in (0, 1, None):
        np.testing.assert_allclose(K.mean(axis), full.mean(axis), rtol=1e-13)
        np.testing.assert_allclose(K.var(axis), full.var(axis), rtol=1e-12)


def test_selections_over_both_axes():
    rng = np.random.default_rng(7)
    x, y, full = data(rng, 40, 30)
    D = ((x - y) ** 2).sum(-1)
    for K, there in ((D.tril(-30), np.tril(np.ones((40, 30), bool), -30)), (D.tril(-50), np.zeros((40, 30), bool))):
        entries = np.where(there, full, np.inf).ravel()
        order = np.argsort(entries, kind="stable")[:60]
        missing = np.isinf(entries[order])
        values, index = K.Kmin_argKmin(60)
        np.testing.assert_array_equal(index, np.where(missing, -1, order))
        np.testing.assert_allclose(values, np.where(missing, np.nan, entries[order]), rtol=1e-12)
        low, where_low = K.min_argmin()
        np.testing.assert_allclose(low, entries.min(), rtol=1e-12)
        assert where_low == index[0]
        w = rng.random(30)
        share = np.exp(full) * there
        with np.errstate(invalid="ignore"):
            np.testing.assert_allclose(K.sumsoftmaxweight(Vj(w), axis=(0, 1)), (share * w).sum() / share.sum(), rtol=1e-12)


def dense_pattern(pattern):
    """How often each pair is there."""
    full = np.zeros(pattern.shape)
    for k, (a, b) in enumerate(pattern.rows):
        for c, d in pattern.columns[pattern.slices[k] : pattern.slices[k + 1]]:
            full[a:b, c:d] += 1
    return full


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_transposed_patterns(m, n, seed):
    rng = np.random.default_rng(seed)
    rows = cuts(rng, m, 4)
    met = [cuts(rng, n, rng.integers(0, 6)) for _ in rows]
    columns = np.concatenate([np.zeros((0, 2), np.int64), *met])
    pattern = Pattern.of(rows, np.cumsum([len(c) for c in met]).astype(int), columns, (m, n))
    want = np.zeros((m, n))
    for (a, b), ranges in zip(rows, met, strict=True):
        for c, d in ranges:
            want[a:b, c:d] += 1
    np.testing.assert_array_equal(dense_pattern(pattern), want)
    np.testing.assert_array_equal(dense_pattern(pattern.T), want.T)
    np.testing.assert_array_equal(dense_pattern(pattern.T.T), want)
    assert pattern.pairs == want.sum() == pattern.T.pairs
    np.testing.assert_array_equal(pattern.empty, ~want.any(1))
    # Its ranges as tiles, in any order.
    owner = np.repeat(rows, [len(c) for c in met], axis=0)
    order = rng.permutation(len(owner))
    tiles = Pattern.of_tiles(owner[order], columns[order], (m, n))
    np.testing.assert_array_equal(dense_pattern(tiles), want)
    np.testing.assert_array_equal(dense_pattern(tiles.T), want.T)
    np.testing.assert_array_equal(Pattern.of_tiles(columns, owner, (n, m)).empty, ~want.any(0))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 6), st.integers(0, 2**32 - 1))
def test_tiles_that_overlap_are_refused(m, n, count, seed):
    """If and only if a pair is in two of them."""
    rng = np.random.default_rng(seed)
    rows, columns = (np.sort(rng.integers(0, length + 1, (count, 2)), axis=1) for length in (m, n))
    want = np.zeros((m, n))
    for (a, b), (c, d) in zip(rows, columns, strict=True):
        want[a:b, c:d] += 1
    if want.max() > 1:
        with pytest.raises(ValueError, match="overlap"):
            Pattern.of_tiles(rows, columns, (m, n))
    else:
        np.testing.assert_array_equal(dense_pattern(Pattern.of_tiles(rows, columns, (m, n))), want)


def random_mask(rng, kind, m, n):
    """A way to mask a matrix at random, and which pairs there are then."""
    rows, columns = cuts(rng, m, 6), cuts(rng, n, 6)
    keep = rng.random((len(rows), len(columns))) < 0.4
    there = np.zeros((m, n), bool)
    for (a, b), met in zip(rows, keep, strict=True):
        for c, d in columns[met]:
            there[a:b, c:d] = True
    if kind == "keep":
        return (lambda K: K.blocks(rows, columns, keep)), there
    if kind == "tiles":
        k, l = rng.permutation(np.argwhere(keep)).T
        return (lambda K: K.blocks(rows[k], columns[l])), there
    if kind == "ranges":

        def by_ranges(K):
            made = +K
            made.ranges = from_matrix(rows, columns, keep)
            return made

        return by_ranges, there
    if kind == "labels":
        a, b = rng.integers(0, 5, m), rng.integers(1, 6, n)
        return (lambda K: K.same_label(a, b)), a[:, None] == b
    lower, upper = rng.integers(-m, m, 2)
    i, j = np.arange(m)[:, None], np.arange(n)
    return (lambda K: K.band(int(lower), int(upper))), (i - lower <= j) & (j <= i + upper)


REDUCE = {
    "sum over rows": (lambda K, v: K.sum(-2), lambda K, there, v: (K * there).sum(-2)),
    "product": (lambda K, v: K @ v, lambda K, there, v: (K * there) @ v),
    "logsumexp": (lambda K, v: K.logsumexp(-1), lambda K, there, v: K.masked_fill(~there, -torch.inf).logsumexp(-1)),
    "max": (lambda K, v: K.max(-1), lambda K, there, v: K.masked_fill(~there, -torch.inf).amax(-1)),
    "Kmin": (lambda K, v: K.Kmin(2, axis=-1)[..., 1], lambda K, there, v: K.masked_fill(~there, torch.inf).sort(-1).values[..., 1]),
    "softmax": (
        lambda K, v: K.sumsoftmaxweight(Vj(v[:, :1]), axis=-1)[..., 0],
        lambda K, there, v: K.masked_fill(~there, -torch.inf).softmax(-1) @ v[:, 0],
    ),
}


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from(["keep", "tiles", "ranges", "labels", "band"]), st.sampled_from(list(REDUCE)), st.sampled_from([(), (2,)]),
    st.sampled_from([1, 2, 12]), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_derivatives_of_random_patterns(kind, reduction, batch, d, seed):
    """Of long vectors and short ones, over batches, to second order."""
    rng = np.random.default_rng(seed)
    m, n = rng.integers(3, 90, 2)
    mask, there = random_mask(rng, kind, m, n)
    inputs = [torch.tensor(rng.random(s), requires_grad=True) for s in ((*batch, m, d), (n, d), (n, 3))]
    allowed = torch.tensor(there)
    # Rows that meet too few columns have no value that could be compared.
    some = torch.tensor(there.sum(1) >= 2) if reduction != "sum over rows" else slice(None)

    def both(lazy):
        x, y, v = inputs
        if lazy:
            K = mask((-((LazyTensor(x[..., :, None, :]) - LazyTensor(y[None])) ** 2).sum(-1)).exp())
            out = REDUCE[reduction][0](K, v)
            out = out[..., some, :] if reduction == "product" else out[..., some]
        else:
            K = (-((x[..., :, None, :] - y) ** 2).sum(-1)).exp()
            out = REDUCE[reduction][1](K[..., some, :], allowed[some], v)
        first = torch.autograd.grad(out.sin().sum(), inputs, create_graph=True, materialize_grads=True)
        return (out, *first, *torch.autograd.grad(sum(g.square().sum() for g in first), inputs, materialize_grads=True))

    for got, want in zip(both(True), both(False), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-10)


@settings(max_examples=12, deadline=None)
@given(st.sampled_from(["keep", "tiles", "ranges", "labels", "band"]), st.sampled_from(["float32", "float64"]), st.integers(0, 2**32 - 1))
def test_long_vectors(kind, dtype, seed):
    """Where inner products take the place of differences, in exponents and as bounds on distances."""
    rng = np.random.default_rng(seed)
    m, n = ROWS_WORTH_CONTRACTING + rng.integers(0, 150, 2)
    mask, there = random_mask(rng, kind, m, n)
    x, y, v = (rng.random(s).astype(dtype) for s in ((m, 16), (n, 16), (n, 2)))
    square = np.square(x[:, None].astype("f8") - y).sum(-1)
    D = ((Vi(x) - Vj(y)) ** 2).sum(-1)
    rtol = 100 * eps(dtype)
    with mock.patch("pairfold.fold.PAIRS_WORTH_CONTRACTING", 1):
        found = mask((-D / 4).exp()) @ v
        index = mask(D).argKmin(3, axis=1)
    np.testing.assert_allclose(found, (np.exp(-square / 4) * there) @ v, rtol=rtol, atol=rtol)
    far = np.where(there, square, np.inf)
    order = np.argsort(far, axis=1)[:, :3]
    wanted = np.take_along_axis(far, order, 1)
    np.testing.assert_array_equal(index >= 0, np.isfinite(wanted))
    np.testing.assert_allclose(np.where(index < 0, np.inf, np.take_along_axis(far, np.maximum(index, 0), 1)), wanted, rtol=rtol)


@settings(max_examples=10, deadline=None)
@given(st.sampled_from(["keep", "tiles", "ranges", "labels", "band"]), st.integers(0, 2**32 - 1))
def test_every_reduction_of_random_patterns(kind, seed):
    rng = np.random.default_rng(seed)
    m, n = rng.integers(1, 150, 2)
    mask, there = random_mask(rng, kind, m, n)
    x, y, full = data(rng, m, n)
    check(mask(((x - y) ** 2).sum(-1)), full, there)


def test_keops_ranges():
    rng = np.random.default_rng(5)
    x, y, full = data(rng, 100, 120)
    i, j = np.array([[0, 40], [40, 100]]), np.array([[0, 50], [50, 120]])
    ranges = (i, np.array([1, 3]), j[[1, 0, 1]], j, np.array([1, 3]), i[[1, 0, 1]])
    K = ((x - y) ** 2).sum(-1)
    K.ranges = ranges
    assert K.ranges is ranges
    there = np.ones((100, 120), bool)
    there[:40, :50] = False
    check(K, full, there)
    np.testing.assert_allclose((-K).exp().sum(1), (np.exp(-full) * there).sum(1), rtol=1e-12)
    K.ranges = None
    np.testing.assert_allclose(K.sum(1), full.sum(1), rtol=1e-12)


def ranges_of(K, *changes):
    """KeOps's six arrays with some of them changed."""
    ranges = list(from_matrix(np.array([[0, 2], [2, 5]]), np.array([[0, 3], [3, 7]]), np.ones((2, 2), bool)))
    for place, value in changes:
        ranges[place] = np.asarray(value)
    K.ranges = ranges


TILES = np.array([[0, 2], [3, 5]])


@pytest.mark.parametrize(
    ("act", "error", "parts"),
    [
        (lambda K: K.blocks(TILES * 1.0, TILES), TypeError, ["ranges of rows", "whole numbers", "float64"]),
        (lambda K: K.blocks(TILES, TILES > 0), TypeError, ["ranges of columns", "bool"]),
        (lambda K: K.blocks(TILES, TILES, np.eye(2)), TypeError, ["keep", "bool", "float64", "keep != 0"]),
        (lambda K: K.blocks(TILES, TILES[:, 0]), ValueError, ["ranges of columns", "(…, 2)", "(2,)"]),
        (lambda K: K.blocks(TILES, TILES[:1]), ValueError, ["2 ranges of rows and 1 of columns"]),
        (lambda K: K.blocks(TILES[:, ::-1], TILES), ValueError, ["[2, 0]", "rows", "0 and 5"]),
        (lambda K: K.blocks(-TILES, TILES), ValueError, ["rows", "0 and 5"]),
        (lambda K: K.blocks(TILES, TILES + 3), ValueError, ["[6, 8]", "columns", "0 and 7"]),
        (lambda K: K.blocks([[0, 3], [2, 5]], [[0, 4], [3, 5]]), ValueError, ["[0, 4] and [3, 5]", "columns overlap", "rows [2, 3]"]),
        (lambda K: K.blocks([[0, 2]], [[0, 4], [3, 5]], np.ones((1, 2), bool)), ValueError, ["[0, 4] and [3, 5]", "rows [0, 2]"]),
        (lambda K: ranges_of(K, (0, [[0, 3], [2, 5]])), ValueError, ["row 2", "two ranges"]),
        (lambda K: ranges_of(K, (3, [[0, 4], [3, 7]])), ValueError, ["row 3", "two ranges"]),
        (lambda K: ranges_of(K, (0, [[0.0, 2.0], [2.0, 5.0]])), TypeError, ["rows", "float64", "int64"]),
        (lambda K: ranges_of(K, (1, [2.0, 4.0])), TypeError, ["slices", "float64"]),
        (lambda K: ranges_of(K, (1, [4, 2])), ValueError, ["slices", "increasing", "[4, 2]"]),
        (lambda K: ranges_of(K, (1, [2, 5])), ValueError, ["slices", "4 ranges of columns", "[2, 5]"]),
        (lambda K: ranges_of(K, (1, [4])), ValueError, ["slices", "2 ranges of rows"]),
        (lambda K: ranges_of(K, (2, [[0, 3], [3, 7], [0, 3], [3, 8]])), ValueError, ["[3, 8]", "columns", "0 and 7"]),
        (lambda K: ranges_of(K, (2, [[0, 4], [3, 7], [0, 3], [3, 7]])), ValueError, ["[0, 4] and [3, 7]", "overlap"]),
        (lambda K: setattr(K, "ranges", (TILES, TILES)), ValueError, ["six arrays", "tuple of 2"]),
    ],
)  # fmt: skip
def test_ranges_that_are_refused(act, error, parts):
    with pytest.raises(error) as caught:
        act(Vi(np.ones(5)) * Vj(np.ones(7)))
    for part in parts:
        assert part in str(caught.value)


def test_ranges_in_any_order():
    """Of any integer type and framework, in lists too."""
    rng = np.random.default_rng(6)
    x, y, full = data(rng, 5, 7)
    there = np.zeros((5, 7), bool)
    there[3:5, :4], there[0:2, 5:7] = True, True
    D = ((x - y) ** 2).sum(-1)
    rows, columns, keep = [[3, 5], [0, 2]], [[5, 7], [0, 4]], ~np.eye(2, dtype=bool)
    for to in (list, np.array, torch.tensor, lambda a: np.array(a, "uint8"), lambda a: torch.tensor(a, dtype=torch.int32)):
        check(D.blocks(to(rows), to(columns), keep), full, there)
        check(D.blocks(to(rows), to(columns[::-1])), full, there)
    np.testing.assert_array_equal(D.blocks([], []).sum(1), 0)
    np.testing.assert_array_equal(D.blocks(np.zeros((0, 2)), columns, np.zeros((0, 2), bool)).sum(0), 0)


@pytest.mark.parametrize(
    ("act", "parts"),
    [
        (lambda K: K.blocks([[0, 4]], [[0, 8]], np.ones((1, 1), bool)), ["[0, 8]", "columns", "0 and 7"]),
        (lambda K: K.blocks([[0, 4], [3, 5]], [[0, 7]], np.ones((2, 1), bool)), ["row 3", "two ranges"]),
        (lambda K: K.blocks([[0, 4]], [[0, 7]], np.ones((1, 2), bool)), ["(1, 1)", "(1, 2)"]),
        (lambda K: K.same_label(np.arange(4), np.arange(7)), ["5 rows", "(4,)"]),
        (lambda K: K.tril() + K.triu(), ["different masks"]),
    ],
)
def test_messages(act, parts):
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # what it says is looked at below
        act(Vi(np.ones(5)) * Vj(np.ones(7)))
    for part in parts:
        assert part in str(caught.value)


def test_ranges_of_columns_that_are_neighbours_become_one(random):
    rows, columns = [[0, 3], [3, 7], [7, 8]], [[4, 6], [0, 2], [2, 4], [5, 5], [1, 3], [5, 9], [3, 3], [0, 9]]
    pattern = Pattern.of(rows, [4, 6, 8], columns, (8, 9))
    assert pattern.columns.tolist() == [[0, 6], [1, 3], [5, 9], [0, 9]] and pattern.slices.tolist() == [0, 1, 3, 4]
    assert pattern.pairs == 3 * 6 + 4 * 6 + 9 and pattern.typical_rows == 2
    assert pattern.T.T.columns.tolist() == pattern.columns.tolist()
    mine = np.array([[0, 2], [3, 5]])
    pattern = Pattern.of(np.array([[0, 1], [1, 2]]), np.array([1, 2]), mine, (2, 9))
    mine[:] = 100
    assert pattern.columns.tolist() == [[0, 2], [3, 5]]


def test_ranges_are_read_once_until_they_change(random):
    x, y, b = random.standard_normal((40, 2)), random.standard_normal((30, 2)), random.standard_normal((30, 1))
    edges = np.arange(0, 41, 10)
    rows = np.stack([edges[:-1], edges[1:]], 1)
    columns = np.array([[0, 10], [10, 20], [20, 30], [0, 30]])
    six = (rows, np.arange(1, 5), columns, np.array([[0, 10], [10, 20], [20, 30]]), np.array([2, 4, 6]), rows[[0, 3, 1, 3, 2, 3]])
    dense = np.exp(-((x[:, None] - y) ** 2).sum(-1))

    def product():
        K = (-((Vi(x) - Vj(y)) ** 2).sum(-1)).exp()
        K.ranges = six
        return K @ b

    def expected():
        there = np.zeros((40, 30))
        for (first, last), (start, stop) in zip(rows, columns, strict=True):
            there[first:last, start:stop] = 1
        return (dense * there) @ b

    np.testing.assert_allclose(product(), expected(), rtol=1e-10, atol=1e-12)
    columns[0] = [5, 25]  # in the memory that the ranges are read from
    np.testing.assert_allclose(product(), expected(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tiles_of_few_points(dtype, random):
    """Where ranges are short and the work is long, kernels own one vector of rows."""
    size, count = 11, 130
    x, y, b = (random.standard_normal((size * count, d)).astype(dtype) for d in (3, 3, 2))
    edges = np.arange(count + 1) * size
    ranges, keep = np.stack([edges[:-1], edges[1:]], 1), random.random((count, count)) < 0.2
    keep[3] = False
    K = (-((Vi(x) - Vj(y)) ** 2).sum(-1)).exp().blocks(ranges, ranges, keep)
    there = np.kron(keep, np.ones((size, size)))
    dense = there * np.exp(-((x[:, None].astype(float) - y) ** 2).sum(-1))
    tolerance = 1e-4 if dtype == "float32" else 1e-10
    np.testing.assert_allclose(K @ b, dense @ b, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(K.T @ b, dense.T @ b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("method", ["argmin", "argmax", "argKmin"])
def test_indices_of_what_has_a_gradient(method):
    """They have none themselves: with or without a mask nothing but indices comes back."""
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(5)
    x, y = torch.from_numpy(random.normal(size=(9, 2))), torch.from_numpy(random.normal(size=(7, 2))).requires_grad_()
    K = ((Vi(x) - Vj(y)) ** 2).sum(-1).tril()
    found = getattr(K, method)(*([2] if method == "argKmin" else []), axis=1)
    full = np.where(np.tril(np.ones((9, 7), bool)), ((x[:, None] - y) ** 2).sum(-1).detach(), np.inf if method != "argmax" else -np.inf)
    wanted = {"argmin": full.argmin(1), "argmax": full.argmax(1), "argKmin": full.argsort(1, kind="stable")[:, :2]}[method]
    if method == "argKmin":
        wanted[0, 1] = -1  # the first row has one pair alone
    assert not found.requires_grad
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("kind", ["numpy", "torch"])
@pytest.mark.parametrize("name", ["tril", "band", "labels", "blocks", "ranges", "labels and band", "blocks and labels", "picked"])
def test_masks_travel(name, kind, random):
    """To other processes, where they follow and are followed by others."""
    x, y = random.random((30, 2)), random.random((20, 2))
    to = np.asarray if kind == "numpy" else torch.tensor
    K, there = masked("labels" if name == "picked" else name, Vi(to(x)) | Vj(to(y)), random)
    full = x @ y.T
    if name == "picked":
        K, there, full = K[3:, ::2].T, there[3:, ::2].T, full[3:, ::2].T
    for other in (copy.deepcopy(K), pickle.loads(pickle.dumps(K))):
        np.testing.assert_array_equal(other.dense(), K.dense())
        check(other.triu(-5), full, np.triu(there, -5))


@pytest.mark.parametrize("labels", [np.array(list("abcab")), np.array([0.5, 1, 2, 0, 1]), np.array([None] * 5), torch.ones(5)])
def test_labels_are_whole_numbers(labels):
    K = Vi(np.ones(5)) * Vj(np.ones(5))
    with pytest.raises(TypeError, match="same_label takes whole numbers as labels, not .*numpy.unique"):
        K.same_label(np.zeros(5, int), labels)
    with pytest.raises(TypeError, match="tril takes whole numbers, not array"):
        K.tril(np.array([1]))


@pytest.mark.parametrize("kind", ["tril", "band", "labels", "labels and band", "all"])
@pytest.mark.parametrize("batch", [(), (2,)])
def test_selections_of_vectors_that_have_gradients(kind, batch, random):
    m, n, d = 13, 11, 3
    a, b = random.integers(0, 2, m), random.integers(0, 2, n)
    i, j = np.arange(m)[:, None], np.arange(n)
    there = {"tril": j <= i, "band": abs(j - i) <= 2, "labels": a[:, None] == b, "all": i + j > -1}
    there["labels and band"] = there["labels"] & there["band"]
    mask = {
        "tril": lambda K: K.tril(),
        "band": lambda K: K.band(2, 2),
        "labels": lambda K: K.same_label(torch.tensor(a), torch.tensor(b)),
        "labels and band": lambda K: K.same_label(torch.tensor(a), torch.tensor(b)).band(2, 2),
        "all": lambda K: K.band(m, n),
    }[kind]
    x = torch.tensor(random.normal(size=(*batch, m, d)), requires_grad=True)
    y = torch.tensor(random.normal(size=(*batch, n, d)), requires_grad=True)
    K = mask(LazyTensor(x[..., :, None, :]) * LazyTensor(y[..., None, :, :]))
    own = torch.tensor(there[kind])[..., None]
    dense = x[..., :, None, :] * y[..., None, :, :]
    low, high = dense.masked_fill(~own, torch.inf), dense.masked_fill(~own, -torch.inf)
    k = len(batch)
    for axis in (k, k + 1):
        some = own.any(axis - k)  # rows that meet a column at all
        order = low.argsort(dim=axis, stable=True).narrow(axis, 0, 3)
        smallest = low.gather(axis, order).movedim(axis, k + 1)
        smallest = torch.where(smallest.isinf(), torch.nan, smallest)
        for found, want in (
            (K.min(axis), low.amin(axis)),
            (K.max(axis), high.amax(axis)),
            (K.min_argmin(axis)[0], low.amin(axis)),
            (K.max_argmax(axis)[0], high.amax(axis)),
            (K.Kmin(3, axis), smallest),
            (K.Kmin_argKmin(3, axis)[0], smallest),
        ):
            torch.testing.assert_close(found, want, equal_nan=True)
            weights = torch.tensor(random.normal(size=tuple(want.shape)))
            ours, theirs = ((torch.where(z.isfinite(), z, 0) * weights).sum() for z in (found, want))
            for found_by, want_by in zip(*(torch.autograd.grad(z, [x, y], retain_graph=True) for z in (ours, theirs)), strict=True):
                torch.testing.assert_close(found_by, want_by)
        torch.testing.assert_close(K.argmin(axis), torch.where(some, low.argmin(axis), -1))
    both = low.flatten(k, k + 1)
    torch.testing.assert_close(K.min((k, k + 1)), both.amin(k))
    torch.testing.assert_close(K.argmin((k, k + 1)), both.argmin(k))
    torch.testing.assert_close(K.argKmin(3, (k, k + 1)), both.argsort(dim=k, stable=True).narrow(k, 0, 3))
