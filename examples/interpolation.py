"""Radial basis functions in the manner of KeOps's tutorials: interpolation and kernel ridge regression by conjugate gradients.

Run it with `python examples/interpolation.py`; it is written against pykeops's names, which Pairfold serves.
"""

from __future__ import annotations

import argparse

import numpy as np

import pairfold.pykeops

pairfold.pykeops.install()

from pykeops.numpy import KernelSolve, LazyTensor, Vi, Vj  # noqa: E402

KERNELS = {
    "Gaussian": (lambda d, s: (-d / (2 * s**2)).exp(), lambda d, s: np.exp(-d / (2 * s**2))),
    "Laplacian": (lambda d, s: (-d.sqrt() / s).exp(), lambda d, s: np.exp(-np.sqrt(d) / s)),
    "Cauchy": (lambda d, s: 1 / (1 + d / s**2), lambda d, s: 1 / (1 + d / s**2)),
}


def squared(x: np.ndarray, y: np.ndarray) -> LazyTensor:
    return ((LazyTensor(x[:, None, :]) - LazyTensor(y[None, :, :])) ** 2).sum(-1)


def main() -> None:
    parser = argparse.ArgumentParser(description="Interpolation and kernel ridge regression, checked against dense float64.")
    parser.add_argument("--points", type=int, default=1500)
    options = parser.parse_args()
    random = np.random.default_rng(0)
    x = random.random((options.points, 1))
    b = x + 0.5 * np.sin(6 * x) + 0.1 * np.sin(20 * x) + 0.05 * random.standard_normal(x.shape)
    grid = np.linspace(0, 1, 101)[:, None]
    alpha, sigma = 1.0, 0.1
    for name, (lazy, dense) in KERNELS.items():
        weights = lazy(squared(x, x), sigma).solve(b, alpha=alpha, eps=1e-8)
        found = lazy(squared(grid, x), sigma) @ weights
        distances = (x - x.T) ** 2
        wanted = dense((grid - x.T) ** 2, sigma) @ np.linalg.solve(dense(distances, sigma) + alpha * np.eye(len(x)), b)
        report(f"{name} kernel through {options.points:,} points", found, wanted)

    # The same from a formula given as text, with many right-hand sides.
    x, b = random.random((options.points, 3)), random.standard_normal((options.points, 4))
    solver = KernelSolve("Exp(-g * SqDist(x, y)) * a", ["x = Vi(3)", "y = Vj(3)", "a = Vj(4)", "g = Pm(1)"], "a", axis=1)
    weights = solver(x, x, b, np.array([5.0]), alpha=0.5, eps=1e-9)
    dense_matrix = np.exp(-5 * ((x[:, None] - x) ** 2).sum(-1)) + 0.5 * np.eye(len(x))
    report("KernelSolve, 4 right-hand sides", weights, np.linalg.solve(dense_matrix, b))
    residual = 0.5 * weights + (-5 * Vi(x).sqdist(Vj(x))).exp() @ weights - b
    report("its residual", residual + b, b)


def report(title: str, found: np.ndarray, wanted: np.ndarray) -> None:
    error = np.abs(found - wanted).max() / np.abs(wanted).max()
    print(f"{title}: largest error {error:.1e}")
    if not error <= 1e-5:
        raise SystemExit("the error is more than 1e-5")


if __name__ == "__main__":
    main()
