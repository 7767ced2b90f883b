"""A sample of every tile and every reduction, for NVIDIA's compute-sanitizer, which finds reads and writes beyond what was allocated and
threads that race for shared memory:

    compute-sanitizer --tool memcheck python -m tests.gpu.sample
    compute-sanitizer --tool racecheck python -m tests.gpu.sample

NumPy arrays are sent to the GPU: each has an allocation of its own there, with no pool around it. The results are looked at, too.
"""

from __future__ import annotations

import sys

import numpy as np

import pairfold
from pairfold import LazyTensor, Vi, Vj

SIZES = [(37, 1000), (1100, 50), (3, 5)]
TOLERANCE = {"float16": 2e-2, "float32": 1e-4, "float64": 1e-11}


def of_pairs(x, y, b, allowed):
    """Each reduction by name, as Pairfold computes it and as NumPy does."""
    squares = ((x[:, None].astype("f8") - y) ** 2).sum(-1)
    masked = np.where(allowed, squares, np.inf)
    exponents = -np.where(allowed, squares, np.inf)
    weights = np.exp(exponents)
    some = allowed.sum(1) >= 2
    with np.errstate(divide="ignore", invalid="ignore"):
        means = weights @ b / weights.sum(1, keepdims=True)
    return some, {
        "sum": (lambda K: (-K).exp() @ b, weights @ b),
        "compensated": (lambda K: (-K).exp().sum(1, accumulate="compensated"), weights.sum(1)),
        "float64": (lambda K: (-K).exp().sum(1, accumulate="float64"), weights.sum(1)),
        "prod": (lambda K: (1 - K / 1e6).prod(1), np.prod(np.where(allowed, 1 - squares / 1e6, 1), 1)),
        "max": (lambda K: (-K).max(1), exponents.max(1)),
        "min": (lambda K: K.min(1), masked.min(1)),
        "min_argmin": (lambda K: K.min_argmin(1)[0], masked.min(1)),
        "argmin": (lambda K: squares[np.arange(len(x)), K.argmin(1)], masked.min(1)),
        "Kmin": (lambda K: K.Kmin(2, 1), np.sort(masked, 1)[:, :2]),
        "argKmin": (lambda K: np.take_along_axis(squares, K.argKmin(2, 1), 1), np.sort(masked, 1)[:, :2]),
        "logsumexp": (lambda K: (-K).logsumexp(1), np.logaddexp.reduce(exponents, 1)),
        "sumsoftmaxweight": (lambda K: (-K).sumsoftmaxweight(Vj(b), 1), means),
    }


# dtype, components of the points, columns of what is summed
CASES = [
    *(("float32", dim, columns) for dim in (1, 3, 16, 64, 200) for columns in (1, 5, 100)),
    *(("float64", dim, columns) for dim in (3, 200) for columns in (1, 40)),
    ("float16", 3, 2),
]


def check(dtype: str, dim: int, b_columns: int) -> int:
    """Compare a case's reductions with NumPy's, and count them."""
    random, count = np.random.default_rng(dim + b_columns), 0
    for m, n in SIZES if (dim, b_columns) == (3, 1) else SIZES[:1]:
        x, y = (random.random((s, dim)) / dim**0.5 for s in (m, n))
        x, y, b = (a.astype(dtype) for a in (x, y, random.random((n, b_columns))))
        keep = random.random((3, 4)) < 0.6
        i, j = (np.linspace(0, s, k + 1).astype(int) for s, k in ((m, 3), (n, 4)))
        there = np.repeat(np.repeat(keep, np.diff(i), 0), np.diff(j), 1)
        lazy = ((Vi(x) - Vj(y)) ** 2).sum(-1)
        ranges = (np.stack([e[:-1], e[1:]], 1) for e in (i, j))
        for K, allowed in ((lazy, there | True), (lazy.blocks(*ranges, keep), there), (lazy.tril(5), np.tri(m, n, 5) > 0)):
            rows, cases = of_pairs(x, y, b, allowed)
            for name, (compute, expected) in cases.items():
                if b_columns > 1 and name not in ("sum", "sumsoftmaxweight"):
                    continue
                found = np.asarray(compute(K), "f8").reshape(expected.shape)[rows]
                wanted = expected[rows]
                error = np.abs(found - wanted).max(initial=0) / max(1e-300, np.abs(wanted).max(initial=1e-3))
                assert error < TOLERANCE[dtype], (dtype, dim, b_columns, m, n, name, error)
                count += 1
    return count


def check_batches() -> int:
    """Compare sums over batches that the arrays broadcast to with NumPy's."""
    random = np.random.default_rng(7)
    x, y = random.random((7, 60, 1, 3)).astype("f4"), random.random((1, 1, 90, 3)).astype("f4")
    found = (-((LazyTensor(x) - LazyTensor(y)) ** 2).sum(-1)).exp().sum(2)
    assert np.allclose(found.reshape(7, 60), np.exp(-((x - y) ** 2).sum(-1)).sum(2), rtol=1e-5)
    return 1


if __name__ == "__main__":
    pairfold.backend(sys.argv[1] if len(sys.argv) > 1 else "cuda")
    print(sum(check(*case) for case in CASES) + check_batches(), "reductions agree with NumPy")
