"""Long vectors, of which lanes that share a row have a slice each: on an NVIDIA GPU, or on one made of the CPU's threads."""

from __future__ import annotations

import numpy as np
import pytest

import pairfold
from pairfold import Pm, Vi, Vj
from pairfold.runtime import cuda

# Where no GPU is emulated either: tests/gpu/test_emulated.py runs these with one that is.
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(cuda.count() == 0, reason="there is no GPU")]
SIZES = [(70, 90), (3, 700), (200, 1)]
DIMS = [32, 37, 64, 100, 128, 300, 512, 784]


def points(rng, n, dim, dtype):
    return (rng.random((n, dim)) * 2 / dim**0.5).astype(dtype)


def check(found, wanted, dtype):
    tolerance = 2e-6 if dtype == "float32" else 1e-13
    found = found.reshape(np.shape(wanted))
    assert found.dtype == dtype and np.linalg.norm(found - wanted) <= tolerance * np.linalg.norm(wanted)


def gauss(x, y):
    return (-((Vi(x) - Vj(y)) ** 2).sum(-1)).exp()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize(("m", "n"), SIZES)
def test_distances(m, n, dim, dtype, random):
    x, y, b = points(random, m, dim, dtype), points(random, n, dim, dtype), random.normal(size=(n, 1)).astype(dtype)
    exact = ((x[:, None].astype("f8") - y) ** 2).sum(-1)
    with pairfold.backend("cuda"):
        check(gauss(x, y) @ b, np.exp(-exact) @ b, dtype)
        check((-((Vi(x) - Vj(y)) ** 2).sum(-1)).logsumexp(1), np.log(np.exp(-exact).sum(1))[:, None], dtype)
        squares = ((Vi(x) - Vj(y)) ** 2).sum(-1)
        k = min(5, n)
        values, columns = squares.Kmin_argKmin(k, 1)
        np.testing.assert_array_equal(columns, np.argsort(exact, 1, kind="stable")[:, :k])
        check(values, np.sort(exact, 1)[:, :k], dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("dim", "width"), [(64, 64), (3, 100), (37, 75), (128, 16), (32, 200)])
@pytest.mark.parametrize(("m", "n"), SIZES)
def test_sums_of_vectors(m, n, dim, width, dtype, random):
    x, y, v = points(random, m, dim, dtype), points(random, n, dim, dtype), random.normal(size=(n, width)).astype(dtype)
    scores = 4 * x.astype("f8") @ y.astype("f8").T
    weights = np.exp(scores - scores.max(1, keepdims=True))
    exact = ((x[:, None].astype("f8") - y) ** 2).sum(-1)
    with pairfold.backend("cuda"):
        check(gauss(x, y) @ v, np.exp(-exact) @ v, dtype)
        found = (4 * (Vi(x) * Vj(y)).sum(-1)).sumsoftmaxweight(Vj(v), 1)
        check(found, weights @ v / weights.sum(1, keepdims=True), dtype)


@pytest.mark.parametrize(("m", "n"), SIZES)
@pytest.mark.parametrize("dim", [48, 65])
def test_what_is_long(m, n, dim, random):
    """Parameters, sums and extremes of components, a part that is short, both axes, and a reduction of vectors."""
    x, y, w = (random.normal(size=s).astype("f4") for s in ((m, dim), (n, dim), (dim,)))
    a, b = x[:, None].astype("f8"), y[None].astype("f8")
    short = random.normal(size=(n, 2)).astype("f4")
    with pairfold.backend("cuda"):
        X, Y, W = Vi(x), Vj(y), Pm(w)
        check((W * (X - Y).abs()).sum(-1).sum(1), (w * abs(a - b)).sum(-1).sum(1, keepdims=True), "float32")
        check((W * (X - Y).abs()).sum(-1).sum(0), (w * abs(a - b)).sum(-1).sum(0)[:, None], "float32")
        check((X * Y + W).max(-1).sum(1), (a * b + w).max(-1).sum(1, keepdims=True), "float32")
        check((X * Y).min(-1).logsumexp(1), np.log(np.exp((a * b).min(-1)).sum(1))[:, None], "float32")
        check((X * Y + 1).exp().sum(-1).min(1), np.exp(a * b + 1).sum(-1).min(1)[:, None], "float32")
        check((X * Y).max(1), (a * b).max(1), "float32")
        check((X * Y).cos().sum(1), np.cos(a * b).sum(1), "float32")
        weights = (-((X - Y) ** 2).sum(-1) / dim).exp()
        dense = np.exp(-((a - b) ** 2).sum(-1) / dim)[..., None]
        parts = np.concatenate([(a - b) * dense, dense, dense * short, abs(b) + 0 * a], -1)
        check(((X - Y) * weights).concat(weights).concat(weights * Vj(short)).concat(Y.abs() + 0 * X).sum(1), parts.sum(1), "float32")
        product = (X * Y).sum(-1) * Vj(short)
        check(product.sum(1), np.einsum("ij,jk->ik", (a * b).sum(-1), short), "float32")
        np.testing.assert_array_equal((X - Y).abs().argmin(1), abs(a - b).argmin(1))


@pytest.mark.parametrize(("first", "second"), [(39, 39), (64, 16), (33, 32), (64, 64), (127, 125), (36, 36)])
def test_vectors_that_are_joined(first, second, random):
    """Of two long vectors that are taken together every lane must have the same components."""
    m, n = 5, 90
    x, y = random.normal(size=(m, first)).astype("f4"), random.normal(size=(n, first)).astype("f4")
    u, v = random.normal(size=(m, second)).astype("f4"), random.normal(size=(n, second)).astype("f4")
    p, w = random.normal(size=(m, first + second)).astype("f4"), random.normal(size=(n, first + second)).astype("f4")
    joined = np.concatenate([x[:, None].astype("f8") * y, u[:, None].astype("f8") * v], -1)
    other = np.concatenate([u[:, None].astype("f8") * v, x[:, None].astype("f8") * y], -1)

    def softmax(scores, weights):
        e = np.exp(scores)
        return (e * weights).sum(1) / e.sum(1)

    with pairfold.backend("cuda"):
        X, U = Vi(x) * Vj(y), Vi(u) * Vj(v)
        K, scores = X.concat(U), Vi(p) * Vj(w)
        check(K.sum(1), joined.sum(1), "float32")
        check(K.logsumexp(1, weight=Vj(w**2)), np.log((np.exp(joined) * w.astype("f8") ** 2).sum(1)), "float32")
        check(K.sumsoftmaxweight(Vj(w), 1), softmax(joined, w), "float32")
        check(scores.sumsoftmaxweight(K, 1), softmax(p[:, None].astype("f8") * w, joined), "float32")
        check(K.sumsoftmaxweight(U.concat(X), 1), softmax(joined, other), "float32")
        check((Vi(p[:, :3]) * Vj(w[:, :3])).sum(-1).sumsoftmaxweight(K, 1),
              softmax((p[:, None, :3].astype("f8") * w[:, :3]).sum(-1, keepdims=True), joined), "float32")  # fmt: skip


def test_batches_and_types(random):
    for dtype, tolerance in (("float16", 2e-3), ("float32", 2e-6)):
        x, y, b = (random.random(s).astype(dtype) for s in ((3, 1, 50, 1, 64), (2, 1, 60, 64), (3, 2, 1, 60, 2)))
        exact = np.exp(-((x.astype("f8") - y) ** 2).sum(-1) / 8) @ b[:, :, 0].astype("f8")
        with pairfold.backend("cuda"):
            found = ((-((pairfold.LazyTensor(x) - pairfold.LazyTensor(y)) ** 2).sum(-1) / 8).exp() * pairfold.LazyTensor(b)).sum(dim=3)
        assert found.dtype == dtype
        np.testing.assert_allclose(found, exact, rtol=tolerance)


@pytest.mark.parametrize("dim", [16, 64, 100])
def test_gradients(dim, random):
    """Sums of which one part is in slices and another is not, by differences; and of products of large problems, on a GPU."""
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():  # a GPU that is emulated has NumPy's arrays alone
        pytest.skip("PyTorch has no GPU")
    for m, n in ((70, 90), (1100, 1300)):
        x, y, b = points(random, m, dim, "float32"), points(random, n, dim, "float32"), random.normal(size=(n, 2)).astype("float32")
        exact = [torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in (x, y, b)]
        given = [torch.tensor(a, requires_grad=True, device="cuda") for a in (x, y, b)]
        direction = torch.tensor(random.normal(size=(m, 2)))
        X, Y, B = exact
        wanted = torch.autograd.grad((torch.exp(-((X[:, None] - Y) ** 2).sum(-1)) @ B * direction).sum(), exact)
        found = torch.autograd.grad((gauss(*given[:2]) @ given[2] * direction.float().cuda()).sum(), given)
        for a, e in zip(found, wanted, strict=True):
            assert (a.cpu().double() - e).norm() <= 3e-6 * e.norm()
