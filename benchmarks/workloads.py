"""What is measured. A formula says how a user writes it, and what float64 says of a sample of its rows; a workload is a formula at a size.

Points are uniform in [0, 2/sqrt(D)]^D, so that squared distances are of the same order at every D; weights are normal. Formulas in float64
are compared with long doubles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .targets import Target

Comparison = tuple[np.ndarray, np.ndarray]  # what a system gave, and what float64 gives
Program = Callable[["Points"], tuple[Any, ...]]

SAMPLE = 500  # rows compared with float64
PAIRS_COMPARED = 40_000_000
NUMBERS_COMPARED = 1_280_000_000  # of pairs that have D each
NEIGHBOURS = 10


@dataclass(frozen=True)
class Points:
    """What a workload is about, as NumPy arrays or as a framework's own.

    Attributes
    ----------
    x, y : array
        (M, D) and (N, D), or with a batch axis in front.
    b, g : array
        Weights (N, 1) and a cotangent (M, 1), likewise.
    network : tuple of array
        The matrices and biases of `mlp`, as vectors.
    """

    x: Any
    y: Any
    b: Any
    g: Any
    network: tuple[Any, ...] = ()

    @classmethod
    def draw(cls, m: int, n: int, d: int, seed: int = 0, batch: tuple[int, ...] = (), dtype: str = "float32") -> Points:
        """The points of a size: the same ones for every system and in every run."""
        random = np.random.default_rng(seed)
        side = 2 / np.sqrt(d)
        x, y = (random.uniform(0, side, (*batch, rows, d)).astype(dtype) for rows in (m, n))
        b, g = (random.standard_normal((*batch, rows, 1)).astype(dtype) for rows in (n, m))
        return cls(x, y, b, g)

    def on(self, target: Target, framework: str) -> Points:
        """The same points as the framework's arrays on the target."""
        x, y, b, g, *network = (target.place(a, framework) for a in (self.x, self.y, self.b, self.g, *self.network))
        return Points(x, y, b, g, tuple(network))

    def batch(self, k: int) -> Points:
        """One batch of several."""
        return Points(self.x[k], self.y[k], self.b[k], self.g[k], self.network)


FREQUENCY = 10.0  # standard deviation of a Vandermonde matrix's
COLUMNS = 100  # of weights, where they are many
WIDTHS = (16, 16, 1)  # of the layers of an MLP


def with_frequencies(p: Points) -> Points:
    """Times x, frequencies in place of y, and complex weights."""
    random = np.random.default_rng(1)
    w = FREQUENCY * random.standard_normal(p.y.shape)
    return replace(p, y=w.astype(p.y.dtype), b=(p.b + 1j * random.standard_normal(p.b.shape)).astype(np.result_type(p.b, np.complex64)))


def with_network(p: Points) -> Points:
    """Matrices, of a spread that keeps the size of what passes through them, and biases."""
    random = np.random.default_rng(1)
    network: list[np.ndarray] = []
    for inputs, outputs in zip((p.x.shape[-1], *WIDTHS), WIDTHS):
        network += [random.normal(0, np.sqrt(2 / inputs), inputs * outputs), random.normal(0, 0.5, outputs)]
    return replace(p, network=tuple(a.astype(p.x.dtype) for a in network))


# --- how a user writes them: the same program for every system that has a LazyTensor ---------------------------------------


def sqdist(LazyTensor: Any, p: Points) -> Any:
    x_i, y_j = LazyTensor(p.x[..., :, None, :]), LazyTensor(p.y[..., None, :, :])
    return ((x_i - y_j) ** 2).sum(-1)


def gauss_matrix(LazyTensor: Any, p: Points) -> Any:
    return (-sqdist(LazyTensor, p)).exp()


def cauchy_matrix(LazyTensor: Any, p: Points) -> Any:
    return 1 / (1 + sqdist(LazyTensor, p))


def gauss(LazyTensor: Any, p: Points) -> tuple[Any, ...]:
    return (gauss_matrix(LazyTensor, p) @ p.b,)


def arg_k_min(LazyTensor: Any, p: Points) -> tuple[Any, ...]:
    return (sqdist(LazyTensor, p).argKmin(NEIGHBOURS, dim=1),)


def logsumexp(LazyTensor: Any, p: Points) -> tuple[Any, ...]:
    return ((-sqdist(LazyTensor, p)).logsumexp(1),)


def gauss_gradient(LazyTensor: Any, p: Points) -> tuple[Any, ...]:
    import torch

    x, y, b = (t.detach().requires_grad_() for t in (p.x, p.y, p.b))
    (a,) = gauss(LazyTensor, Points(x, y, b, p.g))
    return (a, *torch.autograd.grad(a, (x, y, b), p.g))


def gauss_compensated(LazyTensor: Any, p: Points) -> tuple[Any, ...]:
    return ((gauss_matrix(LazyTensor, p) * LazyTensor(p.b[None, :, :])).sum(1, sum_scheme="kahan_scheme"),)


def vandermonde(LazyTensor: Any, p: Points) -> tuple[Any, ...]:
    x_i, w_j, b_j = LazyTensor(p.x[:, None, :]), LazyTensor(p.y[None, :, :]), LazyTensor(p.b[None, :, :])
    return (((x_i * w_j).exp1j() * b_j).sum(1),)


def mlp(LazyTensor: Any, p: Points) -> tuple[Any, ...]:
    layer = LazyTensor(p.x[:, None, :]) - LazyTensor(p.y[None, :, :])
    *hidden, last = zip(p.network[::2], p.network[1::2])
    for matrix, bias in hidden:
        layer = (LazyTensor(matrix).matvecmult(layer) + LazyTensor(bias)).relu()
    matrix, bias = last
    return ((LazyTensor(matrix).matvecmult(layer) + LazyTensor(bias)) @ p.b,)


def with_columns(p: Points) -> Points:
    """Many columns of weights."""
    random = np.random.default_rng(1)
    return replace(p, b=random.standard_normal((len(p.y), COLUMNS)).astype(p.b.dtype))


def with_values(p: Points) -> Points:
    """Normal vectors as long as the points, of which an attention layer takes means."""
    random = np.random.default_rng(1)
    return replace(p, b=random.standard_normal(p.y.shape).astype(p.b.dtype))


def attention(LazyTensor: Any, p: Points) -> tuple[Any, ...]:
    scores = (LazyTensor(p.x[:, None, :]) * LazyTensor(p.y[None, :, :])).sum(-1) / p.x.shape[-1] ** 0.5
    return (scores.sumsoftmaxweight(LazyTensor(p.b[None, :, :]), dim=1),)


def two_columns(p: Points) -> Points:
    """Normal points, and two columns of weights: the README's program."""
    random = np.random.default_rng(1)
    x, y, b = (random.standard_normal(shape).astype(p.x.dtype) for shape in (p.x.shape, p.y.shape, (len(p.y), 2)))
    return replace(p, x=x, y=y, b=b)


def readme(LazyTensor: Any, p: Points) -> tuple[Any, ...]:
    import torch

    x = p.x.detach().requires_grad_()
    x_i, y_j = LazyTensor(x[:, None, :]), LazyTensor(p.y[None, :, :])
    K = (-((x_i - y_j) ** 2).sum(-1)).exp()
    a = K @ p.b
    return (a, *torch.autograd.grad((a**2).sum(), x))


# --- the same of dense matrices, for a compiler that may fuse them with their reduction -------------------------------------


def dense_sqdist(p: Points) -> Any:
    return ((p.x[:, None] - p.y[None]) ** 2).sum(-1)


def dense_gauss(p: Points) -> tuple[Any, ...]:
    return (((-dense_sqdist(p)).exp() * p.b[:, 0]).sum(1, keepdim=True),)


def dense_logsumexp(p: Points) -> tuple[Any, ...]:
    return ((-dense_sqdist(p)).logsumexp(1),)


RIDGE = 1.0  # α
RESIDUAL = 1e-3  # root mean square of b - (K + α I) a, where b is normal


def ridge(matrix: Callable[[Any, Points], Any]) -> Callable[[Any, Points], tuple[Any, ...]]:
    """Kernel ridge regression by conjugate gradients: (K + α I) a = b. Ours has a preconditioner, which is made in the call; KeOps's
    KernelSolve has none. KeOps looks at the residual of its recurrence alone; ours, which is computed anew, is to be half as large.
    """

    def program(LazyTensor: Any, p: Points) -> tuple[Any, ...]:
        K = matrix(LazyTensor, p)
        if LazyTensor.__module__.startswith("pairfold"):
            from pairfold.linalg import nystrom

            return (K.solve(p.b, RIDGE, tol=0, atol=RESIDUAL / 2 * np.sqrt(len(p.b)), preconditioner=nystrom(K, RIDGE)),)
        return (K.solve(LazyTensor(p.b[:, None, :]), alpha=RIDGE, eps=RESIDUAL),)

    return program


def of_itself(p: Points) -> Points:
    """The matrix of the points x with themselves."""
    return replace(p, y=p.x)


# --- what float64 says of a sample of rows ----------------------------------------------------------------------------------


def sample(rows: int, columns: int = 1, d: int = 1) -> np.ndarray:
    """The rows that are compared, spread evenly over all; fewer where each has very many columns, or points have many coordinates."""
    most = max(1, min(SAMPLE, PAIRS_COMPARED // columns, NUMBERS_COMPARED // (columns * d)))
    return np.unique(np.linspace(0, rows - 1, min(rows, most)).astype(np.int64))


def dense_rows(x: np.ndarray, y: np.ndarray, rows: np.ndarray, numbers: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """A few rows at a time, with more digits: those rows, the differences x_i - y_j (rows, N, D), and their squared lengths (rows, N).

    So many rows as fit in memory, if a pair takes so many numbers.
    """
    y = y.astype(wider(y))
    step = max(1, 2**24 // (len(y) * max(numbers, y.shape[1])))
    for start in range(0, len(rows), step):
        some = rows[start : start + step]
        differences = x[some].astype(y.dtype)[:, None, :] - y[None]
        yield some, differences, np.einsum("ijd,ijd->ij", differences, differences)


def wider(a: np.ndarray) -> type[np.floating[Any]]:
    """The type that numbers of an array are compared in."""
    return np.longdouble if a.dtype in (np.float64, np.complex128) else np.float64


def compare_gauss(outputs: tuple[np.ndarray, ...], p: Points) -> list[Comparison]:
    if p.x.ndim == 3:  # all rows of all batches: they are few
        each = [compare_gauss((outputs[0][k],), p.batch(k))[0] for k in range(len(p.x))]
        return [(np.concatenate([got for got, _ in each]), np.concatenate([want for _, want in each]))]
    rows = sample(len(p.x), *p.y.shape)
    want = np.concatenate([np.exp(-square) @ p.b for _, _, square in dense_rows(p.x, p.y, rows)])
    return [(outputs[0][rows], want)]


def compare_ridge(kernel: Callable[[np.ndarray], np.ndarray]) -> Callable[[tuple[np.ndarray, ...], Points], list[Comparison]]:
    """What the solution gives back of b; the kernel is one of squared distances."""

    def compare(outputs: tuple[np.ndarray, ...], p: Points) -> list[Comparison]:
        rows, a = sample(len(p.x)), outputs[0].reshape(-1, 1).astype(wider(p.x))
        back = np.concatenate([kernel(square) @ a for _, _, square in dense_rows(p.x, p.y, rows)])
        return [(back + RIDGE * a[rows], p.b[rows])]

    return compare


def compare_vandermonde(outputs: tuple[np.ndarray, ...], p: Points) -> list[Comparison]:
    rows = sample(len(p.x))
    angles = p.x[rows].astype(wider(p.x)) * p.y.astype(wider(p.y)).T
    return [(outputs[0].reshape(-1, 1)[rows], np.exp(1j * angles) @ p.b)]


def compare_mlp(outputs: tuple[np.ndarray, ...], p: Points) -> list[Comparison]:
    rows, want = sample(len(p.x)), []
    for _, layer, _ in dense_rows(p.x, p.y, rows, numbers=max(WIDTHS)):
        for k, (matrix, bias) in enumerate(zip(p.network[::2], p.network[1::2])):
            layer = (layer if k == 0 else np.maximum(layer, 0)) @ matrix.reshape(len(bias), -1).T.astype(layer.dtype) + bias
        want.append(layer[..., 0] @ p.b)
    return [(outputs[0][rows], np.concatenate(want))]


def compare_arg_k_min(outputs: tuple[np.ndarray, ...], p: Points) -> list[Comparison]:
    """The distances to the neighbours that were found, against the smallest ones: a tie taken the other way is no error."""
    rows = sample(len(p.x), *p.y.shape)
    found, want = [], []
    for some, _, square in dense_rows(p.x, p.y, rows):
        found.append(np.take_along_axis(square, outputs[0][some].astype(np.int64), axis=1))
        want.append(np.sort(np.partition(square, NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS], axis=1))
    return [(np.concatenate(found), np.concatenate(want))]


def compare_logsumexp(outputs: tuple[np.ndarray, ...], p: Points) -> list[Comparison]:
    rows = sample(len(p.x), *p.y.shape)
    want = np.concatenate([np.log(np.exp(-square).sum(1)) for _, _, square in dense_rows(p.x, p.y, rows)])
    return [(outputs[0].reshape(len(p.x))[rows], want)]


def compare_attention(outputs: tuple[np.ndarray, ...], p: Points) -> list[Comparison]:
    rows = sample(len(p.x), *p.y.shape)
    scores = p.x[rows].astype(wider(p.x)) @ p.y.astype(wider(p.y)).T / p.x.shape[-1] ** 0.5
    weights = np.exp(scores - scores.max(1, keepdims=True))
    return [(outputs[0][rows], weights @ p.b / weights.sum(1, keepdims=True))]


def compare_gauss_gradient(outputs: tuple[np.ndarray, ...], p: Points) -> list[Comparison]:
    a, dx, dy, db = outputs
    rows, columns = sample(len(p.x), *p.y.shape), sample(len(p.y), *p.x.shape)
    want_dx = [
        -2 * p.g[some] * np.einsum("ij,ijd->id", np.exp(-square) * p.b[:, 0], differences)
        for some, differences, square in dense_rows(p.x, p.y, rows)
    ]
    want_dy, want_db = [], []
    for some, differences, square in dense_rows(p.y, p.x, columns):
        cotangents = np.exp(-square) * p.g[:, 0]
        want_dy.append(-2 * p.b[some] * np.einsum("ij,ijd->id", cotangents, differences))
        want_db.append(cotangents.sum(1, keepdims=True))
    wanted = (want_dx, want_dy, want_db)
    given = (dx[rows], dy[columns], db[columns])
    return compare_gauss((a,), p) + [(got, np.concatenate(want)) for got, want in zip(given, wanted)]


def compare_readme(outputs: tuple[np.ndarray, ...], p: Points) -> list[Comparison]:
    a, dx = outputs
    rows = sample(len(p.x), *p.y.shape)
    want_a, want_dx = [], []
    for _, differences, square in dense_rows(p.x, p.y, rows):
        pairs = np.exp(-square)
        want_a.append(pairs @ p.b)
        want_dx.append(-4 * np.einsum("ij,ij,ijd->id", pairs, want_a[-1] @ p.b.T.astype(pairs.dtype), differences))
    return [(a[rows], np.concatenate(want_a)), (dx[rows], np.concatenate(want_dx))]


@dataclass(frozen=True)
class Formula:
    """A program over points that a user would write, and how its outputs are compared with float64."""

    framework: str
    program: Callable[[Any, Points], tuple[Any, ...]]
    compare: Callable[[tuple[np.ndarray, ...], Points], list[Comparison]]
    operations: Callable[[int, bool], int] | None = None  # vector operations of a pair, from D and whether the problem is small
    dtype: str = "float32"
    complete: Callable[[Points], Points] = lambda p: p  # noqa: E731  # what it needs beside points
    dense: Program | None = None  # in PyTorch alone, where no matrix of all pairs need be stored


# A Gaussian pair, by inner products: D multiply-adds, a power of 2 (9: a range reduction in three, a table, a polynomial in three, a
# scaling that takes the place of two), a multiply-add with the weight; in float64 the power takes 12 (two for the range reduction, a
# table, a polynomial in seven), and an operation the place of two. In small problems, of which no norms are measured: D differences, D
# multiply-adds, an exponential (11: a range reduction in three, a table, a polynomial in four, a mask, a scaling), the weight. A fused
# multiply-add counts as one operation.


def gauss_operations(d: int, small: bool) -> int:
    return 2 * d + 11 + 1 if small else d + 9 + 1


def gauss_operations_float64(d: int, small: bool) -> int:
    return 2 * (2 * d + 14 + 1) if small else 2 * (d + 12 + 1)


def mlp_operations(d: int, small: bool) -> int:
    """The multiply-adds, of which a bias can be the first term; the differences, the activations, and the weight."""
    sizes = (d, *WIDTHS)
    return sum(a * b for a, b in zip(sizes, WIDTHS)) + d + sum(WIDTHS[:-1]) + 1


FORMULAS: Mapping[str, Formula] = {
    "gauss": Formula("numpy", gauss, compare_gauss, operations=gauss_operations, dense=dense_gauss),
    f"argKmin K={NEIGHBOURS}": Formula("numpy", arg_k_min, compare_arg_k_min),
    "logsumexp": Formula("numpy", logsumexp, compare_logsumexp, dense=dense_logsumexp),
    "gauss forward + backward": Formula("torch", gauss_gradient, compare_gauss_gradient),
    "gauss, float64": Formula("numpy", gauss, compare_gauss, operations=gauss_operations_float64, dtype="float64", dense=dense_gauss),
    f"gauss, {COLUMNS} columns of weights": Formula("numpy", gauss, compare_gauss, complete=with_columns),
    "attention": Formula("numpy", attention, compare_attention, complete=with_values),
    "the README's program": Formula("torch", readme, compare_readme, complete=two_columns),
    "gauss, compensated": Formula("numpy", gauss_compensated, compare_gauss),
    "complex Vandermonde": Formula("numpy", vandermonde, compare_vandermonde, complete=with_frequencies),
    "kernel ridge, Gaussian": Formula("numpy", ridge(gauss_matrix), compare_ridge(lambda s: np.exp(-s)), complete=of_itself),
    "kernel ridge, Cauchy": Formula("numpy", ridge(cauchy_matrix), compare_ridge(lambda s: 1 / (1 + s)), complete=of_itself),
    "MLP 16→16→1": Formula("numpy", mlp, compare_mlp, operations=mlp_operations, complete=with_network),
}


LONGEST_DENSE = 64  # components of points of which dense formulas are compiled: of longer ones they take seconds a call
FEW_ROWS = 100  # times as many columns are worth saying


@dataclass(frozen=True)
class Workload:
    """A formula at a size. `at_least` and `aim` are bars on KeOps's time over Pairfold's; `peak_aim` one on the fraction of the peak."""

    formula_name: str
    m: int
    n: int
    d: int
    at_least: float | None = None
    aim: float | None = None
    peak_aim: float | None = None
    batches: int = 1
    rounds: int | None = None  # at most, where a call takes long

    @property
    def name(self) -> str:
        few = f", {self.m} rows" if FEW_ROWS * self.m <= self.n else ""
        return f"{self.formula_name}, D={self.d}{few}" + (f", {self.batches} batches" if self.batches > 1 else "")

    @property
    def formula(self) -> Formula:
        formula = FORMULAS[self.formula_name]
        return formula if self.d <= LONGEST_DENSE else replace(formula, dense=None)

    @property
    def pairs(self) -> int:
        return self.batches * self.m * self.n

    def draw(self) -> Points:
        batch = (self.batches,) if self.batches > 1 else ()
        return self.formula.complete(Points.draw(self.m, self.n, self.d, batch=batch, dtype=self.formula.dtype))

    @property
    def operations(self) -> int | None:
        return self.formula.operations(self.d, self.batches > 1) if self.formula.operations else None


@dataclass(frozen=True)
class Limit:
    """Something about Pairfold itself that must stay at or below a bar, in the unit named (seconds, bytes, or a fraction)."""

    name: str
    unit: str
    at_most: float | None


# Timed beside the peers, by the target's kind.
WORKLOADS: Mapping[str, tuple[Workload, ...]] = {
    "cpu": (
        Workload("gauss", 10_000, 10_000, 3, at_least=35, aim=50, peak_aim=0.7),
        Workload("gauss", 10_000, 10_000, 16, at_least=28, aim=40),
        Workload("gauss", 10_000, 10_000, 64, at_least=28, aim=40, peak_aim=0.7),
        Workload(f"argKmin K={NEIGHBOURS}", 10_000, 10_000, 3, at_least=6, aim=8),
        Workload(f"argKmin K={NEIGHBOURS}", 10_000, 10_000, 16, at_least=13, aim=18),
        Workload(f"argKmin K={NEIGHBOURS}", 10_000, 10_000, 64, at_least=20, aim=28),
        Workload("logsumexp", 10_000, 10_000, 3, at_least=20),
        Workload("gauss forward + backward", 10_000, 10_000, 3, at_least=25),
        Workload("gauss", 50, 50, 3, at_least=20, batches=4096),
        Workload("complex Vandermonde", 10_000, 10_000, 1, at_least=20),
        Workload("MLP 16→16→1", 4_000, 4_000, 3, at_least=20),
        Workload("gauss, float64", 10_000, 10_000, 3, at_least=20),
        Workload("gauss, compensated", 10_000, 10_000, 3, at_least=20),
        Workload("kernel ridge, Gaussian", 4_000, 4_000, 3, at_least=20, rounds=3),
        Workload("kernel ridge, Cauchy", 4_000, 4_000, 3, at_least=20, rounds=3),
    ),
    "cuda": (
        Workload("gauss", 400_000, 400_000, 3, at_least=1.45, peak_aim=0.8),
        Workload("gauss", 200_000, 200_000, 16, at_least=1.6),
        Workload("gauss", 100_000, 100_000, 64, at_least=1),
        Workload("gauss", 100_000, 100_000, 128, at_least=1),
        Workload("gauss", 50_000, 50_000, 512, at_least=1),
        Workload(f"argKmin K={NEIGHBOURS}", 400_000, 400_000, 3, at_least=2),
        Workload(f"argKmin K={NEIGHBOURS}", 200_000, 200_000, 16, at_least=1.6),
        Workload(f"argKmin K={NEIGHBOURS}", 100_000, 100_000, 64, at_least=1),
        Workload("logsumexp", 400_000, 400_000, 3, at_least=2),
        Workload("logsumexp", 100_000, 100_000, 64, at_least=1),
        Workload("gauss forward + backward", 400_000, 400_000, 3, at_least=2.2),
        Workload("gauss forward + backward", 200_000, 200_000, 16, at_least=2.5),
        Workload("gauss forward + backward", 100_000, 100_000, 64, at_least=1),
        Workload(f"gauss, {COLUMNS} columns of weights", 200_000, 200_000, 3, at_least=1),
        Workload("attention", 50_000, 50_000, 64, at_least=1),
        Workload("gauss", 1_000, 1_000_000, 3, at_least=40),
        Workload("gauss", 100, 1_000_000, 3, at_least=100),
        Workload("gauss, float64", 100_000, 100_000, 3, at_least=1.4),
        Workload("the README's program", 1_000_000, 2_000_000, 3, rounds=3),
        Workload("kernel ridge, Gaussian", 100_000, 100_000, 3, at_least=2, rounds=3),
        Workload("kernel ridge, Cauchy", 100_000, 100_000, 3, at_least=2, rounds=3),
    ),
}

# Measured in processes of their own.
FIRST_CALL = Limit("first call of a new formula, empty cache", "s", 0.25)
WARM_DISK = Limit("first call in a new process, warm disk cache", "s", 0.05)
IMPORT = Limit("import beyond `import numpy`", "s", 0.15)
TINY_CALL = Limit("100×100 call on NumPy, `K @ b` alone", "s", 80e-6)
TINY_PROGRAM = Limit("100×100 call on NumPy, formula rebuilt", "s", None)
MEMORY = Limit("extra memory, 100 000² gauss sum", "B", 20e6)
MEMORY_FIRST = Limit("extra memory, the same with its compilation", "B", None)

# The same of GPUs.
TINY_CALL_CUDA = Limit("100×100 call on PyTorch, `K @ b` alone, and waiting for it", "s", 60e-6)
TINY_PROGRAM_CUDA = Limit("100×100 call on PyTorch, formula rebuilt, and waiting for it", "s", None)
TINY_QUEUED = Limit("100×100 call on PyTorch, `K @ b` alone, queued", "s", None)
FIRST_CALL_CUDA = Limit("from `import` to the result of a first formula, empty cache, PyTorch at work on the GPU", "s", 1.0)
WARM_DISK_CUDA = Limit("the same in a new process, warm disk cache", "s", None)
MEMORY_CUDA = Limit("extra device memory of the README's program, M = 10⁶, N = 2·10⁶, with its gradient", "B", 200e6)

FIRST_CALL_WORKLOAD = Workload("gauss", 1_000, 1_000, 3)
MEMORY_WORKLOAD = Workload("gauss", 100_000, 100_000, 3)

# Cost against size: time / (M N) of one formula over these sizes.
SCALING_SIZES = (10_000, 30_000, 100_000)
SCALING = Limit("time/(M·N) from 10⁴² to 10⁵², largest over smallest less one", "1", 0.10)

# Many small problems against a single one of as many pairs.
BATCHES_WORKLOAD = Workload("gauss", 50, 50, 3, batches=4096)
BATCHES_IN_ONE = Workload("gauss", 3_200, 3_200, 3)
BATCHES = Limit("4096 batches of 50×50 over one problem of as many pairs, time", "1", 1.3)

# Tiles of clusters: what a reduction of a few of them costs, against one of all pairs.
SPARSE_WORKLOADS = {"cpu": Workload("gauss", 50_000, 50_000, 3), "cuda": Workload("gauss", 200_000, 200_000, 3)}
TILES, KEPT = 500, 0.05  # clusters on each side, and which part of their pairs is kept
SPARSE = {
    kind: Limit(f"gauss, D=3, {x.m:_}², 5 % of the tiles of {x.m // TILES}² kept: time over all pairs".replace("_", " "), "1", 0.10)
    for kind, x in SPARSE_WORKLOADS.items()
}

# Kernel ridge regression where a product of the peer takes half a minute: its time is that of its products, measured on some rows, times
# the iterations that conjugate gradients take to the same residual.
RIDGES_AT_SCALE = tuple(Workload(f"kernel ridge, {kernel}", 100_000, 100_000, 3, at_least=20) for kernel in ("Gaussian", "Cauchy"))
MATRICES = {"kernel ridge, Gaussian": gauss_matrix, "kernel ridge, Cauchy": cauchy_matrix}
ROWS_MEASURED = 2_000


def sparse_ranges(n: int, seed: int = 0) -> tuple[np.ndarray, ...]:
    """KeOps's six arrays for a random part of the tiles of equal clusters."""
    edges = np.linspace(0, n, TILES + 1).astype(np.int64)
    ranges = np.stack([edges[:-1], edges[1:]], axis=1)
    keep = np.zeros(TILES**2, dtype=bool)
    keep[np.random.default_rng(seed).permutation(TILES**2)[: round(KEPT * TILES**2)]] = True
    keep = keep.reshape(TILES, TILES)

    def half(keep: np.ndarray) -> tuple[np.ndarray, ...]:
        return ranges, np.cumsum(keep.sum(1)), ranges[np.nonzero(keep)[1]]

    return (*half(keep), *half(keep.T))


def find(name: str) -> Workload:
    """The workload of that name among all targets'."""
    for workload in (w for table in WORKLOADS.values() for w in table):
        if workload.name == name:
            return workload
    raise KeyError(name)
