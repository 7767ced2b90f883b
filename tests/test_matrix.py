"""A symbolic matrix as an array: dense, parts, entries, diagonals; the oracle is NumPy on dense float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairfold import LazyTensor, Pm, Vi, Vj
from pairfold.lazy import matrix
from pairfold.runtime import memory

torch = pytest.importorskip("torch")
KINDS = ["numpy", "torch"]


def give(array, kind, dtype="float64"):
    array = np.asarray(array).astype(dtype)
    return torch.from_numpy(array) if kind == "torch" else array


def problem(batch=(), inner=False, kind="numpy", dtype="float64", m=5, n=7):
    """A symbolic array and the same dense; the columns have the last batch axis alone, the parameter the first."""
    rng = np.random.default_rng(4)
    x = rng.uniform(0.5, 1.5, (*batch, m, 1, 3)).astype(dtype)
    y = rng.uniform(0.5, 1.5, (*batch[-1:], 1, n, 3)).astype(dtype)
    p = rng.uniform(0.5, 1.5, (*batch[:1], *[1] * len(batch[1:]), 1, 1, 3)).astype(dtype)
    lazy = (LazyTensor(give(x, kind, dtype)) - LazyTensor(give(y, kind, dtype))) * LazyTensor(give(p, kind, dtype)) * 0.7
    full = (x.astype("f8") - y.astype("f8")) * p.astype("f8") * 0.7
    return (lazy, full) if inner else (lazy.sum(-1), full.sum(-1))


def close(found, want, rtol=1e-13):
    if hasattr(found, "dense"):
        assert found.shape == want.shape
        found = found.dense()
    assert tuple(found.shape) == want.shape
    np.testing.assert_allclose(np.asarray(found), want, rtol=rtol, atol=rtol)


# ---- dense


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize(("m", "n"), [(5, 7), (7, 5), (70, 66), (1, 4), (4, 1)])
def test_dense(m, n, inner, batch, dtype, kind):
    lazy, full = problem(batch, inner, kind, dtype, m, n)
    found = lazy.dense()
    assert isinstance(found, torch.Tensor if kind == "torch" else np.ndarray)
    assert str(found.dtype).endswith(dtype)
    close(found, full, 1e-13 if dtype == "float64" else 2e-6)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0, 0)])
def test_dense_of_nothing(shape):
    lazy = Vi(np.ones(shape[0])) * Vj(np.ones(shape[1]))
    assert lazy.dense().shape == shape


def test_dense_of_one_side():
    x = np.arange(1.0, 5)
    close(Vi(x).dense(), x[:, None])
    close(Vj(x).dense(), x[None])
    close(Pm(x).dense(), x[None, None])


def test_dense_in_parts(monkeypatch):
    monkeypatch.setattr(matrix, "DIFFERENTIATED_AT_ONCE", 50)
    test_derivatives_of_entries("dense")


def test_dense_beyond_memory(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda: 10**9)
    K = Vi(np.ones(50_000, np.float32)) * Vj(np.ones(40_000, np.float32))
    with pytest.raises(MemoryError, match=r"\(50000, 40000\) would take 8,000,000,000 bytes .*1,000,000,000 .* free"):
        K.dense()
    with pytest.raises(MemoryError, match="16,000,000,000"):
        (K * Vi(np.ones(50_000))).dense()
    assert K[:100, :100].dense().shape == (100, 100)


def test_free_memory(tmp_path):
    free = memory.free_bytes()
    assert free is None or 2**20 < free < 2**50
    assert memory._container(tmp_path) is None
    (tmp_path / "memory.stat").write_text("anon 5\nactive_file 30\ninactive_file 20\n")
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("400\n")
    assert memory._container(tmp_path) is None
    (tmp_path / "memory.max").write_text("1000\n")
    assert memory._container(tmp_path) == 1000 - 400 + 50


# ---- indices

ROWS = [
    slice(None), slice(1, 4), slice(None, None, 2), slice(None, None, -1), slice(4, 0, -2), slice(3, 3), slice(-3, None),
    np.array([0, 3, 3]), [4, -1], np.array([True, False, True, True, False]), np.array([], int), np.uint8([2]),
]  # fmt: skip
COLUMNS = [slice(None), slice(2, 6, 3), slice(None, None, -2), [6, 0, -3, 0], np.arange(7) % 2 == 0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("batch", [(), (2, 3)])
def test_rows_and_columns(batch, inner, kind):
    lazy, full = problem(batch, inner, kind)
    whole = (slice(None),) * len(batch)
    for r in ROWS:
        found = lazy[(*whole, r)]
        assert isinstance(found, LazyTensor)
        close(found, full[(*whole, r)])
        for c in COLUMNS:
            want = full[(*whole, r)][(*whole, slice(None), c)]
            close(lazy[(*whole, r)][(*whole, slice(None), c)], want)
            if isinstance(r, slice) or isinstance(c, slice):
                close(lazy[(*whole, r, c)], full[(*whole, r, c)])
            else:
                crossed = np.ix_(r, c)
                assert isinstance(lazy[(*whole, *crossed)], LazyTensor)
                close(lazy[(*whole, *crossed)], want)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize(
    "key",
    [
        3, -1, (3, 5), (-1, -7), (slice(None), 5), (2, slice(1, 4)), (slice(None, None, -1), 0), (3, [0, 5]), ([1, 1], 6),
        ([0, 2, 4], [6, 0, 3]), (np.array([[0, 1], [2, 3]]), np.array([[0], [6]]).repeat(2, 1)), (np.array([0]), np.array([1, 2])),
        None, (None, 3), (None, Ellipsis, None), (slice(None), None), (slice(None), None, slice(2, 5)), (Ellipsis, slice(1, 3)), (3, None),
        (3, None, slice(0, 2)), (slice(None), None, 2), Ellipsis, (), np.random.default_rng(0).random((5, 7)) < 0.3,
    ],
    ids=str,
)  # fmt: skip
def test_keys(key, inner, kind):
    lazy, full = problem((), inner, kind)
    if inner and str(key) == "(None, Ellipsis, None)":
        return
    close(lazy[key], full[key])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize(
    "key",
    [
        1, (1, 2), (slice(None), 2), ([0, 1, 1],), (slice(None), [2, 0]), (np.array([True, False]),), (1, 2, 3), (1, 2, 3, 4), (1, [2, 0]),
        (slice(None), 1, 2), (Ellipsis, 2, slice(None)), (slice(None, None, -1), slice(1, None), [0, 2]), (None, 1), (1, None, 2),
        (slice(None), None), (slice(None), slice(None), None, 3), ([0, 1], 1, 3), ([1, 0, 1], [2, 2, 0], [4, 0, 1], [6, -1, 3]),
        ([1, 0], 2, [4, 0], 6), (1, [2, 2], 0, [1, 3]), (slice(0),), ([0, 0], Ellipsis, slice(1, 3), slice(2, 4)),
    ],
    ids=str,
)  # fmt: skip
def test_keys_of_batches(key, inner, kind):
    lazy, full = problem((2, 3), inner, kind)
    if inner and isinstance(key, tuple) and Ellipsis in key[1:-1]:  # its last would be of the components
        key = (*key[:-1], slice(None))
    close(lazy[key], full[key])


def test_batches_of_which_some_arrays_have_one():
    """Arrays without a batch axis, or with one of length 1, stay as they are."""
    x, y = np.random.default_rng(1).random((4, 5, 1, 2)), np.random.default_rng(2).random((1, 1, 7, 2))
    lazy, full = LazyTensor(x) * LazyTensor(y), x * y
    for key in ([3, 0, 0], 2, slice(1, 3), slice(2, 2), None):
        close(lazy[key], full[key])
    assert lazy[[3, 0, 0]].leaves[1].value.shape == (1, 7, 2)
    close((lazy[[3, 0, 0]] * LazyTensor(np.ones((3, 1, 1, 1)))), full[[3, 0, 0]])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("key", [0, -1, slice(0, 2), slice(None, None, 2), slice(None, None, -1), [2, 0], [1], [0, 1, 1, 2, 0]], ids=str)
def test_components(key, kind):
    x, y = np.random.default_rng(1).random((5, 1, 4)), np.random.default_rng(2).random((1, 7, 4))
    for lazy, full in ((LazyTensor(give(x, kind)), x), (LazyTensor(give(x, kind)) - LazyTensor(give(y, kind)), x - y)):
        close(lazy[..., key], full[..., key])
        close(lazy[1:3, :, key], full[1:3, :, key])


def test_a_symbolic_matrix_of_one_side():
    """What does not depend on the columns still broadcasts over any number of them, until columns are picked."""
    x, y = np.arange(1.0, 6), np.arange(1.0, 8)
    close(Vi(x)[1:3] * Vj(y), np.outer(x[1:3], y))
    close(Vi(x)[:, [0, 0, 0]], np.tile(x[:, None], 3))
    close(Vi(x)[:, [0, 0, 0]].sum(1), 3 * x)
    close(Vi(x)[:, None] * Vj(y), np.tile(x[:, None, None], 7) * y)


@pytest.mark.parametrize("kind", KINDS)
def test_slices_are_views(kind):
    x, y = give(np.ones((50, 3)), kind), give(np.ones((70, 3)), kind)
    K = (Vi(x) | Vj(y))[10:20, 60::3]
    before = np.asarray(K.sum(1))
    x[10:20] = 2
    np.testing.assert_array_equal(K.sum(1), 2 * before)
    assert (Vi(x) | Vj(y))[:, :].leaves[0].value is x


def test_parts_compose():
    lazy, full = problem()
    part, dense = lazy[1:4, [0, 3, 5]], full[1:4][:, [0, 3, 5]]
    close(part @ np.arange(3.0), dense @ np.arange(3.0))
    close((part * 2 + part.T.T).exp(), np.exp(3 * dense))
    close(part.T[::2], dense.T[::2])
    close(part.argmax(1), dense.argmax(1))
    close(part[1:][:, ::-1], dense[1:][:, ::-1])


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_slices(data):
    m, n = data.draw(st.integers(0, 9)), data.draw(st.integers(0, 9))
    x, y = np.arange(1.0, m + 1), np.arange(1.0, n + 1) ** 2
    slices = st.builds(slice, *[st.none() | st.integers(-12, 12)] * 2, st.none() | st.integers(-4, 4).filter(bool))
    rows = slices | st.lists(st.integers(-m, m - 1), max_size=5) if m else slices
    columns = slices | st.lists(st.integers(-n, n - 1), max_size=5) if n else slices
    r, c = data.draw(rows), data.draw(columns)
    found, full = Vi(x) * Vj(y), np.outer(x, y)
    close(found[r][:, c], full[np.array(r, int) if r == [] else r][:, np.array(c, int) if c == [] else c])


def test_iteration_is_refused():
    with pytest.raises(TypeError, match="not iterable"):
        list(problem()[0])


# ---- pairs


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
@pytest.mark.parametrize("inner", [False, True])
def test_at(inner, batch, kind):
    lazy, full = problem(batch, inner, kind)
    rng = np.random.default_rng(0)
    i, j = rng.integers(-5, 5, 40), rng.integers(-7, 7, 40)
    for dtype in (np.int64, np.int8):
        close(lazy.at(i.astype(dtype), j), full[(..., i, j, *[slice(None)] * inner)])
    close(lazy.at(torch.from_numpy(i), torch.from_numpy(j)), full[(..., i, j, *[slice(None)] * inner)])
    close(lazy.at(i[:, None], j[:3]), full[(..., i[:, None], j[:3], *[slice(None)] * inner)])
    close(lazy.at(2, j), full[(..., 2, j, *[slice(None)] * inner)])
    close(lazy.at([], []), full[(..., [], [], *[slice(None)] * inner)])
    close(lazy.at(2, 3), full[(..., 2, 3, *[slice(None)] * inner)])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("offset", [0, 1, -2, 6, -4, 7, -9])
def test_diagonal(offset, inner, batch, kind):
    lazy, full = problem(batch, inner, kind)
    want = np.diagonal(full, offset, len(batch), len(batch) + 1)
    close(lazy.diagonal(offset), want.swapaxes(-1, -2) if inner else want)
    close(lazy.trace(offset), want.sum(-1))
    close(lazy.T.diagonal(-offset), want.swapaxes(-1, -2) if inner else want)


def test_entries_are_numbers():
    lazy, full = problem()
    assert lazy[3, 5] == pytest.approx(full[3, 5], rel=1e-14)
    assert isinstance(lazy[3, 5], np.float64)
    assert float(lazy.trace()) == pytest.approx(np.trace(full), rel=1e-13)


@pytest.mark.parametrize(
    "what", ["dense", "at", "diagonal", "rows", "backwards", "crossed", "row", "column", "entry", "components", "batches"]
)
def test_derivatives_of_entries(what):
    """To second order, against PyTorch on the dense array."""
    rng = np.random.default_rng(8)
    x = torch.tensor(rng.uniform(0.5, 1.5, (2, 4, 1, 3)), requires_grad=True)
    y = torch.tensor(rng.uniform(0.5, 1.5, (1, 6, 3)), requires_grad=True)
    i, j = torch.tensor([0, 3, 3, 1]), torch.tensor([5, 0, 0, 2])
    take = {
        "dense": lambda K: K,
        "at": lambda K: K.at(i, j) if isinstance(K, LazyTensor) else K[:, i, j],
        "diagonal": lambda K: K.diagonal(1) if isinstance(K, LazyTensor) else K.diagonal(1, 1, 2).swapaxes(-1, -2),
        "rows": lambda K: K[:, i],
        "backwards": lambda K: K[:, :, ::-2] if isinstance(K, LazyTensor) else K[:, :, [5, 3, 1]],
        "crossed": lambda K: K[:, i[:, None], j],
        "row": lambda K: K[:, 2],
        "column": lambda K: K[:, :, 2],
        "entry": lambda K: K[1, 2, 2],
        "components": lambda K: K[..., [2, 0]],
        "batches": lambda K: K[[1, 1, 0]],
    }[what]

    def both(K):
        out = take(K)
        out = out.dense() if isinstance(out, LazyTensor) else out
        first = torch.autograd.grad((out * torch.arange(1.0, out.numel() + 1).reshape(out.shape)).sin().sum(), (x, y), create_graph=True)
        return (out, *first, *torch.autograd.grad(sum(g.square().sum() for g in first), (x, y)))

    found, want = both((LazyTensor(x) - LazyTensor(y)) ** 3), both((x - y) ** 3)
    for f, w in zip(found, want, strict=True):
        torch.testing.assert_close(f, w, rtol=1e-10, atol=1e-10)


def test_edges_of_a_graph_by_vmap():
    x, y = torch.rand(3, 4, 2, dtype=torch.float64), torch.rand(6, 2, dtype=torch.float64)
    i, j = torch.tensor([0, 3, 1]), torch.tensor([5, 0, 2])
    found = torch.func.vmap(lambda x: (Vi(x) | Vj(y)).at(i, j))(x)
    torch.testing.assert_close(found, (x[:, i] * y[j]).sum(-1))
    torch.testing.assert_close(torch.func.vmap(lambda x: (Vi(x) | Vj(y)).dense())(x), x @ y.T)


# ---- arithmetic of matrices, and complex ones


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [(), (2,)])
def test_arithmetic_of_matrices(batch, kind):
    lazy, full = problem(batch, kind=kind)
    a, b = np.random.default_rng(6).random(5), np.random.default_rng(7).random(7)
    other, dense = lazy.exp(), np.exp(full)
    close(2 * lazy - other, 2 * full - dense)
    close(lazy * other, full * dense)
    close(Vi(give(a, kind)) * lazy, a[:, None] * full)
    close(lazy * Vj(give(b, kind)), full * b)
    close((Vi(give(a, kind)) * lazy * Vj(give(b, kind))).sum(len(batch)), (a[:, None] * full * b).sum(-2))
    close((2 * lazy - other) @ give(b, kind), (2 * full - dense) @ b)


@pytest.mark.parametrize("kind", KINDS)
def test_complex_matrices(kind):
    rng = np.random.default_rng(3)
    z, w = rng.normal(size=(2, 5, 6)).view(complex), rng.normal(size=(7, 6)).view(complex)
    z, w = z[..., None, :], w[None]
    to = torch.from_numpy if kind == "torch" else np.asarray
    for lazy, full in ((LazyTensor(to(z)) * LazyTensor(to(w)), z * w), ((LazyTensor(to(z)) | LazyTensor(to(w))), (z * w).sum(-1))):
        whole = [slice(None)] * (full.ndim - 3)
        close(lazy, full)
        close(lazy[:, 1:4, ::-2], full[:, 1:4, ::-2])
        close(lazy[1, [4, 0, 0]], full[1, [4, 0, 0]])
        close(lazy[:, 2], full[:, 2])
        close(lazy[1, 2, 3], full[1, 2, 3])
        close(lazy.at([0, 3], [6, 1]), full[(slice(None), [0, 3], [6, 1], *whole)])
        diagonal = np.diagonal(full, 1, 1, 2)
        close(lazy.diagonal(1), diagonal.swapaxes(-1, -2) if whole else diagonal)
        close(lazy.trace(), np.trace(full, 0, 1, 2))
    close((LazyTensor(to(z)) * LazyTensor(to(w)))[..., [2, 0]], (z * w)[..., [2, 0]])


@pytest.mark.parametrize("kind", ["numpy", "torch"])
@pytest.mark.parametrize("inner", [False, True])
def test_pairs_behind_a_number(inner, kind, random):
    """Which stands apart from their indices: NumPy then has the axis of the pairs first, PyTorch last."""
    x, y = random.random((2, 3, 9, 1, 2)), random.random((2, 3, 1, 8, 2))
    K = LazyTensor(give(x, kind)) * LazyTensor(give(y, kind))
    K, full = (K, x * y) if inner else (K.sum(-1), (x * y).sum(-1))
    full = give(full, kind)
    i, j, k, l = [1, 2], [3, 4], np.array([[1], [2]]), np.array([[3, 4], [4, 5]])
    for key in (
        np.s_[0, :, i, j],
        np.s_[:, 0, i, j],
        np.s_[0, 0, i, j],
        np.s_[1, :, k, l],
        np.s_[:, :, i, j],
        np.s_[1, :2, i, j],
        np.s_[None, 0, :, i, j],
    ):
        found, want = K[key], full[key]
        assert found.shape == want.shape
        close(found, want)


@pytest.mark.parametrize("given", [np.array, torch.tensor])
def test_pairs_of_different_lengths(given, random):
    K = Vi(given(random.normal(size=(5, 2)))) | Vj(given(random.normal(size=(4, 2))))
    with pytest.raises(IndexError, match=r"indices of shapes \(3,\) and \(2,\) do not broadcast"):
        K[given([0, 1, 2]), given([0, 1])]
