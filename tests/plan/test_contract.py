"""Squared distances taken as inner products must lose nothing: data far from the origin, near duplicates, ties and special values."""

from __future__ import annotations

import numpy as np
import pytest

from pairfold import Pm, Vi, Vj, fold
from pairfold.plan.contract import Contraction, contraction
from pairfold.reductions import LogOfSum, LogSumExp


@pytest.fixture(autouse=True)
def from_one_pair_on(monkeypatch):
    """Small problems too are looked at."""
    monkeypatch.setattr(fold, "PAIRS_WORTH_CONTRACTING", 1)
    monkeypatch.setattr(fold, "ROWS_WORTH_CONTRACTING", 1)


DATA = {
    "centred": lambda r, d: (r.normal(size=(300, d)), r.normal(size=(700, d))),
    "far": lambda r, d: (r.normal(size=(300, d)) + 1000, r.normal(size=(700, d)) + 1000),
    "apart": lambda r, d: (r.normal(size=(300, d)) + 30, r.normal(size=(700, d)) - 30),
    "duplicates": lambda r, d: ((base := r.normal(size=(300, d))), np.vstack([base[::-1], base, base[:100]])),
    "tiny": lambda r, d: (r.normal(size=(300, d)) * 1e-18, r.normal(size=(700, d)) * 1e-18),
    "close": lambda r, d: (1 + r.normal(size=(300, d)) * 1e-4, 1 + r.normal(size=(700, d)) * 1e-4),
    "two clusters": lambda r, d: (r.normal(size=(300, d)) + 50 * (np.arange(300) % 2)[:, None],
                                  r.normal(size=(700, d)) + 50 * (np.arange(700) % 2)[:, None]),
    "outlier": lambda r, d: (np.vstack([r.normal(size=(299, d)), np.full((1, d), 1e15)]), r.normal(size=(700, d))),
    "integers": lambda r, d: (r.integers(-3, 4, (300, d)), r.integers(-3, 4, (700, d))),
}  # fmt: skip


def squared(x, y):
    x, y = x.astype(np.float64), y.astype(np.float64)
    return np.stack([((row - y) ** 2).sum(-1) for row in x])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("dim", [9, 16, 64])
@pytest.mark.parametrize("name", DATA)
def test_nearest(name, dim, dtype, random):
    x, y = (a.astype(dtype) for a in DATA[name](random, dim))
    distances = squared(x, y)
    eps = np.finfo(dtype).eps
    for K in (1, 3, 12):  # noqa: N806
        values, index = (Vi(x) - Vj(y)).sqnorm2().Kmin_argKmin(K, axis=1)
        best = np.sort(distances, axis=1)[:, :K]
        chosen = np.take_along_axis(distances, index, 1)
        # As accurate as differences in float32 are: relative to the distance itself.
        np.testing.assert_allclose(chosen, best, rtol=4 * dim * eps)
        np.testing.assert_allclose(values, best, rtol=4 * dim * eps)
        if name in ("integers", "duplicates"):
            exact = np.argsort(distances, axis=1, kind="stable")[:, :K]
            same = np.take_along_axis(distances, exact, 1) == 0 if name == "duplicates" else np.ones_like(exact, bool)
            np.testing.assert_array_equal(index[same], exact[same])
    index = (Vi(y) - Vj(x)).sqnorm2().argKmin(2, axis=0)
    np.testing.assert_allclose(np.take_along_axis(distances, index, 1), np.sort(distances, 1)[:, :2], rtol=4 * dim * eps)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("dim", [2, 3, 9, 64])
@pytest.mark.parametrize("scale", [1e-6, 0.01, 0.37, 1, 30.0])
@pytest.mark.parametrize("name", DATA)
def test_gauss(name, scale, dim, dtype, random):
    x, y = (a.astype(dtype) for a in DATA[name](random, dim))
    b = random.normal(size=(700, 2)).astype(dtype)
    exponent = -squared(x, y) * float(np.asarray(scale, dtype))
    full = np.exp(exponent)
    eps = np.finfo(dtype).eps
    # An exponent taken by differences has an error of a few units of itself.
    bound = 8 * eps * ((full * (1 + np.abs(exponent) * dim**0.5)) @ np.abs(b)) + np.finfo(dtype).tiny * 1e3
    for factor in (scale, Pm(np.array(scale, dtype))):
        kernel = (-(Vi(x) - Vj(y)).sqnorm2() * factor).exp()
        assert np.all(np.abs(kernel @ b - full @ b) <= bound)
        assert np.all(np.abs((Vi(x).sqdist(Vj(y)) * -factor).exp().T.sum(0) - full.sum(1)) <= bound.max() + 64 * eps * full.sum(1).max())
    highest = exponent.max(1, keepdims=True)
    share = np.exp(exponent - highest)
    found = (-(Vi(x) - Vj(y)).sqnorm2() * scale).logsumexp(axis=1)
    wanted = highest[:, 0] + np.log(share.sum(1))
    np.testing.assert_allclose(found, wanted, rtol=8 * dim * eps, atol=8 * eps * (1 + dim))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_special_values(value, dtype, random):
    x, y = random.normal(size=(40, 12)).astype(dtype) / 9, random.normal(size=(90, 12)).astype(dtype) / 9
    for at in ((x, 7), (y, 33)):
        x1, y1 = x.copy(), y.copy()
        (x1 if at[0] is x else y1)[at[1], 5] = value
        with np.errstate(all="ignore"):
            distances = ((x1[:, None] - y1) ** 2).sum(-1)
            np.testing.assert_array_equal(
                (Vi(x1) - Vj(y1)).sqnorm2().argKmin(3, axis=1), np.argsort(distances, axis=1, kind="stable")[:, :3]
            )
            np.testing.assert_allclose((-(Vi(x1) - Vj(y1)).sqnorm2()).exp().sum(1), np.exp(-distances).sum(1), rtol=1e-5)


def test_data_that_change_between_calls(random):
    """The choice is made anew at each call."""
    x, y = random.normal(size=(100, 20)).astype("f") / 20, random.normal(size=(200, 20)).astype("f") / 20
    kernel = (-(Vi(x) - Vj(y)).sqnorm2()).exp()
    for shift in (0, 1000, 0, 1e6):
        x1, y1 = x + np.float32(shift), y + np.float32(shift)
        x[:], y[:] = x1, y1
        np.testing.assert_allclose(kernel.sum(axis=1), np.exp(-squared(x, y)).sum(1), rtol=1e-5)
        x -= np.float32(shift)
        y -= np.float32(shift)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("dim", [2, 3, 7, 9, 20])
@pytest.mark.parametrize("columns", [1, 3, 9])
def test_gradients(dim, columns, dtype, random):
    torch = pytest.importorskip("torch")
    x, y = (random.uniform(0, 1 / dim**0.5, (n, dim)) + 3 for n in (90, 130))
    b, g, offset = random.normal(size=(130, columns)), random.normal(size=(90, columns)), random.normal(size=(90, 1))

    def through(lazy):
        made = [torch.tensor(a, dtype=torch.float64 if not lazy else getattr(torch, dtype)).requires_grad_() for a in (x, y, b, offset)]
        x_i, y_j, weights, o_i = made
        if lazy:
            out = (Vi(o_i) * 0.5 - 0.7 * Vi(x_i).sqdist(Vj(y_j))).exp() @ weights
        else:
            out = (o_i * 0.5 - 0.7 * ((x_i[:, None] - y_j) ** 2).sum(-1)).exp() @ weights
        first = torch.autograd.grad(out, made, torch.tensor(g, dtype=out.dtype), create_graph=True)
        second = torch.autograd.grad(sum((f**2).sum() for f in first), made)
        return [a.detach().double().numpy() for a in (out, *first, *second)]

    before = {n for n in made_kernels() if n[4]}
    for found, wanted in zip(through(True), through(False), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=(2e-5 if dtype == "float32" else 4e-14) * np.abs(wanted).max())
    assert {n for n in made_kernels() if n[4]} > before  # inner products were taken


def made_kernels():
    from pairfold.runtime import cpu

    return list(cpu._kernels)


def test_other_terms_stay_in_the_exponential(random):
    """exp(v_j - |x - y|²): exp(v_j) alone may overflow."""
    x, y = (random.uniform(0, 0.5, (n, 3)).astype("f") for n in (50, 60))
    u, v = random.uniform(95, 100, (50, 1)).astype("f"), random.uniform(95, 100, (60, 1)).astype("f")
    found = ((Vj(v) - Vi(u)) - (Vi(x) - Vj(y)).sqnorm2()).exp().sum(1)
    wanted = np.exp((v[:, 0].astype(float) - u) - squared(x, y)).sum(1)
    np.testing.assert_allclose(found[:, 0], wanted, rtol=2e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("dim", [2, 3, 9, 30])
def test_logsumexp_as_the_logarithm_of_a_sum(dim, dtype, random):
    """Where exponents are small and stand alone; with more terms, weights or care it is the one with a running maximum."""
    side = 1.5 / np.sqrt(dim)
    x, y, w = random.uniform(0, side, (300, dim)), random.uniform(0, side, (700, dim)), random.uniform(1, 2, (700, 1))
    x, y, w = x.astype(dtype), y.astype(dtype), w.astype(dtype)
    square, rtol = squared(x, y), 3e-7 if dtype == "float32" else 1e-15
    F = -(Vi(x) - Vj(y)).sqnorm2()  # noqa: N806
    for axis in (0, 1):
        weights = w.astype("f8").T if axis == 1 else 1.0
        want = np.log(np.exp(-square).sum(axis))
        np.testing.assert_allclose(F.logsumexp(axis), want, rtol=rtol, atol=rtol)
        np.testing.assert_allclose(F.logsumexp(axis, accumulate="compensated"), want, rtol=rtol, atol=rtol)
        if axis == 1:
            np.testing.assert_allclose(
                F.logsumexp(axis, weight=Vj(w))[:, 0], np.log((weights * np.exp(-square)).sum(axis)), rtol=rtol, atol=rtol
            )
            np.testing.assert_allclose(
                (F + 50 * Vj(w)).logsumexp(axis)[:, 0], np.log(np.exp(50 * w.astype("f8").T - square).sum(axis)), rtol=rtol
            )
        far = np.log(np.exp(-400 * (square - square.min(axis, keepdims=True))).sum(axis)) - 400 * square.min(axis)
        np.testing.assert_allclose((400 * F).logsumexp(axis), far, rtol=4 * rtol, atol=4 * rtol)
    made = contraction((F.formula,), LogSumExp(), 32)
    assert isinstance(made, Contraction) and isinstance(made.reduction, LogOfSum)
