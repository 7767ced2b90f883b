"""Registration by diffeomorphisms (LDDMM) in the manner of KeOps's tutorials: geodesic shooting, differentiated through by PyTorch.

The points of one curve flow along the velocities that momenta induce through a Gaussian kernel; the momenta are learnt so that they arrive
at another curve, as a kernel between unlabelled points measures it. The Hamiltonian's own derivative drives the flow, so that learning
takes second derivatives of symbolic matrices.

Run it with `python examples/lddmm.py`; it is written against pykeops's names, which Pairfold serves.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch

import pairfold.pykeops

pairfold.pykeops.install()

from pykeops.torch import Vi, Vj  # noqa: E402

Product = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, float], torch.Tensor]


def symbolic(x: torch.Tensor, y: torch.Tensor, b: torch.Tensor, sigma: float) -> torch.Tensor:
    """Σ_j exp(-|x_i - y_j|²/σ²) b_j."""
    return (-Vi(x).sqdist(Vj(y)) / sigma**2).exp() @ b


def dense(x: torch.Tensor, y: torch.Tensor, b: torch.Tensor, sigma: float) -> torch.Tensor:
    return torch.exp(-((x[:, None] - y) ** 2).sum(-1) / sigma**2) @ b


def shoot(p: torch.Tensor, q: torch.Tensor, product: Product, sigma: float, steps: int) -> torch.Tensor:
    """Where the points q arrive at time 1, with momenta p at time 0: Hamilton's equations by Ralston's method."""

    def rates(p: torch.Tensor, q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        energy = (p * product(q, q, p, sigma)).sum() / 2
        by_p, by_q = torch.autograd.grad(energy, (p, q), create_graph=True)
        return -by_q, by_p

    dt = 1 / steps
    for _ in range(steps):
        of_p, of_q = rates(p, q)
        later_p, later_q = rates(p + 2 / 3 * dt * of_p, q + 2 / 3 * dt * of_q)
        p, q = p + dt * (of_p + 3 * later_p) / 4, q + dt * (of_q + 3 * later_q) / 4
    return q


def loss_of(p: torch.Tensor, q: torch.Tensor, target: torch.Tensor, product: Product, steps: int) -> torch.Tensor:
    """The energy of the flow, and how far its end is from the target."""
    energy = (p * product(q, q, p, 0.3)).sum() / 2
    end = shoot(p, q, product, 0.3, steps)
    one = torch.ones(len(q), 1, dtype=q.dtype) / len(q)
    far = sum(s * (one * product(a, b, one, 0.2)).sum() for s, a, b in ((1, end, end), (1, target, target), (-2, end, target)))
    return 0.01 * energy + far


def main() -> None:
    parser = argparse.ArgumentParser(description="Registration of curves, checked against dense float64.")
    parser.add_argument("--points", type=int, default=300)
    parser.add_argument("--steps", type=int, default=5, help="of the flow")
    options = parser.parse_args()
    t = torch.linspace(0, 2 * torch.pi, options.points + 1, dtype=torch.float64)[:-1, None]
    q = torch.cat([t.cos(), t.sin()], 1).requires_grad_()
    target = torch.cat([1.3 * t.cos(), 0.8 * t.sin() + 0.3 * (2 * t).cos()], 1)
    p = torch.zeros_like(q, requires_grad=True)
    optimizer = torch.optim.LBFGS([p], max_iter=20, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        loss = loss_of(p, q, target, symbolic, options.steps)
        (p.grad,) = torch.autograd.grad(loss, p)
        return loss

    start = closure().item()
    optimizer.step(closure)
    end = closure().item()
    wanted = loss_of(p, q, target, dense, options.steps)
    (gradient,) = torch.autograd.grad(wanted, p)
    error = ((p.grad - gradient).norm() / gradient.norm()).item()
    print(f"{options.points} points: loss {start:.4f} → {end:.4f}, dense {wanted.item():.4f}, error of its gradient {error:.1e}")
    if not (abs(end - wanted.item()) < 1e-10 and error < 1e-6 and end < start / 2):
        raise SystemExit("the loss or its gradient differs from the dense one, or nothing was learnt")


if __name__ == "__main__":
    main()
