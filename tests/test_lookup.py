"""Tables read by labels of rows, of columns and of pairs."""

from __future__ import annotations

import numpy as np
import pytest

from pairfold import LazyTensor, Pm, Vi, Vj, take

torch = pytest.importorskip("torch")


def labels(rng, top, n, kind="int64"):
    return rng.integers(0, top, n).astype(kind)


@pytest.mark.parametrize("dim", [None, 1, 3, 20])
@pytest.mark.parametrize("kind", ["int64", "int32", "uint8", "float64"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values(dim, kind, dtype):
    rng = np.random.default_rng(1)
    a, b, x = labels(rng, 5, 90, kind), labels(rng, 4, 70, kind), rng.random((90, 1)).astype(dtype)
    table = rng.random(20 if dim is None else (20, dim)).astype(dtype)
    i, j = a.astype(int), b.astype(int)
    rtol = 2e-6 if dtype == "float32" and kind != "float64" else 1e-13
    w = rng.random((70, 1)).astype(dtype)
    for index, full in ((Vi(a), i[:, None] + 0 * j), (Vj(b), 0 * i[:, None] + j), (Vi(a) * 4 + Vj(b), i[:, None] * 4 + j)):
        entries = take(table, index)
        dense = table.astype("f8")[full]
        weight, want = Vi(x) * Vj(w), dense * ((x * w.T.astype("f8"))[..., None] if dim else x * w.T.astype("f8"))
        K = entries * (weight if dim else weight.elem(0))
        np.testing.assert_allclose(K.sum(1), want.sum(1), rtol=rtol)
        np.testing.assert_allclose(K.sum(0), want.sum(0), rtol=rtol)
        np.testing.assert_allclose(K.max(1), want.max(1), rtol=rtol)


def test_gradients():
    rng = np.random.default_rng(2)
    a, b = torch.tensor(labels(rng, 3, 12)), torch.tensor(labels(rng, 4, 9))
    x = torch.tensor(rng.random((12, 2)), requires_grad=True)
    table = torch.tensor(rng.random((12, 2)), requires_grad=True)

    def both(K):
        out = K.exp().sum(1)
        first = torch.autograd.grad(out.square().sum(), (x, table), create_graph=True)
        return (out, *first, *torch.autograd.grad(sum(g.sin().sum() for g in first), (x, table)))

    got = both(take(table, Vi(a) * 4 + Vj(b)) * Vi(x))
    want = both(table[a[:, None] * 4 + b] * x[:, None])
    for g, w in zip(got, want, strict=True):
        torch.testing.assert_close(g, w, rtol=1e-11, atol=1e-11)


def test_from_the_end_and_in_batches():
    rng = np.random.default_rng(3)
    table, a = rng.random(7), rng.integers(-7, 7, 40)
    np.testing.assert_array_equal(take(table, Vi(a)).max(1), table[a])
    many = rng.integers(0, 7, (3, 40, 1, 1))
    y = rng.random((3, 1, 8, 1))
    np.testing.assert_allclose(
        (take(table, LazyTensor(many).elem(0)) * LazyTensor(y).elem(0)).sum(2), table[many[..., 0, 0]] * y.sum((1, 2, 3))[:, None]
    )


def test_what_has_no_row():
    rng = np.random.default_rng(4)
    table = rng.random(7)
    a = rng.integers(0, 7, 20)
    a[[5, 11]] = 9, -8
    with pytest.raises(IndexError, match="index 9 at place 5 is out of bounds for a table of 7 rows"):
        take(table, Vi(a))
    number = np.array([0.0, 6.0, 6.9, 7.0, -0.9, -1.0, np.nan, np.inf, 1e30])
    np.testing.assert_array_equal(take(table, Vi(number) * Vj(np.ones(1))).max(1), [*table[[0, 6, 6]], np.nan, table[0], *[np.nan] * 4])
    for act, part in (
        (lambda: take(np.ones((2, 3, 4)), Vi(a)), "(2, 3, 4)"),
        (lambda: take([1.0], Vi(a)), "list"),
        (lambda: take(table, Vi(np.ones((20, 2)))), "one number"),
    ):
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            act()
        assert part in str(caught.value)
    with pytest.raises(TypeError, match=r"table\[index\]"):
        take(table, a)


def test_one_hot_of_labels_and_masks():
    rng = np.random.default_rng(5)
    a, b = labels(rng, 4, 30), labels(rng, 4, 25)
    same = Vi(a) == Vj(b)
    np.testing.assert_array_equal(same.sum(1), (a[:, None] == b).sum(1))
    M = rng.random((4, 4))
    quadratic = (take(M, Vi(a)) * take(np.eye(4), Vj(b))).sum(-1)
    np.testing.assert_allclose(quadratic.sum(1), M[a][:, b].sum(1))
    assert (take(M, Vi(a)) | Pm(np.ones(4))).shape == (30, 1)


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_complex_tables(dtype, random):
    a, b = labels(random, 3, 12), labels(random, 4, 9)
    table = (random.normal(size=(12, 2)) + 1j * random.normal(size=(12, 2))).astype(dtype)
    table[0, 0] = np.inf
    entries = take(table, Vi(a) * 4 + Vj(b))
    assert entries.dtype == dtype
    np.testing.assert_array_equal(entries.dense(), table[a[:, None] * 4 + b])
    given = torch.tensor(table[1:], requires_grad=True)
    (take(given, Vi(torch.tensor(a))) * Vj(torch.tensor(b) + 1.0)).sum(1).abs().pow(2).sum().backward()
    total = (b + 1.0).sum()
    want = np.zeros_like(table[1:])
    np.add.at(want, a, 2 * total**2 * table[1:][a])
    np.testing.assert_allclose(given.grad, want, rtol=1e-5)


@pytest.mark.parametrize("index", ["int64", "int16", "uint8"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_entries_have_the_type_of_the_table(dtype, index, random):
    table, x, a = random.normal(size=(5, 2)).astype(dtype), random.normal(size=(12, 2)).astype(dtype), labels(random, 5, 12, index)
    assert take(table, Vi(a)).sum(1).dtype == dtype
    weighted = (take(table, Vi(a)) * Vi(x)).sum(1)
    assert weighted.dtype == dtype
    np.testing.assert_allclose(weighted, table[a].astype(float) * x, rtol=2 * np.finfo(dtype).eps)


@pytest.mark.parametrize("rows", [3, 100, 128, 200, 256, 300, 40000])
@pytest.mark.parametrize("kind", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"])
def test_labels_of_narrow_types(kind, rows, random):
    top = min(rows, np.iinfo(kind).max + 1)
    table, a = random.normal(size=rows), random.integers(0 if kind[0] == "u" else -min(rows, 128), top, 20).astype(kind)
    a[0] = top - 1
    for given in (np.asarray, torch.tensor):
        np.testing.assert_array_equal(take(given(table), Vi(given(a))).sum(1), table[a.astype("int64")])
        if top > rows - 1 and np.iinfo(kind).max >= rows:
            with pytest.raises(IndexError, match=f"index {rows} at place 1 is out of bounds for a table of {rows} rows"):
                take(given(table), Vi(given(np.array([0, rows], kind))))
