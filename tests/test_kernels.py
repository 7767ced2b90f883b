"""Kernels ready to use, against dense NumPy, SciPy and PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.spatial.distance as sd

from pairfold import Vi, Vj, kernels

torch = pytest.importorskip("torch")


def dense(name, x, y, lengthscale=1.0, **more):
    """The kernel in float64 NumPy or PyTorch, from its textbook formula."""
    m = torch if isinstance(x, torch.Tensor) else np
    d = (x[..., :, None, :] - y[..., None, :, :]) / lengthscale
    r2 = (d**2).sum(-1)
    r = m.sqrt(r2 + (r2 == 0)) * (r2 != 0)
    if name in ("rbf", "gaussian"):
        return m.exp(-r2 / 2)
    if name == "matern12":
        return m.exp(-r)
    if name == "matern32":
        return (1 + 3**0.5 * r) * m.exp(-(3**0.5) * r)
    if name == "matern52":
        return (1 + 5**0.5 * r + 5 * r2 / 3) * m.exp(-(5**0.5) * r)
    if name == "rational_quadratic":
        return (1 + r2 / (2 * more["alpha"])) ** (-more["alpha"])
    if name == "periodic":
        plain = x[..., :, None, :] - y[..., None, :, :]
        return m.exp(-2 * ((m.sin(np.pi * plain / more["period"]) / lengthscale) ** 2).sum(-1))
    if name == "cauchy":
        return 1 / (1 + r2)
    if name == "laplacian":
        return m.exp(-abs(d).sum(-1))
    if name == "energy":
        return -r
    if name == "thin_plate":
        return r2 * m.log(r2 + (r2 == 0)) / 2
    if name == "polynomial":
        return (more["scale"] * (x @ y.swapaxes(-1, -2)) + more["offset"]) ** more["degree"]
    assert name == "cosine"
    norms = [m.sqrt((a**2).sum(-1)) for a in (x, y)]
    return (x @ y.swapaxes(-1, -2)) / (norms[0][..., :, None] * norms[1][..., None, :])


SCALED = ["rbf", "gaussian", "matern12", "matern32", "matern52", "rational_quadratic", "periodic", "cauchy", "laplacian"]
MORE = {"rational_quadratic": {"alpha": 1.7}, "periodic": {"period": 0.8}, "polynomial": {"degree": 3, "scale": 0.7, "offset": 0.4}}
ALL = [*SCALED, "energy", "thin_plate", "polynomial", "cosine"]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("dim", [1, 3, 12])
def test_values(name, dtype, dim):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(40, dim)).astype(dtype), rng.normal(size=(30, dim)).astype(dtype)
    y[:5] = x[:5]  # points that coincide
    rtol, atol = (2e-4, 2e-5) if dtype == "float32" else (1e-10, 1e-12)
    for lengthscale in (1.0, 0.8, np.asarray([0.7], dtype), rng.uniform(0.5, 2, dim).astype(dtype)) if name in SCALED else (None,):
        options = MORE.get(name, {}) | ({"lengthscale": lengthscale} if lengthscale is not None else {})
        want = dense(name, x.astype("f8"), y.astype("f8"), **options)
        got = getattr(kernels, name)(x, y, **options)
        assert got.shape == (40, 30)
        np.testing.assert_allclose(got.dense(), want, rtol=rtol, atol=atol)
        np.testing.assert_allclose(getattr(kernels, name)(Vi(x), Vj(y), **options).sum(1), want.sum(1), rtol=rtol, atol=30 * atol)


def test_against_scipy():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(20, 4)), rng.normal(size=(25, 4))
    np.testing.assert_allclose(kernels.energy(x, y).dense(), -sd.cdist(x, y), rtol=1e-12)
    np.testing.assert_allclose(kernels.cosine(x, y).dense(), 1 - sd.cdist(x, y, "cosine"), rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(kernels.laplacian(x, y, 2).dense(), np.exp(-sd.cdist(x, y, "cityblock") / 2), rtol=1e-12)
    np.testing.assert_allclose(kernels.rbf(x, y, 2).dense(), np.exp(-sd.cdist(x, y, "sqeuclidean") / 8), rtol=1e-12)
    assert [kernels.matern(x, y, nu).formula for nu in (0.5, 1.5, 2.5)] == [
        f(x, y).formula for f in (kernels.matern12, kernels.matern32, kernels.matern52)
    ]


@pytest.mark.parametrize("name", SCALED)
@pytest.mark.parametrize("ard", [False, True])
def test_gradients_of_points_and_parameters(name, ard):
    rng = np.random.default_rng(3)
    x, y = (torch.tensor(rng.normal(size=(n, 3)), requires_grad=True) for n in (15, 12))
    scale = torch.tensor(rng.uniform(0.6, 1.5, 3 if ard else 1), requires_grad=True)
    extra = {key: torch.tensor([value], dtype=torch.float64, requires_grad=True) for key, value in MORE.get(name, {}).items()}
    inputs = [x, y, scale, *extra.values()]
    b = torch.tensor(rng.normal(size=(12, 2)))
    grads = []
    for K in (getattr(kernels, name)(x, y, lengthscale=scale, **extra), dense(name, x, y, scale, **extra)):
        out = K @ b
        first = torch.autograd.grad(out.sin().sum(), inputs, create_graph=True)
        grads.append((out, *first, *torch.autograd.grad(sum(g.square().sum() for g in first), inputs)))
    for got, want in zip(*grads, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", ALL)
def test_gradients_where_points_coincide_are_finite(name):
    x = torch.tensor(np.random.default_rng(4).normal(size=(9, 3)), requires_grad=True)
    (got,) = torch.autograd.grad(getattr(kernels, name)(x, x, **MORE.get(name, {})).sum(1).square().sum(), x)
    (want,) = torch.autograd.grad(dense(name, x, x, **MORE.get(name, {})).sum(1).square().sum(), x)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


def test_batches():
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(2, 3, 11, 2)), rng.normal(size=(3, 9, 2))
    np.testing.assert_allclose(kernels.matern32(x, y, 0.7).sum(-1), dense("matern32", x, y, 0.7).sum(-1), rtol=1e-12)


@pytest.mark.parametrize(
    ("act", "part"),
    [
        (lambda: kernels.matern(np.ones((2, 2)), np.ones((2, 2)), 1.0), "0.5, 1.5, 2.5"),
        (lambda: kernels.rbf(np.ones(2), np.ones((2, 2))), "(2,)"),
        (lambda: kernels.rbf(np.ones((2, 2)), [1.0]), "list"),
        (lambda: kernels.rbf(np.ones((4, 2)), np.ones((5, 3))), "2 and 3"),
        (lambda: kernels.rbf(np.ones((4, 3)), np.ones((5, 3)), np.ones(2)), "3 and 2"),
    ],
)
def test_messages(act, part):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        act()
    assert part in str(caught.value)
