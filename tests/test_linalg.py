"""Solvers against dense float64 ones."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest
import scipy.sparse.linalg  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st

from pairfold import LazyTensor, Vi, Vj, block, diag, identity, kernels, linalg
from pairfold.linalg import ConvergenceWarning

torch = pytest.importorskip("torch")
KINDS = ["numpy", "torch"]


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        yield


def give(array, kind, dtype="float64"):
    array = np.asarray(array).astype(dtype)
    return torch.from_numpy(array) if kind == "torch" else array


def cloud(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).random(shape)


def laplacian(x, y=None):
    """exp(-|x - y|), whose eigenvalues fall slowly: dense."""
    y = x if y is None else y
    return np.exp(-np.sqrt(np.square(x[..., :, None, :] - y[..., None, :, :]).sum(-1)))


def symbolic(x, y=None):
    y = x if y is None else y
    return (-((LazyTensor(x[..., :, None, :]) - LazyTensor(y[..., None, :, :])) ** 2).sum(-1).sqrt()).exp()


# ---- solutions


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 70), st.sampled_from([(), (1,), (5,)]), st.sampled_from([((), ()), ((2,), ()), ((), (3,)), ((2, 1), (3,))]),
    st.sampled_from(KINDS), st.sampled_from(["float32", "float64"]), st.sampled_from(["cg", "minres"]), st.booleans(),
)  # fmt: skip
def test_solutions(n, columns, batches, kind, dtype, method, warm):
    """Of one and many right-hand sides, over batches that broadcast; b may be a vector where it has no batch axes."""
    of_k, of_b = batches
    if of_b and not columns:
        columns = (1,)
    x, b = cloud(*of_k, n, 2), cloud(*of_b, n, *columns, seed=1)
    K = symbolic(give(x, kind, dtype))
    # With a negative shift the matrix is indefinite.
    alpha = 0.5 if method == "cg" else -0.35
    full = laplacian(x.astype(dtype).astype("f8")) + alpha * np.eye(n)
    if np.abs(np.linalg.eigvalsh(full)).min() < 0.02:
        alpha, full = 0.5, full + (0.5 - alpha) * np.eye(n)
    want = np.linalg.solve(full, (b if columns else b[:, None]).astype(dtype).astype("f8"))
    want = want if columns else want[..., 0]
    start = give(want * 0.9, kind, dtype) if warm else None
    tol = 1e-10 if dtype == "float64" else 1e-5
    found, info = K.solve(give(b, kind, dtype), alpha, method=method, x0=start, tol=tol, info=True)
    assert isinstance(found, torch.Tensor if kind == "torch" else np.ndarray)
    assert str(found.dtype).endswith(dtype) and tuple(found.shape) == want.shape
    np.testing.assert_allclose(found, want, atol=200 * tol * np.abs(want).max())
    assert info.converged and (np.asarray(info.residual) <= tol).all()
    assert np.shape(info.residual) == (want.shape[:-2] + want.shape[-1:] if columns else want.shape[:-1])


def test_a_good_start_saves_iterations():
    x, b = cloud(400, 3), cloud(400, seed=1)
    K = symbolic(x)
    a, first = K.solve(b, alpha=0.1, tol=1e-8, info=True)
    again, second = K.solve(b, alpha=0.1, tol=1e-8, x0=a, info=True)
    _, near = K.solve(b, alpha=0.1, tol=1e-8, x0=a * (1 + 1e-4 * cloud(400, seed=3)), info=True)
    assert second.iterations == 0 and near.iterations < first.iterations / 1.5
    np.testing.assert_array_equal(a, again)


def test_all_columns_share_each_product(monkeypatch):
    """Many right-hand sides take as many products as the slowest of them, and what has converged stays as it is."""
    x = cloud(200, 3)
    K, b = symbolic(x), np.stack([np.ones(200), cloud(200, seed=1), np.zeros(200), np.sin(40 * x[:, 0])], 1)
    found, info = linalg.cg(K, b, 0.1, tol=1e-9, info=True)
    alone = [linalg.cg(K, b[:, [k]], 0.1, tol=1e-9, info=True) for k in range(4)]
    # But for one: sums of one column and of four are rounded in another order.
    assert abs(info.iterations - max(i.iterations for _, i in alone)) <= 1
    np.testing.assert_allclose(found, np.concatenate([a for a, _ in alone], 1), rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(found[:, 2], 0)
    assert len({i.iterations for _, i in alone}) == 4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_hermitian(kind, dtype):
    x, t = cloud(60, 2), cloud(60, 1)
    full = np.exp(-np.square(x[:, None] - x).sum(-1)) * np.exp(3j * (t - t.T)) + 0.5 * np.eye(60)
    z, w = (give(a, kind, "float64" if dtype == "complex128" else "float32") for a in (x, t))
    K = (-((Vi(z) - Vj(z)) ** 2).sum(-1)).exp() * (3 * (Vi(w[:, 0]) - Vj(w[:, 0]))).exp1j()
    b = cloud(60, 3, seed=1) + 1j * cloud(60, 3, seed=2)
    tol = 1e-10 if dtype == "complex128" else 1e-5
    for method, alpha, dense in (("cg", 0.5, full), ("minres", -0.77, full - 1.27 * np.eye(60))):
        found = K.solve(give(b, kind, dtype), alpha, method=method, tol=tol)
        np.testing.assert_allclose(found, np.linalg.solve(dense, b), rtol=1e3 * tol, atol=1e3 * tol)
        assert str(found.dtype).endswith(dtype)
    P = linalg.nystrom(K, 0.5, 20)
    found, info = K.solve(give(b, kind, dtype), 0.5, preconditioner=P, tol=tol, info=True)
    np.testing.assert_allclose(found, np.linalg.solve(full, b), rtol=1e3 * tol, atol=1e3 * tol)
    np.testing.assert_array_equal(info.converged, True)


def test_other_matrices():
    """Of linear operators and arrays, masked matrices and KeOps's right-hand sides."""
    x, b = cloud(50, 2), cloud(50, seed=1)
    K, full, noise = symbolic(x), laplacian(x), 0.5 + cloud(50, seed=2)
    b_i = Vi(b[:, None])
    for A, dense in (
        (K + diag(noise), full + np.diag(noise)),
        (K @ K + 0.1 * identity(50), full @ full + 0.1 * np.eye(50)),
        (full + np.eye(50), full + np.eye(50)),
        (block([[K + diag(noise)]]), full + np.diag(noise)),
        (K.band(3, 3) + identity(50), np.triu(np.tril(full, 3), -3) + np.eye(50)),
    ):
        np.testing.assert_allclose(linalg.cg(A, b, 1.5, tol=1e-11), np.linalg.solve(dense + 1.5 * np.eye(50), b), atol=1e-9)
    np.testing.assert_allclose(K.solve(b_i, alpha=0.3, tol=1e-11)[:, 0], np.linalg.solve(full + 0.3 * np.eye(50), b), atol=1e-9)
    half = K.solve(b.astype("float16"), alpha=1, tol=1e-11)
    assert half.dtype == "float64"
    y = cloud(40, 2, seed=5).astype("float16")
    found = symbolic(y).solve(b[:40].astype("float16"), alpha=0.5, tol=1e-3)
    assert found.dtype == "float16"
    np.testing.assert_allclose(found, np.linalg.solve(laplacian(y.astype("f8")) + 0.5 * np.eye(40), b[:40]), atol=1e-2)


def test_absolute_tolerance():
    x, b = cloud(100, 2), 1e-3 * cloud(100, 2, seed=1)
    _, info = symbolic(x).solve(b, alpha=0.1, tol=0, atol=1e-6, info=True)
    residual = info.residual * np.linalg.norm(b, axis=0)
    assert (residual <= 1e-6).all() and (residual > 1e-9).all()


# ---- preconditioners


@pytest.mark.parametrize("kind", KINDS)
def test_plain_iterations_stall_where_preconditioned_ones_do_not(kind):
    """A smooth kernel on many points beside little noise: the condition number is beyond 10⁸."""
    x = cloud(700, 2, seed=7)
    b = np.sin(6 * x[:, 0]) + cloud(700, seed=8)
    K, alpha = kernels.gaussian(give(x, kind), give(x, kind), 0.3), 1e-6
    full = np.exp(-np.square(x[:, None] - x).sum(-1) / 0.18) + alpha * np.eye(700)
    values = np.linalg.eigvalsh(full)
    assert values[-1] / values[0] > 1e8
    with pytest.warns(ConvergenceWarning, match="nystrom"):
        _, plain = K.solve(give(b, kind), alpha, tol=1e-8, max_iterations=300, info=True)
    assert not plain.converged and plain.residual > 1e-4
    P = linalg.nystrom(K, alpha, 250)
    found, info = K.solve(give(b, kind), alpha, tol=1e-8, max_iterations=60, preconditioner=P, info=True)
    assert info.converged
    assert np.linalg.norm(full @ np.asarray(found) - b) <= 1.1e-8 * np.linalg.norm(b)
    with_minres = K.solve(give(b, kind), alpha, method="minres", tol=1e-8, max_iterations=100, preconditioner=P)
    assert np.linalg.norm(full @ np.asarray(with_minres) - b) <= 1.1e-8 * np.linalg.norm(b)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch", [(), (2,)])
def test_nystrom_is_the_inverse_of_the_approximation(batch, dtype):
    x, some, alpha = cloud(*batch, 80, 2).astype(dtype), np.arange(3, 80, 4), 0.05
    full = laplacian(x.astype("f8"))
    columns = full[..., some]
    approximation = columns @ np.linalg.solve(full[..., some[:, None], some], columns.swapaxes(-1, -2)) + alpha * np.eye(80)
    P = linalg.nystrom(symbolic(x), alpha, landmarks=some)
    assert P.shape == full.shape
    np.testing.assert_allclose(P.dense(), np.linalg.inv(approximation), rtol=0.2, atol=0.2 / alpha * 0.1)
    assert (np.linalg.eigvalsh(P.dense()) > 0).all()


def test_every_kind_of_preconditioner():
    """Functions, arrays and operators; the diagonal saves iterations where it differs much."""
    x, b, scale = cloud(150, 2), cloud(150, seed=1), 10 ** (3 * cloud(150, seed=2))
    A, full = symbolic(x) + diag(scale), laplacian(x) + np.diag(scale)
    _, plain = linalg.cg(A, b, tol=1e-9, info=True)
    for given_ in (lambda r: r / (1 + scale)[:, None], np.diag(1 / (1 + scale)), diag(1 / (1 + scale))):
        found, info = linalg.cg(A, b, tol=1e-9, preconditioner=given_, info=True)
        np.testing.assert_allclose(found, np.linalg.solve(full, b), rtol=1e-6, atol=1e-9)
        assert info.iterations < plain.iterations / 2


# ---- derivatives


def both(found, inputs):
    """First and second derivatives of a number."""
    first = torch.autograd.grad(found, inputs, create_graph=True)
    return (found, *first, *torch.autograd.grad(sum(g.square().sum() for g in first), inputs, retain_graph=True))


@pytest.mark.parametrize("method", ["cg", "minres"])
@pytest.mark.parametrize("vector", [False, True])
def test_gradients(method, vector):
    """By right-hand sides, points, bandwidth, noise on the diagonal and alpha, to second order."""
    x, s, noise, alpha, b = (
        torch.tensor(v, requires_grad=True)
        for v in (cloud(25, 2), 0.7, 0.3 + cloud(25, seed=1), 0.4, cloud(25, *[3] * (not vector), seed=2))
    )
    inputs = (x, s, noise, alpha, b)
    moved = x + 0.1 * x.sin()  # arrays that are computed themselves, of which one depends on the other
    K = (-((Vi(moved) - Vj(moved)) ** 2).sum(-1) * s).exp() + diag(noise * alpha)
    full = (-((moved[:, None] - moved) ** 2).sum(-1) * s).exp() + torch.diag(noise * alpha) + alpha * torch.eye(25)
    a = K.solve(b, alpha, method=method, tol=1e-13)
    want = torch.linalg.solve(full, b)
    torch.testing.assert_close(a, want, rtol=1e-9, atol=1e-9)
    weights = torch.linspace(1, 2, 25).double()
    for found, wanted in zip(*(both((weights @ (a_.sin() + a_**2)).sum(), inputs) for a_ in (a, want)), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-7, atol=1e-7)


def test_gradients_over_batches():
    x, b = torch.tensor(cloud(2, 1, 12, 2), requires_grad=True), torch.tensor(cloud(3, 12, 2, seed=1), requires_grad=True)
    a = kernels.gaussian(x, x, 0.5).solve(b, 0.5, tol=1e-13)
    full = (-((x[..., :, None, :] - x[..., None, :, :]) ** 2).sum(-1) * 2).exp() + 0.5 * torch.eye(12)
    want = torch.linalg.solve(full, b)
    for found, wanted in zip(both(a.sin().sum(), (x, b)), both(want.sin().sum(), (x, b)), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-8)


def test_gradients_with_a_preconditioner_and_a_start():
    """Which change how the solution is found, not what it is; of a masked matrix."""
    x, b = torch.tensor(cloud(40, 2), requires_grad=True), torch.tensor(cloud(40, 2, seed=1), requires_grad=True)
    labels = np.arange(40) % 3
    there = torch.tensor(labels[:, None] == labels)
    K = kernels.gaussian(x, x, 0.4).same_label(labels, labels)
    P = linalg.nystrom(kernels.gaussian(x, x, 0.4), 0.25, 10)
    a = K.solve(b, 0.25, tol=1e-13, preconditioner=P, x0=torch.ones(40, 2, dtype=torch.float64))
    full = (-((x[:, None] - x) ** 2).sum(-1) / 0.32).exp() * there + 0.25 * torch.eye(40, dtype=torch.float64)
    want = torch.linalg.solve(full, b)
    for found, wanted in zip(both(a.sin().sum(), (x, b)), both(want.sin().sum(), (x, b)), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-7, atol=1e-7)


def test_gradients_check_numerically():
    x, b = torch.tensor(cloud(7, 2), requires_grad=True), torch.tensor(cloud(7, seed=1), requires_grad=True)

    def function(x, b):
        return kernels.gaussian(x, x, 0.6).solve(b, alpha=0.3, tol=1e-14)

    assert torch.autograd.gradcheck(function, (x, b), atol=1e-6)
    assert torch.autograd.gradgradcheck(function, (x, b), atol=1e-6)


# ---- reductions that are linear in a variable


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize("side", ["i", "j"])
def test_linear_reductions(kind, batch, side):
    """A kernel of matrices, (D, E) at each pair, summed along either axis."""
    x, y = cloud(*batch, 6, 2), cloud(7, 2, seed=1)
    difference = LazyTensor(give(x[..., :, None, :], kind)) - LazyTensor(give(y[None], kind))
    n = 6 if side == "i" else 7
    b = (Vi if side == "i" else Vj)(give(cloud(n, 2, seed=2), kind))
    F = (-(difference | difference)).exp() * (difference * (difference | b)).concat(b[..., 0] + 2 * b[..., 1])
    d = x[..., :, None, :] - y
    blocks = np.concatenate([d[..., :, None] * d[..., None, :], np.broadcast_to([[1.0, 2.0]], (*d.shape[:-1], 1, 2))], -2)
    blocks = blocks * np.exp(-(d**2).sum(-1))[..., None, None]
    full = (
        blocks.swapaxes(-3, -2).reshape(*batch, 18, 14) if side == "j" else blocks.swapaxes(-4, -3).swapaxes(-3, -2).reshape(*batch, 21, 12)
    )
    A = linalg.linear(F, b)
    assert A.shape == full.shape
    v, w = cloud(full.shape[-1], 3, seed=3), cloud(full.shape[-2], 3, seed=4)
    np.testing.assert_allclose(A @ give(v, kind), full @ v, rtol=1e-12)
    np.testing.assert_allclose(A @ give(v[:, 0], kind), full @ v[:, 0], rtol=1e-12)
    np.testing.assert_allclose(A.T @ give(w, kind), full.swapaxes(-1, -2) @ w, rtol=1e-12)
    np.testing.assert_allclose(A.T.T.dense(), full, rtol=1e-12)
    square = A.T @ A + identity(full.shape[-1])
    want = np.linalg.solve(full.swapaxes(-1, -2) @ full + 1.5 * np.eye(full.shape[-1]), v)
    np.testing.assert_allclose(square.solve(give(v, kind), 0.5, tol=1e-12), want, atol=1e-10)


def test_gradients_of_linear_reductions():
    x, b = (torch.tensor(cloud(8, 2, seed=k), requires_grad=True) for k in (0, 1))
    d, b_j = Vi(x) - Vj(x), Vj(torch.zeros(8, 2, dtype=torch.float64))
    A = linalg.linear((-(d | d) / 2).exp() * (b_j - d * (d | b_j)), b_j)
    e = x[:, None] - x
    blocks = (torch.eye(2) - e[..., :, None] * e[..., None, :]) * (-(e**2).sum(-1) / 2).exp()[..., None, None]
    full = blocks.swapaxes(1, 2).reshape(16, 16)
    a, want = A.solve(b.reshape(-1), 0.5, tol=1e-13), torch.linalg.solve(full + 0.5 * torch.eye(16), b.reshape(-1))
    for found, wanted in zip(both(a.sin().sum(), (x, b)), both(want.sin().sum(), (x, b)), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-8)


# ---- what is detected


def test_what_is_detected():
    x, y, b = cloud(80, 2), cloud(80, 2, seed=1), cloud(80, seed=2)
    K = symbolic(x)
    for dtype in ("float32", "float64"):
        other = symbolic(x.astype(dtype), y.astype(dtype))
        for method in ("cg", "minres"):
            with pytest.raises(np.linalg.LinAlgError, match=f"{method} needs a symmetric matrix.*gmres"):
                other.solve(b.astype(dtype), 0.3, method=method)
        with pytest.raises(np.linalg.LinAlgError, match="positive definite.*minres"):
            symbolic(x.astype(dtype)).solve(b.astype(dtype), -0.5)
    D = ((Vi(x) - Vj(x)) ** 2).sum(-1).sqrt()  # a matrix of distances has negative eigenvalues
    with pytest.raises(np.linalg.LinAlgError, match="positive definite.*minres"):
        D.solve(b)
    np.testing.assert_allclose(D @ D.solve(b, method="minres", tol=1e-9), b, atol=1e-7)
    with pytest.raises(np.linalg.LinAlgError, match="preconditioner is not positive definite"):
        K.solve(b, 0.1, preconditioner=lambda r: -r)
    with pytest.raises(np.linalg.LinAlgError, match="preconditioner is not positive definite"):
        K.solve(b, 0.1, preconditioner=lambda r: -r, method="minres")
    with pytest.raises(np.linalg.LinAlgError, match="nan or infinity"):
        (K / 0.0).solve(b)
    with pytest.raises(ValueError, match="b holds nan"):
        K.solve(b * np.nan)


@settings(max_examples=30, deadline=None)
@given(st.integers(5, 60), st.floats(0.05, 0.9), st.sampled_from(["float32", "float64"]), st.integers(0, 2**32 - 1))
def test_indefinite_matrices_are_never_solved_wrongly(n, part, dtype, seed):
    """Conjugate gradients either say so or give what is right."""
    random = np.random.default_rng(seed)
    basis = np.linalg.qr(random.normal(size=(n, n)))[0]
    A = (basis * np.where(random.random(n) < part, -1, 1) * random.uniform(0.5, 2, n)) @ basis.T
    b = random.normal(size=(n, 2))
    tol = 1e-8 if dtype == "float64" else 1e-4
    try:
        found, info = linalg.cg(A.astype(dtype), b.astype(dtype), tol=tol, info=True)
    except np.linalg.LinAlgError as error:
        assert "positive definite" in str(error) and (np.linalg.eigvalsh(A) < 0).any()
    else:
        np.testing.assert_allclose(found, np.linalg.solve(A, b), atol=100 * tol)


def test_rounding_is_named():
    """A residual that float32 cannot reach ends the iterations, and says why."""
    x, b = cloud(300, 2).astype("float32"), cloud(300, seed=1).astype("float32")
    with pytest.warns(ConvergenceWarning, match="float32.*float64"):
        found, info = kernels.gaussian(x, x, 0.5).solve(b, 1e-2, tol=1e-9, info=True)
    assert not info.converged and info.residual < 1e-3 and info.iterations < 1000
    full = np.exp(-np.square(x[:, None].astype("f8") - x).sum(-1) / 0.5) + 1e-2 * np.eye(300)
    np.testing.assert_allclose(np.linalg.norm(full @ found.astype("f8") - b) / np.linalg.norm(b), info.residual, rtol=0.5)


def test_limits():
    x, b = cloud(100, 2), cloud(100, seed=1)
    K = symbolic(x)
    with pytest.warns(ConvergenceWarning) as caught:
        found, info = K.solve(b, 0.01, max_iterations=3, info=True)
    assert caught[0].filename == __file__
    for part in ("cg stopped after 3 iterations", "limit", "1.0e-06 of |b|", "preconditioner", "max_iterations"):
        assert part in str(caught[0].message)
    assert info.iterations == 3 and not info.converged
    np.testing.assert_allclose(np.linalg.norm(K @ found + 0.01 * found - b) / np.linalg.norm(b), info.residual, rtol=1e-6)
    with pytest.warns(ConvergenceWarning):
        np.testing.assert_array_equal(K.solve(b, max_iterations=0), 0)


@pytest.mark.parametrize(
    ("act", "error", "parts"),
    [
        (lambda K, b: K[:3].solve(b), ValueError, ["square", "(3, 5)"]),
        (lambda K, b: K.solve(b[:4]), ValueError, ["(5, 5)", "(5,) or (5, E)", "(4,)"]),
        (lambda K, b: K.solve([1.0] * 5), TypeError, ["array", "list"]),
        (lambda K, b: K.solve(torch.ones(5)), TypeError, ["numpy and torch"]),
        (lambda K, b: K.solve(b, method="gmres"), ValueError, ["cg, minres", "gmres"]),
        (lambda K, b: K.solve(b, np.ones(5)), ValueError, ["alpha", "diag(alpha)", "(5,)"]),
        (lambda K, b: K.solve(b, "1"), TypeError, ["alpha", "'1'"]),
        (lambda K, b: K.solve(b, 1, x0=b[:3]), ValueError, ["x0", "(5,)", "(3,)"]),
        (lambda K, b: K.solve(b, 1, x0=b * np.nan), ValueError, ["x0", "nan"]),
        (lambda K, b: K.solve(b, torch.ones(1)), TypeError, ["alpha", "torch", "numpy"]),
        (lambda K, b: K.solve(b, np.array([True])), TypeError, ["alpha", "bool"]),
        (lambda K, b: K.solve(b, 1j), TypeError, ["alpha", "real", "1j"]),
        (lambda K, b: K.solve(b, 1, preconditioner=np.eye(3)), ValueError, ["preconditioner", "(3, 3)", "(5, 5)"]),
        (lambda K, b: K.solve(b, 1, preconditioner=torch.eye(5)), TypeError, ["preconditioner", "torch and numpy"]),
        (lambda K, b: K.solve(b, 1, preconditioner=lambda r: r[:2]), ValueError, ["preconditioner", "(2, 1)", "(5, 1)"]),
        (lambda K, b: K.solve(b, 1, preconditioner=lambda r: None), TypeError, ["preconditioner", "NoneType"]),
        (lambda K, b: K.solve(b, 1, x0=[0]), TypeError, ["x0", "list"]),
        (lambda K, b: K.solve(b, 1, max_iterations=1.5), ValueError, ["max_iterations", "1.5"]),
        (lambda K, b: K.solve(b, 1, preconditioner=3), TypeError, ["preconditioner", "3"]),
        (lambda K, b: (Vi(b) * Vj(np.ones((5, 3)))).solve(b), ValueError, ["one number for each pair"]),
        (lambda K, b: linalg.nystrom(K, 0), ValueError, ["positive alpha"]),
        (lambda K, b: linalg.nystrom(K, np.inf), ValueError, ["positive alpha", "inf"]),
        (lambda K, b: linalg.nystrom(K, "a"), ValueError, ["positive alpha", "'a'"]),
        (lambda K, b: linalg.nystrom(K, np.ones(2)), ValueError, ["positive alpha", "array([1., 1.])"]),
        (lambda K, b: linalg.nystrom(-K, 1), np.linalg.LinAlgError, ["positive semidefinite", "negative eigenvalues"]),
        (lambda K, b: linalg.nystrom(K, 1, rank=3, landmarks=[0]), ValueError, ["rank or landmarks"]),
        (lambda K, b: linalg.nystrom(K, 1, rank=2.5), TypeError, ["rank", "2.5"]),
        (lambda K, b: linalg.nystrom(K, 1, seed=-1), ValueError, ["seed", "-1"]),
        (lambda K, b: linalg.nystrom(K, 1, seed="a"), TypeError, ["seed", "'a'"]),
        (lambda K, b: K.solve(b, 1, info="yes"), TypeError, ["info", "'yes'"]),
        (lambda K, b: K.solve(b, 1, tol=np.inf), ValueError, ["tol", "finite", "inf"]),
        (lambda K, b: linalg.nystrom(K, 1, rank=6), ValueError, ["rank 6", "5"]),
        (lambda K, b: linalg.nystrom(K, 1, landmarks=[0.5]), ValueError, ["landmarks", "int"]),
        (lambda K, b: linalg.nystrom(K + identity(5), 1), TypeError, ["LazyTensor"]),
        (lambda K, b: linalg.nystrom(K[:3], 1), ValueError, ["square", "(3, 5)"]),
        (lambda K, b: linalg.linear(K, Vj(b)), ValueError, ["was not made from"]),
        (lambda K, b: linalg.linear(Vj(b[:, None].copy()) ** 2, Vj(b)), ValueError, ["was not made from"]),
        (lambda K, b: (lambda v: linalg.linear(v**2, v))(Vj(b)), ValueError, ["linear function"]),
        (lambda K, b: linalg.linear(b, Vj(b)), TypeError, ["LazyTensor"]),
        (lambda K, b: symbolic(np.ones((2, 5, 1))).as_linear_operator(), ValueError, ["batch", "(2, 5, 5)"]),
    ],
)  # fmt: skip
def test_messages(act, error, parts):
    with pytest.raises(error) as caught:
        act(symbolic(cloud(5, 2)), cloud(5, seed=1))
    for part in parts:
        assert part in str(caught.value)


# ---- SciPy


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_scipy(kind, dtype):
    """Its iterative methods, of a symmetric and another matrix."""
    x, y, b = cloud(90, 2), cloud(90, 2, seed=1), cloud(90, seed=2)
    K, other = symbolic(give(x, kind, dtype)) + identity(90), symbolic(give(x, kind, dtype), give(y, kind, dtype)) + identity(90)
    full, full_other = laplacian(x) + np.eye(90), laplacian(x, y) + np.eye(90)
    A, B = K.as_linear_operator(), other.as_linear_operator()
    assert A.dtype == dtype and A.shape == (90, 90)
    tol = 1e-4 if dtype == "float32" else 1e-9
    rows = cloud(90, 3, seed=4)
    for operator, dense in ((A, full), (B, full_other)):
        for found, want in (
            (operator.matvec(b), dense @ b), (operator.rmatvec(b), dense.T @ b), (operator.matmat(rows), dense @ rows),
            (operator.rmatmat(rows), dense.T @ rows), (operator.H @ b, dense.T @ b), (operator.T @ rows, dense.T @ rows),
            (operator @ b[:, None], dense @ b[:, None]), ((operator + operator) @ b, 2 * dense @ b),
        ):  # fmt: skip
            assert isinstance(found, np.ndarray)
            np.testing.assert_allclose(found, want, rtol=tol, atol=tol)
    for solve, operator, dense in ((scipy.sparse.linalg.cg, A, full), (scipy.sparse.linalg.gmres, B, full_other)):
        found, failed = solve(operator, b.astype(dtype), rtol=tol / 10)
        assert not failed
        np.testing.assert_allclose(found, np.linalg.solve(dense, b), atol=100 * tol)
    values = np.linalg.eigvalsh(full)[-3:]
    np.testing.assert_allclose(scipy.sparse.linalg.eigsh(A, k=3)[0], values, rtol=tol)
    start = np.random.default_rng(0).normal(size=(90, 3)).astype(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = scipy.sparse.linalg.lobpcg(A, start, tol=1e-6, maxiter=100)[0]
    np.testing.assert_allclose(np.sort(found), values, rtol=10 * tol)
    np.testing.assert_allclose(scipy.sparse.linalg.svds(B, k=2)[1], np.linalg.svd(full_other)[1][1::-1], rtol=10 * tol)


def test_scipy_of_complex_numbers():
    z, b = cloud(40, 4).view(complex), cloud(30, 2, seed=1).view(complex)[:, 0]
    w = cloud(30, 4, seed=2).view(complex)
    A = (Vi(z) | Vj(w)).as_linear_operator()
    assert A.dtype == "complex128"
    np.testing.assert_allclose(A @ b, z @ w.T @ b)
    np.testing.assert_allclose(A.H @ z[:, 0], (z @ w.T).conj().T @ z[:, 0])
    np.testing.assert_allclose(A.T @ z[:, 0], (z @ w.T).T @ z[:, 0])


def test_torch_with_gradients_is_given_to_scipy():
    x = torch.tensor(cloud(20, 2), requires_grad=True)
    np.testing.assert_allclose(symbolic(x).as_linear_operator() @ np.ones(20), laplacian(cloud(20, 2)).sum(1))


def test_without_scipy():
    """NumPy's users of cg need no SciPy; those of as_linear_operator are told."""
    program = """
import sys
sys.modules["scipy"] = None
import numpy as np
from pairfold import Vi, Vj
x = np.arange(4.0)
K = (-abs(Vi(x) - Vj(x))).exp()
assert np.allclose(K @ K.solve(x, tol=1e-10), x)
try:
    K.as_linear_operator()
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "pip install pairfold[scipy]" in done.stdout


def test_operators_travel():
    """As those of SciPy's own arrays do."""
    x = cloud(30, 2)
    operator = (-((Vi(x) - Vj(x)) ** 2).sum(-1)).exp().as_linear_operator()
    b = cloud(30, seed=1)
    np.testing.assert_allclose(pickle.loads(pickle.dumps(operator)) @ b, np.exp(-((x[:, None] - x) ** 2).sum(-1)) @ b)


def test_solutions_under_transformations():
    """torch.func's: gradients, Jacobians by rows and by columns, Hessians, batches; and dual numbers."""
    x, b = torch.from_numpy(cloud(12, 2)), torch.from_numpy(cloud(12, seed=1))

    def ours(x, b=b):
        return (-((Vi(x) - Vj(x)) ** 2).sum(-1)).exp().solve(b, alpha=1.0, tol=1e-12)

    def dense(x, b=b):
        return torch.linalg.solve((-((x[:, None] - x) ** 2).sum(-1)).exp() + torch.eye(12, dtype=x.dtype), b)

    f = torch.func
    for transform, points in (
        (lambda h: f.grad(lambda x: h(x).sum()), x),
        (f.jacrev, x),
        (f.jacfwd, x),
        (lambda h: f.hessian(lambda x: h(x).square().sum()), x),
        (lambda h: f.grad(lambda x: f.grad(lambda x: h(x).sum())(x).square().sum()), x),
        (f.vmap, torch.stack([x, 2 * x])),
        (lambda h: f.jacrev(lambda b: h(x, b)), b),
        (lambda h: lambda x: f.jvp(h, (x, b), (x.cos(), b.sin())), x),
    ):
        torch.testing.assert_close(transform(ours)(points), transform(dense)(points), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("dtype", "scales"), [("float32", (1e-36, 1e-20, 1e18, 1e35)), ("float64", (1e-300, 1e-160, 1e160, 1e300))])
def test_the_size_of_b_does_not_matter(dtype, scales, kind):
    x, b = cloud(60, 3), 1 + cloud(60)
    dense = np.exp(-4 * ((x[:, None] - x) ** 2).sum(-1)) + 0.5 * np.eye(60)
    points = give(x, kind, dtype)
    K = (-4 * (Vi(points) - Vj(points)).sqnorm2()).exp()  # noqa: N806
    columns = np.stack([b * s for s in scales] + [0 * b], axis=1)
    tol = 1e-5 if dtype == "float32" else 1e-11
    found, info = K.solve(give(columns, kind, dtype), alpha=0.5, tol=tol, info=True)
    found = np.asarray(found, dtype="f8")
    assert info.converged and (info.residual[: len(scales)] <= tol).all()
    for k, s in enumerate(scales):
        np.testing.assert_allclose(found[:, k] / s, np.linalg.solve(dense, b), rtol=100 * tol, atol=100 * tol)
    assert (found[:, -1] == 0).all()
    if kind == "torch":
        rhs = give(b * scales[0], kind, dtype).requires_grad_()
        (g,) = torch.autograd.grad((K.solve(rhs, alpha=0.5, tol=tol) * scales[0]).sum(), rhs)
        want = np.linalg.solve(dense, np.ones(60)) * scales[0]
        np.testing.assert_allclose(g.double().numpy() / scales[0], want / scales[0], rtol=100 * tol, atol=100 * tol)


def test_a_skew_symmetric_matrix_is_refused():
    for dtype in ("float32", "float64"):
        x = cloud(100, 1).astype(dtype)
        with pytest.raises(np.linalg.LinAlgError, match="positive definite"):
            (Vi(x) - Vj(x)).solve(np.ones((100, 1), dtype))


@pytest.mark.parametrize("kind", KINDS)
def test_a_complex_matrix_and_a_real_b(kind):
    x, p, b = cloud(30, 2), cloud(30, 1), cloud(30, 2, seed=1)
    dense = np.exp(-((x[:, None] - x) ** 2).sum(-1)) * np.exp(1j * (p - p.T)) + 0.3 * np.eye(30)
    points, phases = give(x, kind), give(p, kind)
    for K in (
        (-(Vi(points) - Vj(points)).sqnorm2()).exp() * (Vi(phases) - Vj(phases)).sum(-1).exp1j(),
        (-(Vi(points) - Vj(points)).sqnorm2()).exp() * (Vi(phases) - Vj(phases)).exp1j(),  # with an inner axis of length 1
    ):
        found = np.asarray(K.solve(give(b, kind), alpha=0.3, tol=1e-10))
        assert found.dtype == np.complex128
        np.testing.assert_allclose(dense @ found, b, atol=1e-8)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"tol": "a"}, "tol must be a finite number, 0 or more, not 'a'"),
        ({"tol": 1j}, "tol must be a finite number, 0 or more, not 1j"),
        ({"tol": np.ones(2)}, "tol must be a finite number, 0 or more, not array"),
        ({"tol": True}, "tol must be a finite number, 0 or more, not True"),
        ({"atol": None}, "atol must be a finite number, 0 or more, not None"),
        ({"alpha": np.nan}, "alpha must be finite, not nan"),
        ({"alpha": np.inf}, "alpha must be finite, not inf"),
    ],
)
def test_numbers_that_are_none(more, says, random):
    x = random.random((5, 2))
    with pytest.raises(ValueError, match=says):
        (-((Vi(x) - Vj(x)) ** 2).sum(-1)).exp().solve(x[:, 0], **{"alpha": 0.1, **more})


@pytest.mark.parametrize("alpha", [0.5, np.float32(0.5), np.float64(0.5), np.array(0.5), np.int64(1), torch.tensor(0.5)])
def test_numbers_of_any_kind_are_added(alpha, random):
    """Whatever framework the matrix is of: they have no part in choosing a type."""
    x, b = random.random((20, 2)).astype("f4"), random.random(20).astype("f4")
    dense = np.exp(-np.square(x[:, None].astype("f8") - x).sum(-1) / 2) + float(alpha) * np.eye(20)
    for to in (np.asarray, torch.tensor):
        if to is np.asarray and getattr(alpha, "is_cuda", False):  # to read it would be to wait for the GPU
            continue
        found = kernels.gaussian(to(x), to(x)).solve(to(b), alpha, tol=1e-6)
        assert str(found.dtype).endswith("float32")
        np.testing.assert_allclose(found, np.linalg.solve(dense, b), rtol=1e-3, atol=1e-4)


def test_nystrom_of_blocks(random):
    """Of kernels within clusters, which are positive semidefinite too."""
    x, b, labels = random.random((400, 2)), random.random(400), random.integers(0, 3, 400)
    K = kernels.gaussian(x, x, 0.5).same_label(labels, labels)
    dense = np.exp(-2 * np.square(x[:, None] - x).sum(-1)) * (labels[:, None] == labels) + 1e-3 * np.eye(400)
    _, plain = K.solve(b, alpha=1e-3, info=True)
    a, faster = K.solve(b, alpha=1e-3, preconditioner=linalg.nystrom(K, 1e-3, rank=80), info=True, tol=1e-8)
    np.testing.assert_allclose(dense @ a, b, atol=1e-6)
    assert plain.iterations > 2 * faster.iterations
