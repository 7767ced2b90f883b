"""Coarse to fine: entropic optimal transport between two clouds, where ever fewer pairs matter as the temperature falls.

Run it with `python examples/coarse_to_fine_sinkhorn.py`; ``--help`` shows the sizes. Sinkhorn's algorithm starts hot on the centroids of a
grid's cells and cools down; once the temperature is that of a cell, it goes on with the points, on the pairs of cells that the potentials
leave with any mass. The transport cost, the potentials and the marginals are checked against dense float64.

Sources: J. Feydy, Geometric data analysis, beyond convolutions, 2020, chapter 3; B. Schmitzer, Stabilized sparse scaling algorithms for
entropy regularized transport problems, 2019.
"""

from __future__ import annotations

import argparse
import time
from typing import Any, NamedTuple

import numpy as np

from pairfold import Vi, Vj
from pairfold.cluster import cluster_ranges_centroids, from_matrix, grid_cluster, sort_clusters, swap_axes

COOLING = 0.7  # of the temperature's root at each step
LAST_STEPS = 100  # at the last temperature
NEGLIGIBLE = 15.0  # pairs of cells whose entries are below exp(-15) for all of their points are left out


class Cloud(NamedTuple):
    """Points with weights, sorted by their cells, and the cells: centroids, weights, ranges of points, and radii."""

    points: np.ndarray
    weights: np.ndarray
    centroids: np.ndarray
    masses: np.ndarray
    ranges: np.ndarray
    radii: np.ndarray
    labels: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description="Sinkhorn's algorithm, coarse to fine, checked.")
    parser.add_argument("--points", type=int, default=4_000, help="points on each side; the dense check takes their square")
    parser.add_argument("--blur", type=float, default=0.01, help="the root of the last temperature")
    options = parser.parse_args()
    random = np.random.default_rng(0)
    x, y = disk(random, options.points), ring(random, options.points)
    weights = np.full(options.points, 1 / options.points)
    cell = 4 * options.blur
    x_cloud, y_cloud = cloud(x, weights, cell), cloud(y, weights, cell)
    print(f"{options.points:,} points on each side, {len(x_cloud.masses)} and {len(y_cloud.masses)} cells")

    start = time.perf_counter()
    f, g, kept = sinkhorn(x_cloud, y_cloud, options.blur, cell)
    seconds = time.perf_counter() - start
    cost = f @ x_cloud.weights + g @ y_cloud.weights
    print(f"{seconds:.2f} s, at the end {100 * kept:.1f} % of the pairs; the dual cost is {cost:.6f}")
    check(x_cloud, y_cloud, options.blur, f, g)


# --- the algorithm ------------------------------------------------------------------------------------------------------------


def sinkhorn(x: Cloud, y: Cloud, blur: float, cell: float) -> tuple[np.ndarray, np.ndarray, float]:
    """The potentials at the points, and which part of the pairs the last steps took."""
    diameter = np.linalg.norm(np.ptp(np.concatenate([x.points, y.points]), 0))
    roots = [float(r) for r in diameter * COOLING ** np.arange(np.ceil(np.log(blur / diameter) / np.log(COOLING)))] + [blur] * LAST_STEPS

    f, g = np.zeros_like(x.masses), np.zeros_like(y.masses)
    coarse = [r for r in roots if r >= cell]
    for root in coarse:
        f, g = step(x.centroids, x.masses, y.centroids, y.masses, root**2, g)

    # To the points: their potentials are what those of the other cloud's centroids ask for.
    eps = coarse[-1] ** 2
    f, g = (
        softmin(x.points, y.centroids, y.masses, eps, g),
        softmin(y.points, x.centroids, x.masses, eps, f),
    )
    kept = 1.0
    for root in roots[len(coarse) :]:
        keep = meeting(x, y, f, g, root**2)
        ranges = from_matrix(x.ranges, y.ranges, keep)
        kept = (np.diff(x.ranges)[:, 0] @ keep @ np.diff(y.ranges)[:, 0]) / (len(f) * len(g))
        f, g = step(x.points, x.weights, y.points, y.weights, root**2, g, ranges)
    return f, g, kept


def step(x: np.ndarray, a: np.ndarray, y: np.ndarray, b: np.ndarray, eps: float, g: np.ndarray, ranges: Any = None) -> tuple[Any, Any]:
    """One of Sinkhorn's: the potentials that each side asks of the other."""
    f = softmin(x, y, b, eps, g, ranges)
    return f, softmin(y, x, a, eps, f, swap_axes(ranges))


def softmin(x: np.ndarray, y: np.ndarray, weights: np.ndarray, eps: float, g: np.ndarray, ranges: Any = None) -> np.ndarray:
    """-ε log Σ_j weights_j exp((g_j - |x_i - y_j|² / 2) / ε)."""
    exponent = (Vj(g + eps * np.log(weights)) - ((Vi(x) - Vj(y)) ** 2).sum(-1) / 2) * (1 / eps)
    exponent.ranges = ranges
    return -eps * exponent.logsumexp(axis=1)


def meeting(x: Cloud, y: Cloud, f: np.ndarray, g: np.ndarray, eps: float) -> np.ndarray:
    """Which cells have some mass to send one another: where f_i + g_j - |x_i - y_j|² / 2 may be large enough for some of their points.

    With φ = f - |x|² / 2 and γ likewise that is φ_i + γ_j + x_i·y_j, in which x_i·y_j is linear about the centroids but for a product of
    what is left of both, at most that of the radii.
    """

    def largest(c: Cloud, potential: np.ndarray, others: np.ndarray) -> np.ndarray:
        about = potential[:, None] - (c.points**2).sum(1, keepdims=True) / 2 + (c.points - c.centroids[c.labels]) @ others.T
        return np.maximum.reduceat(about, c.ranges[:, 0])

    bound = largest(x, f, y.centroids) + largest(y, g, x.centroids).T + x.centroids @ y.centroids.T + x.radii[:, None] * y.radii
    return bound > -NEGLIGIBLE * eps


# --- the data -----------------------------------------------------------------------------------------------------------------


def cloud(points: np.ndarray, weights: np.ndarray, cell: float) -> Cloud:
    (points, weights), labels = sort_clusters((points, weights), grid_cluster(points, cell))
    ranges, centroids, masses = cluster_ranges_centroids(points, labels, weights)
    radii = np.maximum.reduceat(np.linalg.norm(points - centroids[labels], axis=1), ranges[:, 0])
    return Cloud(points, weights, centroids, masses, ranges, radii, labels)


def disk(random: np.random.Generator, n: int) -> np.ndarray:
    angle = 2 * np.pi * random.random(n)
    return 0.3 * np.sqrt(random.random(n))[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)


def ring(random: np.random.Generator, n: int) -> np.ndarray:
    angle = 2 * np.pi * random.random(n)
    return [0.7, 0.2] + (0.35 + 0.05 * random.random(n))[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)


# --- the check ----------------------------------------------------------------------------------------------------------------


def check(x: Cloud, y: Cloud, blur: float, f: np.ndarray, g: np.ndarray) -> None:
    """Against dense matrices: the masses that the plan takes and brings, and the cost after as many steps more as the dense way wants."""
    eps = blur**2
    half = ((x.points[:, None] - y.points) ** 2).sum(-1) / 2

    def dense_softmin(exponent: np.ndarray, axis: int) -> np.ndarray:
        top = exponent.max(axis, keepdims=True)
        return -eps * (np.log(np.exp(exponent - top).sum(axis)) + top.squeeze(axis))

    dense_f, dense_g = f, g
    for _ in range(20):
        dense_f = dense_softmin((dense_g + eps * np.log(y.weights) - half) / eps, 1)
        dense_g = dense_softmin(((dense_f + eps * np.log(x.weights))[:, None] - half) / eps, 0)
    cost, wanted = f @ x.weights + g @ y.weights, dense_f @ x.weights + dense_g @ y.weights
    print(f"dual cost of dense float64, 20 steps more: {wanted:.6f}, off by {abs(cost / wanted - 1):.1e}")

    exponent = (Vi(f) + Vj(g) - ((Vi(x.points) - Vj(y.points)) ** 2).sum(-1) / 2) / eps
    exponent.ranges = from_matrix(x.ranges, y.ranges, meeting(x, y, f, g, eps))
    sparse_mass = (exponent.exp() @ y.weights) * x.weights
    mass = np.exp((f[:, None] + g - half) / eps) @ y.weights * x.weights
    print(f"mass in pairs that were left out: {abs(mass - sparse_mass).sum():.1e}; off the marginal: {abs(mass - x.weights).sum():.1e}")
    assert abs(cost / wanted - 1) < 1e-4
    assert abs(mass - sparse_mass).sum() < 1e-5
    assert abs(mass - x.weights).sum() < 2e-2


if __name__ == "__main__":
    main()
