"""Kernel ridge regression on clouds of points: (K + α I) a = b by conjugate gradients, with K never stored.

Run it with `python examples/kernel_ridge.py`; ``--help`` shows the sizes. A Nyström preconditioner does the same in a few iterations; the
predictions are compared with the function that the data were drawn from, and the solution with a dense float64 one. With PyTorch the
bandwidth and the noise are fitted to points held back, through the gradient of the solution.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from typing import Any

import numpy as np

from pairfold import kernels, linalg

BANDWIDTH = 0.15
NOISE = 0.3


def main() -> None:
    parser = argparse.ArgumentParser(description="Kernel ridge regression, checked.")
    parser.add_argument("--points", type=int, default=20_000)
    parser.add_argument("--check", type=int, default=1_500, help="points of the dense check, and of the fit")
    options = parser.parse_args()
    random = np.random.default_rng(0)
    x, b, _ = data(random, options.points)
    new, _, truth = data(random, 1_000)
    alpha = NOISE**2
    for name, kernel in (("Gaussian", kernels.gaussian), ("Cauchy", kernels.cauchy)):
        K, K_new = kernel(x, x, BANDWIDTH), kernel(new, x, BANDWIDTH)
        K @ b  # compiled
        print(f"{name}, {options.points:,} points")
        (a, plain), seconds = timed(lambda K=K: K.solve(b, alpha, tol=1e-3, info=True))
        report("conjugate gradients", plain, seconds)
        (again, fewer), seconds = timed(lambda K=K: K.solve(b, alpha, tol=1e-3, preconditioner=linalg.nystrom(K, alpha), info=True))
        report("with Nyström's preconditioner", fewer, seconds)
        error = np.sqrt(np.mean((K_new @ again - truth) ** 2))
        print(f"  predictions off by {error:.3f}, of data with noise {NOISE}; the two agree to {abs(K_new @ (a - again)).max():.1e}")
        assert fewer.converged and fewer.iterations < plain.iterations and error < NOISE
    check(x[: options.check].astype("float64"), b[: options.check].astype("float64"), alpha)
    if importlib.util.find_spec("torch") is not None:
        fit(x[: options.check], b[: options.check])


def data(random: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points in a cube, values with noise, and without."""
    x = random.random((n, 3))
    truth = np.sin(6 * x[:, 0]) * np.cos(4 * x[:, 1]) + x[:, 2]
    b = truth + NOISE * random.standard_normal(n)
    return x.astype("float32"), b.astype("float32"), truth


def check(x: np.ndarray, b: np.ndarray, alpha: float) -> None:
    """Against a dense solver in float64."""
    dense = np.exp(-((x[:, None] - x) ** 2).sum(-1) / (2 * BANDWIDTH**2)) + alpha * np.eye(len(x))
    a, wanted = kernels.gaussian(x, x, BANDWIDTH).solve(b, alpha, tol=1e-10), np.linalg.solve(dense, b)
    error = abs(a - wanted).max() / abs(wanted).max()
    print(f"{len(x):,} points in float64: off a dense solution by {error:.1e} of its largest value")
    assert error < 1e-8


def fit(x: np.ndarray, b: np.ndarray) -> None:
    """Bandwidth and noise by gradient descent on what is held back, from a bad start."""
    import torch

    (x_seen, b_seen), (x_held, b_held) = ((torch.from_numpy(x[k::2]).double(), torch.from_numpy(b[k::2]).double()) for k in (0, 1))
    logs = torch.tensor([np.log(0.05), np.log(0.01)], requires_grad=True)
    optimiser = torch.optim.Adam([logs], lr=0.1)
    losses = []
    for _ in range(40):
        bandwidth, alpha = logs.exp()
        a = kernels.gaussian(x_seen, x_seen, bandwidth).solve(b_seen, alpha, tol=1e-6)
        loss = (kernels.gaussian(x_held, x_seen, bandwidth) @ a - b_held).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    bandwidth, alpha = logs.detach().exp().tolist()
    print(
        f"fitted: bandwidth {bandwidth:.2f}, noise {alpha**0.5:.2f}; mean square off what was held back {losses[0]:.3f} → {losses[-1]:.3f}"
    )
    assert losses[-1] < losses[0]


def timed(call: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    result = call()
    return result, time.perf_counter() - start


def report(how: str, info: Any, seconds: float) -> None:
    print(f"  {how}: {info.iterations} iterations, {seconds:.2f} s, residual {float(info.residual):.1e} of |b|")


if __name__ == "__main__":
    main()
