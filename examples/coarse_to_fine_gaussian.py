"""Coarse to fine: a Gaussian sum over clusters that lie near enough to matter. Pairs of clusters farther apart are never computed.

Run it with `python examples/coarse_to_fine_gaussian.py`; ``--help`` shows the sizes. The points are put into the cells of a grid and
sorted; which cells meet is decided by the distances of their centroids. The result is checked against dense float64 sums of some rows,
and its gradient too where PyTorch is installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from typing import Any

import numpy as np

from pairfold import Vi, Vj
from pairfold.cluster import cluster_ranges_centroids, from_matrix, grid_cluster, sort_clusters

REACH = 6.0  # standard deviations beyond which a Gaussian is nothing beside float32's rounding
ROWS = 100  # that are checked


def main() -> None:
    parser = argparse.ArgumentParser(description="A Gaussian sum over neighbouring clusters, checked.")
    parser.add_argument("--points", type=int, default=30_000, help="points on each side, on a noisy curve in space")
    parser.add_argument("--bandwidth", type=float, default=0.02, help="the Gaussian's standard deviation")
    options = parser.parse_args()
    random = np.random.default_rng(0)
    x, y = curve(random, options.points), curve(random, options.points)
    b = random.standard_normal((options.points, 1)).astype(np.float32)

    # Coarse: cells of a few standard deviations. Points of a cell lie next to each other from here on.
    size = 2 * options.bandwidth
    x, x_labels = sort_clusters(x, grid_cluster(x, size))
    (y, b), y_labels = sort_clusters((y, b), grid_cluster(y, size))
    x_ranges, x_centroids, _ = cluster_ranges_centroids(x, x_labels)
    y_ranges, y_centroids, _ = cluster_ranges_centroids(y, y_labels)
    # No point is farther from its centroid than the cell's diagonal.
    reach = REACH * options.bandwidth + 2 * size * np.sqrt(3)
    keep = np.linalg.norm(x_centroids[:, None] - y_centroids, axis=-1) < reach
    ranges = from_matrix(x_ranges, y_ranges, keep)

    # Fine: the matrix of all pairs, and the same with the clusters that meet.
    whole, near = gaussian(x, y, options.bandwidth), gaussian(x, y, options.bandwidth)
    near.ranges = ranges
    pairs = (np.diff(x_ranges)[:, 0] @ keep @ np.diff(y_ranges)[:, 0]) / options.points**2
    print(f"{len(x_ranges):,} and {len(y_ranges):,} clusters; {100 * pairs:.1f} % of {options.points:,}² pairs are in those that meet")
    a, seconds = timed(lambda: near @ b)
    _, all_seconds = timed(lambda: whole @ b)
    print(f"{seconds * 1e3:.1f} ms, against {all_seconds * 1e3:.1f} ms for all pairs: × {all_seconds / seconds:.1f}")

    rows = random.integers(0, options.points, ROWS)
    difference = x[rows, None].astype(np.float64) - y
    kernel = np.exp(-(difference**2).sum(-1) / (2 * options.bandwidth**2))
    report("the sum", a[rows], kernel @ b)
    if importlib.util.find_spec("torch") is not None:
        import torch

        x_t = torch.from_numpy(x).requires_grad_()
        K = gaussian(x_t, torch.from_numpy(y), options.bandwidth)
        K.ranges = ranges
        (found,) = torch.autograd.grad((K @ torch.from_numpy(b)).sum(), x_t)
        report("its gradient by x", found.numpy()[rows], -np.einsum("ij,ijd->id", kernel * b[:, 0], difference) / options.bandwidth**2)


def curve(random: np.random.Generator, n: int) -> np.ndarray:
    """Points about a curve in space."""
    t = 2 * np.pi * random.random(n)
    points = np.stack([np.cos(t), np.sin(t), 0.5 * np.sin(3 * t)], 1) + 0.02 * random.standard_normal((n, 3))
    return points.astype(np.float32)


def gaussian(x: Any, y: Any, bandwidth: float) -> Any:
    """The symbolic matrix exp(-|x_i - y_j|² / 2 bandwidth²)."""
    return (-((Vi(x) - Vj(y)) ** 2).sum(-1) / (2 * bandwidth**2)).exp()


def timed(call: Any) -> tuple[Any, float]:
    """A result, and the least of the seconds that it took."""
    call()
    times = []
    for _ in range(3):
        start = time.perf_counter()
        result = call()
        times.append(time.perf_counter() - start)
    return result, min(times)


def report(what: str, found: np.ndarray, wanted: np.ndarray) -> None:
    error = np.abs(found - wanted).max() / np.abs(wanted).max()
    print(f"{what}: largest error {error:.1e} of the largest value, against dense float64 on {len(wanted)} rows")
    assert error < 1e-5, what


if __name__ == "__main__":
    main()
