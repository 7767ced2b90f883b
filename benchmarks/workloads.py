"""What is measured. A formula says how a user writes it, and what float64 says of a sample of its rows; a workload is a formula at a size.

Points are uniform in [0, 2/sqrt(D)]^D, so that squared distances are of the same order at every D; weights are normal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .targets import Target

Comparison = tuple[np.ndarray, np.ndarray]  # what a system gave, and what float64 gives

SAMPLE = 500  # rows compared with float64
NEIGHBOURS = 10


@dataclass(frozen=True)
class Points:
    """x (M, D), y (N, D), weights b (N, 1) and a cotangent g (M, 1) of one workload, as NumPy arrays or as a framework's own."""

    x: Any
    y: Any
    b: Any
    g: Any

    @classmethod
    def draw(cls, m: int, n: int, d: int, seed: int = 0) -> Points:
        """The points of a size: the same ones for every system and in every run."""
        random = np.random.default_rng(seed)
        side = 2 / np.sqrt(d)
        x, y = (random.uniform(0, side, (rows, d)).astype(np.float32) for rows in (m, n))
        b, g = (random.standard_normal((rows, 1)).astype(np.float32) for rows in (n, m))
        return cls(x, y, b, g)

    def on(self, target: Target, framework: str) -> Points:
        """The same points as the framework's arrays on the target."""
        return Points(*(target.place(a, framework) for a in (self.x, self.y, self.b, self.g)))


# --- how a user writes them: the same program for every system that has a LazyTensor ---------------------------------------


def sqdist(LazyTensor: Any, p: Points) -> Any:
    x_i, y_j = LazyTensor(p.x[:, None, :]), LazyTensor(p.y[None, :, :])
    return ((x_i - y_j) ** 2).sum(-1)


def gauss_matrix(LazyTensor: Any, p: Points) -> Any:
    return (-sqdist(LazyTensor, p)).exp()


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


# --- what float64 says of a sample of rows ----------------------------------------------------------------------------------


def sample(rows: int) -> np.ndarray:
    """The rows that are compared, spread evenly over all."""
    return np.unique(np.linspace(0, rows - 1, min(rows, SAMPLE)).astype(np.int64))


def dense_rows(x: np.ndarray, y: np.ndarray, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """A few rows at a time, in float64: those rows, the differences x_i - y_j (rows, N, D), and their squared lengths (rows, N)."""
    y = y.astype(np.float64)
    step = max(1, 2**24 // y.size)
    for start in range(0, len(rows), step):
        some = rows[start : start + step]
        differences = x[some].astype(np.float64)[:, None, :] - y[None]
        yield some, differences, np.einsum("ijd,ijd->ij", differences, differences)


def compare_gauss(outputs: tuple[np.ndarray, ...], p: Points) -> list[Comparison]:
    rows = sample(len(p.x))
    want = np.concatenate([np.exp(-square) @ p.b for _, _, square in dense_rows(p.x, p.y, rows)])
    return [(outputs[0][rows], want)]


def compare_arg_k_min(outputs: tuple[np.ndarray, ...], p: Points) -> list[Comparison]:
    """The distances to the neighbours that were found, against the smallest ones: a tie taken the other way is no error."""
    rows = sample(len(p.x))
    found, want = [], []
    for some, _, square in dense_rows(p.x, p.y, rows):
        found.append(np.take_along_axis(square, outputs[0][some].astype(np.int64), axis=1))
        want.append(np.sort(np.partition(square, NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS], axis=1))
    return [(np.concatenate(found), np.concatenate(want))]


def compare_logsumexp(outputs: tuple[np.ndarray, ...], p: Points) -> list[Comparison]:
    rows = sample(len(p.x))
    want = np.concatenate([np.log(np.exp(-square).sum(1)) for _, _, square in dense_rows(p.x, p.y, rows)])
    return [(outputs[0].reshape(len(p.x))[rows], want)]


def compare_gauss_gradient(outputs: tuple[np.ndarray, ...], p: Points) -> list[Comparison]:
    a, dx, dy, db = outputs
    rows, columns = sample(len(p.x)), sample(len(p.y))
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


@dataclass(frozen=True)
class Formula:
    """A program over points that a user would write, and how its outputs are compared with float64."""

    framework: str
    program: Callable[[Any, Points], tuple[Any, ...]]
    compare: Callable[[tuple[np.ndarray, ...], Points], list[Comparison]]
    operations: Callable[[int], int] | None = None  # vector operations a pair cannot do without, as a function of D


# A Gaussian pair: D differences and D multiply-adds or, for long vectors, D multiply-adds and two additions of norms; the exponential
# (10: a range reduction in four, a table, a polynomial in three, a mask and a scaling); a multiply-add with the weight. A fused
# multiply-add counts as one operation.
LONG = 9  # components from which on Pairfold takes inner products


def gauss_operations(d: int) -> int:
    return (d + 2 if d >= LONG else 2 * d) + 10 + 1


FORMULAS: Mapping[str, Formula] = {
    "gauss": Formula("numpy", gauss, compare_gauss, operations=gauss_operations),
    f"argKmin K={NEIGHBOURS}": Formula("numpy", arg_k_min, compare_arg_k_min),
    "logsumexp": Formula("numpy", logsumexp, compare_logsumexp),
    "gauss forward + backward": Formula("torch", gauss_gradient, compare_gauss_gradient),
}


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

    @property
    def name(self) -> str:
        return f"{self.formula_name}, D={self.d}"

    @property
    def formula(self) -> Formula:
        return FORMULAS[self.formula_name]

    @property
    def pairs(self) -> int:
        return self.m * self.n

    @property
    def operations(self) -> int | None:
        return self.formula.operations(self.d) if self.formula.operations else None


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

FIRST_CALL_WORKLOAD = Workload("gauss", 1_000, 1_000, 3)
MEMORY_WORKLOAD = Workload("gauss", 100_000, 100_000, 3)

# Cost against size: time / (M N) of one formula over these sizes.
SCALING_SIZES = (10_000, 30_000, 100_000)
SCALING = Limit("time/(M·N) from 10⁴² to 10⁵², largest over smallest less one", "1", 0.10)


def find(name: str) -> Workload:
    """The workload of that name among all targets'."""
    for workload in (w for table in WORKLOADS.values() for w in table):
        if workload.name == name:
            return workload
    raise KeyError(name)
