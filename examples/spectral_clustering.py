"""Spectral clustering in the manner of KeOps's tutorials: SciPy's eigsh on a symbolic normalised Laplacian.

Run it with `python examples/spectral_clustering.py`, with SciPy; it is written against pykeops's names, which Pairfold serves.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.sparse import diags
from scipy.sparse.linalg import aslinearoperator, eigsh

import pairfold.pykeops

pairfold.pykeops.install()

from pykeops.numpy import LazyTensor  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description="Spectral clustering, checked against dense float64.")
    parser.add_argument("--points", type=int, default=1000)
    options = parser.parse_args()
    random = np.random.default_rng(0)
    t = np.linspace(0, 2 * np.pi, options.points + 1)[:-1]
    ring = np.arange(options.points) % 2
    x = (1 + 1.5 * ring)[:, None] * np.stack([np.cos(t), np.sin(t)], 1) + 0.05 * random.standard_normal((options.points, 2))

    K = (-((LazyTensor(x[:, None]) - LazyTensor(x[None])) ** 2).sum(-1) / (2 * 0.15**2)).exp()
    scale = aslinearoperator(diags(1 / np.sqrt(K.sum(axis=1)[:, 0])))
    values, vectors = eigsh(scale @ aslinearoperator(K) @ scale, k=4)

    dense = np.exp(-((x[:, None] - x) ** 2).sum(-1) / (2 * 0.15**2))
    root = 1 / np.sqrt(dense.sum(1))
    wanted = np.linalg.eigvalsh(root[:, None] * dense * root)[-4:]
    # The two largest belong to the rings: what they span is constant on each.
    two = vectors[:, -2:] * root[:, None]
    spread = max(np.ptp(two[ring == r, k]) / np.ptp(two[:, :]) for r in (0, 1) for k in (0, 1))
    print(f"{options.points:,} points: largest eigenvalues {values.round(4)}, error {np.abs(values - wanted).max():.1e}")
    if not (np.abs(values - wanted).max() < 1e-9 and spread < 0.2):
        raise SystemExit("eigenvalues differ from the dense ones, or the rings are not told apart")


if __name__ == "__main__":
    main()
