"""Bad input: what is said names the shapes and the formula, and how to mend it."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest

import pairfold
from pairfold import LazyTensor, Pm, Vi, Vj, concat, where

X, Y = np.ones((5, 3)), np.ones((7, 3))
X_I, Y_J = LazyTensor(X[:, None, :]), LazyTensor(Y[None, :, :])
K = (X_I * Y_J).sum(-1)
SQUARE = (X_I * LazyTensor(X[None, :, :])).sum(-1)

CASES = [
    # ---- shapes that do not broadcast
    (lambda: Vi(X) + Vi(np.ones((6, 3))), ValueError, ["(5, 1, 3)", "(6, 1, 3)", "do not broadcast", "5 and 6 along axis 0", "x0"]),
    (lambda: K * Vj(np.ones((8, 3))), ValueError, ["(5, 7)", "(1, 8, 3)", "7 and 8 along axis 1", "sum(x0 * y1)"]),
    (lambda: Vi(X) - Vj(np.ones((7, 4))), ValueError, ["(5, 1, 3)", "(1, 7, 4)", "inner dimensions 3 and 4", "(x0 - y1)"]),
    (lambda: Vi(X) | np.ones(2), ValueError, ["inner dimensions 3 and 2 do not broadcast", "(x0 | p1)", "(1, 1, 2)"]),
    (lambda: where(Vi(X), np.ones(2), 0), ValueError, ["inner dimensions 3 and 2 and 1", "where(x0, p1, 0)"]),
    (lambda: Vi(X).extract(2, 2), ValueError, ["components 2 to 3", "dimension 3", "x0[2:4]", "(5, 1, 3)"]),
    (lambda: K.logsumexp(1, weight=np.ones((1, 9))), ValueError, ["7 and 9 along axis 1"]),
    (lambda: (X_I * Y_J).logsumexp(1, weight=Vj(Y[:, :2])), ValueError, ["logsumexp of 3 numbers", "(5, 7, 3)", "not of 2", "K | L"]),
    (lambda: (X_I * Y_J).sumsoftmaxweight(Vj(Y[:, :2])), ValueError, ["sumsoftmaxweight of 3 numbers", "not of 2"]),
    (lambda: (X_I * Y_J).grad(X_I, np.ones(2)), ValueError, ["(1, 1, 2)", "a cotangent has one number a pair or 3"]),
    (lambda: (X_I * Y_J).diff(X_I, np.ones(2)), ValueError, ["(1, 1, 2)", "a tangent has one number or 3"]),
    (lambda: X_I + Vi(np.ones((4, 3))), ValueError, ["5 and 4 along axis 0", "x0, x1"]),
    # ---- a dense matrix where vectors were meant
    (lambda: LazyTensor(np.ones((5, 7))), ValueError, ["(5, 7)", "x[:, None, :]", "x[None, :, :]", "axis=0 or 1"]),
    (lambda: K * np.ones((5, 7)), ValueError, ["(5, 7)", "x[:, None, :]"]),
    (lambda: LazyTensor(np.ones((5, 7, 3))), ValueError, ["(5, 7, 3)", "M, 1, D)", "1, N, D)"]),
    (lambda: LazyTensor(np.ones((2, 5, 7, 3))), ValueError, ["(2, 5, 7, 3)", "M, 1, D)"]),
    (lambda: LazyTensor(np.ones((2, 5, 1, 3))) * LazyTensor(np.ones((3, 1, 7, 3))), ValueError, ["(2,) and (3,) along the batch axes"]),
    (lambda: LazyTensor(np.ones((2, 5, 1, 3))).sum(0), ValueError, ["axis 0 of (2, 5, 1, 3) is a batch axis"]),
    (lambda: LazyTensor(np.ones((5, 1, 3)), axis=0), ValueError, ["axis=0", "(M, D)", "(5, 1, 3)"]),
    (lambda: LazyTensor(X, axis=2), ValueError, ["axis must be 0 (rows) or 1 (columns)", "2"]),
    (lambda: Vi(np.ones((5, 1, 3))), ValueError, ["Vi", "(M, D)", "(5, 1, 3)"]),
    (lambda: Vj(np.ones((1, 5, 3))), ValueError, ["Vj", "(N, D)", "(1, 5, 3)"]),
    (lambda: Pm(np.ones((5, 3))), ValueError, ["Pm", "(D,)", "(5, 3)"]),
    (lambda: LazyTensor(np.ones((5, 1, 0))), ValueError, ["at least one component", "(5, 1, 0)"]),
    (lambda: LazyTensor(np.ones((0,))), ValueError, ["at least one component", "(0,)"]),
    (lambda: Vi(np.ones((5, 0))), ValueError, ["at least one component", "(5, 0)"]),
    # ---- dtypes, devices and frameworks
    (lambda: LazyTensor(np.ones((5, 1, 3), "S1")), TypeError, ["float32", "bool", "not bytes8", "astype"]),
    (
        lambda: LazyTensor(np.ones((5, 1, 3), np.longdouble)),
        TypeError,
        ["float64", "longdouble" if np.finfo(np.longdouble).bits == 64 else "float128"],
    ),
    (lambda: (Vi(np.array([2**53 + 1])) == Vj(np.array([3]))).sum(1), ValueError, ["int64", "9007199254740993", "2**53", "unique"]),
    (lambda: Vi(np.ones((5, 3), ">f8")), TypeError, ["byte order", "newbyteorder"]),
    (lambda: Vi(X) + "a", TypeError, ["str"]),
    (lambda: Vi(X) + None, TypeError, ["NoneType"]),
    (lambda: LazyTensor([1.0, 2.0]), TypeError, ["NumPy array", "list"]),
    (lambda: LazyTensor(True), TypeError, ["bool"]),
    (lambda: Vi([1.0]), TypeError, ["Vi", "list"]),
    # ---- K larger than N
    (lambda: K.argKmin(8, axis=1), ValueError, ["argKmin", "K = 8", "1 and 7", "axis 1", "(5, 7)"]),
    (lambda: K.Kmin(6, axis=0), ValueError, ["Kmin", "K = 6", "1 and 5", "axis 0"]),
    (lambda: K.Kmin_argKmin(0, axis=0), ValueError, ["K = 0"]),
    (lambda: K.Kmin(-1, axis=1), ValueError, ["K = -1"]),
    (lambda: K.Kmin(2.0, axis=1), TypeError, ["whole number", "2.0"]),
    (lambda: K.Kmin(True, axis=1), TypeError, ["whole number", "True"]),
    # ---- axes
    (lambda: K.Kmin(36, axis=(0, 1)), ValueError, ["Kmin", "K = 36", "1 and 35", "(5, 7)"]),
    (lambda: K.argKmin(1, axis=(0, 0)), ValueError, ["argKmin", "different ones", "(0, 0)"]),
    (lambda: K @ np.ones((6, 0)), ValueError, ["(5, 7)", "(6, 0)"]),
    (lambda: K.sum(1, keepdims="no"), TypeError, ["sum takes keepdims=True", "'no'"]),
    (lambda: K.diagonal(1.5), TypeError, ["diagonal takes whole numbers", "1.5"]),
    (lambda: SQUARE.solve(np.ones(5), tol=np.nan), ValueError, ["tol must be", "nan"]),
    (lambda: SQUARE.solve(np.ones(5), atol=-1.0), ValueError, ["atol must be", "-1.0"]),
    (lambda: K.sum(3), ValueError, ["axis must be 0 (rows), 1 (columns) or 2 (the inner one)", "not 3", "(5, 7)"]),
    (lambda: K.sum(dim=-3), ValueError, ["-3"]),
    (lambda: K.logsumexp(2), ValueError, ["logsumexp", "the rows or the columns", "(5, 7)", "not along its inner axis"]),
    (lambda: X_I.prod(-1), ValueError, ["prod", "not along its inner axis", "(5, 1, 3)"]),
    (lambda: X_I.Kmin(1, -1), ValueError, ["Kmin", "not along its inner axis"]),
    (lambda: K.sum(axis=0, dim=1), ValueError, ["axis=0", "dim=1"]),
    (lambda: K.sum(1.0), TypeError, ["whole number", "1.0"]),
    (lambda: K.sum("i"), TypeError, ["whole number", "'i'"]),
    (lambda: K.sum((0, -2)), ValueError, ["several different ones", "(0, -2)", "(5, 7)"]),
    (lambda: K.sum(()), ValueError, ["one axis or several", "()"]),
    (lambda: K.sum([0, 1]), TypeError, ["whole number", "[0, 1]"]),
    (lambda: K.sum(axis=1, keepdims=True, keepdim=False), ValueError, ["keepdims=True", "keepdim=False"]),
    (lambda: K.var(1, ddof=0, correction=1), ValueError, ["ddof=0", "correction=1"]),
    (lambda: X_I.logsumexp(-1), ValueError, ["logsumexp", "not along its inner axis"]),
    (lambda: Vi(X).concat(Y_J, axis=0), ValueError, ["concat", "inner axis", "0"]),
    (lambda: concat([Vi(X)], axis=1), ValueError, ["inner axis"]),
    (lambda: concat([]), ValueError, ["at least one"]),
    (lambda: concat(X_I), TypeError, ["list of LazyTensors", "(5, 1, 3)"]),
    (lambda: K.var(1, ddof=np.nan), TypeError, ["ddof", "nan"]),
    (lambda: LazyTensor(3).count_nonzero(1), TypeError, ["numbers alone"]),
    (lambda: K.round(400), ValueError, ["-308 to 308", "400"]),
    (lambda: K * 10**400, OverflowError, ["1329 bits"]),
    (lambda: K * 10**5000, OverflowError, ["16610 bits"]),
    (lambda: K.to_keops(X=3), TypeError, ["X is a LazyTensor", "3"]),
    (lambda: K.explain(reduction=3), TypeError, ["name of a method", "3"]),
    (lambda: pairfold.from_string("X", [3], X), TypeError, ["aliases are texts", "3"]),
    (lambda: pairfold.progress("a"), TypeError, ["True or False", "'a'"]),
    (lambda: X_I.softdtw_sqdist(Y_J, -1), ValueError, ["gamma above 0", "-1"]),
    # ---- taken for an array
    (lambda: bool(K), TypeError, ["truth value", "(5, 7)", "Reduce it first"]),
    (lambda: 1 if K else 2, TypeError, ["truth value"]),
    (lambda: X_I < Y_J < 2, TypeError, ["truth value"]),
    (lambda: np.asarray(K), TypeError, ["(5, 7)", "reduce it"]),
    (lambda: np.array([K, K], dtype=float), TypeError, ["reduce it"]),
    (lambda: float(K), TypeError, ["reduce it"]),
    (lambda: int(K), TypeError, ["reduce it"]),
    (lambda: list(K), TypeError, ["not iterable"]),
    (lambda: np.linalg.inv(K), TypeError, ["numpy.linalg.inv does not take a symbolic matrix", "K.dense()"]),
    # ---- indices
    (lambda: K[5], IndexError, ["index 5 is out of bounds", "axis 0 (rows)", "length 5"]),
    (lambda: K[0, -8], IndexError, ["index -8", "axis 1 (columns)", "length 7"]),
    (lambda: K[[0, 4, 9, 11], :], IndexError, ["index 9 at position 2", "axis 0 (rows)", "length 5"]),
    (lambda: K[:, np.array([[0], [-9]])], IndexError, ["index -9 at position (1, 0)", "axis 1 (columns)", "length 7"]),
    (lambda: K.at([0, 1], [3, 7]), IndexError, ["index 7 at position 1", "columns", "length 7"]),
    (lambda: K.at(5, 0), IndexError, ["index 5 is out of bounds", "rows"]),
    (lambda: K.at([0.0], [1]), IndexError, ["whole numbers", "float64"]),
    (lambda: K[0.5], IndexError, ["whole numbers, slices", "0.5"]),
    (lambda: K[True], IndexError, ["masks", "True"]),
    (lambda: K[np.ones(4, bool)], IndexError, ["mask of shape (4,)", "rows", "length 5"]),
    (lambda: K[0, 0, 0], IndexError, ["3 indices for the 2 axes", "(5, 7)"]),
    (lambda: K[..., ...], IndexError, ["single ellipsis"]),
    (lambda: K[:, None, None, :], IndexError, ["new axis", "(5, 7)"]),
    (lambda: X_I[..., None], IndexError, ["new axis", "(5, 1, 3)"]),
    (lambda: K[[[0], [1]], :], IndexError, ["shape (2, 1)", "one axis"]),
    (lambda: (X_I * Y_J)[[0, 1], :, [0, 1]], IndexError, ["one by one", "index one axis after the other"]),
    (lambda: LazyTensor(np.ones((2, 5, 1, 3)))[[0, 1], [2, 3]], IndexError, ["one by one"]),
    (lambda: LazyTensor(2)[0], TypeError, ["numbers alone"]),
    (lambda: LazyTensor(2).dense(), TypeError, ["numbers alone"]),
    (lambda: X_I[..., 3], IndexError, ["index 3", "axis 2 (components)", "length 3"]),
    (lambda: X_I[..., -4], IndexError, ["index -4"]),
    (lambda: X_I[..., 2:2], IndexError, ["no components", "(5, 1, 3)"]),
    (lambda: X_I.extract(0.5, 1), TypeError, ["whole numbers", "0.5"]),
    # ---- products
    (lambda: K @ np.ones(6), ValueError, ["(5, 7)", "(7,)", "(6,)"]),
    (lambda: K @ np.ones((7, 2, 2)), ValueError, ["(7, E)", "(7, 2, 2)"]),
    (lambda: np.ones(6) @ K, ValueError, ["(5,)", "(6,)"]),
    (lambda: (X_I - Y_J) @ np.ones(7), ValueError, ["one number for each pair", "(5, 7, 3)", "x0 - y1"]),
    (lambda: K @ K, ValueError, ["(5, 7) and (5, 7)", "7 columns and 5 rows"]),
    (lambda: K @ [1.0] * 7, TypeError, ["array", "list"]),
    # ---- numbers alone, and derivatives
    (lambda: LazyTensor(2).sum(1), TypeError, ["numbers alone"]),
    (lambda: K.grad(X), TypeError, ["LazyTensor made from an array"]),
    (lambda: K.grad(X_I * 2), TypeError, ["LazyTensor made from an array", "x0 * 2"]),
    (lambda: K.grad(Vi(X.copy())), ValueError, ["was not made from", "sum(x0 * y1)"]),
    (lambda: pairfold.set_num_threads(0), ValueError, ["at least 1", "0"]),
]


@pytest.mark.parametrize("number", range(len(CASES)))
def test_message(number):
    act, kind, parts = CASES[number]
    with pytest.raises(kind) as caught:
        act()
    assert type(caught.value) is kind
    for part in parts:
        assert re.search(re.escape(part), str(caught.value)), f"{part!r} is not in {caught.value}"


# ---- empty matrices: the identity of the reduction, in the right shape


@pytest.mark.parametrize("framework", ["numpy", "torch"])
@pytest.mark.parametrize(
    ("name", "wanted"),
    [("sum", 0), ("prod", 1), ("min", np.inf), ("max", -np.inf), ("argmin", -1), ("argmax", -1), ("logsumexp", -np.inf)],
)
def test_nothing_to_reduce(name, wanted, framework):
    give = pytest.importorskip("torch").from_numpy if framework == "torch" else lambda a: a
    x, nothing = give(np.ones((4, 3), np.float32)), give(np.ones((0, 3), np.float32))
    for lazy, axis in ((Vi(x) * Vj(nothing), 1), (Vi(nothing) * Vj(x), 0)):
        for symbolic, shape in ((lazy, (4, 3)), (lazy.sum(-1), (4,))):
            found = getattr(symbolic, name)(axis=axis)
            assert type(found) is type(x)
            np.testing.assert_array_equal(np.asarray(found), np.full(shape, wanted))
            assert np.asarray(found).dtype == (np.int64 if name.startswith("arg") else np.float32)
            other = getattr(symbolic, name)(axis=1 - axis)
            assert tuple(other.shape) == (0, *shape[1:])


@pytest.mark.parametrize("shape", [(0, 1, 3), (1, 0, 3), (0, 1), (1, 0)])
def test_empty_arrays_are_rows_or_columns(shape):
    lazy = LazyTensor(np.ones(shape))
    assert lazy.shape == shape
    assert lazy.sum(axis=shape.index(0)).shape == (1, *shape[2:])


def test_empty_products():
    lazy = (Vi(X) * Vj(np.ones((0, 3)))).sum(-1)
    np.testing.assert_array_equal(lazy @ np.ones((0, 2)), np.zeros((5, 2)))
    assert (lazy.T @ np.ones((5, 2))).shape == (0, 2)
    assert lazy.Kmin_argKmin.__self__ is lazy
    with pytest.raises(ValueError, match="between 1 and 0"):
        lazy.argKmin(1, axis=1)
    low, index = lazy.min_argmin(1)
    np.testing.assert_array_equal(low, np.full(5, np.inf))
    np.testing.assert_array_equal(index, np.full(5, -1))


# ---- PyTorch's own


def test_tensors_of_other_kinds():
    torch = pytest.importorskip("torch")
    x = torch.ones(5, 3, dtype=torch.float64)
    with pytest.raises(TypeError, match="mixes numpy and torch arrays"):
        Vi(X) * Vj(x)
    with pytest.raises(TypeError, match="mixes torch and numpy arrays"):
        Vi(x)[..., 0] @ np.ones(1)
    with pytest.raises(TypeError, match="device"):
        Vi(x) * Vj(x.to("meta"))
    with pytest.raises(TypeError, match="torch.linalg_inv does not take a symbolic matrix"):
        torch.linalg.inv(Vi(x))
    with pytest.raises((TypeError, ValueError)):  # the message is PyTorch's own: it asks for the length before it asks us
        torch.as_tensor(Vi(x))


@pytest.mark.parametrize("made", ['x.to("meta")', "x.to_sparse()", "x.to_mkldnn()"])
def test_tensors_without_plain_memory(made):
    """In a process of its own: reading such a tensor's address would end it."""
    pytest.importorskip("torch")
    code = f"""
import torch
from pairfold import Vi
x = torch.ones(5, 3)
try:
    (Vi({made}) * 2).sum(1)
except (TypeError, ValueError) as error:
    print("refused:", error)
"""
    result = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr[-300:]
    assert result.stdout.startswith("refused:")


# ---- nan and infinity


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_propagate(value):
    y = Y.copy()
    y[3, 1] = value
    lazy, dense = (Vi(X) * Vj(y)).sum(-1), (X[:, None] * y).sum(-1)
    with np.errstate(all="ignore"):
        for name in ("sum", "prod", "min", "max", "argmin", "argmax"):
            np.testing.assert_array_equal(getattr(lazy, name)(1), getattr(np, name)(dense, axis=1))
        np.testing.assert_allclose(lazy.logsumexp(1), np.log(np.exp(dense).sum(1)))
        np.testing.assert_array_equal(lazy.argKmin(2, axis=1), np.argsort(dense, axis=1, kind="stable")[:, :2])
        np.testing.assert_array_equal(lazy @ np.ones(7), dense.sum(1))


# ---- beyond 32-bit numbers


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_more_pairs_than_32_bits_count(dtype):
    x, y = np.broadcast_to(np.ones((1, 1), dtype), (50_000, 1)), np.ones((50_000, 1), dtype)
    y[-1] = 3
    np.testing.assert_array_equal((Vi(x) * Vj(y)).sum(1), np.full((50_000, 1), 50_002))
    np.testing.assert_array_equal((Vi(x) * Vj(y)).sum(0)[[0, -1], 0], [50_000, 150_000])


def test_arrays_longer_than_32_bits_reach():
    """Strides that lead beyond 2³¹ numbers from the start of an array, of which little is ever touched."""
    y = np.zeros(2**32 + 2**20, np.float32)[:: 2**27 + 1]  # pages are taken as they are written to
    y[:] = np.arange(len(y))
    x = np.ones(3, np.float32)
    assert y.strides[0] * len(y) > 2**33
    np.testing.assert_array_equal((Vi(x) * Vj(y)).sum(1), np.full(3, y.astype(float).sum()))
    np.testing.assert_array_equal((Vi(y) * Vj(x)).max(0), np.full(3, len(y) - 1))


def test_vectors_of_many_components_and_rows():
    """M·D beyond 2³¹, of an array that is one row seen again and again."""
    rows, dim = 2**21 + 3, 1100
    x = np.broadcast_to(np.arange(dim, dtype=np.float32), (rows, dim))
    assert rows * dim > 2**31
    np.testing.assert_array_equal(Vi(x)[..., dim - 1].max(0), [dim - 1])
    np.testing.assert_array_equal(Vi(x)[..., dim - 1].T.max(1), [dim - 1])


def test_columns_beyond_float32_are_exact():
    y = np.zeros(2**25, np.float32)
    y[2**24 + 1], y[2**25 - 3] = -1, 1
    lazy = Vi(np.array([1.0, -1.0], np.float32)) * Vj(y)
    np.testing.assert_array_equal(lazy.argmin(1), [2**24 + 1, 2**25 - 3])
    np.testing.assert_array_equal(lazy.argmax(1), [2**25 - 3, 2**24 + 1])
    np.testing.assert_array_equal(lazy.argKmin(3, axis=1), [[2**24 + 1, 0, 1], [2**25 - 3, 0, 1]])
    np.testing.assert_array_equal(lazy.T.argmin(0), [2**24 + 1, 2**25 - 3])
