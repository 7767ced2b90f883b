"""Products, sums and blocks of symbolic matrices, against the same of dense float64 arrays."""

from __future__ import annotations

import numpy as np
import pytest

from pairfold import LazyTensor, LinearOperator, Vi, Vj, block, diag, identity, kernels
from pairfold.runtime import memory

torch = pytest.importorskip("torch")
KINDS = ["numpy", "torch"]
M, N = 5, 7


def give(array, kind, dtype="float64"):
    array = np.asarray(array).astype(dtype)
    return torch.from_numpy(array) if kind == "torch" else array


def random(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).uniform(-1, 1, shape)


def matrix(m, n, kind="numpy", dtype="float64", batch=(), seed=1):
    """exp(-|x - y|²), symbolic and dense."""
    x, y = random(*batch, m, 1, 2, seed=seed).astype(dtype), random(1, n, 2, seed=seed + 1).astype(dtype)
    full = np.exp(-np.square(x.astype("f8") - y.astype("f8")).sum(-1))
    return (-((LazyTensor(give(x, kind, dtype)) - LazyTensor(give(y, kind, dtype))) ** 2).sum(-1)).exp(), full


def close(found, want, tolerance=1e-13):
    found = found.detach() if isinstance(found, torch.Tensor) else found
    assert tuple(found.shape) == want.shape
    np.testing.assert_allclose(np.asarray(found), want, rtol=tolerance, atol=tolerance)


def operators(kind, dtype="float64", batch=()):
    """Pairs of an operator and the same dense, one of each kind and some together."""
    (K, k), (L, l) = matrix(M, N, kind, dtype, batch), matrix(N, M, kind, dtype, seed=3)
    v, a = random(M).astype(dtype), random(M, M, seed=2).astype(dtype)
    v8, a8, eye = v.astype("f8"), a.astype("f8"), np.eye(M)
    t = lambda x: x.swapaxes(-1, -2)  # noqa: E731
    return {
        "product": (K @ L, k @ l),
        "square": (K @ K.T, k @ t(k)),
        "three": (L @ K @ K.T, l @ k @ t(k)),
        "shifted": (K @ K.T + 0.3 * identity(M), k @ t(k) + 0.3 * eye),
        "of a kernel": (K.T @ K - identity(N), t(k) @ k - np.eye(N)),
        "sum": (2 * (K @ L) - K @ K.T / 4 + K @ L, 3 * (k @ l) - k @ t(k) / 4),
        "diagonal": (diag(give(v, kind, dtype)) @ K @ (K.T @ K + identity(N)), v8[:, None] * (k @ (t(k) @ k + np.eye(N)))),
        "array": (give(a, kind, dtype) + K @ L - give(a, kind, dtype) * 3, k @ l - 2 * a8),
        "negative": (-(K @ L), -(k @ l)),
        "of an array": (identity(M) - (K @ L), eye - k @ l),
        "block": (block([[K, give(a, kind, dtype)], [K.T @ K, K.T]]),
                  np.block([[k, np.broadcast_to(a8, (*k.shape[:-2], M, M))], [t(k) @ k, t(k)]])),
        "saddle": (block([[identity(M) * 2, K], [K.T, 0]]),
                   np.block([[np.broadcast_to(2 * eye, (*batch, M, M)), k], [t(k), np.zeros((*batch, N, N))]])),
        "nested": (block([[block([[K, 0], [0, L]]) @ block([[L, 0], [0, K]])]]),
                   np.block([[k @ l, np.zeros((*batch, M, N))], [np.zeros((*batch, N, M)), l @ k]])),
    }  # fmt: skip


NAMES = list(operators("numpy"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.parametrize("name", NAMES)
def test_products(name, batch, dtype, kind):
    A, full = operators(kind, dtype, batch)[name]
    assert isinstance(A, LinearOperator)
    assert A.shape == full.shape
    assert A.dtype == dtype
    tolerance = 1e-13 if dtype == "float64" else 3e-6
    m, n = full.shape[-2:]
    for columns in ((), (1,), (4,)):
        b, c = random(n, *columns).astype(dtype), random(*columns, m).astype(dtype)
        found = A @ give(b, kind, dtype)
        assert isinstance(found, torch.Tensor if kind == "torch" else np.ndarray)
        assert str(found.dtype).endswith(dtype)
        close(found, full @ b.astype("f8"), tolerance)
        close(give(c, kind, dtype) @ A, c.astype("f8") @ full, tolerance)
        close(A.T @ give(c.T, kind, dtype), full.swapaxes(-1, -2) @ c.T.astype("f8"), tolerance)
    b = random(3, n, 2).astype(dtype)
    close(A @ give(b, kind, dtype), full @ b.astype("f8"), tolerance)
    close(A.dense(), full, tolerance)
    close(A.T.T.dense(), full, tolerance)
    rows = len(batch)
    close(A.sum(rows), full.sum(rows), tolerance)
    close(A.sum(-1), full.sum(-1), tolerance)
    close(A.mean(dim=-2, keepdim=True), full.mean(-2, keepdims=True), tolerance)
    close(A.sum((rows, rows + 1)), full.sum((-1, -2)), tolerance)
    close(A.sum(), full.sum(), 10 * tolerance)
    close(A.mean(keepdims=True), full.mean(keepdims=True), tolerance)
    assert repr(A).startswith("LinearOperator(")
    if name in ("product", "square", "shifted", "sum", "array", "negative", "of an array", "saddle"):
        for offset in (0,) if name == "saddle" else (0, 1, -2, 9):
            close(A.diagonal(offset), np.diagonal(full, offset, -2, -1), tolerance)
            close(A.trace(offset), np.trace(full, offset, -2, -1), 10 * tolerance)


def test_of_numpy_where_nothing_tells():
    A = 2 * identity(3)
    np.testing.assert_array_equal(A.dense(), 2 * np.eye(3))
    np.testing.assert_array_equal(A.sum(0), [2, 2, 2])
    np.testing.assert_array_equal(A @ np.arange(3.0), [0, 2, 4])
    assert torch.equal(A @ torch.arange(3.0), torch.tensor([0.0, 2, 4]))
    assert (A.trace(), A.dtype, A.ndim, identity(0).dense().shape) == (6, None, 2, (0, 0))


def test_the_identity_costs_no_fold():
    """K + λ I is applied as K b + λ b."""
    K, k = matrix(M, M)
    b = random(M)
    np.testing.assert_array_equal((K + 0.1 * identity(M)) @ b, K @ b + 0.1 * b)
    np.testing.assert_array_equal((K - identity(M)) @ b, K @ b - b)
    assert isinstance(K + K, LazyTensor)


def test_diagonals_of_products_of_other_shapes():
    (K, k), (L, l) = matrix(4, N), matrix(N, 3)
    close((K @ L).diagonal(), np.diagonal(k @ l))
    close((L.T @ K.T).diagonal(), np.diagonal(l.T @ k.T))
    for offset in range(-5, 5):
        close((K @ L).diagonal(offset), np.diagonal(k @ l, offset))
        close((L.T @ K.T).trace(offset), np.trace(l.T @ k.T, offset))
    for operator, full in ((2 * identity(4), 2 * np.eye(4)), (diag(np.arange(4.0)), np.diag(np.arange(4.0)))):
        for offset in (-5, -1, 0, 2):
            close(operator.diagonal(offset), np.diagonal(full, offset) if abs(offset) < 4 else np.zeros(0))


# ---- derivatives


def test_gradients():
    """Of what a Gaussian process needs: bandwidth, noise, points and weights, to second order."""
    x, z = (torch.tensor(random(6, 2, seed=s), requires_grad=True) for s in (1, 2))
    noise, b = torch.tensor(0.3, dtype=torch.float64, requires_grad=True), torch.tensor(random(6), requires_grad=True)
    inputs = (x, z, noise, b)

    def loss(kernel, eye, diagonal):
        K, L = kernel(x, z), kernel(z, x)
        A = K @ L + noise * eye + diagonal(b * b)
        return (A @ (A.T @ b)).sin().sum() + torch.log(A.diagonal() + 9).sum() + A.sum(0).square().sum()

    def both(*arguments):
        out = loss(*arguments)
        first = torch.autograd.grad(out, inputs, create_graph=True)
        return (out, *first, *torch.autograd.grad(sum(g.square().sum() for g in first), inputs))

    found = both(lambda x, z: (-((Vi(x) - Vj(z)) ** 2).sum(-1)).exp(), identity(6), diag)
    want = both(lambda x, z: (-((x[:, None] - z) ** 2).sum(-1)).exp(), torch.eye(6, dtype=torch.float64), torch.diag)
    for f, w in zip(found, want, strict=True):
        torch.testing.assert_close(f, w, rtol=1e-10, atol=1e-10)


def test_block_gradients():
    x, z = (torch.tensor(random(4, 2, seed=s), requires_grad=True) for s in (1, 2))

    def both(K, A, functions):
        out = sum(f(A).sin().sum() for f in functions)
        return torch.autograd.grad(out, (x, z))

    K, k = Vi(x) | Vj(z), x @ z.T
    zero = torch.zeros(4, 4, dtype=torch.float64)
    names = [(lambda A: A.logsumexp(1)), (lambda A: A @ torch.ones(8, 2, dtype=torch.float64)), (lambda A: A.sum(0))]
    found = both(K, block([[K, 2 * K.T], [0, K * K]]), [*names, lambda A: A.Kmin(3, axis=1), lambda A: A.min(0)])
    dense = torch.cat([torch.cat([k, 2 * k.T], 1), torch.cat([zero, k * k], 1)])
    want = both(k, dense, [*names, lambda A: A.sort(1).values[:, :3], lambda A: A.amin(0)])
    for f, w in zip(found, want, strict=True):
        torch.testing.assert_close(f, w, rtol=1e-11, atol=1e-11)


# ---- reductions of blocks


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize("ties", [False, True])
def test_reductions_of_blocks(ties, batch, kind):
    (K, k), (L, l) = matrix(M, N, kind, batch=batch), matrix(3, 4, kind, seed=6)
    (P, p) = matrix(3, N, kind, seed=8)
    K, k = K - 0.5, k - 0.5
    if ties:
        K, k, L, l, P, p = (f(z) for z in (K, k, L, l, P, p) for f in [lambda z: z.round(0) if isinstance(z, LazyTensor) else np.round(z)])
    A = block([[K, 0, K], [P, L, P * 2]])
    full = np.block([[k, np.zeros((*batch, M, 4)), k], [np.broadcast_to(z, (*batch, *z.shape)) for z in (p, l, 2 * p)]])
    rows = len(batch)
    for axis in (rows, rows + 1):
        order = np.argsort(full, axis, kind="stable").swapaxes(axis, -1)[..., :6]
        values = np.sort(full, axis).swapaxes(axis, -1)[..., :6]
        close(A.min(axis), full.min(axis))
        close(A.max(dim=axis), full.max(axis))
        close(A.prod(axis), full.prod(axis))
        close(A.logsumexp(axis), np.log(np.exp(full).sum(axis)))
        close(A.argmin(axis), full.argmin(axis))
        close(A.argmax(axis), full.argmax(axis))
        close(A.min_argmin(axis)[0], full.min(axis))
        close(A.max_argmax(axis)[1], full.argmax(axis))
        close(A.argKmin(6, axis), order)
        close(A.Kmin(6, axis), values)
        close(A.Kmin_argKmin(1, axis)[1], order[..., :1])
        assert str(A.argmin(axis).dtype).endswith("int64")
    for name in ("min", "max", "prod"):
        close(getattr(A, name)(), getattr(full, name)())
        close(getattr(A, name)((rows, rows + 1)), getattr(full, name)((-2, -1)))
    close(A.logsumexp(), np.log(np.exp(full).sum()))


def test_nan_in_blocks():
    y = np.array([1.0, np.nan, 3.0])
    A = block([[Vi(np.ones(2)) * Vj(np.arange(2.0)), Vi(np.ones(2)) * Vj(y), Vi(np.ones(2)) * Vj(y)]])
    full = np.tile([0, 1, *y, *y], (2, 1))
    for name in ("min", "max", "argmin", "argmax"):
        np.testing.assert_array_equal(getattr(A, name)(1), getattr(full, name)(1))
    np.testing.assert_array_equal(A.argKmin(8, 1), np.argsort(full, 1, kind="stable"))


def test_blocks_of_no_columns():
    K, k = matrix(M, N)
    A = block([[K[:, :0], K, K[:, 3:3]]])
    for name in ("min", "argmin", "argmax", "sum", "logsumexp"):
        close(getattr(A, name)(1), getattr(K, name)(1), 1e-15)
    close(A.argKmin(2, 1), np.argsort(k, 1)[:, :2])


# ---- complex numbers


@pytest.mark.parametrize("kind", KINDS)
def test_complex(kind):
    z, w = random(M, 6, seed=1).view(complex), random(N, 6, seed=2).view(complex)
    to = torch.from_numpy if kind == "torch" else np.asarray
    K, k = Vi(to(z)) | Vj(to(w)), z @ w.T
    A, a = K @ K.H + 0.5 * identity(M) + diag(to(z[:, 0])), k @ k.conj().T + 0.5 * np.eye(M) + np.diag(z[:, 0])
    B, b = block([[K, 0], [0, 2j * K.T]]), np.block([[k, np.zeros((M, M))], [np.zeros((N, N)), 2j * k.T]])
    for operator, full in ((A, a), (B, b), (A * (1 - 2j), a * (1 - 2j)), (identity(M) * 1j + A, a + 1j * np.eye(M))):
        assert operator.dtype == "complex128"
        v = random(len(full), 4, seed=3).view(complex)
        close(operator @ to(v), full @ v)
        close(to(np.ascontiguousarray(v.T)) @ operator, v.T @ full)
        close(operator.dense(), full)
        close(operator.sum(1), full.sum(1))
        close(operator.mean(), full.mean())
    close(A.diagonal(), np.diagonal(a))
    close(B.prod(1), b.prod(1))


# ---- what is refused


def test_messages():
    (K, _), (L, _) = matrix(M, N), matrix(N, 4)
    A = K @ L
    cases = [
        (lambda: L @ K, ValueError, ["(7, 4) and (5, 7)", "4 columns and 5 rows"]),
        (lambda: A + K, ValueError, ["(5, 4) and (5, 7)", "one shape"]),
        (lambda: A @ np.ones(5), ValueError, ["(5, 4)", "(4,)", "(5,)"]),
        (lambda: A @ [1.0] * 4, TypeError, ["array b", "list"]),
        (lambda: A * K, TypeError, ["number", "entry by entry only LazyTensors are"]),
        (lambda: K * A, TypeError, ["number", "entry by entry"]),
        (lambda: A * np.ones(4), TypeError, ["number"]),
        (lambda: A.T * True, TypeError, ["True"]),
        (lambda: A + 1, TypeError, ["LazyTensors, LinearOperators and arrays", "1"]),
        (lambda: A + np.ones(4), TypeError, ["array of shape (4,)"]),
        (lambda: (Vi(np.ones((5, 3))) * Vj(np.ones((7, 3)))) @ L, ValueError, ["one number for each pair", "(5, 7, 3)"]),
        (lambda: (K @ L @ L.T).diagonal(), TypeError, ["takes all its entries", "dense().diagonal(0, -2, -1)"]),
        (lambda: (K @ K.T).diagonal(0.5), TypeError, ["diagonal", "0.5"]),
        (lambda: block([[K @ K.T, 0], [0, K @ K.T]]).diagonal(1), TypeError, ["takes all its entries"]),
        (lambda: identity(-1), ValueError, ["0 or more", "-1"]),
        (lambda: diag(np.ones(4)) @ torch.ones(4), TypeError, ["numpy and torch", "convert"]),
        (lambda: block([[np.ones((2, 3)), np.ones((2, 1))]]) @ torch.ones(4), TypeError, ["numpy and torch", "convert"]),
        (lambda: identity(2) @ np.array(["a", "b"]), TypeError, ["float64", "str32"]),
        (lambda: diag(np.ones(2)) @ np.ones(2, object), TypeError, ["float64", "object"]),
        (lambda: A.sum(2), ValueError, ["axis 0 (rows), 1 (columns)", "2", "(5, 4)"]),
        (lambda: identity(2.0), TypeError, ["2.0"]),
        (lambda: diag(3), TypeError, ["(…, N)"]),
        (lambda: block([[K], [L]]), ValueError, ["column 0", "(5, 7) and (7, 4)", "one width"]),
        (lambda: block([[K, L]]), ValueError, ["row 0", "one height"]),
        (lambda: block([[K, 0], [0, 0]]), ValueError, ["row 1", "height", "array of zeros"]),
        (lambda: block([[K], [K, K]]), ValueError, ["block([[A, B], [C, D]])"]),
        (lambda: block([[A]]).min(1), TypeError, ["min", "LazyTensors or 0"]),
        (lambda: block([[K, K]]).argmin((0, 1)), ValueError, ["one axis"]),
        (lambda: block([[K, K]]).Kmin(15, axis=1), ValueError, ["K = 15", "14"]),
        (lambda: K @ Vi(torch.ones(7)), TypeError, ["numpy and torch"]),
    ]
    for act, kind, parts in cases:
        with pytest.raises(kind) as caught:
            act()
        assert all(part in str(caught.value) for part in parts), caught.value


def test_dense_beyond_memory(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda: 1000)
    A = identity(12)
    with pytest.raises(MemoryError, match="1,152 bytes"):
        A.dense()


@pytest.mark.parametrize("kind", ["numpy", "torch"])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64", "bool"])
def test_arrays_of_integers(dtype, kind):
    """Are taken to the operator's type first: products of small integers would wrap around."""
    x = random(3, 2)
    K, k = kernels.gaussian(give(x, kind, "float64"), give(x, kind, "float64")), np.exp(-np.square(x[:, None] - x).sum(-1) / 2)
    b = np.array([100, 50, 120]).astype(dtype)
    own = b if kind == "numpy" else torch.from_numpy(b)
    v = np.array([100, 7, 3], np.int8)
    for operator, full in [
        (K + 2 * identity(3), k + 2 * np.eye(3)),
        (K @ (3 * identity(3)), 3 * k),
        (K - identity(3), k - np.eye(3)),
        (K + diag(v if kind == "numpy" else torch.from_numpy(v)), k + np.diag(v)),
        (
            block([[K, 2 * identity(3)], [2 * identity(3), K]]) @ block([[identity(3)], [identity(3)]]),
            np.concatenate([k + 2 * np.eye(3)] * 2),
        ),
    ]:
        close(operator @ own, full @ b)
        assert str((operator @ own).dtype).endswith("float64")
    narrow = kernels.gaussian(give(x, kind, "float32"), give(x, kind, "float32")) @ identity(3) + 0.1 * identity(3)
    if dtype in ("int8", "uint8", "bool"):
        assert str((narrow @ own).dtype).endswith("float32")


def test_diagonals_beside_numbers_that_are_none():
    """Off the main one there are zeros, whatever is on it."""
    for make in (np.array, torch.tensor):
        values = make([[1.0, np.inf, np.nan], [-np.inf, 2.0, 3.0]])
        for offset in (1, -1, 5):
            found = diag(values).diagonal(offset)
            assert found.shape == (2, max(0, 3 - abs(offset))) and found.tolist() == [[0.0] * found.shape[1]] * 2


def test_results_are_arrays_of_their_own():
    for make in (np.ones, lambda n: torch.ones(n)):
        b = make(3)
        for found in (identity(3) @ b, identity(3).T @ b, b @ identity(3), diag(b).diagonal()):
            found *= 5
            assert b.tolist() == [1, 1, 1] and found.tolist() == [5, 5, 5]
