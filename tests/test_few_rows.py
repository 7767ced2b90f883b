"""Few rows: kernels of their own, whose last vector takes several columns at once where rows would leave most of it empty."""

from __future__ import annotations

import numpy as np
import pytest

from pairfold import LazyTensor
from pairfold.runtime import cpu
from pairfold.runtime.compile import host
from tests.helpers import eps

pytestmark = pytest.mark.cpu
COLUMNS = (1, 2, 7, 67, 200)


def lanes_of(dtype) -> int:
    return host().vector_bits // (8 * np.dtype(dtype).itemsize)


def schedule():
    return next(reversed(cpu._kernels.values())).plan.schedule


# Whole vectors of rows, and more rows besides, as a function of how many a vector has.
ROWS = {
    "1": (0, lambda lanes: 1), "2": (0, lambda lanes: 2), "3": (0, lambda lanes: 3), "half": (0, lambda lanes: lanes // 2),
    "all but one": (0, lambda lanes: lanes - 1), "one more": (1, lambda lanes: 1), "two vectors": (2, lambda lanes: 0),
    "three and two": (3, lambda lanes: 2), "eight and one": (8, lambda lanes: 1),
}  # fmt: skip


@pytest.mark.parametrize(("whole", "more"), ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch", [(), (3,), (2, 35)])
def test_sums_of_few_rows(whole, more, dtype, batch, random, monkeypatch):
    monkeypatch.setattr(cpu, "PAIRS_WORTH_A_KERNEL", 1)
    lanes = lanes_of(dtype)
    m, axis = whole * lanes + more(lanes), len(batch)
    for n in COLUMNS:
        x, y, b = (random.normal(size=(*batch, k, d)).astype(dtype) for k, d in ((m, 3), (n, 3), (n, 2)))
        p = random.random((*batch, 1, 1)).astype(dtype)  # a number for each batch
        x_i, y_j, b_j, p_ = (LazyTensor(a) for a in (x[..., :, None, :], y[..., None, :, :], b[..., None, :, :], p[..., None]))
        x8, y8, b8, p8 = (a.astype("f8") for a in (x, y, b, p))
        squares = ((x8[..., :, None, :] - y8[..., None, :, :]) ** 2).sum(-1)
        D = ((x_i - y_j) ** 2).sum(-1)
        rtol, size = 60 * eps(dtype), np.abs(b8).sum(axis, keepdims=True) + 1
        found = (-D).exp() @ b
        rest, tail = m % lanes, schedule().tail
        assert rest <= tail < 2 * rest if 0 < rest <= lanes // 2 else tail == 0
        np.testing.assert_allclose(found / size, np.exp(-squares) @ b8 / size, rtol=0, atol=rtol)
        # What a column brings is computed once, and packed.
        found = (D.sqrt() * b_j.cos() + p_ * x_i[..., 0:1]).sum(axis + 1)
        wanted = (np.sqrt(squares)[..., None] * np.cos(b8)[..., None, :, :]).sum(axis + 1) + n * p8 * x8[..., :1]
        np.testing.assert_allclose(found, wanted, rtol=rtol, atol=rtol * n)
        # As many columns are left where the other axis is reduced.
        few = (-(((LazyTensor(y[..., :, None, :]) - LazyTensor(x[..., None, :, :])) ** 2).sum(-1))).exp()
        np.testing.assert_allclose(np.reshape(few.sum(axis), (*batch, m)), np.exp(-squares).sum(axis + 1), rtol=rtol)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_column_is_added_that_is_not_there(dtype, monkeypatch):
    """Beyond the last one there are others in memory: what is computed of them, and of zeros in their place, is left out."""
    monkeypatch.setattr(cpu, "PAIRS_WORTH_A_KERNEL", 1)
    for n in range(1, 40):
        y = np.full((64, 1), np.nan, dtype)
        y[:n] = 2
        K = 1 / (LazyTensor(np.ones((2, 1, 1), dtype)) * LazyTensor(y[None, :n]))  # of zeros it would be inf
        np.testing.assert_array_equal(K.sum(1), np.full((2, 1), n / 2))
        assert schedule().tail == (2 if lanes_of(dtype) >= 4 else 0)


def test_columns_are_split_among_threads(random):
    """Of three rows and many columns, several tasks have their parts."""
    x, y, b = (random.random((k, d)) for k, d in ((3, 2), (150_001, 2), (150_001, 1)))
    K = (-((LazyTensor(x[:, None]) - LazyTensor(y[None])) ** 2).sum(-1)).exp()
    found = K @ b
    assert schedule().tail == (4 if lanes_of("f8") >= 8 else 0) and schedule().in_place
    np.testing.assert_allclose(found, np.exp(-((x[:, None] - y) ** 2).sum(-1)) @ b, rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize(
    "columns",
    [lambda y: y[::-1], lambda y: y[:, ::-1], lambda y: y[::2], lambda y: np.asfortranarray(y), lambda y: y.astype("float16")],
    ids=["backwards", "components", "every other", "transposed", "half"],
)
def test_columns_that_lie_otherwise(columns, random, monkeypatch):
    monkeypatch.setattr(cpu, "PAIRS_WORTH_A_KERNEL", 1)
    x, y = random.random((2, 3)).astype("f4"), columns(random.random((61, 3)).astype("f4"))
    D = ((LazyTensor(x[:, None]) - LazyTensor(y[None])) ** 2).sum(-1)
    squares = ((x[:, None].astype("f8") - y.astype("f8")) ** 2).sum(-1)
    np.testing.assert_allclose(D.sum(1), squares.sum(1), rtol=1e-5)
    assert schedule().tail in (0, 2) and not schedule().in_place


def test_what_a_tail_cannot_do(random, monkeypatch):
    """Other reductions, sums with care, and long vectors have tiles of rows alone."""
    monkeypatch.setattr(cpu, "PAIRS_WORTH_A_KERNEL", 1)
    x, y = random.random((2, 3)), random.random((61, 3))
    long = random.random((2, 40)), random.random((61, 40))
    D = ((LazyTensor(x[:, None]) - LazyTensor(y[None])) ** 2).sum(-1)
    squares = ((x[:, None] - y) ** 2).sum(-1)
    for act, wanted in [
        (lambda: D.sum(1, accumulate="compensated"), squares.sum(1)),
        (lambda: D.logsumexp(1), np.log(np.exp(squares).sum(1))),
        (lambda: D.min(1), squares.min(1)),
        (lambda: D.prod(1), squares.prod(1)),
        (lambda: D.argmin(1), squares.argmin(1)),
        (lambda: (LazyTensor(long[0][:, None]) | LazyTensor(long[1][None])).sum(1), (long[0] @ long[1].T).sum(1)),
    ]:
        np.testing.assert_allclose(act(), wanted, rtol=1e-12)
        assert schedule().tail == 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_half_a_vector_is_not_joined(dtype, random, monkeypatch):
    """To join rows of two batches costs a third of a vector: that pays where more than half of one would be empty."""
    monkeypatch.setattr(cpu, "PAIRS_WORTH_A_KERNEL", 1)
    lanes = lanes_of(dtype)
    for more in (lanes // 2 - 1, lanes // 2):
        x, y = (random.random((70, n, 2)).astype(dtype) for n in (lanes + more, 9))
        found = (-((LazyTensor(x[:, :, None]) - LazyTensor(y[:, None])) ** 2).sum(-1)).logsumexp(2)
        wanted = np.log(np.exp(-((x[:, :, None].astype("f8") - y[:, None]) ** 2).sum(-1)).sum(2))
        np.testing.assert_allclose(np.reshape(found, wanted.shape), wanted, rtol=0, atol=60 * eps(dtype))
        assert schedule().joined == (0 < more < lanes // 2)
