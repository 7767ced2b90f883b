"""k-means in the manner of KeOps's tutorials: Lloyd's algorithm on a symbolic matrix of squared distances.

Run it with `python examples/kmeans.py`; it is written against pykeops's names, which Pairfold serves.
"""

from __future__ import annotations

import argparse

import numpy as np

import pairfold.pykeops

pairfold.pykeops.install()

from pykeops.numpy import LazyTensor  # noqa: E402


def kmeans(x: np.ndarray, clusters: int, iterations: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels (M,) and centroids (K, D), from the first points on."""
    centroids = x[:clusters].copy()
    x_i = LazyTensor(x[:, None, :])
    for _ in range(iterations):
        distances = ((x_i - LazyTensor(centroids[None])) ** 2).sum(-1)
        labels = distances.argmin(dim=1).reshape(-1)
        counts = np.bincount(labels, minlength=clusters)
        sums = np.stack([np.bincount(labels, weights=column, minlength=clusters) for column in x.T], axis=1)
        centroids = (sums / np.maximum(counts, 1)[:, None]).astype(x.dtype)
    return labels, centroids


def main() -> None:
    parser = argparse.ArgumentParser(description="k-means, checked against dense float64.")
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--clusters", type=int, default=50)
    options = parser.parse_args()
    x = np.random.default_rng(0).standard_normal((options.points, 2)) * 0.4
    labels, centroids = kmeans(x, options.clusters, 10)

    # The same by dense matrices, a slice of the points at a time.
    dense = x[: options.clusters].copy()
    for _ in range(10):
        wanted = np.concatenate([((p[:, None] - dense) ** 2).sum(-1).argmin(1) for p in np.array_split(x, 100)])
        dense = np.stack([x[wanted == k].mean(0) if (wanted == k).any() else 0 * x[0] for k in range(options.clusters)])
    print(f"{options.points:,} points, {options.clusters} clusters: largest difference of a centroid {np.abs(centroids - dense).max():.1e}")
    if not (np.array_equal(labels, wanted) and np.allclose(centroids, dense)):
        raise SystemExit("labels or centroids differ from those of dense matrices")


if __name__ == "__main__":
    main()
