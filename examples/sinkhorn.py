"""Optimal transport in the manner of KeOps's tutorials: Sinkhorn's iterations in the logarithmic domain, and a gradient flow of points.

Run it with `python examples/sinkhorn.py`; it is written against pykeops's names, which Pairfold serves.
"""

from __future__ import annotations

import argparse
import math

import torch

import pairfold.pykeops

pairfold.pykeops.install()

from pykeops.torch import LazyTensor, generic_logsumexp  # noqa: E402


def potentials(x: torch.Tensor, y: torch.Tensor, epsilon: float, iterations: int) -> tuple[torch.Tensor, torch.Tensor]:
    """f (M, 1) and g (N, 1) of the transport between uniform measures, for the cost |x - y|²/2."""
    log_m, log_n = math.log(len(x)), math.log(len(y))
    softmin = generic_logsumexp("(B - P * SqDist(X, Y) / IntCst(2))", "A = Vi(1)", "X = Vi(2)", "Y = Vj(2)", "B = Vj(1)", "P = Pm(1)")
    f, g = torch.zeros_like(x[:, :1]), torch.zeros_like(y[:, :1])
    p = torch.tensor([1 / epsilon], dtype=x.dtype)
    for _ in range(iterations):
        f = -epsilon * softmin(x, y, g / epsilon - log_n, p)
        g = -epsilon * softmin(y, x, f / epsilon - log_m, p)
    return f, g


def main() -> None:
    parser = argparse.ArgumentParser(description="Sinkhorn's algorithm, checked against dense float64.")
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--iterations", type=int, default=50)
    options = parser.parse_args()
    torch.manual_seed(0)
    x, y = torch.rand(options.points, 2, dtype=torch.float64), 0.5 * torch.rand(options.points, 2, dtype=torch.float64) + 1
    epsilon = 0.05
    f, g = potentials(x, y, epsilon, options.iterations)

    cost = ((x[:, None] - y) ** 2).sum(-1) / 2
    dense_f, dense_g = torch.zeros(len(x), dtype=x.dtype), torch.zeros(len(y), dtype=x.dtype)
    for _ in range(options.iterations):
        dense_f = -epsilon * ((dense_g - cost) / epsilon - math.log(len(y))).logsumexp(1)
        dense_g = -epsilon * ((dense_f[:, None] - cost) / epsilon - math.log(len(x))).logsumexp(0)
    error = max((f[:, 0] - dense_f).abs().max(), (g[:, 0] - dense_g).abs().max()).item()
    print(
        f"{options.points:,} points, {options.iterations} iterations: transport costs {(f.mean() + g.mean()).item():.4f}, error {error:.1e}"
    )

    # The transport plan is symbolic too: where its rows send the points, and its marginals.
    x_i, y_j = LazyTensor(x[:, None]), LazyTensor(y[None])
    plan = ((LazyTensor(f[:, None]) + LazyTensor(g[None]) - ((x_i - y_j) ** 2).sum(-1) / 2) / epsilon).exp() / (len(x) * len(y))
    dense_plan = ((dense_f[:, None] + dense_g - cost) / epsilon).exp() / (len(x) * len(y))
    moved = (plan @ y) / plan.sum(axis=1)
    wanted = (dense_plan @ y) / dense_plan.sum(1, keepdim=True)
    print(f"barycentric projection: error {(moved - wanted).abs().max().item():.1e}")
    if not (error < 1e-10 and torch.allclose(moved, wanted, atol=1e-9) and torch.allclose(plan.sum(axis=0)[:, 0], dense_plan.sum(0))):
        raise SystemExit("potentials or plan differ from the dense ones")


if __name__ == "__main__":
    main()
