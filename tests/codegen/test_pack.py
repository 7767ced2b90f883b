"""Packing: rows of any length that lie in memory in any way, beside others or at the end of what may be read."""

from __future__ import annotations

import ctypes
import mmap
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairfold import LazyTensor


def product(x: np.ndarray, y: np.ndarray, b: np.ndarray) -> np.ndarray:
    x_i, y_j = LazyTensor(x[..., :, None, :]), LazyTensor(y[..., None, :, :])
    return (-((x_i.abs() - y_j * 2) ** 2).sum(-1)).exp() @ b


def dense(x: np.ndarray, y: np.ndarray, b: np.ndarray) -> np.ndarray:
    x, y, b = (a.astype(np.float64) for a in (x, y, b))
    return np.exp(-((np.abs(x)[..., :, None, :] - 2 * y[..., None, :, :]) ** 2).sum(-1)) @ b


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 70), st.integers(1, 70), st.sampled_from([1, 2, 3, 5, 7, 8, 9]), st.sampled_from(["f4", "f8"]), st.integers(0, 3),
    st.sampled_from(["in line", "reversed", "every other", "columns first"]),
)  # fmt: skip
def test_rows_in_memory(m: int, n: int, d: int, dtype: str, batches: int, order: str) -> None:
    random = np.random.default_rng(m + 100 * n)
    batch = (batches,) if batches else ()

    def draw(rows: int, dim: int) -> np.ndarray:
        a = random.standard_normal((*batch, 2 * rows if order == "every other" else rows, dim)).astype(dtype)
        if order == "columns first":
            return np.ascontiguousarray(a.swapaxes(-1, -2)).swapaxes(-1, -2)
        return {"in line": a, "reversed": a[..., ::-1, :], "every other": a[..., ::2, :]}[order]

    x, y, b = draw(m, d), draw(n, d), draw(n, 1)
    want = dense(x, y, b)
    np.testing.assert_allclose(product(x, y, b), want, rtol=0, atol=(2e-6 if dtype == "f4" else 1e-14) * np.abs(b).sum())


@pytest.mark.skipif(os.name != "posix", reason="pages are protected by a function of POSIX")
@pytest.mark.parametrize("d", [1, 3])
def test_nothing_is_read_beyond_the_end(d: int) -> None:
    """The arrays end where a page does, and what follows is not ours to read."""
    page, libc = mmap.PAGESIZE, ctypes.CDLL(None)
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    pages = mmap.mmap(-1, 2 * page)
    whole = np.frombuffer(pages, dtype=np.uint8)
    end = whole.ctypes.data + page
    assert libc.mprotect(end, page, 0) == 0
    try:
        for rows in (1, 2, 15, 17, 33):
            a = whole[page - rows * d * 4 : page].view(np.float32).reshape(rows, d)
            a[:] = np.random.default_rng(rows).standard_normal((rows, d))
            b = np.ones((rows, 1), dtype=np.float32)
            np.testing.assert_allclose(product(a, a, b), dense(a, a, b), rtol=0, atol=1e-4)
    finally:
        libc.mprotect(end, page, mmap.PROT_READ | mmap.PROT_WRITE)
